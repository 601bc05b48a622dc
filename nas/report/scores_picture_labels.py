"""Draws the scores of predicted labels: average precision of each, and calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.report.figures import BLUE, INK, ORANGE, SMALL, VERMILION, new_figure, quiet
from nas.report.scores_picture_parts import WIDTH, draw_reliability, height_for, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas.scoring.multilabel_scores import LabelScores, MultilabelScores

MOST_LABELS = 30
"""Labels with a bar; with more, those of the lowest average precision are drawn."""


def draw_labels(scores: MultilabelScores) -> Figure:
    """Draws them."""
    known = [one for one in scores.per_label if one.average_precision is not None]
    chosen = sorted(known, key=lambda one: one.average_precision or 0.0)[:MOST_LABELS]
    figure = new_figure(WIDTH, height_for(len(chosen)))
    axes = figure.subplot_mosaic([["labels", "reliability"]], width_ratios=(1.35, 1))
    _draw_bars(axes["labels"], scores, chosen, len(known))
    draw_reliability(
        axes["reliability"],
        scores.reliability,
        scores.calibration_error,
        what="a label of an image (darker: more of them)",
        share="share of images that have it",
    )
    return figure


def _draw_bars(axes: Axes, scores: MultilabelScores, chosen: list[LabelScores], known: int) -> None:
    """Average precision of each label, beside that of a random order."""
    quiet(axes)
    rows = range(len(chosen))
    thickness = min(0.8, 0.1 + 0.1 * len(chosen))
    axes.barh(rows, [one.average_precision or 0.0 for one in chosen], height=thickness, color=BLUE)
    axes.set_ylim(-0.75, max(len(chosen), 1) - 0.25)
    chance = [one.support / scores.images for one in chosen]
    axes.plot(chance, rows, color=VERMILION, linestyle="none", marker="|", markersize=11, markeredgewidth=2)
    axes.set_yticks(rows, [f"{short(one.name)} ({one.support:,})" for one in chosen], fontsize=SMALL)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1)
    axes.set_xlabel("average precision (label: images that have it; red: a random order)", color=INK)
    title = "Average precision by label"
    if scores.mean_average_precision is not None:
        axes.axvline(scores.mean_average_precision, color=ORANGE, linewidth=1.2)
        title += "; line: mean"
    cut = f", the {len(chosen)} lowest of {known:,}" if len(chosen) < known else ""
    axes.set_title(f"{title}{cut}", fontsize=SMALL + 1, color=INK, loc="left")
