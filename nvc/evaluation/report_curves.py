"""From results to rate-distortion curves: by protocol, over seeds, per sequence, averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nvc.errors import UsageError
from nvc.evaluation.frame_types import KINDS

#: Quality measures a report can draw: key in the results, name, unit. With ``intra`` or ``inter``
#: before it, of such frames alone, over the rate of their bytes alone.
METRICS = {
    "psnr_yuv": ("PSNR YUV (6:1:1)", "dB"),
    "psnr_rgb": ("PSNR RGB", "dB"),
    "psnr_y": ("PSNR Y", "dB"),
    "psnr_u": ("PSNR U", "dB"),
    "psnr_v": ("PSNR V", "dB"),
    "ms_ssim": ("MS-SSIM of Y", ""),
    "vmaf": ("VMAF", ""),
    **{
        f"{kind}_{key}": (f"{name} of {kind} frames", unit)
        for kind in KINDS
        for key, name, unit in (
            ("psnr_yuv", "PSNR YUV (6:1:1)", "dB"),
            ("psnr_y", "PSNR Y", "dB"),
            ("ms_ssim", "MS-SSIM of Y", ""),
        )
    },
}
_KIND_ORDER = {"codec": 0, "file": 1, "anchor": 2}


@dataclass(frozen=True)
class CurvePoint:
    """Mean over seeds (or sequences) of rate in bits per pixel and of quality; deviations."""

    rate: float
    quality: float
    rate_deviation: float = 0.0
    quality_deviation: float = 0.0


@dataclass(frozen=True)
class Curve:
    """Points of one contender by rising rate. note: what a reader must know of it."""

    label: str
    points: tuple[CurvePoint, ...]
    note: str = ""

    @property
    def rates(self) -> list[float]:
        return [point.rate for point in self.points]

    @property
    def qualities(self) -> list[float]:
        return [point.quality for point in self.points]


@dataclass
class Group:
    """Results of one data set under one protocol: what may be compared.

    outdated: how many points of a contender were left out, since it has newer ones that were made
    with other weights or versions.
    """

    dataset: str
    protocol: str
    conditions: str
    rows: list[dict[str, Any]]
    outdated: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Data set and protocol, as figures carry it."""
        return f"{self.dataset}-{self.protocol}"

    @property
    def sequences(self) -> list[str]:
        return list(dict.fromkeys(row["sequence"] for row in self.rows))

    @property
    def labels(self) -> list[str]:
        """Contenders: codecs, then files, then anchors, each in the order of the results."""
        kinds = {row["label"]: _KIND_ORDER[row["kind"]] for row in self.rows}
        return sorted(kinds, key=kinds.__getitem__)

    @property
    def anchors(self) -> list[str]:
        kinds = {row["label"]: row["kind"] for row in self.rows}
        return [label for label in self.labels if kinds[label] == "anchor"]

    def has(self, metric: str) -> bool:
        """Whether any result has this measure."""
        return any(rate_and_quality(row, metric) is not None for row in self.rows)

    def of(self, label: str, sequence: str | None = None) -> list[dict[str, Any]]:
        """Rows of a contender, of one sequence if given."""
        return [
            row
            for row in self.rows
            if row["label"] == label and sequence in (None, row["sequence"])
        ]

    def curve(self, label: str, sequence: str, metric: str) -> Curve | None:
        """The curve of a contender on a sequence; None without a single point."""
        points = [_mean_point(same) for same in self._by_rate(label, sequence, metric).values()]
        if not points:
            return None
        return Curve(label, tuple(sorted(points, key=lambda point: point.rate)))

    def _by_rate(
        self, label: str, sequence: str, metric: str
    ) -> dict[float, list[tuple[float, float]]]:
        """Of each rate asked for, the (bits per pixel, quality) that came of it, one a seed."""
        found: dict[float, list[tuple[float, float]]] = {}
        for row in self.of(label, sequence):
            measured = rate_and_quality(row, metric)
            if measured is not None:
                found.setdefault(row["rate"], []).append(measured)
        return found

    def covered(self, label: str, metric: str) -> set[str]:
        """Sequences on which a contender has a curve: two points or more."""
        curves = {sequence: self.curve(label, sequence, metric) for sequence in self.sequences}
        return {name for name, curve in curves.items() if curve and len(curve.points) > 1}

    def common_sequences(self, metric: str) -> list[str]:
        """Sequences a mean is taken over: those of every contender that covers the most of them.

        A contender that is not done yet, or was only tried on some, does not narrow the mean of
        the others; it has none itself.
        """
        covered = [self.covered(label, metric) for label in self.labels]
        most = max(map(len, covered), default=0)
        common = set.intersection(
            *(found for found in covered if len(found) == most), set(self.sequences)
        )
        return [sequence for sequence in self.sequences if sequence in common and most]

    def average(self, label: str, metric: str) -> Curve | None:
        """Means over the common sequences of rate and quality, one point for each rate asked for.

        None for a contender that does not cover them. The deviation is that over seeds: of the mean
        of independent sequences.
        """
        sequences = self.common_sequences(metric)
        if not set(sequences) <= self.covered(label, metric):
            return None
        by_rate: dict[float, list[CurvePoint]] = {}
        for sequence in sequences:
            for rate, same in self._by_rate(label, sequence, metric).items():
                by_rate.setdefault(rate, []).append(_mean_point(same))
        points = [_mean_of(found) for found in by_rate.values() if len(found) == len(sequences)]
        if not points:
            return None
        return Curve(label, tuple(sorted(points, key=lambda point: point.rate)))


def rate_and_quality(row: dict[str, Any], metric: str) -> tuple[float, float] | None:
    """Bits per pixel and the measure of a result; None where it has no such measure."""
    kind, _, rest = metric.partition("_")
    if kind in KINDS:
        row, metric = row.get(kind) or {}, rest
    quality = row.get(metric)
    return None if quality is None else (row["bpp"], quality)


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _mean_point(measured: Sequence[tuple[float, float]]) -> CurvePoint:
    rate, rate_deviation = _mean_and_deviation([rate for rate, _ in measured])
    quality, quality_deviation = _mean_and_deviation([quality for _, quality in measured])
    return CurvePoint(rate, quality, rate_deviation, quality_deviation)


def _mean_of(points: Sequence[CurvePoint]) -> CurvePoint:
    count = len(points)
    return CurvePoint(
        sum(point.rate for point in points) / count,
        sum(point.quality for point in points) / count,
        math.sqrt(sum(point.rate_deviation**2 for point in points)) / count,
        math.sqrt(sum(point.quality_deviation**2 for point in points)) / count,
    )


def grouped(rows: Sequence[dict[str, Any]]) -> list[Group]:
    """Results by data set and protocol; never two protocols in one group.

    Of a contender whose weights or versions changed, only points made with the latest are taken.
    """
    groups: dict[tuple[str, str], Group] = {}
    for row in rows:
        place = (row["dataset"], row["protocol"])
        group = groups.setdefault(place, Group(*place, row["conditions"], []))
        group.rows.append(row)
    for group in groups.values():
        latest = {row["label"]: row["fingerprint"] for row in group.rows if row["kind"] != "file"}
        kept = []
        for row in group.rows:
            if row["fingerprint"] == latest.get(row["label"], row["fingerprint"]):
                kept.append(row)
            else:
                group.outdated[row["label"]] = group.outdated.get(row["label"], 0) + 1
        group.rows = kept
    return list(groups.values())


def check_metrics(names: Sequence[str]) -> list[str]:
    """The measures named; UsageError listing those there are."""
    for name in names:
        if name not in METRICS:
            raise UsageError(f"measure {name!r} is not known; allowed: {', '.join(METRICS)}")
    return list(dict.fromkeys(names))
