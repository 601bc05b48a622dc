"""What `nas evaluate` prints, and its CSV of predictions, by the task of the network."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.data.tree import printable
from nas.io import write_whole
from nas.report.printing import Fact, Report, Table, unwritable
from nas.report.scores_report_classes import class_facts, class_rows, class_tables
from nas.report.scores_report_labels import label_facts, label_rows, label_tables
from nas.report.scores_report_numbers import number_facts, number_rows, number_tables

if TYPE_CHECKING:
    from nas.scoring.by_task import AnyScores


def scores_report(scores: AnyScores, *, top: int, files: Sequence[Path] = ()) -> Report:
    """Makes the report of an evaluation.

    Args:
        scores: The scores.
        top: Worst mistakes to show.
        files: What was written.
    """
    facts, tables = _own(scores, top)
    return Report(
        title=f"Scores of {scores.bundle}",
        facts=(*_where(scores), *facts, *_in_json_alone(scores)),
        tables=tables,
        notes=(
            *(f"note: {note}" for note in scores.notes),
            *(f"WARNING: {warning}" for warning in scores.warnings),
            *(f"wrote {path}" for path in files),
        ),
    )


def _own(scores: AnyScores, top: int) -> tuple[tuple[Fact, ...], tuple[Table, ...]]:
    """What is said of one task alone."""
    from nas.scoring.multilabel_scores import MultilabelScores
    from nas.scoring.scores import Scores

    if isinstance(scores, Scores):
        return class_facts(scores), class_tables(scores, top)
    if isinstance(scores, MultilabelScores):
        return label_facts(scores), label_tables(scores, top)
    return number_facts(scores), number_tables(scores, top)


def _where(scores: AnyScores) -> tuple[Fact, ...]:
    images = f"{scores.images:,}"
    if scores.unreadable:
        images += f", and {len(scores.unreadable):,} that cannot be read"
    images_of = "all images" if scores.split == "all" else f"{scores.split} split"
    return (
        Fact(key="bundle", label="", value=scores.bundle),
        Fact(key="task", label="", value=scores.task),
        Fact(key="data", label="data", value=scores.data, text=f"{printable(scores.data)}, {images_of}"),
        Fact(key="split", label="", value=scores.split),
        Fact(key="images", label="images", value=scores.images, text=images),
        Fact(key="runtime", label="runtime", value=scores.runtime),
    )


def _in_json_alone(scores: AnyScores) -> tuple[Fact, ...]:
    unreadable = [{"file": one.name, "reason": one.reason} for one in scores.unreadable]
    return (
        Fact(key="warnings", label="", value=list(scores.warnings)),
        Fact(key="unreadable", label="", value=unreadable),
    )


def write_predictions(scores: AnyScores, path: Path) -> Path:
    """Writes truth and prediction for every image as CSV (UTF-8), in the order of the data.

    Raises:
        UsageError: The file cannot be written.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(_rows(scores))
    try:
        return write_whole(path, text.getvalue())
    except OSError as error:
        raise unwritable(path, error, field="csv") from error


def _rows(scores: AnyScores) -> Iterator[tuple[object, ...]]:
    """The lines of the CSV, its header first."""
    from nas.scoring.multilabel_scores import MultilabelScores
    from nas.scoring.scores import Scores

    if isinstance(scores, Scores):
        return class_rows(scores)
    if isinstance(scores, MultilabelScores):
        return label_rows(scores)
    return number_rows(scores)
