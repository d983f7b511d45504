"""The predictive codec over a stream: GOPs, rate targets, units, processes.

A stream is one CONFIG unit (a version byte and the hash of the weights) and FRAME units in coding
order (structure.py) as frame_units.py lays them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch

from nvc.bitstream.units import Unit, UnitType, pack_head
from nvc.errors import StreamError, UsageError
from nvc.nn.blocks import COARSEST_QP, FINEST_QP, QP_COUNT
from nvc.nn.precision import network_dtype
from nvc.predictive.arrivals import Arrival, arrivals
from nvc.predictive.checkpoint import shared_network
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.frame_plan import decide, planned, wanted_picture
from nvc.predictive.lanes import side_by_side
from nvc.predictive.lookahead import composed
from nvc.predictive.network import KIND_BI, KIND_INTER, KIND_INTRA, KIND_RESET, Planes
from nvc.predictive.parallel import encode_gops
from nvc.predictive.planes_io import to_frame, to_planes
from nvc.predictive.playback import Playback
from nvc.predictive.ratecontrol import BitrateControl, ConstantQp, PsnrControl, RateControl
from nvc.predictive.records import vector_grid
from nvc.predictive.row_coder import open_coder
from nvc.predictive.scene_cuts import cut_luma, gop_starts
from nvc.predictive.sequence import SequenceDecoder, SequenceEncoder
from nvc.predictive.structure import BFRAMES, Place, coding_order, lead_of
from nvc.video.frames import Frame, VideoInfo
from nvc.weights import by_hash, by_name

CONFIG_VERSION = 11
DEFAULT_QP = 32
TRIALS = ((), (), (-3, 3), (-6, -3, 3, 6))  # by effort: QPs tried for a frame beside its own
_JOBS_AHEAD = 512  # frames whose units are read before they are decoded
_KEPT_BYTES = 192 << 20  # of decoded frames that wait for those before them, in each lane
_READ_BYTES = 1 << 30  # of frames that are read before they are encoded, in all lanes


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Options of `nvc encode --codec dhvc`.

    At most one of qp (0 best .. 63), bitrate (bit/s), size (bytes of the coded video) and psnr (dB,
    (6Y + U + V) / 8); without any, QP 32. gop: frames a GOP has, which holds one intra frame;
    scenecut: whether it also ends where a scene does (nvc.predictive.scene_cuts). bframes: between
    two anchors (intra or P); None: 3, and 7 where looking ahead finds that frames far apart are as
    alike as those that follow each other; 0 is low delay, as which weights that send no motion are
    taken anyway. reset: frames after which the statistics of anchors start anew, so that a lost
    unit costs at most about that many frames of its layer; None: not before the next intra frame.
    intra_gain: QPs by which intra frames are finer, since others refer to them. qp_cycle: in low
    delay, added to the QP of P frames by their place in the GOP, over and over, so that now and
    then one is finer for those after it. jobs: GOPs encoded side by side in processes, at constant
    QP; cluster: where else they may run (nvc.schedule). effort: 0 looks no frame ahead, 1 looks
    ahead (nvc.predictive.lookahead) and takes from frames that others refer to what they do not
    share with those (nvc.predictive.temporal_filter), 2 and 3 also code each frame at 3 or 5 QPs
    and take the cheapest in bits and errors, and search the motion of B frames twice. weights: a
    shipped name or a .safetensors path.
    """

    qp: int | None = None
    bitrate: float | None = None
    size: int | None = None
    psnr: float | None = None
    gop: int = 32
    bframes: int | None = None
    scenecut: bool = True
    reset: int | None = None
    intra_gain: int = 9
    qp_cycle: tuple[int, ...] = (-8, 3, 3, 3, 0, 3, 3, 3)
    jobs: int = 1
    cluster: str | None = None
    pack: bool = True
    effort: int = 1
    precision: str = "auto"
    weights: str = "dhvc_s"

    def __post_init__(self) -> None:
        targets = [
            name for name in ("qp", "bitrate", "size", "psnr") if getattr(self, name) is not None
        ]
        if len(targets) > 1:
            raise UsageError(f"{' and '.join(targets)} were given; allowed: one of them")
        ranges = {
            "qp": (0, QP_COUNT - 1),
            "bitrate": (1, 1 << 40),
            "size": (1, 1 << 50),
            "psnr": (10, 80),
            "gop": (1, 65535),
            "reset": (1, 65535),
            "intra_gain": (0, QP_COUNT - 1),
            "jobs": (1, 256),
            "effort": (0, len(TRIALS) - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} is {value}; allowed: {low} to {high}")
        if self.usual_bframes not in BFRAMES:
            allowed = ", ".join(map(str, BFRAMES))
            raise UsageError(f"bframes is {self.bframes}; allowed: {allowed}")
        network_dtype(self.precision)
        if not self.qp_cycle or not all(-QP_COUNT < step < QP_COUNT for step in self.qp_cycle):
            raise UsageError(f"qp_cycle is {self.qp_cycle}; allowed: QP differences, at least one")
        if self.side_by_side and targets not in ([], ["qp"]):
            raise UsageError(f"{targets[0]} with jobs or a cluster: these need a constant QP")

    @property
    def usual_bframes(self) -> int:
        """B frames between two anchors, but in GOPs for which another number is chosen."""
        return 3 if self.bframes is None else self.bframes

    @property
    def side_by_side(self) -> bool:
        """Whether GOPs are encoded side by side."""
        return self.jobs > 1 or self.cluster is not None


class PredictiveCodec:
    """`dhvc`: encodes with EncodeOptions, decodes anything made with weights that are here."""

    def __init__(self, options: EncodeOptions | None = None, *, device: str = "cpu") -> None:
        self.options = options or EncodeOptions()
        self.device = device

    @property
    def weights_hash(self) -> bytes:
        """Hash of the weights an encode uses."""
        return shared_network(by_name(self.options.weights), self.device)[1]

    def encode(
        self, frames: Iterable[Frame], info: VideoInfo, *, progress: Callable | None = None
    ) -> Iterator[Unit]:
        """CONFIG, then the units of each frame as soon as it is there."""
        yield Unit(UnitType.CONFIG, bytes([CONFIG_VERSION]) + self.weights_hash)
        options, device = self.options, self.device
        if options.side_by_side:
            yield from encode_gops(options, frames, info, device=device, progress=progress)
            return
        lanes = encode_lanes(options, info) if device == "cpu" else 1
        if lanes == 1:
            yield from encode_frames(options, frames, info, device=device, progress=progress)
            return

        def work(items: Iterator[tuple[int, tuple[bool, Frame]]]) -> Iterator[Unit]:
            for number, started in items:
                rest = (following for _, following in items)
                yield from encode_started(options, chain((started,), rest), info, first=number)

        gop = options.gop
        starting = gop_starts(frames, gop=gop, luma=cut_luma(options, info))
        numbered = ((each[0], (number, each)) for number, each in enumerate(starting))
        units = side_by_side(numbered, work, lanes=lanes, ahead=gop, keeps=8 * gop)
        done = 0
        for unit in units:
            yield unit
            done += unit.layer == 0
            if progress is not None and unit.layer == 0:
                progress(done)

    def decode(
        self,
        units: Iterable[Unit],
        info: VideoInfo,
        *,
        device: torch.device | str = "cpu",
        layers: int | None = None,
        lanes: int = 1,
        precision: str = "auto",
    ) -> Iterator[Frame]:
        """Frames in order, their pts their number. Lost units are concealed, never an error.

        info.frame_count, where it is known, says how many were lost at the end. layers: decode only
        that many of the coarsest. lanes: GOPs to decode side by side, whose units are read ahead;
        where units are lost, one after another from there on. precision: of the mean path
        (nvc.nn.precision). Raises StreamError for units that are there but cannot be read.
        """
        dtype = network_dtype(precision)

        def work(jobs: Iterator[Arrival | StreamError | None]) -> Iterator[Frame]:
            playback: Playback[Frame] | None = None
            for job in jobs:
                if isinstance(job, StreamError):
                    raise job
                if job is None:
                    break
                if playback is None:
                    decoder = _open(job.config, info, str(device), dtype, layers)
                    decoder.recall(decoder.read(*each) for each in job.before)
                    playback = Playback(decoder, show)
                yield from playback.take(job.number, job.parts, job.first)
            else:
                return  # other lanes go on
            if playback is not None:
                yield from playback.finish(info.frame_count)

        def show(planes: Planes, number: int) -> Frame:
            return to_frame(planes, info, number)

        yield from side_by_side(
            arrivals(units, layers),
            work,
            lanes=lanes if str(device) == "cpu" else 1,
            ahead=_JOBS_AHEAD,
            keeps=max(4, _KEPT_BYTES // _frame_bytes(info)),
        )


def encode_lanes(options: EncodeOptions, info: VideoInfo) -> int:
    """GOPs that an encode of these options works on side by side in threads.

    As many as torch has threads, at constant QP, where so many GOPs of frames fit in memory.
    """
    if not isinstance(_control(options, info), ConstantQp):
        return 1
    return max(1, min(torch.get_num_threads(), _READ_BYTES // (_frame_bytes(info) * options.gop)))


def _frame_bytes(info: VideoInfo) -> int:
    """Bytes of the samples of a frame."""
    return sum(map(math.prod, info.plane_shapes())) * (1 if info.bit_depth == 8 else 2)


def encode_frames(
    options: EncodeOptions, frames: Iterable[Frame], info: VideoInfo, **given: Any
) -> Iterator[Unit]:
    """encode_started of frames of which the first starts a GOP; given: its keywords."""
    starting = gop_starts(frames, gop=options.gop, luma=cut_luma(options, info))
    return encode_started(options, starting, info, **given)


def encode_started(
    options: EncodeOptions,
    frames: Iterable[tuple[bool, Frame]],
    info: VideoInfo,
    *,
    device: str = "cpu",
    first: int = 0,
    progress: Callable | None = None,
    coder: FrameCoder | None = None,
) -> Iterator[Unit]:
    """FRAME units of frames numbered from `first`, each with whether it starts a GOP.

    coder: what codes them, for another network than that of the options.
    """
    if coder is None:
        network, _ = shared_network(by_name(options.weights), device)
        coder = open_coder(network, (info.height, info.width), network_dtype(options.precision))
    encoder = SequenceEncoder(coder, pack=options.pack)
    if not encoder.sends:
        options = replace(options, bframes=0)
    like = torch.empty(0, device=coder.device, dtype=coder.dtype)
    control = _control(options, info)

    def planes(frame: Frame) -> Planes:
        return to_planes(frame, info, encoder.coder.size, like)

    last_reset = intra = first
    rounds = 1 if options.effort < 2 else 2
    for done, step in enumerate(planned(options, frames, planes, first=first), start=1):
        place = step.place
        counted = place.moved(-step.first)
        if place.earlier is None:
            intra = place.number
        if place.earlier in (None, intra):
            last_reset = intra
        due = options.reset is not None and abs(place.number - last_reset) >= options.reset
        kind = _kind(place, due)
        if kind == KIND_RESET:
            last_reset = place.number
        source = wanted = planes(step.frame)
        group = _group(place)
        qp, worth = decide(options, counted, control.qp(group), step.links, encoder.coder.size)
        qp, *others = (
            min(max(qp + trial, FINEST_QP), COARSEST_QP) for trial in (0, *TRIALS[options.effort])
        )
        start = None
        if step.passed is not None:
            start = composed(step.passed, vector_grid(encoder.coder.size))
        if place.later is None:
            wanted = wanted_picture(options, counted, source, step.near, qp, planes)
        payloads = encoder.encode(
            wanted, qp, kind, place, worth=worth, others=others, start=start, rounds=rounds
        )
        key = kind == KIND_INTRA
        # An intra frame concerns those before it in its GOP, which lead to it.
        begins = step.first if key else place.number
        units = [
            Unit(
                UnitType.FRAME, payload, begins, place.number + 1 - begins, layer,
                key and layer == 0,
            )
            for layer, payload in enumerate(payloads)
            if payload is not None
        ]  # fmt: skip
        spent = sum(len(pack_head(unit)) + len(unit.payload) + 4 for unit in units)
        control.update(
            bits=8 * spent,
            group=group,
            psnr=lambda source=source: encoder.psnr(source, info.height, info.width),
        )
        yield from units
        if progress is not None:
            progress(first + done)


def _kind(place: Place, due: bool) -> int:
    """Kind of a frame; due: whether the statistics of anchors are to start anew."""
    if place.earlier is None:
        return KIND_INTRA
    if place.later is not None:
        return KIND_BI
    return KIND_RESET if due else KIND_INTER


def _group(place: Place) -> int:
    """Which frames the rate control takes as alike: 0 intra, 1 P, 2 and more B by depth."""
    return 0 if place.earlier is None else 1 + place.depth


def _control(options: EncodeOptions, info: VideoInfo) -> RateControl:
    window = max(options.gop, round(float(info.frame_rate)))
    lead = lead_of(options.gop, options.usual_bframes)
    order = coding_order(options.gop, options.usual_bframes, lead=lead)
    groups = [_group(place) for place in order]
    if options.psnr is not None:
        return PsnrControl(options.psnr, window=window, groups=groups, frames=info.frame_count)
    bitrate = options.bitrate
    if options.size is not None:
        if info.frame_count is None:
            raise UsageError(
                "a file size needs the number of frames, which is not known here: "
                "give --frames, or --bitrate"
            )
        bitrate = 8 * options.size * float(info.frame_rate) / max(info.frame_count, 1)
    if bitrate is None:
        return ConstantQp(DEFAULT_QP if options.qp is None else options.qp)
    return BitrateControl(
        bits_per_frame=bitrate / float(info.frame_rate),
        pixels=info.width * info.height,
        window=window,
        groups=groups,
        frames=info.frame_count,
    )


def _open(
    payload: bytes, info: VideoInfo, device: str, dtype: torch.dtype, layers: int | None
) -> SequenceDecoder:
    if len(payload) != 9:
        raise StreamError(f"the codec's configuration has {len(payload)} bytes; expected 9")
    if payload[0] != CONFIG_VERSION:
        raise StreamError(
            f"the stream is of version {payload[0]} of this codec; "
            f"this program reads version {CONFIG_VERSION}"
        )
    network, _ = shared_network(by_hash(payload[1:]), device)
    coder = open_coder(network, (info.height, info.width), dtype)
    return SequenceDecoder(coder, layers=layers)
