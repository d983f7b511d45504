"""What is sent of the loop filter: bytes there and back, what is chosen, what it is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clips import make_frames
from predictive_weights import tiny_network

from nvc.errors import StreamError
from nvc.predictive.codec import EncodeOptions, encode_frames
from nvc.predictive.filter_fit import unfiltered
from nvc.predictive.filter_tuning import (
    MOST,
    STEP,
    choose_tuning,
    decode_tuning,
    encode_tuning,
    moves_of,
    untuned,
)
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.loop_filter import LUMA, SHAPES, WAYS, LoopFilter, differences, filtered
from nvc.predictive.network import Planes
from nvc.predictive.planes_io import to_planes
from nvc.predictive.row_coder import open_coder
from nvc.predictive.sequence import SequenceDecoder
from nvc.predictive.way_fit import WayFit
from nvc.video.frames import VideoInfo

NONE = untuned(WAYS)


def noisy(seed: int, *, noise: float = 0.02) -> tuple[Planes, Planes]:
    """Planes of 64x96 with ramps, and the same with noise that a filter can take off."""
    random = torch.Generator().manual_seed(seed)
    clean, made = [], []
    for size in ((64, 96), (32, 48), (32, 48)):
        slope = torch.rand(2, generator=random) / 200
        y, x = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
        plane = (0.3 + slope[0] * y + slope[1] * x)[None, None]
        clean.append(plane)
        made.append(plane + noise * torch.randn(plane.shape, generator=random))
    return tuple(made), tuple(clean)


def error(planes: Planes, source: Planes) -> float:
    return sum(float((a - b).square().mean()) for a, b in zip(planes, source, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_a_tuning_is_read_as_it_was_written(seed: int) -> None:
    """Whatever is expected; of nothing new a bit a plane."""
    random = np.random.default_rng(seed)

    def drawn(most: int) -> tuple[tuple[int, ...], ...]:
        tuning = []
        for count in WAYS:
            levels = random.integers(-most, most + 1, size=count)
            levels[int(random.integers(0, count + 1)) :] = 0
            tuning.append(tuple(map(int, levels)))
        return tuple(tuning)

    expected, tuning = drawn(9), drawn((1, MOST)[seed % 2])
    assert decode_tuning(encode_tuning(tuning, expected), expected) == tuning
    assert encode_tuning(tuning, tuning) == b"\0"


def test_what_is_damaged_is_an_error_and_what_was_lost_is_not() -> None:
    tuning = (tuple(range(5)) + (0,) * 31, (3,) * 18, (0,) * 18)
    payload = encode_tuning(tuning, NONE)
    for broken in (b"", payload[:-1], payload + b"\0", b"\xff" * 40):
        with pytest.raises(StreamError):
            decode_tuning(broken, NONE)
    # 64 ways of chroma, and a move of 511 steps.
    with pytest.raises(StreamError, match="along 64 of 18 ways"):
        decode_tuning(bytes([0b01111111]) + bytes(9), NONE)
    far = encode_tuning(((511, *NONE[0][1:]), *NONE[1:]), NONE)
    with pytest.raises(StreamError, match="moves over 510 steps"):
        decode_tuning(far, NONE)
    # With another reference than the encoder's.
    moved = tuple(tuple(level + MOST for level in levels) for levels in NONE)
    assert max(decode_tuning(payload, moved)[0]) == MOST


def test_what_is_chosen_is_what_least_squares_would_take() -> None:
    """A source that is the picture moved along its ways gives these steps back, within a step."""
    random = torch.Generator().manual_seed(3)
    made, _ = noisy(0)
    ways = [0.2 * torch.linalg.qr(torch.randn(n, n, generator=random))[0] for n in WAYS]
    steps = [[4, -3, 2, 0, -1] + [0] * (count - 5) for count in WAYS]
    source = []
    for plane, shape, way, own in zip(made, SHAPES, ways, steps, strict=True):
        moves = STEP * torch.tensor(own, dtype=torch.float32) @ way
        source.append(plane + (moves @ differences(plane, shape)[0].flatten(1)).view_as(plane))
    found = choose_tuning(ways, made, made, tuple(source), NONE, shown=(64, 96), price=1e12)
    assert [list(levels) for levels in found] == steps


def test_bits_are_spent_where_they_pay() -> None:
    """Nothing at a price of nothing; more the dearer an error; nothing for what is expected."""
    fit = WayFit()
    for seed in range(6):
        made, clean = noisy(seed)
        fit.add(made, made, clean)
    loop_filter = LoopFilter()
    fit.give(loop_filter)
    made, clean = noisy(50)
    given = {"shown": (64, 96)}
    spent, errors = [], []
    zero = torch.zeros(1, dtype=torch.int64)
    for price in (0.0, 20.0, 1e6):
        found = choose_tuning(loop_filter.ways, made, made, clean, NONE, price=price, **given)
        spent.append(sum(abs(level) for levels in found for level in levels))
        errors.append(error(loop_filter(made, zero, zero, moves_of(found)), clean))
    assert spent[0] == 0 < spent[1] < spent[2]
    assert errors[0] == error(made, clean) > errors[1] > errors[2]
    assert errors[2] < 0.5 * errors[0]
    again = choose_tuning(loop_filter.ways, made, made, clean, found, price=1e6, **given)
    assert len(encode_tuning(again, found)) <= 2


def test_only_what_is_shown_counts() -> None:
    """Whatever lies in the padding."""
    made, clean = noisy(1)
    ways = [0.2 * torch.eye(count) for count in WAYS]
    chosen = []
    for padding in (0.0, 1.0):
        source = tuple(plane.clone() for plane in clean)
        for plane, side in zip(source, (80, 40, 40), strict=True):
            plane[..., side:] = padding
        chosen.append(choose_tuning(ways, made, made, source, NONE, shown=(64, 80), price=1e6))
    assert chosen[0] == chosen[1] != NONE


@pytest.mark.parametrize("size", [(8, 8), (16, 16400), (2, 70)])
def test_any_size_can_be_tuned(size: tuple[int, int]) -> None:
    """Less than a strip, and so wide that few strips are looked at."""
    random = torch.Generator().manual_seed(5)
    sides = (32, -(-size[1] // 32) * 32)
    made = tuple(
        torch.rand(1, 1, *(side // by for side in sides), generator=random) for by in (1, 2, 2)
    )
    source = tuple(plane / 2 + plane.mean() / 2 for plane in made)
    ways = [0.2 * torch.eye(count) for count in WAYS]
    found = choose_tuning(ways, made, made, source, NONE, shown=size, price=1e6)
    assert any(found[0])


def test_b_frames_have_no_table_but_a_tuning() -> None:
    made, _ = noisy(2)
    loop_filter = LoopFilter()
    for table in loop_filter.buffers():
        table.normal_(std=0.01, generator=torch.Generator().manual_seed(4))
    qp, form = torch.tensor([20]), torch.tensor([2])
    moves = [0.5 * torch.ones(count) for count in WAYS]
    shown = loop_filter(made, qp, form, moves, fitted=False)
    table = (moves[0] @ loop_filter.y_ways).expand(1, LUMA.classes, -1)
    assert torch.equal(shown[0], filtered(made[0], table, LUMA))
    assert not torch.equal(shown[0], loop_filter(made, qp, torch.tensor([1]), moves)[0])


def test_files_are_nearer_to_their_source() -> None:
    """With ways fitted to a clip its frames send tunings, and decoders show what these make."""
    network = tiny_network()
    assert network.filter is not None
    for table in network.filter.buffers():
        table.zero_()
    info = VideoInfo(width=96, height=64, frame_count=5)
    frames = make_frames(info, 5)
    fit = WayFit()
    for made, source, *_ in unfiltered(network, [[frame.planes for frame in frames]], (20, 30)):
        fit.add(made, made, source)
    errors = []
    for tunable in (False, True):
        if tunable:
            fit.give(network.filter)
        coder = open_coder(network, (64, 96))
        decoders = [SequenceDecoder(coder), SequenceDecoder(FrameCoder(network, (64, 96)))]
        parts: dict[int, dict[int, bytes]] = {}
        for unit in encode_frames(EncodeOptions(qp=20, gop=5), frames, info, coder=coder):
            parts.setdefault(unit.picture, {})[unit.layer] = unit.payload
        total, tuned = 0.0, 0
        for number, part in parts.items():
            received = decoders[0].read(number, part)
            tuned += received.tuning is not None
            shown, other = (decoder.decode(received) for decoder in decoders)
            for a, b in zip(shown, other, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
            total += error(shown, to_planes(frames[number], info, coder.size, torch.empty(0)))
        assert bool(tuned) == tunable
        errors.append(total)
    assert errors[1] < 0.98 * errors[0]
