"""What the pictures of several tasks have: names that fit, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import PercentFormatter

from nas.data.tree import printable
from nas.report.figures import BLUE, INK, SMALL, VERMILION, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nas.scoring.calibration import ConfidenceBin

NAME_CHARACTERS = 18
WIDTH, LEAST_HEIGHT, MOST_HEIGHT = 13.0, 6.5, 9.5


def short(name: str) -> str:
    """A name that fits beside an axis."""
    name = printable(name)
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"


def height_for(rows: int) -> float:
    """The height of a picture with so many names below each other, in inches."""
    return min(MOST_HEIGHT, max(LEAST_HEIGHT, 2.5 + 0.24 * rows))


def draw_reliability(
    axes: Axes, bins: Sequence[ConfidenceBin], error: float, *, what: str, share: str
) -> None:
    """Draws how often predictions are right by their probability, beside what it should be.

    Args:
        axes: Where.
        bins: The predictions by probability.
        error: Expected calibration error.
        what: What has a probability.
        share: What should be as frequent.
    """
    quiet(axes)
    filled = [one for one in bins if one.images]
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
    axes.set_xlabel(f"probability of {what}", color=INK, fontsize=SMALL)
    axes.set_ylabel(share, color=INK, fontsize=SMALL)
    axes.set_title(
        f"Calibration, expected error {error:.4f} (dashed: ideal)",
        fontsize=SMALL + 1,
        color=INK,
        loc="left",
    )
