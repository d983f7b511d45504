"""What a fit can be asked for: bytes, a PSNR, a trade; frames between frames; presets; recipes."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from clips import write_clip
from inr_clips import fit_units, luma_psnr, make_clip

import nvc
from nvc.bitstream.reader import StreamReader
from nvc.errors import UsageError
from nvc.inr.codec import InrCodec
from nvc.inr.fit_config import FitConfig
from nvc.inr.recipe import read_recipe
from nvc.video.reader import open_video


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("codec", ["inr", "cam"])
def test_size_is_met(tmp_path, codec):
    """The whole file comes out within 2 % of the bytes asked for."""
    clip = write_clip(tmp_path / "clip.mkv", width=64, height=48, frames=4)
    out = tmp_path / "clip.nvc"
    nvc.encode(clip, out, codec, size=4000, epochs=16, device="cpu", threads=1)
    assert out.stat().st_size == pytest.approx(4000, rel=0.02)


def test_psnr_is_held():
    """A PSNR within reach is met, by a larger network where the first one is too small."""
    frames, info = make_clip()
    _, stats = fit_units(frames, info, "inr", psnr=17.5, epochs=25, size_params=1000)
    assert stats["psnr_quantised"] >= 17.3


def test_lmbda_trades():
    """A larger lambda gives more bytes and a better picture."""
    frames, info = make_clip()
    options = {"epochs": 30, "size_params": 3000, "quantise_from": 0.1}
    small, low = fit_units(frames, info, "inr", lmbda=1.0, **options)
    large, high = fit_units(frames, info, "inr", lmbda=10_000.0, **options)
    assert len(small[1].payload) < 0.9 * len(large[1].payload)
    assert low["psnr_quantised"] < high["psnr_quantised"]


def test_frames_between_frames():
    """Fitted to every second frame, what is made between them is nearer to the frames left out
    than the frames beside them are."""
    frames, info = make_clip(8, step=2.0)
    whole, _ = make_clip(15, step=1.0)
    # Few levels of time: a network of a high one wiggles between the frames it is fitted to.
    parts = {"time_base_percent": 105, "time_levels": 4}
    units, _ = fit_units(frames, info, "nerv", epochs=50, network=parts)
    own = list(InrCodec().decode(units, info))
    double = list(InrCodec().decode(units, info, speed=2))
    assert [frame.pts for frame in double] == list(range(16))
    for one, two in zip(own, double[::2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.planes, two.planes, strict=True))
    assert all(map(torch.equal, double[14].planes, double[15].planes))
    between = luma_psnr(whole[1::2], double[1:14:2])
    assert between > luma_psnr(whole[1::2], own[:7]) + 0.5
    later = list(InrCodec().decode(units, info, speed=2, start=5))
    assert [frame.pts for frame in later] == list(range(5, 16))


def test_decode_at_a_higher_rate(tmp_path):
    """--fps 2x: twice the frames in the same time; the rate can be named; odd ones are refused."""
    clip = write_clip(tmp_path / "clip.mkv", width=50, height=34, frames=6)
    out, back = tmp_path / "a.nvc", tmp_path / "b.mkv"
    nvc.encode(clip, out, "nerv", epochs=2, size_params=4000, gop=3, device="cpu")
    with out.open("rb") as file:
        rate = StreamReader(file).header.frame_rate
    assert nvc.decode(out, back, fps="2x").frames == 12
    with open_video(back) as video:
        times = [frame.pts * video.info.time_base for frame in video]
    steps = {later - one for one, later in pairwise(times)}
    assert steps <= {round(Fraction(500) / rate) / Fraction(1000), 1 / (2 * rate)}
    part = nvc.decode(out, tmp_path / "c.y4m", fps=str(3 * rate), start=2, frames=2)
    assert part.frames == 6
    for fps in ("1.5x", "31", "0x", "many"):
        with pytest.raises(UsageError, match="write 2x"):
            nvc.decode(out, tmp_path / "d.y4m", fps=fps)


def test_published_coding_end_to_end():
    """8 bits and Huffman: a file that decodes, near the float network it was rounded from."""
    frames, info = make_clip()
    units, stats = fit_units(
        frames, info, epochs=20, coding="paper", optimizer="adam", lr=1e-2, embedding="encoder"
    )
    decoded = list(InrCodec().decode(units, info))
    assert len(decoded) == 4
    assert stats["psnr_quantised"] == pytest.approx(stats["psnr_float_final"], abs=0.5)
    assert stats["psnr_float_before"] == stats["psnr_float_final"]


def test_targets_that_cannot_be_meant():
    for options, message in [
        ({"lmbda": 5.0, "psnr": 30.0}, "lmbda and psnr were given"),
        ({"psnr": 5.0}, "psnr must be 10 to 60"),
        ({"psnr": 30.0, "loss": "l1"}, "need the loss l2"),
        ({"psnr": 30.0, "coding": "paper"}, "knows no rate"),
        ({"prior": "gauss"}, "allowed: auto, histogram"),
        ({"loss": "l3"}, "allowed: l2, l1, l1_ssim"),
    ]:
        with pytest.raises(UsageError, match=message):
            FitConfig(**options)


def test_presets_and_recipes(tmp_path):
    """--preset chooses the codec inr; recipes of every method parse and name their codec."""
    recipes = Path(__file__).parent.parent / "recipes"
    for name in ("nerv", "enerv", "nervpp", "cam", "hnerv"):
        codec, fit = read_recipe(recipes / f"{name}.yaml")
        assert codec == name
        assert isinstance(fit, dict)
    for name in ("interpolate", "inpaint", "denoise", "hnerv_published"):
        assert read_recipe(recipes / f"{name}.yaml")[0] == "hnerv"
    clip = write_clip(tmp_path / "clip.mkv", width=50, height=34, frames=2)
    nvc.encode(clip, tmp_path / "a.nvc", "inr", preset="fast", epochs=1, device="cpu")
    with (tmp_path / "a.nvc").open("rb") as file:
        assert StreamReader(file).header.codec == "inr"
    with pytest.raises(UsageError, match="has no presets"):
        nvc.encode(clip, tmp_path / "b.nvc", "dhvc", preset="fast")


def test_same_frames_whatever_the_padding():
    """Sizes that the strides do not divide decode to their own size from packed planes too."""
    frames, info = make_clip(2, 35, 45)
    units, _ = fit_units(frames, info, "inr")
    decoded = list(InrCodec().decode(units, replace(info, frame_count=2)))
    assert [tuple(plane.shape) for plane in decoded[1].planes] == list(info.plane_shapes())
