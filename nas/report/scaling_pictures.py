"""The pictures of a search for the direction of scaling: its law over directions, and curves over cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import FuncFormatter, NullFormatter

from nas.evaluation.scaled_networks import Curve, ScaledNetwork
from nas.evaluation.scaling_search import ScalingSearch
from nas.metrics import FRACTION, metric_info
from nas.report.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LARGE,
    NORMAL,
    ORANGE,
    PALE,
    SKY,
    SMALL,
    VERMILION,
    new_figure,
    quiet,
    save,
)
from search_spaces import DIRECTIONS, Direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = 60
"""Of the shading of the law, along a side of the triangle."""

CORNERS = {"depth": (0.5, 3**0.5 / 2), "width": (0.0, 0.0), "resolution": (1.0, 0.0)}

STYLES = {
    "depth": (BLUE, "s", "--"),
    "width": (ORANGE, "^", "--"),
    "resolution": (GREEN, "v", "--"),
    "found": (VERMILION, "o", "-"),
    "efficientnet": (INK, "D", "-"),
    "fast": (SKY, "P", "-"),
    "deeper": (BLUE, "s", "--"),
    "larger images": (GREEN, "v", "--"),
    "both": (VERMILION, "o", "-"),
}
"""Colour, mark and line of each curve."""


def draw_law(search: ScalingSearch, path: Path, *, title: str) -> Path:
    """Draws what the metric is over all directions, with the networks that were trained.

    Raises:
        NasError: The path ends in neither .png nor .svg, or cannot be written.
    """
    figure = new_figure(8.2, 6.4)
    axes = figure.subplots()
    trained = [one for one in (*search.members, *search.finalists) if one.direction and one.mean is not None]
    shade = _values(search, [one.mean for one in trained if one.mean is not None])
    limits = (float(shade.min()), float(shade.max()))
    if search.law is not None:
        grid = [
            Direction(depth=i / STEPS, width=j / STEPS, resolution=(STEPS - i - j) / STEPS)
            for i in range(STEPS + 1)
            for j in range(STEPS + 1 - i)
        ]
        law = _values(search, [search.law.at(one).value for one in grid])
        limits = (min(limits[0], float(law.min())), max(limits[1], float(law.max())))
        x, y = _place(grid)
        axes.tripcolor(x, y, law, cmap="cividis", vmin=limits[0], vmax=limits[1], shading="gouraud")
    x, y = _place([one.direction for one in trained if one.direction])
    points = axes.scatter(
        x,
        y,
        c=shade,
        cmap="cividis",
        vmin=limits[0],
        vmax=limits[1],
        s=70,
        edgecolors="white",
        linewidths=1.2,
    )
    bar = figure.colorbar(points, ax=axes, shrink=0.75)
    bar.set_label(_axis_label(search), fontsize=NORMAL, color=INK)
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    _mark(axes, search)
    _frame(axes)
    axes.set_title(title, fontsize=LARGE, color=INK, fontweight="bold", loc="left")
    return save(figure, path)


def _place(directions: Sequence[Direction]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where directions lie in the triangle."""
    corners = np.array([CORNERS["depth"], CORNERS["width"], CORNERS["resolution"]])
    places = np.array([one.shares for one in directions], dtype=np.float64).reshape(-1, 3) @ corners
    return places[:, 0], places[:, 1]


def _mark(axes: Axes, search: ScalingSearch) -> None:
    """Marks the direction found, and the known ones."""
    marks = {"found": search.found, "efficientnet": DIRECTIONS["efficientnet"], "fast": DIRECTIONS["fast"]}
    for name, direction in marks.items():
        (x,), (y,) = _place([direction])
        color, mark, _ = STYLES[name]
        size = 260 if name == "found" else 120
        face = "none" if name == "found" else color
        axes.scatter(
            [x],
            [y],
            marker=mark,
            s=size,
            facecolors=face,
            edgecolors=color,
            linewidths=2.2,
            label=name,
            zorder=4,
        )
    axes.legend(loc="upper left", fontsize=SMALL, frameon=False, labelspacing=1.3, borderpad=0.8)


def _frame(axes: Axes) -> None:
    """Draws the triangle, and says which corner is which."""
    outline = [CORNERS[name] for name in ("depth", "width", "resolution", "depth")]
    axes.plot(*zip(*outline, strict=True), color=GREY, linewidth=1)
    for name, (x, y) in CORNERS.items():
        is_top = name == "depth"
        axes.annotate(
            f"{name} alone",
            (x, y),
            xytext=(0, 9 if is_top else -10),
            textcoords="offset points",
            ha="center",
            va="bottom" if is_top else "top",
            fontsize=NORMAL,
            color=INK,
        )
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.14, 1.14)
    axes.set_ylim(-0.1, 0.98)


def draw_curves(search: ScalingSearch, path: Path, *, title: str) -> Path:
    """Draws the metric over the cost: each direction, and width from several starts.

    Raises:
        NasError: The path ends in neither .png nor .svg, or cannot be written.
    """
    figure = new_figure(11.5, 4.8)
    left, right = figure.subplots(1, 2, sharey=True)
    singles = [curve for curve in search.curves if curve.figure == 3]
    _panel(left, search, singles, "each dimension alone, and together")
    width = next((curve for curve in singles if curve.name == "width"), None)
    wider = [curve for curve in search.curves if curve.figure == 4]
    _panel(right, search, [*([width] if width else []), *wider], "wider networks, from several starts")
    left.set_ylabel(f"{_axis_label(search)}{_spread(search)}", fontsize=NORMAL, color=INK)
    figure.suptitle(title, fontsize=LARGE, color=INK, fontweight="bold", x=0.01, ha="left")
    return save(figure, path)


def _spread(search: ScalingSearch) -> str:
    """What points and bars are; nothing where every network was trained once."""
    seeds = search.plan.seeds
    return f", mean of {seeds} trainings ± standard error" if seeds > 1 else ""


def _panel(axes: Axes, search: ScalingSearch, curves: Sequence[Curve], title: str) -> None:
    quiet(axes)
    for curve in curves:
        points = [one for one in curve.points if one.mean is not None]
        if not points:
            continue
        color, mark, line = STYLES[curve.name]
        label = f"after {curve.name}" if curve.figure == 4 else curve.name
        axes.errorbar(
            [one.cost_factor for one in points],
            _values(search, [one.mean for one in points if one.mean is not None]),
            yerr=[_scale(search) * _error(one) for one in points],
            color=color,
            marker=mark,
            linestyle=line,
            markersize=6,
            linewidth=1.4,
            elinewidth=0.9,
            capsize=2,
            label=label,
        )
    axes.set_xscale("log", base=2)
    factors = sorted({1.0, *search.plan.curve_factors})
    axes.set_xticks(factors)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{search.cost_name} over the baseline's", fontsize=NORMAL, color=INK)
    axes.set_title(title, fontsize=NORMAL, color=INK, loc="left")
    axes.legend(fontsize=SMALL, frameon=False)
    axes.grid(color=PALE, linewidth=0.6, alpha=0.7)


def _error(one: ScaledNetwork) -> float:
    """Standard error of the mean of a network's trainings; 0 where there is only one."""
    return statistics.stdev(one.values) / len(one.values) ** 0.5 if len(one.values) > 1 else 0.0


def _scale(search: ScalingSearch) -> float:
    """Fractions are drawn in percent."""
    return 100.0 if metric_info(search.goal.metric).unit is FRACTION else 1.0


def _values(search: ScalingSearch, values: Sequence[float]) -> npt.NDArray[np.float64]:
    return _scale(search) * np.asarray(values, dtype=np.float64)


def _axis_label(search: ScalingSearch) -> str:
    label = metric_info(search.goal.metric).label
    return f"{label} (%)" if _scale(search) == 100 else label
