"""The codecs there are, and how each is made; nothing of a codec is imported until it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nvc.errors import UsageError

if TYPE_CHECKING:
    import torch

    from nvc.bitstream.units import Unit
    from nvc.video.frames import Frame, VideoInfo


class Codec(Protocol):
    """What a codec is to the rest of the package."""

    weights_hash: bytes

    def encode(
        self, frames: Iterable[Frame], info: VideoInfo, *, progress: Callable | None = None
    ) -> Iterator[Unit]:
        """CONFIG first, then the units of the frames, in order."""

    def decode(
        self, units: Iterable[Unit], info: VideoInfo, *, device: torch.device | str = "cpu"
    ) -> Iterator[Frame]:
        """Frames in order; their pts is their number in the stream.

        A layered codec also takes ``layers``, how many of the coarsest to decode.
        """


@dataclass(frozen=True)
class RateTarget:
    """What the encoder aims at: ``kind`` is qp, bitrate (bit/s), size (bytes) or psnr (dB)."""

    kind: str
    value: float


RATE_KINDS = ("qp", "bitrate", "size", "psnr")


@dataclass(frozen=True, kw_only=True)
class CodecEntry:
    """A codec's place in the registry.

    ``rates``: the rate targets it can meet. ``renamed``: options whose name in the codec's own
    configuration is another. ``layered``: decoding fewer layers gives a coarser picture.
    ``resumable``: an interrupted encode can go on from saved state. ``whole_files``: a rate is met
    as the size of a file of known length, not frame by frame. ``defaults``: a function of the
    codec's name and of ``preset`` that gives its options where they differ from the configuration's
    own. ``lanes``: decoding takes ``lanes``, how many groups of frames to decode side by side.
    ``interpolates``: it can make frames between frames. ``enters``: decoding takes ``start``,
    before which no picture is made. ``tracks``: several videos in one file; decoding takes a
    ``track``. ``cuts``: GOPs end at scene cuts too, unless ``scenecut`` is False. ``precisions``:
    decoding takes a ``precision`` of its networks (nvc.nn.precision).
    """

    name: str
    module: str
    factory: str
    config: str
    summary: str
    rates: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)
    layered: bool = False
    resumable: bool = False
    whole_files: bool = False
    defaults: str | None = None
    interpolates: bool = False
    enters: bool = False
    tracks: bool = False
    lanes: bool = False
    cuts: bool = False
    precisions: bool = False


def _inr(name: str, summary: str, **own: Any) -> CodecEntry:
    common: dict[str, Any] = {
        "module": "nvc.inr.codec",
        "factory": "InrCodec",
        "config": "nvc.inr.fit_config:FitConfig",
        "rates": ("size", "bitrate", "psnr"),
        "renamed": {"gop": "group", "size": "size_bytes"},
        "resumable": True,
        "whole_files": True,
        "defaults": "nvc.inr.methods:fit_defaults",
        "interpolates": True,
        "enters": True,
        "precisions": True,
    }
    return CodecEntry(name=name, summary=summary, **common | own)


CODECS = {
    entry.name: entry
    for entry in (
        CodecEntry(
            name="dhvc",
            module="nvc.predictive.codec",
            factory="PredictiveCodec",
            config="nvc.predictive.codec:EncodeOptions",
            summary="predictive: one trained network for every rate, progressive, loss-tolerant",
            rates=("qp", "bitrate", "size", "psnr"),
            layered=True,
            lanes=True,
            cuts=True,
            precisions=True,
        ),
        _inr(
            "inr", "the video is fitted as the weights of a small network: this project's own mix"
        ),
        _inr("hnerv", "HNeRV: convolutions on a code a frame, both fitted to the video"),
        _inr("nerv", "NeRV: the same of the frame's time alone"),
        _inr("enerv", "E-NeRV: time and place apart, each stage modulated by time"),
        _inr("nervpp", "NeRV++: separable residual blocks around each stage, bilinear skips"),
        _inr("cam", "CAM: grids over time in place of codes, stages modulated by grids"),
        _inr(
            "nirvana",
            "NIRVANA: patches of a few frames from their coordinates, group after group",
            module="nvc.inr.nirvana_codec",
            factory="NirvanaCodec",
            interpolates=False,
        ),
        _inr(
            "pfnr",
            "PFNR: a sequence of videos in one network, each its own part of it",
            module="nvc.inr.pfnr_codec",
            factory="PfnrCodec",
            rates=("size",),
            tracks=True,
        ),
    )
}

DEFAULT_CODEC = "dhvc"


def codec_entry(name: str) -> CodecEntry:
    """The registry's entry; UsageError listing the codecs there are."""
    if name not in CODECS:
        raise UsageError(f"codec {name!r} is not known; allowed: {', '.join(CODECS)}")
    return CODECS[name]


def rate_target(**given: float | None) -> RateTarget | None:
    """The one rate target among qp, bitrate, size and psnr that is not None, if any."""
    targets = [RateTarget(kind, value) for kind, value in given.items() if value is not None]
    if len(targets) > 1:
        names = " and ".join(target.kind for target in targets)
        raise UsageError(f"{names} were given: give one of {', '.join(RATE_KINDS)}")
    return targets[0] if targets else None


def _as_size(target: RateTarget, entry: CodecEntry, info: VideoInfo) -> RateTarget:
    """A bit rate as the size in bytes it makes of a video of known length."""
    if target.kind != "bitrate" or not entry.whole_files:
        return target
    if info.frame_count is None:
        raise UsageError(
            f"codec {entry.name} turns a bit rate into a file size, and the number of frames is "
            "not known here: give --frames, or --size"
        )
    seconds = Fraction(info.frame_count) / info.frame_rate
    return RateTarget("size", max(1, int(Fraction(target.value) * seconds / 8)))


def make_encoder(
    name: str,
    info: VideoInfo,
    *,
    rate: RateTarget | None = None,
    device: str = "cpu",
    state: Path | None = None,
    resume: bool = False,
    **options: Any,
) -> Codec:
    """A codec set up to encode a video of ``info`` with a codec's own ``options``.

    ``state`` is the folder where an encode that can be resumed keeps itself. Raises UsageError for
    a rate or an option the codec does not have, saying which it has.
    """
    entry = codec_entry(name)
    preset = options.pop("preset", None)
    if preset is not None and entry.defaults is None:
        raise UsageError(f"codec {name} has no presets; leave --preset away")
    if rate is not None:
        if rate.kind not in entry.rates:
            able = ", ".join(f"--{kind}" for kind in entry.rates)
            raise UsageError(f"codec {name} cannot encode to a {rate.kind}; it can do: {able}")
        rate = _as_size(rate, entry, info)
        options[rate.kind] = int(rate.value) if rate.kind in ("size", "qp") else rate.value
    if resume and not entry.resumable:
        raise UsageError(f"codec {name} has nothing to resume")
    config_module, config_name = entry.config.split(":")
    config_type = getattr(importlib.import_module(config_module), config_name)
    known = {item.name for item in fields(config_type)}
    values = {entry.renamed.get(option, option): value for option, value in options.items()}
    if entry.defaults is not None:
        defaults_module, defaults_name = entry.defaults.split(":")
        defaults = getattr(importlib.import_module(defaults_module), defaults_name)
        values = defaults(name, preset=preset) | values
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(
            f"codec {name} has no option {', '.join(unknown)}; it has: {', '.join(sorted(known))}"
        )
    factory = getattr(importlib.import_module(entry.module), entry.factory)
    config = config_type(**values)
    if entry.resumable:
        return factory(config, device=device, state=state, resume=resume)
    return factory(config, device=device)


def make_decoder(name: str) -> Codec:
    """A codec that decodes; all it needs is in the stream."""
    entry = codec_entry(name)
    return getattr(importlib.import_module(entry.module), entry.factory)()
