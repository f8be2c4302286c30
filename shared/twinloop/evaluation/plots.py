"""Figures of a judgement as inline SVG that takes its colours from the page's stylesheet, light or dark.

matplotlib draws with stand-in colours, which are then replaced by CSS variables. Text stays text: it can be searched,
it scales, and it takes the page's font.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from twinloop.evaluation.foretold import Bin
from twinloop.evaluation.intervals import Interval

# Stand-in -> CSS variable. No colour of matplotlib's own may equal one of these.
_COLOURS = {
    "#010203": "--ink",
    "#040506": "--faint",
    "#070809": "--line",
    "#0a0b0c": "--promoted",
    "#0d0e0f": "--champion",
    "#101112": "--plain",
    "#131415": "--vetoed",
}
INK, FAINT, LINE = "#010203", "#040506", "#070809"
ROLES = {"promoted": "#0a0b0c", "champion": "#0d0e0f", "plain": "#101112", "vetoed": "#131415"}
_MARKS = {"promoted": "o", "champion": "D", "plain": "o", "vetoed": "X"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels are data; a dollar sign in one is a dollar sign
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": INK,
    "ytick.left": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
}
_LONGEST_LABEL = 34
_LEAST_AREA, _MOST_AREA = 40.0, 900.0  # of a point, in square points
_SHARES = 5  # parts of an axis of chances


@dataclass(frozen=True)
class Row:
    """One line of an interval plot. `margin` is what its lower bound must pass, where it must pass one."""

    label: str
    interval: Interval
    role: str = "plain"
    margin: float | None = None


@dataclass(frozen=True)
class Point:
    """One model in a scatter plot; `y` carries its interval, and the point's area goes with `size`."""

    label: str
    x: float
    y: Interval
    role: str = "plain"
    size: float = 0.0


@dataclass(frozen=True)
class Curve:
    """One model's promises: bins of impressions by what it predicted."""

    label: str
    bins: Sequence[Bin]
    role: str = "plain"


@mpl.rc_context(_STYLE)
def interval_plot(rows: Sequence[Row], axis: str, *, zero: bool = False) -> str:
    """Draw one dot with its interval per row, top down; `zero` marks where nothing is gained or lost."""
    figure, axes = _figure(0.75 + 0.34 * len(rows))
    for place, row in enumerate(reversed(rows)):
        colour = ROLES[row.role]
        axes.plot([row.interval.low, row.interval.high], [place, place], color=colour, linewidth=2.2, zorder=2)
        axes.plot(row.interval.mean, place, _MARKS[row.role], color=colour, markersize=7, zorder=3)
        if row.margin is not None:
            axes.plot([row.margin] * 2, [place - 0.36, place + 0.36], color=INK, linewidth=1.4, zorder=4)
    if zero:
        axes.axvline(0, color=FAINT, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    axes.set_yticks(range(len(rows)), [_short(row.label) for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(axis)
    axes.grid(axis="x")
    return _svg(figure, f"{axis}: " + "; ".join(f"{row.label} {row.interval}" for row in rows))


@mpl.rc_context(_STYLE)
def cost_plot(points: Sequence[Point], cost: str, quality: str) -> str:
    """Draw quality with its interval over a cost, on a logarithmic axis where costs differ by more than tenfold.

    Areas are in proportion to the sizes, but for what would be too small to see.
    """
    figure, axes = _figure(3.1)
    costs = [point.x for point in points]
    largest = max(point.size for point in points) or 1.0
    areas = {point: max(_LEAST_AREA, _MOST_AREA * point.size / largest) for point in points}
    for point in sorted(points, key=lambda point: -point.size):
        colour, area = ROLES[point.role], areas[point]
        axes.plot([point.x, point.x], [point.y.low, point.y.high], color=colour, linewidth=2.0, zorder=3)
        axes.scatter([point.x], [point.y.mean], area, color=colour, alpha=0.35, linewidths=0, zorder=2)
        axes.plot(point.x, point.y.mean, _MARKS[point.role], color=colour, markersize=5, zorder=4)
    if min(costs) > 0 and max(costs) > 10 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
    else:
        axes.set_xlim(0, 1.15 * (max(costs) or 1.0))  # from 0, so that what costs about the same looks it
    _label(axes, {point: math.sqrt(area / math.pi) for point, area in areas.items()})
    axes.set_xlabel(cost)
    axes.set_ylabel(quality)
    axes.grid(axis="both")
    return _svg(figure, f"{quality} over {cost}: " + "; ".join(f"{p.label} {p.y} at {p.x:.3g}" for p in points))


@mpl.rc_context(_STYLE)
def reliability_plot(curves: Sequence[Curve], predicted: str, observed: str) -> str:
    """Draw what came, with its interval, over what was predicted; on the diagonal promises hold.

    Both axes are in square roots: most chances are small, and none may be too small to be drawn.
    """
    figure, axes = _figure(3.6)
    most = max(max(one.predicted, one.observed.high) for curve in curves for one in curve.bins)
    most = min(1.0, 1.08 * most) or 1.0
    axes.plot([0, most], [0, most], color=FAINT, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    for curve in curves:
        colour, x = ROLES[curve.role], [one.predicted for one in curve.bins]
        for one in curve.bins:
            interval = [one.observed.low, one.observed.high]
            axes.plot([one.predicted] * 2, interval, color=colour, linewidth=1.6, alpha=0.55, zorder=2)
        axes.plot(x, [one.observed.mean for one in curve.bins], color=colour, linewidth=1.0, zorder=3)
        axes.plot(
            x,
            [one.observed.mean for one in curve.bins],
            _MARKS[curve.role],
            color=colour,
            markersize=5,
            zorder=4,
            label=_short(curve.label),
        )
    for set_scale, set_limits in ((axes.set_xscale, axes.set_xlim), (axes.set_yscale, axes.set_ylim)):
        set_scale("function", functions=(_root, np.square))
        set_limits(0, most)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(_shares(most)))
        axis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.set_xlabel(predicted)
    axes.set_ylabel(observed)
    axes.grid(axis="both")
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, labelcolor=INK)
    told = "; ".join(
        f"{curve.label}: " + ", ".join(f"{one.predicted:.3g} came as {one.observed}" for one in curve.bins)
        for curve in curves
    )
    return _svg(figure, f"{observed} over {predicted}: {told}")


def _root(values: Any) -> Any:
    """The square root, of what lies below 0 as of 0: matplotlib asks for a little more than the axis."""
    return np.sqrt(np.maximum(values, 0))


def _shares(most: float) -> list[float]:
    """Round numbers from 0 to `most` that lie about evenly on an axis of square roots."""
    return sorted({float(f"{most * (place / _SHARES) ** 2:.1g}") for place in range(_SHARES + 1)})


def _label(axes: Any, points: Mapping[Point, float]) -> None:
    """Write the names beside the plot, each with a line to its point, which is so many points wide."""
    low, high = axes.get_ylim()
    ordered = sorted(points, key=lambda point: point.y.mean)
    for point, height in zip(ordered, apart([p.y.mean for p in ordered], (high - low) * 0.075), strict=True):
        axes.annotate(
            _short(point.label),
            (point.x, point.y.mean),
            xytext=(1.03, height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            color=INK,
            fontsize=8.5,
            arrowprops={
                "arrowstyle": "-",
                "color": FAINT,
                "linewidth": 0.6,
                "shrinkA": 2,
                "shrinkB": points[point],
                "relpos": (0, 0.5),
                "zorder": 1,
            },
        )
    axes.set_ylim(low, high)


def apart(heights: Sequence[float], step: float) -> list[float]:
    """Return the heights nearest to these, which rise, by least squares, that are at least so far apart."""
    # What is to be a step apart may be equal once the steps are taken off, and that is isotonic regression.
    blocks: list[tuple[float, int]] = []
    for place, height in enumerate(heights):
        mean, count = height - place * step, 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        blocks.append((mean, count))
    level = [mean for mean, count in blocks for _ in range(count)]
    return [mean + place * step for place, mean in enumerate(level)]


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.4, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return figure, axes


def _svg(figure: Figure, description: str) -> str:
    buffer = io.StringIO()
    # The salt makes ids reproducible; different figures get different ones, because they share a page.
    with mpl.rc_context({"svg.hashsalt": description}), warnings.catch_warnings():
        # The browser draws the text; that matplotlib's own font lacks a letter only makes its width a guess.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z]+[a-zA-Z0-9]*_\d+"', "", svg)
    box = re.search(r'viewBox="([^"]+)"', svg)
    opening = f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(description)}">'
    svg = opening + svg[svg.index(">") + 1 :]
    for stand_in, variable in _COLOURS.items():
        svg = svg.replace(stand_in, f"var({variable})")
    return svg


def _short(label: str) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in label)
    return plain if len(plain) <= _LONGEST_LABEL else plain[: _LONGEST_LABEL - 1] + "…"
