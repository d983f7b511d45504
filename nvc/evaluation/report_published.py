"""Curves that others published, from the JSON layouts of CompressAI and of DCVC.

They are drawn as published, beside ours and never averaged or compared with them: other builds,
other machines, other conditions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvc.errors import InputError, UsageError
from nvc.evaluation.report_curves import Curve, CurvePoint

MAX_BYTES = 1 << 24
_DCVC_SETS = {"UVG": "uvg", "MCL-JCV": "mcl_jcv"}
#: Samples of luma a second of UVG 1080p, by which CompressAI's kbit/s become bits per pixel.
_PIXEL_RATES = {"uvg": 1920 * 1080 * 120}


@dataclass(frozen=True)
class Published:
    """One published method: its average, and sequences by name, each by measure (our names)."""

    name: str
    dataset: str
    average: dict[str, Curve] = field(default_factory=dict)
    sequences: dict[str, dict[str, Curve]] = field(default_factory=dict)


def read_published(spec: str) -> list[Published]:
    """Published curves from ``FILE`` or ``DATASET=FILE``; the file in either layout.

    CompressAI's does not say which data set it is of, so that needs the second form. Raises
    InputError for a file in neither layout, UsageError for a missing or wrong DATASET.
    """
    dataset, equals, name = spec.partition("=")
    if not equals:
        dataset, name = "", spec
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{name}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{name}: larger than {MAX_BYTES} bytes, so no list of published figures")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{name}: not JSON: {error}") from None
    try:
        if isinstance(content, dict) and isinstance(content.get("results"), dict):
            if dataset not in _PIXEL_RATES:
                known = " or ".join(f"{known}={name}" for known in _PIXEL_RATES)
                raise UsageError(f"{name}: its bit rates need the data set: write {known}")
            return [_compressai(content, dataset)]
        return _dcvc(content, path.stem, dataset)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{name}: neither in CompressAI's layout nor in DCVC's ({what})") from None


def _compressai(content: dict[str, Any], dataset: str) -> Published:
    """{"name", "results": {"bitrate": kbit/s, "psnr-y", ...}}: lists over rates, set averages.

    Its psnr-yuv is (4Y + U + V) / 6; (6Y + U + V) / 8 is made of its planes' averages, exactly. Its
    MS-SSIM is of RGB and has no place on our axis.
    """
    results = content["results"]
    rates = [1000 * float(value) / _PIXEL_RATES[dataset] for value in results["bitrate"]]
    measures = {"psnr_y": "psnr-y", "psnr_u": "psnr-u", "psnr_v": "psnr-v", "psnr_rgb": "psnr-rgb"}
    values = {
        ours: [float(value) for value in results[theirs]]
        for ours, theirs in measures.items()
        if theirs in results
    }
    if all(name in values for name in ("psnr_y", "psnr_u", "psnr_v")):
        planes = zip(values["psnr_y"], values["psnr_u"], values["psnr_v"], strict=True)
        values["psnr_yuv"] = [(6 * y + u + v) / 8 for y, u, v in planes]
    name = str(content["name"])
    curves = {metric: _curve(name, rates, quality) for metric, quality in values.items()}
    return Published(name, dataset, average=curves)


def _dcvc(content: dict[str, Any], name: str, only: str) -> list[Published]:
    """{class: {sequence file: {rate: {"ave_all_frame_bpp", "ave_all_frame_psnr", ...}}}}."""
    found = []
    for their_set, sequences in content.items():
        dataset = _DCVC_SETS.get(their_set, their_set.lower().replace("-", "_"))
        if only and dataset != only:
            continue
        curves = {
            file.split("_")[0]: _dcvc_sequence(name, points) for file, points in sequences.items()
        }
        average = {
            metric: _mean_curve(name, [entry[metric] for entry in curves.values()])
            for metric in set.intersection(*(set(entry) for entry in curves.values()))
        }
        found.append(Published(name, dataset, average=average, sequences=curves))
    if not found:
        raise ValueError("no data set in it")
    return found


def _dcvc_sequence(name: str, points: dict[str, dict[str, float]]) -> dict[str, Curve]:
    rates = [float(point["ave_all_frame_bpp"]) for point in points.values()]
    planes = all("ave_all_frame_psnr_y" in point for point in points.values())
    # The one figure without a suffix is of RGB where there are no planes, else (6Y + U + V) / 8.
    keys = {"psnr_yuv": "", "psnr_y": "_y", "psnr_u": "_u", "psnr_v": "_v"} if planes else {}
    keys = keys or {"psnr_rgb": ""}
    return {
        ours: _curve(
            name, rates, [float(point[f"ave_all_frame_psnr{end}"]) for point in points.values()]
        )
        for ours, end in keys.items()
    }


def _curve(name: str, rates: list[float], qualities: list[float]) -> Curve:
    pairs = sorted(zip(rates, qualities, strict=True))
    if not pairs or pairs[0][0] <= 0:
        raise ValueError("rates must be positive")
    return Curve(name, tuple(CurvePoint(rate, quality) for rate, quality in pairs))


def _mean_curve(name: str, curves: list[Curve]) -> Curve:
    """Means point by point: their quantisers are the same on every sequence."""
    columns = zip(*(curve.points for curve in curves), strict=True)
    points = tuple(
        CurvePoint(
            sum(point.rate for point in column) / len(column),
            sum(point.quality for point in column) / len(column),
        )
        for column in columns
    )
    return Curve(name, points)
