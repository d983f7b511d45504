"""Streams with B frames, a tiny network: round trips, order, loss, rate, numbers that lie."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_frames
from predictive_weights import tiny_network, write_weights

import nvc.predictive.frame_units
from nvc.bitstream.units import Unit, UnitType
from nvc.errors import StreamError, UsageError
from nvc.nn.blocks import COARSEST_QP, FINEST_QP
from nvc.predictive.codec import EncodeOptions, PredictiveCodec
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.frame_units import pack_frame, read_frame
from nvc.predictive.network import KIND_BI, KIND_INTER, KIND_INTRA, KIND_RESET, Memory
from nvc.predictive.planes_io import to_planes
from nvc.predictive.playback import Playback
from nvc.predictive.records import MAX_RECORDS, Record, Records, direct, scaled
from nvc.predictive.sequence import SequenceDecoder, SequenceEncoder
from nvc.predictive.structure import Place, coding_order, lead_of
from nvc.video.frames import Frame, VideoInfo

INFO = VideoInfo(width=72, height=56, frame_count=11, frame_rate=Fraction(25))
B, P, I = 3, 0, 1  # noqa: E741 (bits 6 and 7 of a first byte)


@pytest.fixture(autouse=True)
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvc.predictive.frame_units, "PACK_BELOW", 0)


def encode(weights: str, info: VideoInfo = INFO, **options) -> list[Unit]:
    codec = PredictiveCodec(EncodeOptions(weights=weights, **{"effort": 0, "qp": 20} | options))
    return list(codec.encode(make_frames(info, info.frame_count), info))


def decode(units: list[Unit], info: VideoInfo = INFO, **options) -> list[Frame]:
    return list(PredictiveCodec().decode(units, info, **options))


def same(a: list[Frame], b: list[Frame]) -> list[bool]:
    return [
        x.pts == y.pts and all(torch.equal(p, q) for p, q in zip(x.planes, y.planes, strict=True))
        for x, y in zip(a, b, strict=True)
    ]


def kinds(units: list[Unit]) -> dict[int, int]:
    """Bits 6 and 7 of the first byte of each frame."""
    return {unit.picture: unit.payload[0] >> 6 for unit in units if unit.type == UnitType.FRAME}


def without(units: list[Unit], *lost: tuple[int, int]) -> list[Unit]:
    kept = [u for u in units if u.type != UnitType.FRAME or (u.picture, u.layer) not in lost]
    assert len(kept) == len(units) - len(lost)
    return kept


@pytest.fixture(scope="module")
def coded() -> Iterator[tuple[FrameCoder, list[tuple], list[list[bytes | None]], list[Memory]]]:
    """A GOP of 9 frames: its coder, places, payloads, and the memory the encoder had of each."""
    coder = FrameCoder(tiny_network().half().float(), (INFO.height, INFO.width))
    encoder = SequenceEncoder(coder, pack=False)
    planes = [to_planes(f, INFO, coder.size, torch.zeros(1)) for f in make_frames(INFO, 9)]
    order = [(place, (KIND_INTRA, KIND_INTER, KIND_BI)[len(place.references)]) for place in
             coding_order(9, 3, lead=4)]  # fmt: skip
    payloads, memories = [], []
    for place, kind in order:
        qp = 20 + 3 * place.depth
        payloads.append(encoder.encode(planes[place.number], qp, kind, place))
        memories.append(encoder.memory)
    yield coder, order, payloads, memories


@pytest.mark.parametrize("frames", [1, 2, 5, 34])
@pytest.mark.parametrize("bframes", [0, 1, 3, 7])
def test_round_trip(weights: str, bframes: int, frames: int) -> None:
    """Every frame comes once, in order; the units stand in coding order."""
    info = replace(INFO, width=40, height=24, frame_count=frames)
    units = encode(weights, info, bframes=bframes, gop=32)
    assert [frame.pts for frame in decode(units, info)] == list(range(frames))
    gop = min(frames, 32)
    places = coding_order(gop, bframes, lead=lead_of(gop, bframes))
    order = [place.number for place in places] + list(range(32, 34))
    assert list(kinds(units)) == order[:frames]
    heads = [u for u in units if u.key]
    assert [u.frame_start for u in heads] == [0, 32][: len(heads)]
    found = kinds(units)
    assert found[order[0]] == I and (frames < 34 or found[32] == I)
    assert sum(kind == B for kind in found.values()) == sum(
        place.later is not None for place in places
    )


def test_the_decoder_has_what_the_encoder_had(coded) -> None:
    coder, order, payloads, memories = coded
    decoder = SequenceDecoder(coder)
    for (place, _), layers, memory in zip(order, payloads, memories, strict=True):
        parts = {layer: payload for layer, payload in enumerate(layers) if payload}
        frame = decoder.read(place.number, parts)
        assert frame.references[: len(place.references)] == place.references
        decoder.decode(frame)
        assert not decoder.damaged
        for mine, theirs in zip(decoder.memory.pictures, memory.pictures, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        for mine, theirs in zip(decoder.memory.codes, memory.codes, strict=True):
            assert torch.equal(mine, theirs)


def test_low_delay_shows_each_frame_at_once(weights: str) -> None:
    codec = PredictiveCodec(EncodeOptions(weights=weights, effort=0, bframes=0))
    read: list[int] = []

    def source() -> Iterator[Frame]:
        for number, frame in enumerate(make_frames(INFO, 6)):
            read.append(number)
            yield frame

    units = []
    for unit in codec.encode(source(), INFO):
        if unit.type == UnitType.FRAME:
            assert read[-1] == unit.frame_start
        units.append(unit)
    given: list[int] = []

    def arriving() -> Iterator[Unit]:
        for unit in units:
            given.append(unit.frame_start)
            yield unit

    for frame in PredictiveCodec().decode(arriving(), replace(INFO, frame_count=6)):
        assert given[-1] <= frame.pts + 1


def test_no_more_is_held_than_a_pyramid(weights: str) -> None:
    """A frame is shown as soon as those before it are there; one side after the other."""
    units = encode(weights, bframes=3, gop=11)
    given: list[int] = []

    def arriving() -> Iterator[Unit]:
        for unit in units:
            if unit.type == UnitType.FRAME:
                given.append(unit.picture)
            yield unit

    shown_at = {}
    for frame in PredictiveCodec().decode(arriving(), INFO):
        shown_at[frame.pts] = set(given)
    # 4, 0, 2, 3, 1, 8, 6, 5: a frame is known to be whole when the next one begins.
    assert shown_at[0] == {4, 0, 2} and shown_at[1] == {4, 0, 2, 3, 1, 8} == shown_at[4]
    assert shown_at[5] == {4, 0, 2, 3, 1, 8, 6, 5, 7} == shown_at[6]


@pytest.mark.parametrize("bframes", [0, 1, 3, 7])
def test_every_unit_may_be_lost(weights: str, bframes: int) -> None:
    """Each unit in turn: all frames come, in order, and the next GOP is as sent."""
    info = replace(INFO, width=40, height=24, frame_count=12)
    units = encode(weights, info, bframes=bframes, gop=10)
    whole = decode(units, info)
    for unit in units[1:]:
        shown = decode(without(units, (unit.picture, unit.layer)), info)
        alike = same(whole, shown)
        assert not alike[unit.picture]
        assert all(alike[10:]) or unit.picture >= 10
        if kinds(units)[unit.picture] == B and bframes <= 1:
            assert alike.count(False) == 1  # nothing refers to it


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("bframes", [1, 3, 7])
def test_whatever_is_lost_every_frame_comes_once(weights: str, bframes: int, share: float) -> None:
    """From the first frame that is known to be meant on; a lane for each GOP changes nothing."""
    info = replace(INFO, width=40, height=24, frame_count=30)
    units = encode(weights, info, bframes=bframes, gop=12)
    for seed in range(3):
        rng = random.Random(seed)
        kept = [u for u in units if u.type == UnitType.CONFIG or rng.random() >= share]
        shown = decode(kept, info)
        first = shown[0].pts
        assert [frame.pts for frame in shown] == list(range(first, 30))
        assert first <= min(u.frame_start for u in kept if u.type == UnitType.FRAME and not u.layer)
        assert all(same(shown, decode(kept, info, lanes=2)))


def test_a_lost_b_frame_lies_between_its_neighbours(weights: str) -> None:
    """Of an even pan the middle is about there although nothing of it came."""
    info = replace(INFO, width=96, height=64, frame_count=5)
    torch.manual_seed(2)
    blobs = torch.nn.functional.interpolate(torch.rand(1, 1, 16, 24), scale_factor=8.0)
    blobs = torch.nn.functional.avg_pool2d(blobs, 9, 1)
    scene = (blobs[0, 0] * 255).to(torch.uint8)
    grey = torch.full((32, 48), 128, dtype=torch.uint8)
    frames = [
        Frame(planes=(scene[2 * n : 2 * n + 64, 4 * n : 4 * n + 96], grey, grey), pts=n)
        for n in range(5)
    ]
    options = EncodeOptions(weights=weights, qp=4, effort=0, bframes=3)
    units = list(PredictiveCodec(options).encode(frames, info))
    lost = [(u.frame_start, u.layer) for u in units if u.frame_start in (1, 2, 3)]
    shown = decode(without(units, *lost), info)

    luma = [frame.planes[0].float() for frame in shown]
    for number in (1, 2, 3):
        down, right = 2 * number, 4 * number
        found = luma[number][16:32, 32:48]
        moved = luma[0][16 + down : 32 + down, 32 + right : 48 + right]
        still = [luma[at][16:32, 32:48] for at in (0, 4)]
        errors = [float((found - other).square().mean()) for other in (moved, *still)]
        assert errors[0] < 0.5 * min(errors[1:])


def test_lanes_give_the_same(weights: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = encode(weights, gop=6)
        torch.set_num_threads(2)
        done: list[int] = []
        codec = PredictiveCodec(EncodeOptions(weights=weights, effort=0, qp=20, gop=6))
        units = codec.encode(make_frames(INFO, 11), INFO, progress=done.append)
        assert list(units) == alone and done == list(range(1, 12))
        assert all(same(decode(alone, lanes=3), decode(alone)))
    finally:
        torch.set_num_threads(threads)


def test_fewer_layers(weights: str) -> None:
    units = encode(weights, qp=8)
    base = [unit for unit in units if unit.type != UnitType.FRAME or unit.layer == 0]
    assert all(same(decode(base, layers=1), decode(units, layers=1)))


@pytest.mark.parametrize("target", ["bitrate", "psnr"])
def test_targets_are_met(weights: str, target: str) -> None:
    count = 60
    info = replace(INFO, width=48, height=32, frame_count=count)
    free = encode(weights, info, qp=46 if target == "psnr" else 30, effort=1)

    def rate(units: list[Unit]) -> float:
        return 8 * sum(len(unit.payload) + 9 for unit in units) / (count / 25)

    def quality(units: list[Unit]) -> float:
        total = 0.0
        for x, y in zip(make_frames(info, count), decode(units, info), strict=True):
            for weight, p, q in zip((6, 1, 1), x.planes, y.planes, strict=True):
                error = (p.float() - q.float()).square().mean().clamp(min=1e-3)
                total += weight * float(10 * torch.log10(255**2 / error)) / (8 * count)
        return total

    if target == "bitrate":
        wanted = 0.8 * rate(free)
        met = rate(encode(weights, info, qp=None, effort=1, bitrate=wanted))
        assert met == pytest.approx(wanted, rel=0.05)
    else:
        wanted = quality(free)
        met = quality(encode(weights, info, qp=None, effort=1, psnr=wanted))
        assert met == pytest.approx(wanted, abs=0.2)


def test_statistics_start_anew_by_anchors(weights: str) -> None:
    found = kinds(encode(weights, replace(INFO, frame_count=30), gop=30, reset=8))
    # Of 30 frames 12 is intra; 8, 4, 0 and 16, 20, 24, 28, 29 are P frames.
    assert [number for number, kind in found.items() if kind == 2] == [4, 20, 28]
    found = kinds(encode(weights, replace(INFO, frame_count=30), gop=30, reset=6))
    assert [number for number, kind in found.items() if kind == 2] == [4, 20, 28]


def test_weights_without_motion_are_coded_in_low_delay(weights: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "weights", "implicit")
    units = encode(path.stem, replace(INFO, frame_count=5))
    assert list(kinds(units)) == [0, 1, 2, 3, 4]
    assert len(decode(without(units, (2, 0), (3, 0)), replace(INFO, frame_count=5))) == 5


def test_steady_gops_have_more_b_frames_unless_told(weights: str) -> None:
    """A still picture and nothing else: 8 is intra, then 0 and 16; looking ahead finds out."""
    info = replace(INFO, width=64, height=64, frame_count=17)
    still = make_frames(info, 1) * 17

    def anchors(**options) -> list[int]:
        codec = PredictiveCodec(EncodeOptions(weights=weights, qp=20, gop=17, **options))
        units = list(codec.encode(still, info))
        assert len(decode(units, info)) == 17
        return [number for number, kind in kinds(units).items() if kind != B]

    assert anchors() == [8, 0, 16]
    assert anchors(effort=0) == anchors(bframes=3) == [8, 4, 0, 12, 16]


def test_b_frames_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="bframes is 2; allowed: 0, 1, 3, 7"):
        EncodeOptions(bframes=2)


# What a stream may not say.


def changed(units: list[Unit], number: int, payload) -> list[Unit]:
    at = next(i for i, u in enumerate(units) if u.type == 2 and u.picture == number)
    return [*units[:at], replace(units[at], payload=payload(units[at].payload)), *units[at + 1 :]]


def with_distance(value: int):
    return lambda payload: payload[:2] + bytes([value]) + payload[3:]


@pytest.mark.parametrize(
    ("number", "distance", "message"),
    [
        (4, 0, "frame 4: its reference would be frame 4"),
        (4, 36, "frame 4: its reference would be frame -32"),
        (4, 64 + 32, "frame 4: its reference would be frame 36"),
        (9, 9, "frame 9: it refers to frame 0, which is kept no more"),
        (2, 0xF0, "frame 2: its reference would be frame -14"),
        (7, 0x70, "frame 7: its reference would be frame -1"),
        (7, 0x60, "frame 7: it refers to frame 0, which is kept no more"),
    ],
)
def test_references_that_cannot_be(weights: str, number: int, distance: int, message: str) -> None:
    """GOPs of 0, 4, 2, 1, 3 and 5, 9, 7, 6, 8."""
    info = replace(INFO, frame_count=10)
    units = changed(encode(weights, info, gop=5), number, with_distance(distance))
    with pytest.raises(StreamError, match=message):
        decode(units, info)


def test_a_reference_that_never_comes_is_concealed(weights: str) -> None:
    """A B frame whose later reference is told to be 16 ahead."""
    info = replace(INFO, frame_count=5)
    units = changed(encode(weights, info), 2, with_distance(0x1F))
    assert [frame.pts for frame in decode(units, info)] == list(range(5))


@pytest.mark.parametrize("head", [P, I, 2, B])
def test_a_frame_of_another_kind_than_it_is(weights: str, head: int) -> None:
    """Frames, or one line; of every frame of a GOP."""
    info = replace(INFO, frame_count=6)
    units = encode(weights, info, gop=5)
    for number in range(6):
        told = changed(units, number, lambda payload: bytes([20 | head << 6]) + payload[1:])
        try:
            assert len(decode(told, info)) >= 6
        except StreamError as error:
            assert "\n" not in str(error) and "frame" in str(error)


@pytest.mark.parametrize("move", [(1, 5), (1, 2), (5, 1), (3, 9)])
def test_frames_out_of_their_order(weights: str, move: tuple[int, int]) -> None:
    """A frame coded too early or too late, or twice: frames, or one line."""
    units = encode(weights, gop=5)
    frames = [
        [u for u in units if u.type == UnitType.FRAME and u.picture == n] for n in kinds(units)
    ]
    moved = list(frames)
    moved.insert(move[1], moved.pop(move[0]))
    with pytest.raises(StreamError, match=r"^frame \d+.*(second time|kept no more|disagree)"):
        decode([units[0], *(unit for each in moved for unit in each)])
    doubled = [*frames[: move[1]], frames[move[0]], *frames[move[1] :]]
    if move != (1, 2):  # right behind itself it is the same frame
        with pytest.raises(StreamError, match="a second time"):
            decode([units[0], *(unit for each in doubled for unit in each)])


def test_another_configuration_between_frames_is_refused(weights: str) -> None:
    units = encode(weights, replace(INFO, frame_count=5))
    again = [*units[:5], units[0], *units[5:]]
    assert len(decode(again, replace(INFO, frame_count=5))) == 5
    other = replace(units[0], payload=units[0].payload[:-1] + b"?")
    with pytest.raises(StreamError, match="configuration changes behind frame"):
        decode([*units[:5], other, *units[5:]])


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 5, 8])
def test_cut_heads_are_one_line(weights: str, cut: int) -> None:
    units = encode(weights, replace(INFO, frame_count=5))
    for number in (2, 4):
        with pytest.raises(StreamError, match=f"frame {number}[:,]"):
            decode(changed(units, number, lambda payload: payload[:cut]))


def test_noise_is_frames_or_one_line(weights: str) -> None:
    info = replace(INFO, width=40, height=24)
    units = encode(weights, info, gop=6)
    rng = random.Random(7)
    outcomes = set()
    for _ in range(60):
        told = list(units)
        for _ in range(rng.choice((1, 2))):
            at = rng.randrange(1, len(told))
            payload = bytearray(told[at].payload)
            payload[rng.randrange(min(len(payload), 6))] = rng.randrange(256)
            told[at] = replace(told[at], payload=bytes(payload))
        try:
            outcomes.add(len(decode(told, info)) >= 11)
        except StreamError as error:
            outcomes.add(str(error).count("\n") == 0)
    assert outcomes == {True}


def test_what_waits_and_what_is_kept_is_bounded(coded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that come every 20 numbers, each between others that never come."""
    coder, _, payloads, _ = coded
    decoder = SequenceDecoder(coder)
    playback = Playback(decoder, lambda planes, number: number)
    intra = {layer: part for layer, part in enumerate(payloads[0]) if part}
    shown = list(playback.take(0, intra))
    empty = pack_frame([b"", b""], 40, KIND_BI, distances=(-16, 16), fields=[b"", b""])
    for number in range(20, 200, 20):
        shown += playback.take(number, {0: empty[0]})
        assert len(playback._waiting) <= 2 * 32 and len(decoder.records) <= MAX_RECORDS
    shown += playback.finish(205)
    assert shown == list(range(len(shown))) and len(shown) >= 205


# Layout and records.


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    ("kind", "distances", "shares"),
    [
        (KIND_INTRA, (), None),
        (KIND_INTER, (-3,), None),
        (KIND_INTER, (-4, -255), b"cde"),
        (KIND_INTER, (4, 31), b"cde"),
        (KIND_RESET, (-63,), None),
        (KIND_RESET, (1,), None),
        (KIND_RESET, (-1, -2), None),
        (KIND_BI, (-16, 1), None),
        (KIND_BI, (-2, 2), b""),
    ],
)
def test_what_is_laid_out_is_read(
    kind: int,
    distances: tuple[int, ...],
    shares: bytes | None,
    pack: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nvc.predictive.frame_units, "PACK_BELOW", 600)
    fields = [b"ab", b""][: len(distances)]
    layers = [b"base", b"", b"fine"]
    payloads = pack_frame(
        layers, 21, kind, distances=distances, shares=shares, fields=fields, pack=pack
    )
    parts = {layer: payload for layer, payload in enumerate(payloads) if payload is not None}
    assert set(parts) == ({0} if pack else {0, 2})
    frame = read_frame(300, parts, sends=True)
    assert (frame.qp, frame.kind, frame.base, frame.fields) == (21, kind, True, tuple(fields))
    assert frame.shares == shares
    assert frame.references == tuple(300 + distance for distance in distances)
    assert [frame.symbols[layer] for layer in range(3)] == layers
    assert (
        payloads[0][0] == 21 | {KIND_INTER: 0, KIND_INTRA: 64, KIND_RESET: 128, KIND_BI: 192}[kind]
    )


@pytest.mark.parametrize("qp", [FINEST_QP, -1, 0, 63, 64, COARSEST_QP])
def test_every_qp_is_read_again(qp: int) -> None:
    (base,) = pack_frame([b"abc"], qp, KIND_INTRA)
    assert read_frame(0, {0: base}, sends=True).qp == qp
    beyond = bytes([base[0] | 63, base[1] | 32]) + base[2:]
    with pytest.raises(StreamError, match="frame 0: its QP would be 115; allowed: -12 to 75"):
        read_frame(0, {0: beyond}, sends=True)


def test_an_expected_field_is_that_of_the_way_between_the_references() -> None:
    field = np.full((4, 4, 2), 0, np.int32)
    field[..., 0], field[..., 1] = 12, -8
    first = Record(number=4, memory=Memory())
    later = Record(number=8, memory=Memory(), references=(4,), fields=(field,))
    earlier, after = direct(5, first, later)
    assert earlier[0, 0].tolist() == [3, -2] and after[0, 0].tolist() == [-9, 6]
    middle = Record(number=6, memory=Memory(), references=(4, 8), fields=(field, -field))
    earlier, after = direct(7, middle, later)
    assert earlier[0, 0].tolist() == [6, -4] and after[0, 0].tolist() == [-6, 4]
    assert direct(7, first, Record(number=9, memory=Memory(), references=(8,))) is None
    assert scaled(field, 3, 4)[0, 0].tolist() == [9, -6]
    assert scaled(field, -1, 4)[0, 0].tolist() == [-3, 2]
    assert scaled(np.full((2, 2, 2), 4000, np.int32), 9, 1).max() == 4096


def test_records_are_bounded_and_the_oldest_go() -> None:
    records = Records()
    for number in range(20):
        records.put(Record(number=number, memory=Memory()))
    assert len(records) == MAX_RECORDS and records.get(11) is None and records.get(12)
    before, after = records.around(15)
    assert (before.number, after.number) == (14, 16)
    records.forget_before(16)
    assert records.around(16)[0] is None and len(records) == 4


def test_motion_is_sent_at_the_qp_that_a_trial_ends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where motion begins depends on the QP, and the search was at another one."""
    network = tiny_network().half().float()
    codes = network.motion_contexts.codes
    codes.copy_(torch.randint(-40, 41, codes.shape, generator=torch.Generator().manual_seed(3)))
    coder = FrameCoder(network, (INFO.height, INFO.width))
    encoder, decoder = SequenceEncoder(coder), SequenceDecoder(coder)
    monkeypatch.setattr(SequenceEncoder, "_cost", lambda _, coded, *__: -float(coded.memory.qp))
    frames = [to_planes(f, INFO, coder.size, torch.zeros(1)) for f in make_frames(INFO, 9)]
    places = ((8, None, None), (4, 8, None), (6, 4, 8))
    for number, earlier, later in places:
        references = [number for number in (earlier, later) if number is not None]
        kind = (KIND_INTRA, KIND_INTER, KIND_BI)[len(references)]
        payloads = encoder.encode(
            frames[number], 26, kind, Place(number, *references), others=(30,)
        )
        assert payloads[0][0] & 63 == 30
        parts = {layer: part for layer, part in enumerate(payloads) if part is not None}
        decoder.decode(decoder.read(number, parts))
        mine, theirs = encoder.records.get(number), decoder.records.get(number)
        for a, b in zip(mine.fields, theirs.fields, strict=True):
            assert np.array_equal(a, b)
    assert any(field.any() for field in mine.fields)
