"""The predictive codec over a stream: GOPs, rate targets, units, processes.

A stream is one CONFIG unit (a version byte and the hash of the weights) and FRAME units as
nvc.predictive.sequence lays them out. Encoding looks no frame ahead.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch

from nvc.bitstream.units import MAX_GAP, Unit, UnitType, pack_head
from nvc.errors import StreamError, UsageError
from nvc.nn.blocks import QP_COUNT
from nvc.predictive.checkpoint import shared_network
from nvc.predictive.lanes import side_by_side
from nvc.predictive.lookahead import Link, half_luma, linked, plan
from nvc.predictive.network import KIND_INTER, KIND_INTRA, KIND_RESET, Planes
from nvc.predictive.parallel import encode_gops
from nvc.predictive.planes_io import to_frame, to_planes
from nvc.predictive.ratecontrol import BitrateControl, ConstantQp, PsnrControl, RateControl
from nvc.predictive.row_coder import mean_dtype, open_coder
from nvc.predictive.sequence import SequenceDecoder, SequenceEncoder, is_whole, starts_anew
from nvc.video.frames import Frame, VideoInfo
from nvc.weights import by_hash, by_name

CONFIG_VERSION = 4
DEFAULT_QP = 32
TRIALS = ((), (), (-3, 3), (-6, -3, 3, 6))  # by effort: QPs tried for a frame beside its own
# Configuration, number and layers of a frame, those of the last two inter frames before it where
# decoding can start anew; or an error in place of a frame.
_Job = StreamError | tuple[bytes, int, dict[int, bytes], tuple[dict[int, bytes], ...]]
_JOBS_AHEAD = 512  # frames whose units are read before they are decoded
_KEPT_BYTES = 192 << 20  # of decoded frames that wait for those before them, in each lane
_READ_BYTES = 1 << 30  # of frames that are read before they are encoded, in all lanes


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Options of `nvc encode --codec dhvc`.

    At most one of qp (0 best .. 63), bitrate (bit/s), size (bytes of the coded video) and psnr (dB,
    (6Y + U + V) / 8); without any, QP 32. gop: frames from one intra frame to the next. reset:
    frames after which statistics start anew, so that a lost unit costs at most that many frames of
    its layer. intra_gain: QPs by which intra frames are finer, since others refer to them.
    qp_cycle: added to the QP of inter frames by their place in the GOP, over and over, so that now
    and then one is finer for those after it. jobs: GOPs encoded side by side in processes, at
    constant QP; cluster: where else they may run (nvc.schedule). effort: 0 looks no frame ahead, 1
    looks ahead (nvc.predictive.lookahead), 2 and 3 also code each frame at 3 or 5 QPs and take the
    cheapest in bits and errors. weights: a shipped name or a .safetensors path.
    """

    qp: int | None = None
    bitrate: float | None = None
    size: int | None = None
    psnr: float | None = None
    gop: int = 32
    reset: int = 8
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
        mean_dtype(self.precision)
        if not self.qp_cycle or not all(-QP_COUNT < step < QP_COUNT for step in self.qp_cycle):
            raise UsageError(f"qp_cycle is {self.qp_cycle}; allowed: QP differences, at least one")
        if self.side_by_side and targets not in ([], ["qp"]):
            raise UsageError(f"{targets[0]} with jobs or a cluster: these need a constant QP")

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

        def work(items: Iterator[tuple[int, Frame]]) -> Iterator[Unit]:
            for number, frame in items:
                rest = (following for _, following in items)
                yield from encode_frames(options, chain((frame,), rest), info, first=number)

        gop = options.gop
        numbered = ((number % gop == 0, (number, frame)) for number, frame in enumerate(frames))
        units = side_by_side(numbered, work, lanes=lanes, ahead=gop, keeps=8 * gop)
        for unit in units:
            yield unit
            if progress is not None and unit.layer == 0:
                progress(unit.frame_start + 1)

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
        (nvc.predictive.row_coder). Raises StreamError for units that are there but cannot be read.
        """
        dtype = mean_dtype(precision)

        def work(jobs: Iterator[_Job]) -> Iterator[Frame]:
            decoder: SequenceDecoder | None = None
            opened: bytes | None = None
            for job in jobs:
                if isinstance(job, StreamError):
                    raise job
                config, number, parts, before = job
                if decoder is None or config is not opened:
                    decoder, opened = _open(config, info, str(device), dtype), config
                    decoder.recall(before)
                yield to_frame(decoder.decode(number, parts, layers), info, number)

        yield from side_by_side(
            _jobs(units, info, layers),
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


def _jobs(
    units: Iterable[Unit], info: VideoInfo, layers: int | None
) -> Iterator[tuple[bool, _Job]]:
    """Frames with the layers that arrived, and whether decoding can start anew at one.

    It cannot once anything was lost, since what is shown then depends on all that came before. An
    error in the units comes last, in place of a frame.
    """
    intact = True
    before: deque[dict[int, bytes]] = deque(maxlen=2)
    try:
        for config, number, parts in _frames(units, info):
            intact = intact and is_whole(parts, layers)
            starts = intact and starts_anew(parts)
            yield starts, (config, number, parts, tuple(before) if starts else ())
            if intact and not starts:
                before.append(parts)
    except StreamError as error:
        yield False, error


def _frames(
    units: Iterable[Unit], info: VideoInfo
) -> Iterator[tuple[bytes, int, dict[int, bytes]]]:
    """Configuration, number and layers of every frame, lost ones too. Raises StreamError."""
    config: bytes | None = None
    number: int | None = None
    parts: dict[int, bytes] = {}
    for unit in units:
        if unit.type == UnitType.CONFIG:
            config = unit.payload
            continue
        if unit.type != UnitType.FRAME:
            continue
        if config is None:
            raise StreamError("the stream has frames before its configuration")
        if unit.frame_count != 1:
            raise StreamError(f"frame {unit.frame_start}: a unit of several frames")
        if number is not None and unit.frame_start < number:
            raise StreamError(f"frame {unit.frame_start} comes after frame {number}")
        while number is not None and unit.frame_start > number:
            yield config, number, parts
            parts = {}
            number += 1
        number = unit.frame_start
        parts[unit.layer] = unit.payload
    if config is None or number is None:
        return
    yield config, number, parts
    for lost in range(number + 1, min(info.frame_count or 0, number + 1 + MAX_GAP)):
        yield config, lost, {}


def encode_frames(
    options: EncodeOptions,
    frames: Iterable[Frame],
    info: VideoInfo,
    *,
    device: str = "cpu",
    first: int = 0,
    progress: Callable | None = None,
) -> Iterator[Unit]:
    """FRAME units of consecutive frames, numbered from `first`, which starts a GOP."""
    network, _ = shared_network(by_name(options.weights), device)
    coder = open_coder(network, (info.height, info.width), mean_dtype(options.precision))
    encoder = SequenceEncoder(coder, pack=options.pack)
    like = next(network.parameters())
    control = _control(options, info)

    def planes(frame: Frame) -> Planes:
        return to_planes(frame, info, encoder.coder.size, like)

    for number, (frame, links) in enumerate(_linked(options, frames, planes), start=first):
        position = number % options.gop
        kind = KIND_INTRA if position == 0 else KIND_INTER
        if position and position % options.reset == 0:
            kind = KIND_RESET
        source = planes(frame)
        qp = control.qp(intra=kind == KIND_INTRA)
        change, worth = (0, None) if links is None else plan(links, qp, encoder.coder.size)
        if kind == KIND_INTRA:
            qp -= options.intra_gain
        else:
            qp += options.qp_cycle[position % len(options.qp_cycle)]
        qp, *others = (
            min(max(round(qp + change) + trial, 0), QP_COUNT - 1)
            for trial in (0, *TRIALS[options.effort])
        )
        payloads = encoder.encode(source, qp, kind, worth=worth, others=others)
        units = [
            Unit(UnitType.FRAME, payload, number, 1, layer, kind == KIND_INTRA and layer == 0)
            for layer, payload in enumerate(payloads)
            if payload is not None
        ]
        spent = sum(len(pack_head(unit)) + len(unit.payload) + 4 for unit in units)
        control.update(
            bits=8 * spent,
            intra=kind == KIND_INTRA,
            psnr=lambda source=source: encoder.psnr(source, info.height, info.width),
        )
        yield from units
        if progress is not None:
            progress(number + 1)


def _linked(
    options: EncodeOptions, frames: Iterable[Frame], planes: Callable[[Frame], Planes]
) -> Iterator[tuple[Frame, list[Link] | None]]:
    """Frames with what is known of those that follow; None where no frame is looked ahead."""
    if not options.effort:
        return ((frame, None) for frame in frames)
    return linked(frames, lambda frame: half_luma(planes(frame)), gop=options.gop)


def _control(options: EncodeOptions, info: VideoInfo) -> RateControl:
    if options.psnr is not None:
        return PsnrControl(options.psnr)
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
        window=max(options.gop, round(float(info.frame_rate))),
        gop=options.gop,
        frames=info.frame_count,
    )


def _open(payload: bytes, info: VideoInfo, device: str, dtype: torch.dtype) -> SequenceDecoder:
    if len(payload) != 9:
        raise StreamError(f"the codec's configuration has {len(payload)} bytes; expected 9")
    if payload[0] != CONFIG_VERSION:
        raise StreamError(
            f"the stream is of version {payload[0]} of this codec; "
            f"this program reads version {CONFIG_VERSION}"
        )
    network, _ = shared_network(by_hash(payload[1:]), device)
    return SequenceDecoder(open_coder(network, (info.height, info.width), dtype))
