"""``nvc report``: curves, BD tables, speed and pictures of a benchmark, as files and one page."""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvc.commands import options
from nvc.errors import InputError, NvcError, UsageError
from nvc.files import whole_file

if TYPE_CHECKING:
    import numpy as np

    from nvc.evaluation.report_curves import Curve, Group
    from nvc.evaluation.report_page import Crop, CropRow, GroupPart
    from nvc.evaluation.report_published import Published

DEFAULT_METRICS = ("psnr_yuv", "psnr_rgb", "ms_ssim", "vmaf")
CROP = (120, 160)  # height, width
ZOOM = 2
#: Pictures may differ in bytes by so much more (in log bytes, each) than the best match does.
ABOUT_EQUAL = 0.12

EPILOG = """\
DIR is what `nvc bench --out DIR` filled. Writes index.html, which needs no other file, the figures
as PNG and SVG, tables.md and report.json into DIR/report, and prints the BD-rate table.

  nvc report runs/uvg --against x265-medium
  nvc report runs/uvg --published vtm.json --published uvg=x265.json

--published takes curves in DCVC's JSON layout, or in CompressAI's, for which the data set has to be
named. They are drawn as published, in the figures of the same data set, and enter no table.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc report``."""
    parser.add_argument("folder", metavar="DIR", help="a folder of `nvc bench`")
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: DIR/report)")
    parser.add_argument("--title", help="of the page")
    parser.add_argument(
        "--note", action="append", default=[], help="a paragraph under the title; again for more"
    )
    parser.add_argument(
        "--against",
        action="append",
        metavar="LABEL",
        help="reference of the BD tables; again for more (default: every anchor)",
    )
    parser.add_argument(
        "--of",
        metavar="LABEL",
        help="print the tables of this contender, anchors side by side, and every point of it; "
        "they are then in tables.md too",
    )
    parser.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="psnr_yuv, psnr_rgb, psnr_y, psnr_u, psnr_v, ms_ssim or vmaf, or such as "
        "intra_psnr_yuv and inter_ms_ssim, of these frames alone; again for more, the first "
        "foremost (default: those of whole files there are)",
    )
    parser.add_argument(
        "--published",
        action="append",
        default=[],
        metavar="[SET=]FILE",
        help="published curves from a JSON file; again for more",
    )
    parser.add_argument(
        "--pictures",
        metavar="A,B|none",
        help="sequences to show crops of (default: all)",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read the results, draw, write, print the table."""
    from nvc.evaluation.bench_store import read_results
    from nvc.evaluation.report_curves import METRICS, check_metrics, grouped
    from nvc.evaluation.report_page import page
    from nvc.evaluation.report_plot import load_pyplot
    from nvc.evaluation.report_published import read_published
    from nvc.evaluation.report_tables import markdown_table

    metrics = check_metrics(args.metric or DEFAULT_METRICS)
    folder = Path(args.folder)
    groups = grouped(read_results(folder))
    if not groups:
        raise InputError(f"{folder}: no result is in it yet")
    load_pyplot()
    published = [curves for spec in args.published for curves in read_published(spec)]
    wanted = _wanted_pictures(args.pictures, groups)
    out = Path(args.out) if args.out else folder / "report"
    out.mkdir(parents=True, exist_ok=True)
    parts = [_part(args, group, metrics, published, folder, out, wanted) for group in groups]
    ours = {group.dataset for group in groups}
    alone = _published_figures(published, ours, metrics, out)
    title = args.title or "Benchmark " + ", ".join(group.name for group in groups)
    _write(out / "index.html", page(title, parts, alone, notes=args.note))
    tables = []
    for part in parts:
        for table in part.tables:
            name = METRICS[table.metric][0]
            tables.append(f"{part.group.name}, {name}\n\n{markdown_table(table)}\n")
    own = [text for part in parts for text in _tables_of(part, args.of, metrics)]
    if args.of and not own:
        raise UsageError(f"--of {args.of}: no result is called that")
    _write(out / "tables.md", "\n".join([*own, *tables]))
    summary = {"out": str(out), "groups": [_summary(part) for part in parts]}
    _write(out / "report.json", json.dumps(options.finite(summary), indent=1) + "\n")
    if args.json:
        options.print_json(summary)
        return 0
    if own:
        print("\n".join(own), end=f"\n{out / 'index.html'}\n")
        return 0
    for part in parts:
        first = [table for table in part.tables if table.metric == part.tables[0].metric]
        for table in first:
            print(f"\n{part.group.name}, {METRICS[table.metric][0]}\n\n{markdown_table(table)}")
    print(f"\n{out / 'index.html'}")
    return 0


def _tables_of(part: GroupPart, label: str | None, metrics: list[str]) -> list[str]:
    """Markdown of one contender: against every anchor by each measure, and its points."""
    from nvc.evaluation.report_curves import METRICS
    from nvc.evaluation.report_tables import contender_table, points_table

    if label not in part.group.labels:
        return []
    found = []
    for metric in metrics:
        if table := contender_table(part.group, label, metric):
            found.append(f"{part.group.name}, {METRICS[metric][0]}\n\n{table}\n")
    return [*found, f"{part.group.name}, points\n\n{points_table(part.group, label)}\n"]


def _write(path: Path, text: str) -> None:
    with whole_file(path, overwrite=True) as file:
        file.write(text.encode())


def _wanted_pictures(given: str | None, groups: list[Group]) -> set[str] | None:
    """Sequences to show crops of; None: all. UsageError for one that is not in the results."""
    if given is None:
        return None
    names = set() if given == "none" else {name.strip() for name in given.split(",")}
    known = {sequence for group in groups for sequence in group.sequences}
    if names - known:
        raise UsageError(
            f"no sequence is called {min(names - known)}; there are: {', '.join(sorted(known))}"
        )
    return names


def _part(
    args: argparse.Namespace,
    group: Group,
    metrics: list[str],
    published: list[Published],
    folder: Path,
    out: Path,
    wanted: set[str] | None,
) -> GroupPart:
    from nvc.evaluation.report_page import GroupPart
    from nvc.evaluation.report_tables import bd_table, speed_table

    there = [metric for metric in metrics if group.has(metric)]
    if not there:
        raise InputError(f"{group.name}: no result has {' or '.join(metrics)}")
    part = GroupPart(group=group, speed=speed_table(group))
    same = [entry for entry in published if entry.dataset == group.dataset]
    part.published = [entry.name for entry in same]
    for number, metric in enumerate(there):
        part.figures[metric] = _figures(group, metric, same, out, single=not number)
    for label in args.against or group.anchors:
        for metric in there:
            table = bd_table(group, label, metric)
            if table.deltas:
                part.tables.append(table)
    # The first measure against every anchor, then the others.
    part.tables.sort(key=lambda table: there.index(table.metric))
    for sequence in group.sequences:
        if wanted is None or sequence in wanted:
            row = _crop_row(group, sequence, folder)
            if row is not None:
                part.crops.append(row)
    return part


def _figures(
    group: Group, metric: str, published: list[Published], out: Path, *, single: bool
) -> dict[str, Path]:
    """Figures of a measure: the average, all sequences, with ``single`` each of them too."""
    from nvc.evaluation.report_plot import figure_of, save

    stem = f"{group.name}_{metric}"
    found: dict[str, Path] = {}

    def ours(curves: Iterable[Curve | None]) -> list[Curve]:
        return [curve for curve in curves if curve is not None]

    theirs = [entry.average[metric] for entry in published if metric in entry.average]
    average = ours(group.average(label, metric) for label in group.labels)
    count = len(group.common_sequences(metric))
    if average and len(group.sequences) > 1:
        title = f"{group.name}, mean of {count}"
        figure = figure_of([(title, average, theirs)], group.labels, metric)
        found["average"] = save(figure, out / f"{stem}_average")[1]
    panels = []
    for sequence in group.sequences:
        curves = ours(group.curve(label, sequence, metric) for label in group.labels)
        beside = [
            entry.sequences[sequence][metric]
            for entry in published
            if metric in entry.sequences.get(sequence, {})
        ]
        if curves:
            panels.append((sequence, curves, beside))
    if single:
        for panel in panels:
            save(figure_of([panel], group.labels, metric), out / "sequences" / f"{stem}_{panel[0]}")
    columns = 1 if len(panels) == 1 else 2 if len(panels) < 5 else 3
    size = {} if len(panels) == 1 else {"panel_size": (3.9, 2.9)}
    figure = figure_of(panels, group.labels, metric, columns=columns, **size)
    found["sequences"] = save(figure, out / f"{stem}_sequences")[1]
    return found


def _published_figures(
    published: list[Published], ours: set[str], metrics: list[str], out: Path
) -> dict[str, Path]:
    """A figure of the published curves for each data set that is not among ``ours``."""
    from nvc.evaluation.report_plot import figure_of, save

    found = {}
    others = (entry.dataset for entry in published if entry.dataset not in ours)
    for dataset in dict.fromkeys(others):
        panels = []
        for metric in metrics:
            curves = [
                entry.average[metric]
                for entry in published
                if entry.dataset == dataset and metric in entry.average
            ]
            if curves:
                panels.append((dataset, [], curves))
                figure = figure_of(panels, [], metric)
                found[dataset] = save(figure, out / f"published_{dataset}_{metric}")[1]
                break
    return found


def _crop_row(group: Group, sequence: str, folder: Path) -> CropRow | None:
    """The same part of the middle frame by every contender; None where nothing can be shown."""
    from nvc.commands.measure import frame_picture
    from nvc.evaluation.report_page import CropRow

    rows = nearest_in_bytes([group.of(label, sequence) for label in group.labels])
    if len(rows) < 2:
        return None
    number = rows[0]["frames"] // 2
    source = Path(rows[0]["source"])
    crop = tuple(rows[0]["crop"]) if rows[0]["crop"] else None
    start = rows[0]["start"]
    pictures: list[tuple[str, str, np.ndarray]] = []
    info = None
    lost: dict[str, str] = {}
    try:
        original, info = frame_picture(source, start + number, crop=crop)
        pictures.append(("original", f"frame {start + number}", original))
    except (NvcError, OSError) as error:
        lost["the original"] = str(error)
    for row in rows:
        try:
            picture, _ = frame_picture(folder / row["file"], number, reference=info)
        except (NvcError, OSError) as error:
            lost[row["label"]] = str(error)
            continue
        pictures.append((row["label"], _crop_words(row, rows), picture))
    if lost:
        why = next(iter(lost.values()))
        options.warn(f"{sequence}: not in the pictures: {', '.join(lost)}: {why}")
    if len(pictures) < 2:
        return None
    top, left = busiest_part(pictures[0][2])
    words = (
        f"Frame {start + number}, {CROP[1]}x{CROP[0]} at ({left}, {top}), {ZOOM} times enlarged; "
        "of each the point nearest in bytes. PSNR YUV is that of the whole sequence."
    )
    crops = [_crop(label, words_of, picture, top, left) for label, words_of, picture in pictures]
    return CropRow(sequence, words, crops)


def nearest_in_bytes(contenders: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of each contender the result nearest to one size (in log bytes).

    The size is the smallest of those that suit all about best: differences show at low rates.
    """
    contenders = [rows for rows in contenders if rows]

    def nearest(size: int) -> list[dict[str, Any]]:
        def distance(row: dict[str, Any]) -> float:
            return abs(math.log(row["bytes"] / size))

        return [min(rows, key=distance) for rows in contenders]

    def misfit(size: int) -> float:
        return sum(abs(math.log(row["bytes"] / size)) for row in nearest(size))

    sizes = sorted(row["bytes"] for rows in contenders for row in rows)
    if not sizes:
        return []
    enough = min(map(misfit, sizes)) + ABOUT_EQUAL * len(contenders)
    return nearest(next(size for size in sizes if misfit(size) <= enough))


def _crop_words(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    quality = row["psnr_yuv"] if row["psnr_yuv"] is not None else row["psnr_y"]
    middle = sorted(entry["bytes"] for entry in rows)[len(rows) // 2]
    return (
        f"{row['bytes'] / 1000:.1f} kB ({row['bytes'] / middle:.2f} of the median)<br>"
        f"{row['bpp']:.4f} bpp, {quality:.2f} dB"
    )


def busiest_part(picture: np.ndarray) -> tuple[int, int]:
    """(top, left) of the part of ``CROP``'s size of (h, w, 3) uint8 with the most detail."""
    import numpy as np

    height, width = picture.shape[:2]
    rows, columns = min(CROP[0], height), min(CROP[1], width)
    grey = picture.astype(np.float64).mean(axis=2)
    detail = np.zeros_like(grey)
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    detail[1:] += np.abs(np.diff(grey, axis=0))
    # Sums over every window by an integral image, with a border of zeros.
    total = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = (total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns]) + total[
        :-rows, :-columns
    ]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)


def _crop(label: str, words: str, picture: np.ndarray, top: int, left: int) -> Crop:
    from PIL import Image

    from nvc.evaluation.report_page import Crop

    part = picture[top : top + CROP[0], left : left + CROP[1]]
    data = io.BytesIO()
    Image.fromarray(part).save(data, "PNG", optimize=True)
    return Crop(label, words, data.getvalue(), part.shape[1] * ZOOM)


def _summary(part: GroupPart) -> dict[str, Any]:
    """Everything of the page that is a figure, as plain JSON types."""
    return {
        "name": part.group.name,
        "conditions": part.group.conditions,
        "sequences": part.group.sequences,
        "labels": part.group.labels,
        "bd": [
            {
                "anchor": table.anchor,
                "metric": table.metric,
                "sequences": {
                    label: {sequence: asdict(entry) for sequence, entry in deltas.items()}
                    for label, deltas in table.deltas.items()
                },
                "means": {
                    label: {"rate": rate, "quality": gain, "sequences": [rates, gains]}
                    for label, (rate, gain, rates, gains) in table.means.items()
                },
            }
            for table in part.tables
        ],
        "speed": part.speed,
    }
