"""Draws predicted numbers over true ones, and their residuals, in their own unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas.report.figures import BLUE, GREY, INK, SMALL, VERMILION, new_figure, quiet
from nas.report.scores_picture_parts import WIDTH, short
from nas.units import show_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas.scoring.regression_scores import ColumnScores, RegressionScores

MOST_COLUMNS = 4
"""Columns of numbers that are drawn: with more, those of the lowest R2."""

MOST_POINTS = 5_000
"""Images that are drawn as points: of more, every second, third, and so on."""

ROW_HEIGHT, LEAST_HEIGHT = 3.6, 5.5
BINS = 40

Numbers = npt.NDArray[np.float64]


def draw_numbers(scores: RegressionScores) -> Figure:
    """Draws a row for each column of numbers."""
    order = sorted(range(len(scores.classes)), key=lambda index: _r2(scores.per_column[index]))
    chosen = sorted(order[:MOST_COLUMNS])
    figure = new_figure(WIDTH, max(LEAST_HEIGHT, ROW_HEIGHT * len(chosen)))
    grid = figure.subplots(len(chosen), 2, squeeze=False, width_ratios=(1.2, 1))
    labels = scores.labels
    for (points, histogram), index in zip(grid, chosen, strict=True):
        one, values = scores.per_column[index], scores.predictions.values[:, index]
        _draw_points(points, one, labels[:, index], values)
        _draw_residuals(histogram, one, values - labels[:, index])
    if len(chosen) < len(scores.classes):
        grid[-1][0].annotate(
            f"the {len(chosen)} of {len(scores.classes)} columns with the lowest R2",
            (0, -0.28),
            xycoords="axes fraction",
            color=GREY,
            fontsize=SMALL,
        )
    return figure


def _r2(one: ColumnScores) -> float:
    return float("inf") if one.r2 is None else one.r2


def _draw_points(axes: Axes, one: ColumnScores, labels: Numbers, values: Numbers) -> None:
    """The prediction over the true number, with the diagonal on which both are equal."""
    quiet(axes)
    step = -(-len(labels) // MOST_POINTS)
    axes.scatter(
        labels[::step],
        values[::step],
        s=12,
        color=BLUE,
        alpha=0.3 if len(labels) > 1_000 else 0.6,
        linewidths=0,
    )
    low, high = min(labels.min(), values.min()), max(labels.max(), values.max())
    axes.plot([low, high], [low, high], color=VERMILION, linewidth=1.2, linestyle="--")
    axes.set_xlabel(f"true {short(one.name)}", color=INK, fontsize=SMALL)
    axes.set_ylabel(f"predicted {short(one.name)}", color=INK, fontsize=SMALL)
    drawn = f", {len(labels[::step]):,} of {len(labels):,} images" if step > 1 else ""
    r2 = "" if one.r2 is None else f": R2 {one.r2:.4f}"
    axes.set_title(f"{short(one.name)}{r2} (dashed: ideal{drawn})", fontsize=SMALL + 1, color=INK, loc="left")


def _draw_residuals(axes: Axes, one: ColumnScores, residuals: Numbers) -> None:
    """How often which residual is, with zero and the bias."""
    quiet(axes)
    axes.hist(residuals, bins=min(BINS, max(5, len(residuals) // 5)), color=BLUE)
    axes.axvline(0, color=VERMILION, linewidth=1.2, linestyle="--")
    axes.set_xlabel(f"predicted less true {short(one.name)}", color=INK, fontsize=SMALL)
    axes.set_ylabel("images", color=INK, fontsize=SMALL)
    axes.set_title(
        f"Residuals: RMSE {show_value(one.rmse)}, MAE {show_value(one.mae)}, bias {show_value(one.bias)}",
        fontsize=SMALL + 1,
        color=INK,
        loc="left",
    )
