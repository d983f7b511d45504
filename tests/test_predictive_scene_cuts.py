"""GOPs that end where a scene does: what counts as a cut, and streams with one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from nvc.bitstream.units import Unit, UnitType
from nvc.predictive.codec import EncodeOptions, PredictiveCodec
from nvc.predictive.scene_cuts import SHORTEST, gop_starts, is_cut, quarter_luma
from nvc.video.frames import Frame, VideoInfo

INFO = VideoInfo(width=128, height=64, frame_count=14, frame_rate=Fraction(25))


def scene(seed: int, *, height: int = 64, width: int = 128) -> np.ndarray:
    """Blobs, (height, width) uint8."""
    torch.manual_seed(seed)
    blobs = torch.rand(1, 1, height // 8 + 1, width // 8 + 1)
    blobs = torch.nn.functional.interpolate(blobs, scale_factor=8.0, mode="bilinear")
    return (blobs[0, 0, :height, :width] * 255).to(torch.uint8).numpy()


def frames(info: VideoInfo, cut: int) -> list[Frame]:
    """A scene that pans, and from frame `cut` on another."""
    grey = torch.full((info.height // 2, info.width // 2), 128, dtype=torch.uint8)
    wide = [scene(seed, height=info.height, width=info.width + 64) for seed in (1, 2)]
    made = []
    for number in range(info.frame_count or 0):
        luma = np.ascontiguousarray(wide[number >= cut][:, 2 * number : 2 * number + info.width])
        made.append(Frame(planes=(torch.from_numpy(luma), grey, grey), pts=number))
    return made


def test_motion_noise_and_light_are_no_cuts_another_scene_is() -> None:
    still = scene(1, height=96, width=160)
    moved = np.roll(still, (3, 5), axis=(0, 1))
    rng = np.random.default_rng(1)
    noisy = (still + rng.normal(0, 3, still.shape)).clip(0, 255).astype(np.uint8)
    brighter = (still * 0.7 + 30).astype(np.uint8)
    assert not any(is_cut(still, other) for other in (still, moved, noisy, brighter))
    assert is_cut(still, scene(2, height=96, width=160))
    # A flat picture with noise is like another one, and a scene is not like either.
    flat = [(128 + rng.normal(0, 0.5, still.shape)).round().astype(np.uint8) for _ in range(2)]
    assert not is_cut(*flat) and is_cut(flat[0], still)


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, torch.uint8), (10, torch.int16)])
def test_pictures_are_of_a_quarter_the_size_in_8_bits(bit_depth: int, dtype: torch.dtype) -> None:
    plane = torch.full((130, 200), 100 << (bit_depth - 8), dtype=dtype)
    found = quarter_luma(Frame(planes=(plane,), pts=0), bit_depth)
    assert found is not None and found.shape == (32, 48) and (found == 100).all()
    assert quarter_luma(Frame(planes=(plane[:60],), pts=0), bit_depth) is None


def test_gops_start_at_cuts_but_not_at_flashes() -> None:
    pictures = [scene(seed) for seed in (1, 2)]
    shown = [0] * 6 + [1] * 2 + [0] * 12
    starts = [s for s, _ in gop_starts(shown, gop=9, luma=lambda number: pictures[number])]
    # The flash itself begins one, what follows it does not; then so many frames later again.
    assert [n for n, start in enumerate(starts) if start] == [0, 6, 15]
    assert SHORTEST > 2
    plain = [s for s, _ in gop_starts(shown, gop=9)]
    assert [n for n, start in enumerate(plain) if start] == [0, 9, 18]


def heads(units: list[Unit]) -> list[tuple[int, int]]:
    """First frame and intra frame of every GOP."""
    return [(u.frame_start, u.picture) for u in units if u.type == UnitType.FRAME and u.key]


@pytest.mark.parametrize("bframes", [0, 3])
def test_a_cut_begins_a_gop_and_lanes_agree(weights: str, bframes: int) -> None:
    info = INFO
    made = frames(info, 6)
    options = EncodeOptions(weights=weights, qp=20, gop=32, bframes=bframes, precision="float32")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        units = list(PredictiveCodec(options).encode(made, info))
        torch.set_num_threads(2)
        assert list(PredictiveCodec(options).encode(made, info)) == units
    finally:
        torch.set_num_threads(threads)
    assert list(PredictiveCodec(replace(options, jobs=2)).encode(made, info)) == units
    assert [first for first, _ in heads(units)] == [0, 6]
    assert [frame.pts for frame in PredictiveCodec().decode(units, info)] == list(range(14))
    # From the second one on nothing of the first is needed.
    later = [units[0], *(u for u in units[1:] if u.frame_start >= 6)]
    assert [frame.pts for frame in PredictiveCodec().decode(later, info)] == list(range(6, 14))
    whole = list(PredictiveCodec(replace(options, scenecut=False)).encode(made, info))
    assert [first for first, _ in heads(whole)] == [0]
