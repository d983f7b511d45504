"""The predictive codec with a tiny network: round trips, layers, loss, rate, damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import make_frames
from predictive_weights import tiny_network, write_weights

import nvc.predictive.frame_units
from nvc.bitstream.units import Unit, UnitType
from nvc.errors import InputError, StreamError, UsageError
from nvc.nn.planes import pack_planes
from nvc.predictive.codec import EncodeOptions, PredictiveCodec
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.network import KIND_INTER, KIND_INTRA
from nvc.predictive.planes_io import to_planes
from nvc.predictive.sequence import SequenceEncoder
from nvc.predictive.structure import Place, coding_order
from nvc.video.frames import Frame, VideoInfo

INFO = VideoInfo(width=80, height=48, frame_count=6, frame_rate=Fraction(25))


@pytest.fixture(autouse=True)
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames here are small; one test packs them, the others want a unit for each layer."""
    monkeypatch.setattr(nvc.predictive.frame_units, "PACK_BELOW", 0)


def encode(weights: str, info: VideoInfo = INFO, frames=None, **options) -> list[Unit]:
    codec = PredictiveCodec(EncodeOptions(weights=weights, **options))
    frames = make_frames(info, info.frame_count) if frames is None else frames
    return list(codec.encode(frames, info))


def decode(units: list[Unit], info: VideoInfo = INFO, **options) -> list[Frame]:
    return list(PredictiveCodec().decode(units, info, **options))


def psnr(a: list[Frame], b: list[Frame]) -> list[float]:
    """Luma PSNR of each frame in dB."""
    errors = [
        (x.planes[0].float() - y.planes[0].float()).square().mean()
        for x, y in zip(a, b, strict=True)
    ]
    return [float(10 * torch.log10(255**2 / error.clamp(min=1e-3))) for error in errors]


def same(a: list[Frame], b: list[Frame]) -> bool:
    return all(
        torch.equal(p, q)
        for x, y in zip(a, b, strict=True)
        for p, q in zip(x.planes, y.planes, strict=True)
    )


@pytest.mark.parametrize(
    ("size", "chroma", "depth"),
    [
        ((80, 48), "420", 8),
        ((45, 35), "420", 10),
        ((33, 64), "444", 8),
        ((50, 30), "422", 10),
        ((64, 64), "400", 8),
        ((1, 1), "420", 8),
    ],
)
def test_any_size_format_and_depth(weights: str, size, chroma: str, depth: int) -> None:
    info = replace(
        INFO, width=size[0], height=size[1], chroma=chroma, bit_depth=depth, frame_count=3
    )
    shown = decode(encode(weights, info, qp=8), info)
    assert [frame.pts for frame in shown] == [0, 1, 2]
    for frame, source in zip(shown, make_frames(info, 3), strict=True):
        assert [p.shape for p in frame.planes] == [p.shape for p in source.planes]
        assert [p.dtype for p in frame.planes] == [p.dtype for p in source.planes]


def test_the_decoder_shows_what_the_encoder_saw(weights: str) -> None:
    """Closed loop: after inter frames the decoder's picture is the encoder's reference."""
    network = tiny_network().half().float()  # as the file holds it
    coder = FrameCoder(network, (INFO.height, INFO.width))
    encoder = SequenceEncoder(coder)
    frames = make_frames(INFO, 3)
    for place, frame in zip(coding_order(3, 0), frames, strict=True):
        planes = to_planes(frame, INFO, coder.size, torch.zeros(1))
        encoder.encode(planes, 20, KIND_INTER if place.number else KIND_INTRA, place)
    plain = {"intra_gain": 0, "qp_cycle": (0,), "effort": 0, "precision": "float32", "bframes": 0}
    shown = decode(encode(weights, frames=frames, qp=20, **plain), precision="float32")[2]
    reference = encoder.memory.pictures[-1][0][0, 0, : INFO.height, : INFO.width]
    assert (shown.planes[0].float() - reference * 255).abs().max() <= 0.51


def test_quality_and_bytes_follow_the_qp(weights: str) -> None:
    frames = make_frames(INFO, INFO.frame_count)
    sizes, qualities = [], []
    for qp in (24, 40, 56):  # under 24 the untrained network sets the quality
        units = encode(weights, frames=frames, qp=qp)
        sizes.append(sum(len(unit.payload) for unit in units))
        qualities.append(sum(psnr(frames, decode(units))))
    assert sizes == sorted(sizes, reverse=True) and qualities == sorted(qualities, reverse=True)


def test_motion_pays(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On moving content the sent vectors cost less than they save; a gain of this form alone."""
    path = write_weights(tmp_path / "weights", "implicit")
    info = replace(INFO, width=128, height=64, frame_count=4)
    torch.manual_seed(2)
    blobs = torch.nn.functional.interpolate(torch.rand(1, 1, 24, 40), scale_factor=4.0)
    scene = (blobs[0, 0] * 255).to(torch.uint8)
    grey = torch.full((32, 64), 128, dtype=torch.uint8)
    frames = [
        Frame(planes=(scene[5 * n : 5 * n + 64, 7 * n : 7 * n + 128], grey, grey), pts=n)
        for n in range(4)
    ]
    sent, still = (encode(name, info, frames, qp=16, bframes=0) for name in (weights, path.stem))
    inter = [sum(len(u.payload) for u in units if u.frame_start) for units in (sent, still)]
    assert inter[0] < 0.9 * inter[1]
    assert len(decode(still, info)) == 4


def test_fewer_layers_decode_without_the_others(weights: str) -> None:
    """The base alone gives the same frames whether the finer units are there or not."""
    units = encode(weights, qp=8)
    base = [unit for unit in units if unit.type != UnitType.FRAME or unit.layer == 0]
    frames = make_frames(INFO, INFO.frame_count)
    shown = decode(base, layers=1)
    assert same(shown, decode(units, layers=1))
    assert min(psnr(frames, decode(units))) > min(psnr(frames, shown))


def test_small_frames_are_packed_into_one_unit(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same frames, whole and by layers, in fewer bytes."""
    apart = encode(weights, qp=16)
    monkeypatch.setattr(nvc.predictive.frame_units, "PACK_BELOW", 1 << 20)
    packed = encode(weights, qp=16)
    assert len(packed) == 1 + INFO.frame_count < len(apart)
    assert sum(len(u.payload) for u in packed) < sum(len(u.payload) + 8 for u in apart)
    assert same(decode(packed), decode(apart))
    assert same(decode(packed, layers=1), decode(apart, layers=1))


def test_symbols_do_not_depend_on_the_means(weights: str) -> None:
    """A decoder whose means are off by 1e-3, in float64, with 2 threads, reads the same symbols."""
    network = tiny_network().half().float()
    shown = (INFO.height, INFO.width)
    size = FrameCoder(network, shown).size
    planes = [to_planes(f, INFO, size, torch.zeros(1)) for f in make_frames(INFO, 2)]
    intra = FrameCoder(network, shown).encode(planes[0], 12, KIND_INTRA)
    inter = FrameCoder(network, shown).encode(planes[1], 12, KIND_INTER, memory=intra.memory)
    routes = [
        FrameCoder(network, shown),
        FrameCoder(network, shown, noise=1e-3),
        FrameCoder(tiny_network().half().double(), shown),
        FrameCoder(network.to(memory_format=torch.channels_last), shown),
    ]
    codes = []
    for route in routes:
        first = route.decode(intra.layers, 12, KIND_INTRA)
        second = route.decode(inter.layers, 12, KIND_INTER, memory=first.memory)
        assert first.used == second.used == [True, True]
        codes.append([code.float() for code in second.memory.codes])
    for other in codes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(codes[0], other, strict=True))


@pytest.mark.parametrize("lost", [(0, 1), (2, 0), (2, 1), (3, 0), (0, 0)])
def test_a_lost_unit_is_concealed_and_forgotten(weights: str, lost: tuple[int, int]) -> None:
    """Whatever unit is missing, all frames come; symbols are read again after the next reset."""
    info = replace(INFO, frame_count=12)
    units = encode(weights, info, qp=16, gop=8, reset=2, bframes=0)
    kept = [u for u in units if (u.frame_start, u.layer) != lost or u.type != UnitType.FRAME]
    assert len(kept) == len(units) - 1
    whole, damaged = decode(units, info), decode(kept, info)
    assert len(damaged) == 12
    assert same(whole[: lost[0]], damaged[: lost[0]])
    assert same(whole[8:], damaged[8:])  # the next intra frame ends all of it


def test_losing_everything_but_the_first_units_still_shows_frames(weights: str) -> None:
    units = encode(weights, qp=16)
    kept = [unit for unit in units if unit.frame_start in (0, 5)]
    assert len(decode(kept)) == 6


def test_damage_that_is_no_loss_is_an_error(weights: str) -> None:
    units = encode(weights, qp=8)
    at, unit = next((i, u) for i, u in enumerate(units) if u.layer == 1)
    payload = bytearray(unit.payload)
    payload[len(payload) // 2] ^= 16
    units[at] = replace(unit, payload=bytes(payload))
    with pytest.raises(StreamError, match=r"frame 0, layer 1: .* checksum"):
        decode(units)


@pytest.mark.parametrize("cut", [0, 1, 2, 5])
def test_cut_payloads_are_refused(weights: str, cut: int) -> None:
    units = encode(weights, qp=8)
    units[1] = replace(units[1], payload=units[1].payload[:cut])
    with pytest.raises(StreamError, match="frame 0"):
        decode(units)


def test_streams_of_other_weights_say_so(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    units = encode(weights)
    monkeypatch.delenv("NVC_WEIGHTS")
    with pytest.raises(InputError, match="made with weights"):
        decode(units)


def test_bit_rate_is_met(weights: str) -> None:
    info = replace(INFO, width=128, height=64, frame_count=75)
    frames = make_frames(info, 75)
    free = 8 * sum(len(unit.payload) for unit in encode(weights, info, frames, qp=28)) / 3
    target = 0.8 * free
    units = encode(weights, info, frames, bitrate=target)
    spent = 8 * sum(len(unit.payload) + 9 for unit in units) / 3
    assert spent == pytest.approx(target, rel=0.05)


def mean_psnr(a: list[Frame], b: list[Frame]) -> float:
    """(6Y + U + V) / 8 over the frames, in dB."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        for weight, p, q in zip((6, 1, 1), x.planes, y.planes, strict=True):
            error = (p.float() - q.float()).square().mean().clamp(min=1e-3)
            total += weight * float(10 * torch.log10(255**2 / error))
    return total / 8 / len(a)


def test_quality_target_is_met(weights: str) -> None:
    info = replace(INFO, frame_count=40)
    frames = make_frames(info, 40)
    # Short GOPs: untrained, P frames get hardly better with a finer QP.
    target = mean_psnr(frames, decode(encode(weights, info, frames, qp=36, gop=4), info))
    units = encode(weights, info, frames, psnr=target, gop=4)
    assert mean_psnr(frames, decode(units, info)) == pytest.approx(target, abs=0.2)


def test_jobs_give_the_bytes_of_one_process(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvc.predictive.frame_units, "PACK_BELOW", 600)  # as in the workers
    frames = make_frames(INFO, INFO.frame_count)
    alone = encode(weights, frames=frames, qp=20, gop=3)
    assert encode(weights, frames=frames, qp=20, gop=3, jobs=2) == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qp": 64}, "0 to 63"),
        ({"gop": 0}, "1 to 65535"),
        ({"qp": 3, "psnr": 40.0}, "one of them"),
        ({"jobs": 2, "bitrate": 1e6}, "constant QP"),
        ({"cluster": "auto", "psnr": 40.0}, "constant QP"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EncodeOptions(**options)


def test_packing_makes_squared_error_the_distortion() -> None:
    torch.manual_seed(0)
    a, b = ([torch.rand(1, 1, 16, 16), *torch.rand(2, 1, 1, 8, 8)] for _ in range(2))
    mse = [(p - q).square().mean() for p, q in zip(a, b, strict=True)]
    packed = (pack_planes(a) - pack_planes(b)).square().sum() / 256
    assert packed == pytest.approx(float(6 * mse[0] + mse[1] + mse[2]) / 8, rel=1e-5)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch with two threads, so that GOPs are encoded in two lanes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_lanes_change_nothing(weights: str, two_threads: None) -> None:
    """GOPs side by side are the bytes and the frames of one after another; progress is in order."""
    info = replace(INFO, frame_count=11)
    frames = make_frames(info, 11)
    torch.set_num_threads(1)
    alone = encode(weights, info, frames, qp=20, gop=3)
    torch.set_num_threads(2)
    done: list[int] = []
    codec = PredictiveCodec(EncodeOptions(weights=weights, qp=20, gop=3))
    assert list(codec.encode(frames, info, progress=done.append)) == alone
    assert done == list(range(1, 12))
    assert same(decode(alone, info, lanes=3), decode(alone, info))


@pytest.mark.parametrize("lost", [(0, 1), (4, 0), (6, 0), (6, 1), (10, 0)])
def test_lanes_conceal_as_one_does(weights: str, lost: tuple[int, int]) -> None:
    info = replace(INFO, frame_count=11)
    units = encode(weights, info, qp=16, gop=3, reset=2)
    kept = [u for u in units if (u.frame_start, u.layer) != lost or u.type != UnitType.FRAME]
    assert same(decode(kept, info, lanes=2), decode(kept, info))


def test_lanes_give_the_frames_before_an_error(weights: str) -> None:
    info = replace(INFO, frame_count=11)
    units = encode(weights, info, qp=8, gop=3)
    at, unit = next((i, u) for i, u in enumerate(units) if u.layer == 1 and u.frame_start == 7)
    payload = bytearray(unit.payload)
    payload[len(payload) // 2] ^= 16
    units[at] = replace(unit, payload=bytes(payload))
    shown = []
    with pytest.raises(StreamError, match=r"frame 7, layer 1: .* checksum"):
        for frame in PredictiveCodec().decode(units, info, lanes=2):
            shown.append(frame)
    assert [frame.pts for frame in shown] == list(range(7))


def test_trials_take_the_cheapest_qp_and_leave_no_trace_of_the_others(weights: str) -> None:
    """Each frame as if its QP had been asked for at once; never dearer than the first tried."""
    network = tiny_network().half().float()
    coder = FrameCoder(network, (INFO.height, INFO.width))
    tried, plain = SequenceEncoder(coder), SequenceEncoder(coder)
    for number, frame in enumerate(make_frames(INFO, 3)):
        planes = to_planes(frame, INFO, coder.size, torch.zeros(1))
        kind = KIND_INTER if number else KIND_INTRA
        place = Place(number, number - 1 if number else None)
        payloads = tried.encode(planes, 30, kind, place, others=(24, 36))
        taken = payloads[0][0] & 63
        assert taken in (24, 30, 36)
        if number == 0:  # inter frames search their motion at the first QP
            assert payloads == plain.encode(planes, taken, kind, place)
    with pytest.raises(UsageError, match="effort is 4; allowed: 0 to 3"):
        EncodeOptions(effort=4)
    sizes = [len(b"".join(u.payload for u in encode(weights, qp=30, effort=e))) for e in (0, 2, 3)]
    assert len(set(sizes)) > 1
    assert len(decode(encode(weights, qp=30, effort=3))) == len(decode(encode(weights, qp=30)))
