"""One self-contained HTML page of a benchmark: no script, no other file, nothing fetched."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvc.evaluation.report_curves import METRICS, Group
from nvc.evaluation.report_tables import LITTLE_OVERLAP, BdTable, Delta, delta_unit, signed

_STYLE = """
:root{--ink:#1d2127;--soft:#5d6673;--line:#dde1e6;--wash:#f6f7f9;--good:#1a7f4b;--bad:#b3261e}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:2.5rem 1.5rem 4rem;color:var(--ink);background:#fff;
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
h1{font-size:1.7rem;margin:0 0 .2rem;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:3rem 0 .4rem;padding-top:1.2rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.8rem 0 .4rem}
p,ul{max-width:46rem}
.soft,figcaption,.note{color:var(--soft)}
.note,figcaption{font-size:.86rem}
figure{margin:1rem 0}
figure img{max-width:100%;height:auto;display:block}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;margin:.6rem 0}
th,td{padding:.32rem .75rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
thead th{color:var(--soft);font-weight:600;border-bottom:1px solid var(--soft)}
thead tr:first-child:not(:last-child) th{border-bottom:0}
thead tr:first-child th[colspan]{text-align:center;color:var(--ink)}
td.first,th.first{padding-left:1.6rem}
tr.mean td{font-weight:650;border-top:1px solid var(--soft)}
sup{font-size:.7em;line-height:0;margin-left:.1em}
.good{color:var(--good)}.bad{color:var(--bad)}.none{color:#a2a9b3}
.crops{display:flex;flex-wrap:wrap;gap:.9rem}
.crops figure{margin:0}
.crops img{image-rendering:pixelated;border:1px solid var(--line)}
.crops figcaption{margin-top:.3rem;line-height:1.35}
.crops b{color:var(--ink);font-weight:600}
details{margin:.8rem 0}
summary{cursor:pointer;color:var(--soft)}
code,pre{font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--wash);padding:.8rem 1rem;overflow-x:auto;border-radius:4px}
"""


@dataclass(frozen=True)
class Crop:
    """A picture on the page: PNG bytes, shown ``width`` pixels wide, under a few words."""

    label: str
    words: str
    png: bytes
    width: int


@dataclass(frozen=True)
class CropRow:
    """The same part of one frame by every contender, at about equal bytes."""

    sequence: str
    words: str
    crops: Sequence[Crop]


@dataclass
class GroupPart:
    """What the page shows of one data set under one protocol."""

    group: Group
    figures: dict[str, dict[str, Path]] = field(default_factory=dict)
    tables: list[BdTable] = field(default_factory=list)
    speed: list[dict[str, Any]] = field(default_factory=list)
    crops: list[CropRow] = field(default_factory=list)
    published: list[str] = field(default_factory=list)


def page(
    title: str,
    parts: Sequence[GroupPart],
    published: dict[str, Path],
    *,
    notes: Sequence[str] = (),
) -> str:
    """The whole page. published: figures of published curves alone, by data set."""
    body = [f"<h1>{_text(title)}</h1>", *(f"<p>{_text(note)}</p>" for note in notes)]
    for part in parts:
        body += _group(part, alone=len(parts) == 1)
    for dataset, path in published.items():
        body.append(f"<h2>Published figures: {_text(dataset)}</h2>")
        body.append(
            "<p class=soft>Other people's figures, drawn as they published them: other builds,"
            " other machines, their own conditions. Nothing of them is in the tables above.</p>"
        )
        body.append(_figure(path, ""))
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width,initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _image(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _figure(path: Path, caption: str) -> str:
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    source = _image(path.read_bytes(), kind)
    return f'<figure><img alt="{_text(path.stem)}" src="{source}">{below}</figure>'


def _group(part: GroupPart, *, alone: bool) -> list[str]:
    group = part.group
    counts = sorted({row["frames"] for row in group.rows})
    frames = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [] if alone else [f"<h2>{_text(group.name)}</h2>"]
    lines.append(
        f"<p class=soft>Protocol <b>{_text(group.name)}</b>: {_text(group.conditions)}. "
        f"{len(group.sequences)} sequences, {frames} frames each, {len(group.rows)} points.</p>"
    )
    for label, count in group.outdated.items():
        lines.append(
            f"<p class=note>{count} older points of {_text(label)} are left out: it has newer"
            " ones, made with other weights or versions.</p>"
        )
    lines += _curves(part)
    lines += _bd_tables(part)
    lines += _speed(part)
    lines += _crops(part)
    lines += _method(group)
    return lines


def _curves(part: GroupPart) -> list[str]:
    lines = ["<h2>Rate and distortion</h2>"]
    for number, (metric, figures) in enumerate(part.figures.items()):
        name, _ = METRICS[metric]
        inside = []
        if "average" in figures:
            common = part.group.common_sequences(metric)
            of = f"{len(common)} sequences" if len(common) > 1 else common[0]
            if len(common) < len(part.group.sequences):
                of += f" of {len(part.group.sequences)}"
            less = [
                label
                for label in part.group.labels
                if not set(common) <= part.group.covered(label, metric)
            ]
            if less:
                of += f" (without {', '.join(less)}, not there on all of them)"
            caption = f"{name}, mean over {of}; each point one setting on all of them."
            if part.published:
                caption += f" Dashed: published by others, not ours: {', '.join(part.published)}."
            inside.append(_figure(figures["average"], _text(caption)))
        if "sequences" in figures:
            inside.append(_figure(figures["sequences"], _text(f"{name} of each sequence.")))
        if number:
            lines.append(f"<details><summary>{_text(name)}</summary>")
            lines += [*inside, "</details>"]
        else:
            lines += inside
    return lines


def _bd_tables(part: GroupPart) -> list[str]:
    lines = ["<h2>Bjontegaard deltas</h2>"]
    lines.append(
        "<p class=note>PCHIP over log rate, per sequence, then averaged. Rate: bits at equal"
        " quality, negative saves. Quality: at equal rate, positive is better. A raised <i>o</i>"
        f" marks a figure taken over less than {LITTLE_OVERLAP:.0%} of the narrower curve's range;"
        " a dash means that the curves share no range, or that quality does not rise with rate."
        "</p>"
    )
    for number, table in enumerate(part.tables):
        inside = _bd_table(table)
        if number:
            lines.append(f"<details><summary>against {_text(table.anchor)}, ")
            lines += [f"{_text(METRICS[table.metric][0])}</summary>", *inside, "</details>"]
        else:
            lines += inside
    return lines


def _bd_table(table: BdTable) -> list[str]:
    name, unit = METRICS[table.metric][0], delta_unit(table.metric)
    labels = list(table.deltas)
    of = name.split(" (")[0]
    lines = [
        f"<h3>Against {_text(table.anchor)}, {_text(name)}</h3>",
        "<div class=scroll><table>",
    ]
    lines.append("<thead><tr><th></th>")
    lines += [f"<th colspan=2>{_text(label)}</th>" for label in labels]
    lines.append("</tr><tr><th>sequence</th>")
    lines += [f"<th class=first>BD-rate %</th><th>BD {_text(unit or of)}</th>" for _ in labels]
    lines.append("</tr></thead><tbody>")
    for sequence in table.sequences:
        cells = [_bd_cells(table.deltas[label].get(sequence)) for label in labels]
        lines.append(f"<tr><td>{_text(sequence)}</td>{''.join(cells)}</tr>")
    if len(table.sequences) > 1:
        lines.append("<tr class=mean><td>mean</td>")
        for label in labels:
            rate, gain, rates, gains = table.means[label]
            total = len(table.sequences)
            lines.append(_cell(signed(rate, 1), rate, -1, few=_few(rates, total)))
            lines.append(_cell(signed(gain, 2), gain, 1, few=_few(gains, total)))
        lines.append("</tr>")
    return [*lines, "</tbody></table></div>"]


def _few(count: int, total: int) -> str:
    return f" ({count} of {total})" if 0 < count < total else ""


def _bd_cells(entry: Delta | None) -> str:
    if entry is None:
        return "<td class=none>-</td><td class=none>-</td>"
    rate = _cell(signed(entry.rate, 1), entry.rate, -1, entry.rate_overlap, entry.why)
    gain = _cell(signed(entry.quality, 2), entry.quality, 1, entry.quality_overlap, entry.why)
    return rate + gain


def _cell(
    shown: str, value: float | None, better: int, overlap: float = 1.0, why: str = "", few: str = ""
) -> str:
    if value is None:
        return f'<td class=none title="{_text(why)}">{shown}</td>'
    kind = "good" if value * better > 0 else "bad"
    mark = "<sup>o</sup>" if overlap < LITTLE_OVERLAP else ""
    return f"<td class={kind}>{_text(shown)}{mark}{_text(few)}</td>"


def _speed(part: GroupPart) -> list[str]:
    group = part.group
    base = next((row for row in part.speed if row["label"] in group.anchors), None)
    machines = sorted({f"{row['machine']['cpu']}, {row['machine']['cores']} cores, "
                       f"{row['machine']['system']}" for row in group.rows})  # fmt: skip
    lines = ["<h2>Speed and memory</h2>"]
    against = f", and as a multiple of {_text(base['label'])}'s" if base else ""
    lines.append(
        f"<p class=note>Seconds of the work itself for a million pixels{against}; a 1080p frame"
        " is 2.07 million. CPU: of the whole process, its start and the import of torch included,"
        " which weigh on short clips. Memory: peak of a process, of which about 0.25 GB are Python"
        f" and torch. Decoding writes raw frames to disk. On {_text('; '.join(machines))}.</p>"
    )
    lines.append(
        "<div class=scroll><table><thead><tr><th></th><th colspan=4>encode</th>"
        "<th colspan=4>decode</th><th></th></tr><tr><th></th>"
        + "<th class=first>s/Mpx</th><th></th><th>CPU s/Mpx</th><th>peak MB</th>" * 2
        + "<th>device, threads</th></tr></thead><tbody>"
    )
    for row in part.speed:
        cells = []
        for step in ("encode", "decode"):
            taken, other = row[step], base[step] if base else None
            if taken is None:
                cells += ["<td class=none>-</td>"] * 4
                continue
            ratio = ""
            if other is not None and other["seconds"] > 0:
                ratio = f"x{_short(taken['seconds'] / other['seconds'])}"
            cells.append(f"<td>{_short(taken['seconds'])}</td><td class=none>{ratio}</td>")
            cells.append(f"<td>{_short(taken['cpu_seconds'])}</td>")
            cells.append(f"<td>{taken['peak_memory'] / 1e6:.0f}</td>")
        cells.append(f"<td>{_text(row['device'])}, {_text(row['threads'])}</td>")
        lines.append(f"<tr><td>{_text(row['label'])}</td>{''.join(cells)}</tr>")
    return [*lines, "</tbody></table></div>"]


def _short(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _crops(part: GroupPart) -> list[str]:
    if not part.crops:
        return []
    lines = ["<h2>At about equal bytes</h2>"]
    for row in part.crops:
        lines.append(f"<h3>{_text(row.sequence)}</h3><p class=note>{_text(row.words)}</p>")
        lines.append("<div class=crops>")
        for crop in row.crops:
            lines.append(
                f'<figure><img width={crop.width} alt="{_text(crop.label)}" '
                f'src="{_image(crop.png, "png")}"><figcaption><b>{_text(crop.label)}</b><br>'
                f"{crop.words}</figcaption></figure>"
            )
        lines.append("</div>")
    return lines


def _method(group: Group) -> list[str]:
    versions: dict[str, set[str]] = {}
    for row in group.rows:
        for name, version in row["versions"].items():
            versions.setdefault(name, set()).add(version)
    used = ", ".join(f"{name} {' / '.join(sorted(found))}" for name, found in versions.items())
    commands = []
    for label in group.labels:
        row = group.of(label)[0]
        command = row["commands"].get("encode")
        if command is not None:
            shown = [Path(part).name if Path(part).is_absolute() else part for part in command]
            commands.append(f"# {label}: {row['fingerprint']}\n{' '.join(shown)}")
    lines = ["<h2>How it was measured</h2>", "<ul class=note>"]
    lines.append(
        "<li>Each point is a real file, decoded in a fresh process and compared with the frames"
        " that went in; bytes are those of the whole file, container included.</li>"
        "<li>PSNR per frame on integer planes, averaged over frames; YUV is (6Y + U + V) / 8; RGB"
        " by the clip's own matrix and range, BT.709 limited where it names none; MS-SSIM of luma,"
        " five scales, none under 176 pixels.</li>"
        f"<li>{_text(used)}. PyAV (av) brings the conventional encoders with it.</li>"
    )
    if any(row["kind"] == "codec" and row["rate_kind"] == "bpp" for row in group.rows):
        lines.append(
            "<li>The distance of intra frames is that of predictive codecs and anchors; a fitted"
            " network covers its own group of frames, by default the whole clip.</li>"
        )
    lines.append("</ul><details><summary>commands, the first of each</summary><pre>")
    lines.append(_text("\n".join(commands)))
    return [*lines, "</pre></details>"]
