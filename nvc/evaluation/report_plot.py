"""Rate-distortion figures for a report, as PNG and SVG, by matplotlib (extra ``plot``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nvc.errors import UsageError
from nvc.evaluation.report_curves import METRICS, Curve

# Okabe and Ito: told apart with any colour vision, and in grey by their markers.
_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#444444")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_PUBLISHED = ("#777777", "#999999", "#555555", "#AAAAAA")
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.labelspacing": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "savefig.dpi": 160,
    "svg.fonttype": "path",
    "svg.hashsalt": "nvc",
}
_TICKS = (1, 2, 5)
# About what an entry of a legend takes: its sign, and each letter.
_LEGEND_INCHES, _INCHES_A_LETTER = 0.6, 0.068


def load_pyplot() -> Any:
    """matplotlib's pyplot, drawing into files. Raises UsageError when the extra is not there."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("a report needs matplotlib: pip install 'nvc[plot]'") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def figure_of(
    panels: Sequence[tuple[str, Sequence[Curve], Sequence[Curve]]],
    labels: Sequence[str],
    metric: str,
    *,
    columns: int = 1,
    panel_size: tuple[float, float] = (5.6, 4.0),
) -> Any:
    """A figure of one or more panels (title, our curves, published curves) under one legend.

    labels: every contender in a fixed order, so that a colour means the same in all figures.
    """
    pyplot = load_pyplot()
    columns = max(1, min(columns, len(panels)))
    rows = math.ceil(len(panels) / columns)
    names = [*labels, *(_published(curve) for _, _, curves in panels for curve in curves)]
    legend = _LEGEND_INCHES + _INCHES_A_LETTER * max(map(len, names), default=0)
    beside = len(panels) == 1
    width = panel_size[0] * columns + (legend if beside else 0.0)
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(
            rows,
            columns,
            figsize=(width, panel_size[1] * rows + (0.0 if beside else 0.35)),
            squeeze=False,
            layout="constrained",
        )
        for place, axis in enumerate(axes.flat):
            if place < len(panels):
                title, ours, published = panels[place]
                _draw(axis, title, ours, published, labels, metric)
                if place % columns:
                    axis.set_ylabel("")
                if place + columns < len(panels):
                    axis.set_xlabel("")
            else:
                axis.set_visible(False)
        handles = {}
        for axis in axes.flat:
            for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
                handles.setdefault(name, handle)
        known = [label for label in labels if label in handles]
        order = known + [name for name in handles if name not in labels]
        figure.legend(
            [handles[name] for name in order],
            order,
            loc="outside right upper" if beside else "outside lower center",
            ncols=1 if beside else max(1, min(len(order), int(width / legend))),
        )
    return figure


def _draw(
    axis: Any,
    title: str,
    ours: Sequence[Curve],
    published: Sequence[Curve],
    labels: Sequence[str],
    metric: str,
) -> None:
    from matplotlib import ticker

    for number, curve in enumerate(published):
        axis.plot(
            curve.rates,
            curve.qualities,
            linestyle=(0, (4, 2)),
            linewidth=1.1,
            marker=_MARKERS[-1 - number % len(_MARKERS)],
            markersize=3.5,
            markerfacecolor="white",
            color=_PUBLISHED[number % len(_PUBLISHED)],
            label=_published(curve),
            zorder=1.5,
        )
    for curve in ours:
        number = labels.index(curve.label)
        points = curve.points
        axis.errorbar(
            curve.rates,
            curve.qualities,
            xerr=[point.rate_deviation for point in points] if _spread(points) else None,
            yerr=[point.quality_deviation for point in points] if _spread(points) else None,
            capsize=2,
            elinewidth=0.9,
            marker=_MARKERS[number % len(_MARKERS)],
            color=_COLORS[number % len(_COLORS)],
            label=curve.label,
        )
    name, unit = METRICS[metric]
    axis.set_title(title, loc="left", fontweight="bold")
    axis.set_xscale("log")
    axis.set_xlabel("bits per pixel")
    axis.set_ylabel(f"{name} [{unit}]" if unit else name)
    rates = [rate for curve in (*ours, *published) for rate in curve.rates]
    span = math.log10(max(rates) / min(rates)) if rates else 0.0
    subs = _TICKS if span < 2.5 else (1,)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _published(curve: Curve) -> str:
    return f"{curve.label} (published)"


def _spread(points: Sequence[Any]) -> bool:
    return any(point.quality_deviation or point.rate_deviation for point in points)


def save(figure: Any, stem: Path) -> list[Path]:
    """Write STEM.png and STEM.svg, the same bytes for the same figure; close it."""
    pyplot = load_pyplot()
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}{ending}") for ending in (".png", ".svg")]
    with pyplot.rc_context(_STYLE):
        figure.savefig(paths[0], metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return paths
