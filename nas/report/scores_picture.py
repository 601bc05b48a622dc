"""Draws the scores of a network, by its task."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nas.data.tree import printable
from nas.report.figures import INK, LARGE, save
from nas.report.scores_picture_classes import draw_classes
from nas.report.scores_picture_labels import draw_labels
from nas.report.scores_picture_numbers import draw_numbers
from nas.values import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nas.scoring.by_task import AnyScores


def draw_scores(scores: AnyScores, path: Path) -> Path:
    """Draws the scores into a .png or .svg file.

    Raises:
        NasError: The name ends otherwise, or the file cannot be written.
    """
    figure = _draw(scores)
    images_of = "all images" if scores.split == "all" else scores.split and f"{scores.split} split"
    where = ", ".join(text for text in (printable(scores.data), images_of) if text)
    said = ", ".join(f"{name} {value}" for name, value in scores.headline)
    figure.suptitle(f"{where}: {said} ({counted(scores.images, 'image')})", fontsize=LARGE, color=INK)
    with suppress(OSError):  # `save` says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Names in a script that matplotlib's font lacks are drawn as boxes; one line for each would not help.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return save(figure, path)


def _draw(scores: AnyScores) -> Figure:
    from nas.scoring.multilabel_scores import MultilabelScores
    from nas.scoring.scores import Scores

    if isinstance(scores, Scores):
        return draw_classes(scores)
    if isinstance(scores, MultilabelScores):
        return draw_labels(scores)
    return draw_numbers(scores)
