"""What a benchmark consists of: points, each one sequence coded once, known by its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nvc.errors import UsageError
from nvc.evaluation.anchors import parse_anchor
from nvc.evaluation.protocol import Protocol

#: Default qualities, four each: QPs and crfs, and bits per pixel of codecs that aim at a size.
LADDERS: dict[str, tuple[float, ...]] = {
    "qp": (8, 24, 40, 56),
    "bpp": (0.025, 0.05, 0.1, 0.2),
    "x264": (18, 26, 34, 42),
    "x265": (16, 24, 32, 40),
    "svtav1": (20, 34, 48, 62),
}
KINDS = ("codec", "anchor", "file")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A sequence as it is coded here. source: its file; frames: how many the protocol takes."""

    name: str
    source: str
    source_bytes: int
    width: int
    height: int
    fps: float
    frames: int | None


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is compared: a codec with its options, an anchor, or files made elsewhere.

    label: what figures call it; equal labels are one curve. rate_kind: qp, bpp, crf or file; rates:
    its qualities, best first or last. seeds: of codecs that have one. gop: whether it takes the
    protocol's; cuts: whether it has to be told that GOPs do not end at scene cuts. files: of a
    contender of files, which may hold ``{sequence}``. fingerprint: what else decides its bytes
    (weights, versions); a point with another fingerprint is another point.
    """

    label: str
    kind: str
    name: str
    rate_kind: str
    rates: tuple[float, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    gop: bool = True
    cuts: bool = False
    files: tuple[str, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One sequence coded once, with everything needed to do it again."""

    dataset: str
    protocol: Protocol
    clip: Clip
    label: str
    kind: str
    name: str
    rate_kind: str
    rate: float
    options: dict[str, str]
    seed: int | None
    gop: int | None
    file: str | None
    fingerprint: str
    device: str
    threads: int
    cuts: bool = False

    @property
    def key(self) -> str:
        """16 hexadecimal digits of what decides the result; not where files lie, nor threads."""
        identity = {
            **{name: value for name, value in asdict(self).items() if name not in _NO_IDENTITY},
            "protocol": self.protocol.name,
            "clip": [self.clip.name, self.clip.source_bytes],
        }
        text = json.dumps(identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def rate_name(self) -> str:
        """Such as qp32, crf24, 0.05bpp; the name of the file of a file."""
        if self.rate_kind == "file":
            return Path(self.file or "").name
        value = f"{self.rate:g}"
        return f"{value}bpp" if self.rate_kind == "bpp" else f"{self.rate_kind}{value}"

    @property
    def title(self) -> str:
        """How a line of progress calls it."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{self.clip.name}  {self.label} {self.rate_name}{seed}"


_NO_IDENTITY = ("protocol", "clip", "threads", "file", "cuts")


def ladder(
    rates: Mapping[str, Sequence[float]], label: str, name: str, kind: str
) -> tuple[float, ...]:
    """The qualities of a contender: given for its label, its name, or the default of its kind."""
    for key in (label, name, kind):
        if key in rates:
            return tuple(rates[key])
    return LADDERS[kind]


def anchor_contender(
    name: str, rates: Mapping[str, Sequence[float]], fingerprint: str
) -> Contender:
    """An anchor as a contender. Raises UsageError for one that is not known."""
    parse_anchor(name)
    family = name.split("-")[0]
    return Contender(
        label=name,
        kind="anchor",
        name=name,
        rate_kind="crf",
        rates=ladder(rates, name, name, family),
        fingerprint=fingerprint,
    )


def file_contenders(given: Sequence[str], clips: Sequence[Clip]) -> list[Contender]:
    """``label=path`` options as contenders; equal labels are points of one curve.

    Raises UsageError for another form, and for one file that should be of several sequences.
    """
    paths: dict[str, list[str]] = {}
    for text in given:
        label, equals, path = text.partition("=")
        if not (label and equals and path):
            raise UsageError(f"--file {text!r} is not understood; write it like mine=clip.mp4")
        if len(clips) > 1 and "{sequence}" not in path:
            raise UsageError(
                f"--file {text}: one file cannot be of {len(clips)} sequences; write "
                f"{label}=FOLDER/{{sequence}}.mp4, or benchmark one sequence"
            )
        paths.setdefault(label, []).append(path)
    return [
        Contender(
            label=label, kind="file", name=label, rate_kind="file", files=tuple(files), gop=False
        )
        for label, files in paths.items()
    ]


def plan(
    dataset: str,
    protocol: Protocol,
    clips: Sequence[Clip],
    contenders: Sequence[Contender],
    *,
    device: str = "cpu",
    threads: int = 1,
) -> list[Point]:
    """Every point, sequence by sequence. Raises UsageError when two contenders share a label."""
    labels = [contender.label for contender in contenders]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"{label} is there twice: give each codec, anchor and file one label")
    return [
        point
        for clip in clips
        for contender in contenders
        for point in _points(dataset, protocol, clip, contender, device, threads)
    ]


def _points(
    dataset: str, protocol: Protocol, clip: Clip, contender: Contender, device: str, threads: int
) -> list[Point]:
    places: list[tuple[float, str | None, str]] = [
        (rate, None, contender.fingerprint) for rate in contender.rates
    ]
    if contender.kind == "file":
        places = []
        for number, template in enumerate(contender.files):
            path = template.replace("{sequence}", clip.name)
            if not Path(path).is_file():
                raise UsageError(f"--file {contender.label}={template}: there is no file {path}")
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
            places.append((float(number), str(Path(path).resolve()), digest))
    return [
        Point(
            dataset=dataset,
            protocol=protocol,
            clip=clip,
            label=contender.label,
            kind=contender.kind,
            name=contender.name,
            rate_kind=contender.rate_kind,
            rate=rate,
            options=contender.options,
            seed=seed,
            gop=protocol.coded_gop if contender.gop else None,
            file=path,
            fingerprint=fingerprint,
            # Conventional encoders run on the CPU whatever the networks run on.
            device=device if contender.kind == "codec" else "cpu",
            threads=threads,
            cuts=contender.cuts,
        )
        for rate, path, fingerprint in places
        for seed in contender.seeds or (None,)
    ]
