"""Draws the curves of a full training: loss, metric of the weights and of their average, learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.full_training.checkpoint import Row
from nas.metrics import Goal, metric_info
from nas.report.figures import BLUE, GREY, LARGE, NORMAL, ORANGE, VERMILION, new_figure, quiet, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKED = 40
"""Up to so many evaluations each is marked with a dot."""


def draw_curves(rows: Sequence[Row], path: Path, *, title: str) -> Path:
    """Draws the metric above, loss and learning rate below, over the epochs.

    Args:
        rows: The evaluations, in their order; at least one.
        path: `.png` or `.svg`.
        title: Above the picture.

    Returns:
        The path.

    Raises:
        NasError: The file cannot be written.
    """
    figure = new_figure(8.0, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    figure.suptitle(title, fontsize=LARGE)
    _draw_metric(upper, rows)
    epochs, mark = [row.epoch for row in rows], _mark(rows)
    lower.plot(
        epochs, [row.loss for row in rows], color=BLUE, marker=mark, markersize=3, label="training loss"
    )
    lower.set_ylabel("training loss", fontsize=NORMAL, color=BLUE)
    lower.set_xlabel("epoch", fontsize=NORMAL)
    quiet(lower)
    rates = lower.twinx()
    rates.plot(epochs, [row.learning_rate for row in rows], color=GREY, linestyle="--", linewidth=1)
    rates.set_ylabel("learning rate (dashed)", fontsize=NORMAL, color=GREY)
    rates.spines[["top"]].set_visible(False)
    rates.set_ylim(bottom=0)
    return save(figure, path)


def _draw_metric(axes: Axes, rows: Sequence[Row]) -> None:
    series = (
        ("weights", BLUE, [row.value for row in rows]),
        ("averaged weights", ORANGE, [row.averaged_value for row in rows]),
    )
    goal, info = Goal.of(rows[0].metric), metric_info(rows[0].metric)
    best: tuple[float, float] | None = None
    for name, colour, values in series:
        points = [(row.epoch, value) for row, value in zip(rows, values, strict=True) if value is not None]
        if not points:
            continue
        axes.plot(*zip(*points, strict=True), color=colour, marker=_mark(rows), markersize=3, label=name)
        for epoch, value in points:
            if best is None or goal.sign * value >= goal.sign * best[1]:
                best = epoch, value
    if best is not None:
        words = f"best: {info.unit.show(best[1])}"
        axes.plot(*best, "o", color=VERMILION, markersize=7, fillstyle="none", label=words)
    axes.set_ylabel(f"{info.label}, search split", fontsize=NORMAL)
    axes.legend(loc="lower right" if goal.sign > 0 else "upper right", fontsize=NORMAL, frameon=False)
    quiet(axes)


def _mark(rows: Sequence[Row]) -> str:
    return "o" if len(rows) <= MARKED else ""
