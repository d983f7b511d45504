"""The tables of a report: BD-rate and BD-quality against an anchor, speed and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nvc.errors import UsageError
from nvc.evaluation.bdrate import bd_psnr, bd_rate
from nvc.evaluation.frame_types import KINDS
from nvc.evaluation.report_curves import METRICS, Curve, Group, rate_and_quality

#: Below this share of the narrower curve's range, a delta says little; tables mark it.
LITTLE_OVERLAP = 0.5


@dataclass(frozen=True)
class Delta:
    """Bjontegaard deltas of one curve against another.

    rate: percent at equal quality, None where the curves share no quality. quality: in the
    measure's unit at equal rate, None where they share no rate. rate_overlap, quality_overlap:
    share of the narrower curve's quality (log rate) range that the delta is taken over.
    why: why there is no figure.
    """

    rate: float | None
    quality: float | None
    rate_overlap: float = 0.0
    quality_overlap: float = 0.0
    why: str = ""


def delta(anchor: Curve, test: Curve) -> Delta:
    """Deltas of ``test`` against ``anchor``, PCHIP over log rate."""
    pair = (anchor.rates, anchor.qualities, test.rates, test.qualities)
    values: list[float | None] = []
    why = ""
    for measure in (bd_rate, bd_psnr):
        try:
            values.append(measure(*pair))
        except UsageError as error:
            values.append(None)
            why = why or str(error)
    logs = [[math.log(rate) for rate in curve.rates] for curve in (anchor, test)]
    return Delta(
        values[0],
        values[1],
        rate_overlap=_overlap(anchor.qualities, test.qualities),
        quality_overlap=_overlap(*logs),
        why=why,
    )


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    shared = min(max(first), max(second)) - max(min(first), min(second))
    narrower = min(max(first) - min(first), max(second) - min(second))
    return max(0.0, shared / narrower) if narrower > 0 else 0.0


@dataclass(frozen=True)
class BdTable:
    """Deltas of every other contender against ``anchor``: per sequence, and their means.

    means: (mean of the rate deltas, of the quality deltas, over how many sequences each).
    """

    anchor: str
    metric: str
    sequences: list[str]
    deltas: dict[str, dict[str, Delta]]
    means: dict[str, tuple[float | None, float | None, int, int]]


def delta_unit(metric: str) -> str:
    """What deltas over a measure are in; empty where it has no unit."""
    return "dB" if _is_similarity(metric) else METRICS[metric][1]


def _is_similarity(metric: str) -> bool:
    """Whether it is MS-SSIM m, compared as -10 log10(1 - m) as is usual: near 1 little is much."""
    return metric.endswith("ms_ssim")


def _compared(curve: Curve, metric: str) -> Curve:
    """The curve in the unit of deltas."""
    if not _is_similarity(metric):
        return curve
    points = tuple(
        replace(point, quality=-10 * math.log10(max(1 - point.quality, 1e-9)))
        for point in curve.points
    )
    return replace(curve, points=points)


def bd_table(group: Group, anchor: str, metric: str) -> BdTable:
    """The table against ``anchor``. Raises UsageError when it is not among the results."""
    if anchor not in group.labels:
        raise UsageError(f"{anchor!r} is not in the results; there are: {', '.join(group.labels)}")
    deltas: dict[str, dict[str, Delta]] = {}
    means = {}
    for label in group.labels:
        if label == anchor:
            continue
        found = {}
        for sequence in group.sequences:
            curves = [
                curve
                for name in (anchor, label)
                if (curve := group.curve(name, sequence, metric)) is not None
            ]
            if len(curves) == 2:
                found[sequence] = delta(*(_compared(curve, metric) for curve in curves))
        if not found:
            continue
        deltas[label] = found
        rates = [entry.rate for entry in found.values() if entry.rate is not None]
        qualities = [entry.quality for entry in found.values() if entry.quality is not None]
        means[label] = (_mean(rates), _mean(qualities), len(rates), len(qualities))
    return BdTable(anchor, metric, group.sequences, deltas, means)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def speed_table(group: Group) -> list[dict[str, Any]]:
    """One row a contender over all its points: time per megapixel, peak memory of a process.

    seconds of its own work a megapixel (10^6 samples of luma), processor seconds of the whole
    process, start and imports included, and bytes of memory; encode is None for files made
    elsewhere and where every encode was resumed.
    """
    return [
        {
            "label": label,
            "device": ", ".join(sorted({row["device"] for row in group.of(label)})),
            "threads": ", ".join(sorted({str(row["threads"]) for row in group.of(label)})),
            "encode": _per_megapixel(group.of(label), "encode"),
            "decode": _per_megapixel(group.of(label), "decode"),
        }
        for label in group.labels
    ]


def _per_megapixel(rows: Sequence[dict[str, Any]], step: str) -> dict[str, float] | None:
    timed = [row for row in rows if row[step] is not None]
    if not timed:
        return None
    megapixels = sum(row["frames"] * row["width"] * row["height"] for row in timed) / 1e6
    return {
        "seconds": sum(row[step]["seconds"] for row in timed) / megapixels,
        "cpu_seconds": sum(row[step]["cpu_seconds"] for row in timed) / megapixels,
        "peak_memory": max(row[step]["peak_memory"] for row in timed),
    }


def percent(value: float | None) -> str:
    """A rate change such as -12.3 %."""
    return "-" if value is None else f"{value:+.1f} %"


def signed(value: float | None, digits: int = 2) -> str:
    """A quality change such as +0.45."""
    return "-" if value is None else f"{value:+.{digits}f}"


def markdown_table(table: BdTable) -> str:
    """The BD-rate table as Markdown, a contender a column."""
    labels = list(table.deltas)
    lines = [
        f"| BD-rate against {table.anchor} | " + " | ".join(labels) + " |",
        "|---" * (len(labels) + 1) + "|",
    ]
    for sequence in table.sequences:
        cells = [
            percent(entry.rate if (entry := table.deltas[label].get(sequence)) else None)
            for label in labels
        ]
        lines.append(f"| {sequence} | " + " | ".join(cells) + " |")
    means = [_mean_cell(table, label, table.sequences) for label in labels]
    lines.append("| **mean** | " + " | ".join(means) + " |")
    return "\n".join(lines)


def contender_table(group: Group, label: str, metric: str) -> str:
    """BD-rate of one contender as Markdown, an anchor a column; empty where there is none."""
    tables = [bd_table(group, anchor, metric) for anchor in group.anchors if anchor != label]
    tables = [table for table in tables if label in table.deltas]
    if not tables:
        return ""
    lines = [
        f"| BD-rate of {label} against | " + " | ".join(table.anchor for table in tables) + " |",
        "|---" * (len(tables) + 1) + "|",
    ]
    for sequence in group.sequences:
        found = [table.deltas[label].get(sequence) for table in tables]
        if any(found):
            cells = [percent(entry.rate if entry else None) for entry in found]
            lines.append(f"| {sequence} | " + " | ".join(cells) + " |")
    means = [_mean_cell(table, label, group.sequences) for table in tables]
    lines.append("| **mean** | " + " | ".join(means) + " |")
    return "\n".join(lines)


def points_table(group: Group, label: str) -> str:
    """Every point of one contender as Markdown, sequence by sequence, in order of bytes."""
    lines = [
        "| sequence | rate | bytes | bpp | Y dB | YUV dB | MS-SSIM | intra bpp / dB "
        "| inter bpp / dB | encode s | decode s |",
        "|---" * 11 + "|",
    ]
    for sequence in group.sequences:
        for row in sorted(group.of(label, sequence), key=lambda row: -row["bytes"]):
            cells = [sequence, f"{row['rate']:g}", f"{row['bytes']}", f"{row['bpp']:.4f}"]
            cells += [_cell(row.get(name), 2) for name in ("psnr_y", "psnr_yuv")]
            cells.append(_cell(row.get("ms_ssim"), 4))
            for kind in KINDS:
                part = rate_and_quality(row, f"{kind}_psnr_yuv")
                cells.append("" if part is None else f"{part[0]:.4f} / {part[1]:.2f}")
            cells += [_cell((row[step] or {}).get("seconds"), 1) for step in ("encode", "decode")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _mean_cell(table: BdTable, label: str, sequences: Sequence[str]) -> str:
    """The mean of a contender, and over how many sequences if not all."""
    rate, _, count, _ = table.means[label]
    return percent(rate) + (f" ({count} of {len(sequences)})" if count < len(sequences) else "")
