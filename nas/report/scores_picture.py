"""Draws the scores of a network: confusion matrix, calibration, and how well each class is found."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import PercentFormatter

from nas.data.tree import printable
from nas.report.figures import BLUE, INK, LARGE, ORANGE, PALE, SMALL, VERMILION, new_figure, quiet, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nas.scoring.scores import Scores

MOST_CLASSES = 30
"""Classes with a row of their own; with more, those with the most mistakes are drawn."""

MOST_NUMBERED = 12
"""Classes with which the cells of the matrix still have room for a number."""

MOST_UPRIGHT = 3
"""Classes whose names have room side by side."""

NAME_CHARACTERS = 18
WIDTH, LEAST_HEIGHT, MOST_HEIGHT = 13.0, 6.5, 9.5

SHADES = LinearSegmentedColormap.from_list("shades", ["white", BLUE])


def draw_scores(scores: Scores, path: Path) -> Path:
    """Draws the scores into a .png or .svg file.

    Raises:
        NasError: The name ends otherwise, or the file cannot be written.
    """
    chosen = _chosen(scores)
    height = min(MOST_HEIGHT, max(LEAST_HEIGHT, 2.5 + 0.24 * len(chosen)))
    figure = new_figure(WIDTH, height)
    axes = figure.subplot_mosaic([["matrix", "reliability"], ["matrix", "classes"]], width_ratios=(1.35, 1))
    low, high = scores.interval
    where = ", ".join(
        text for text in (printable(scores.data), scores.split and f"{scores.split} split") if text
    )
    figure.suptitle(
        f"{where}: accuracy {scores.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}, "
        f"{scores.images:,} images)",
        fontsize=LARGE,
        color=INK,
    )
    _draw_matrix(axes["matrix"], scores, chosen)
    _draw_reliability(axes["reliability"], scores)
    _draw_classes(axes["classes"], scores, chosen)
    with suppress(OSError):  # `save` says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Names in a script that matplotlib's font lacks are drawn as boxes; one line for each would not help.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return save(figure, path)


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
    names = [_name(scores, index) for index in chosen]
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


def _name(scores: Scores, index: int) -> str:
    name = printable(scores.classes[index])
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"


def _draw_reliability(axes: Axes, scores: Scores) -> None:
    """The share of right predictions by their probability, beside what it should be."""
    quiet(axes)
    filled = [one for one in scores.reliability if one.images]
    most = max(one.images for one in filled)
    for one in filled:
        assert one.accuracy is not None
        axes.bar(
            one.low,
            one.accuracy,
            width=one.high - one.low,
            align="edge",
            color=BLUE,
            alpha=0.25 + 0.75 * one.images / most,
            edgecolor="white",
        )
    axes.plot([0, 1], [0, 1], color=VERMILION, linewidth=1.2, linestyle="--")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("probability of the prediction (darker: more images)", color=INK, fontsize=SMALL)
    axes.set_ylabel("share that is right", color=INK, fontsize=SMALL)
    axes.set_title(
        f"Calibration, expected error {scores.calibration_error:.4f} (dashed: ideal)",
        fontsize=SMALL + 1,
        color=INK,
        loc="left",
    )


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
        names = [_name(scores, index) for index in chosen]
        axes.set_xticks(range(len(chosen)), names, rotation=_turn(chosen), fontsize=size)
        axes.grid(visible=False, axis="x")
    axes.axhline(scores.macro_f1, color=ORANGE, linewidth=1.2)
    axes.set_ylim(0, 1.05)
    axes.set_title(
        f"F1 of each class; line: mean {scores.macro_f1:.4f}", fontsize=SMALL + 1, color=INK, loc="left"
    )
