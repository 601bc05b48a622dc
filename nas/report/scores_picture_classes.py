"""Draws the scores of predicted classes: confusion matrix, calibration, and how well each class is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap

from nas.report.figures import BLUE, INK, ORANGE, PALE, SMALL, new_figure, quiet
from nas.report.scores_picture_parts import WIDTH, draw_reliability, height_for, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas.scoring.scores import Scores

MOST_CLASSES = 30
"""Classes with a row of their own; with more, those with the most mistakes are drawn."""

MOST_NUMBERED = 12
"""Classes with which the cells of the matrix still have room for a number."""

MOST_UPRIGHT = 3
"""Classes whose names have room side by side."""

SHADES = LinearSegmentedColormap.from_list("shades", ["white", BLUE])


def draw_classes(scores: Scores) -> Figure:
    """Draws them."""
    chosen = _chosen(scores)
    figure = new_figure(WIDTH, height_for(len(chosen)))
    axes = figure.subplot_mosaic([["matrix", "reliability"], ["matrix", "classes"]], width_ratios=(1.35, 1))
    _draw_matrix(axes["matrix"], scores, chosen)
    draw_reliability(
        axes["reliability"],
        scores.reliability,
        scores.calibration_error,
        what="the prediction (darker: more images)",
        share="share that is right",
    )
    _draw_classes(axes["classes"], scores, chosen)
    return figure


def _chosen(scores: Scores) -> npt.NDArray[np.int64]:
    """The classes that are drawn, in their own order: all that occur, or those that are most mistaken."""
    confusion = scores.confusion
    wrong = confusion.sum(0) + confusion.sum(1) - 2 * confusion.diagonal()
    met = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    most = met[np.argsort(-wrong[met], kind="stable")[:MOST_CLASSES]]
    return np.sort(most).astype(np.int64)


def _draw_matrix(axes: Axes, scores: Scores, chosen: npt.NDArray[np.int64]) -> None:
    support = scores.confusion.sum(1)[chosen]
    counts = scores.confusion[np.ix_(chosen, chosen)]
    shares = counts / np.maximum(support, 1)[:, None]
    axes.imshow(shares, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    names = [short(scores.classes[index]) for index in chosen]
    size = SMALL if len(chosen) <= MOST_NUMBERED else SMALL - 2
    axes.set_xticks(range(len(chosen)), names, rotation=_turn(chosen), fontsize=size)
    axes.set_yticks(range(len(chosen)), names, fontsize=size)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_color(PALE)
    axes.set_xlabel("prediction", color=INK)
    axes.set_ylabel("true class", color=INK)
    cut = (
        f", the {len(chosen)} of {len(scores.classes):,} with the most mistakes"
        if _is_cut(scores, chosen)
        else ""
    )
    axes.set_title(
        f"Predictions by true class, % of each row{cut}", fontsize=SMALL + 1, color=INK, loc="left"
    )
    if len(chosen) <= MOST_NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                colour = "white" if share > 0.5 else INK
                axes.text(
                    column, row, _percent(share), ha="center", va="center", fontsize=SMALL, color=colour
                )


def _turn(chosen: npt.NDArray[np.int64]) -> int:
    """By how many degrees names below an axis are turned."""
    return 0 if len(chosen) <= MOST_UPRIGHT else 90


def _percent(share: float) -> str:
    return "<1" if share < 0.005 else f"{100 * share:.0f}"


def _is_cut(scores: Scores, chosen: npt.NDArray[np.int64]) -> bool:
    return len(chosen) < len(scores.classes) and len(chosen) == MOST_CLASSES


def _draw_classes(axes: Axes, scores: Scores, chosen: npt.NDArray[np.int64]) -> None:
    """F1 of each class that is drawn; of very many, of all classes in ascending order."""
    quiet(axes)
    if _is_cut(scores, chosen):
        values = sorted(one.f1 for one in scores.per_class if one.f1 is not None)
        axes.fill_between(range(len(values)), values, color=BLUE, alpha=0.6, step="mid")
        axes.set_xlabel(f"{len(values):,} classes, the worst first", color=INK, fontsize=SMALL)
    else:
        values = [scores.per_class[index].f1 or 0.0 for index in chosen]
        axes.bar(range(len(chosen)), values, color=BLUE)
        size = SMALL if len(chosen) <= MOST_NUMBERED else SMALL - 2
        names = [short(scores.classes[index]) for index in chosen]
        axes.set_xticks(range(len(chosen)), names, rotation=_turn(chosen), fontsize=size)
        axes.grid(visible=False, axis="x")
    axes.axhline(scores.macro_f1, color=ORANGE, linewidth=1.2)
    axes.set_ylim(0, 1.05)
    axes.set_title(
        f"F1 of each class; line: mean {scores.macro_f1:.4f}", fontsize=SMALL + 1, color=INK, loc="left"
    )
