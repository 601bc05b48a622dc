"""What `nas evaluate` prints, and its CSV of predictions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.data.tree import printable
from nas.io import write_whole
from nas.report.printing import (
    Column,
    Fact,
    Report,
    Row,
    Table,
    show_accuracy,
    show_count,
    show_share,
    unwritable_csv,
)

if TYPE_CHECKING:
    from nas.scoring.scores import ClassScores, Scores

MOST_CLASSES = 20
"""Classes in the table: with more than these, the worst of them are shown."""

MOST_PAIRS = 5
"""Pairs of classes that are confused most, in the table."""

CSV_COLUMNS = ("file", "true", "prediction", "probability", "is_right")

SHARES = (
    Column(key="precision", heading="precision", show=show_accuracy, is_number=True),
    Column(key="recall", heading="recall", show=show_accuracy, is_number=True),
    Column(key="f1", heading="F1", show=show_accuracy, is_number=True),
    Column(key="support", heading="images", show=show_count, is_number=True),
)


def scores_report(scores: Scores, *, top: int, files: Sequence[Path] = ()) -> Report:
    """Makes the report of an evaluation.

    Args:
        scores: The scores.
        top: Most confident mistakes to show.
        files: What was written.
    """
    tables = [_class_table(scores)]
    tables += [_pair_table(scores)] if len(scores.classes) > 2 else []
    tables += [_mistake_table(scores, top)] if top else []
    return Report(
        title=f"Scores of {scores.bundle}",
        facts=(*_where(scores), *_averages(scores), *_in_json_alone(scores)),
        tables=tuple(tables),
        notes=(
            *(f"note: {note}" for note in scores.notes),
            *(f"WARNING: {warning}" for warning in scores.warnings),
            *(f"wrote {path}" for path in files),
        ),
    )


def _where(scores: Scores) -> tuple[Fact, ...]:
    images = f"{scores.images:,}"
    if scores.unreadable:
        images += f", and {len(scores.unreadable):,} that cannot be read"
    images_of = "all images" if scores.split == "all" else f"{scores.split} split"
    return (
        Fact(key="bundle", label="", value=scores.bundle),
        Fact(key="data", label="data", value=scores.data, text=f"{printable(scores.data)}, {images_of}"),
        Fact(key="split", label="", value=scores.split),
        Fact(key="images", label="images", value=scores.images, text=images),
        Fact(key="runtime", label="runtime", value=scores.runtime),
    )


def _averages(scores: Scores) -> tuple[Fact, ...]:
    low, high = scores.interval
    share, majority = scores.majority_share, printable(scores.majority.name)
    present = sum(one.support > 0 for one in scores.per_class)
    over = f"over {present:,} of {len(scores.classes):,} classes" if present < len(scores.classes) else ""
    accuracy = f"{scores.accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f}"
    top5 = "none: there are at most five classes" if scores.top5 is None else show_accuracy(scores.top5)
    return (
        Fact(key="accuracy", label="accuracy", value=scores.accuracy, text=accuracy),
        Fact(
            key="majority_share",
            label="majority share",
            value=share,
            text=f"{share:.4f}, the accuracy of always predicting {majority}",
        ),
        Fact(key="top5", label="top-5 accuracy", value=scores.top5, text=top5),
        _mean_fact("balanced_accuracy", "balanced accuracy", scores.balanced_accuracy, over),
        _mean_fact("macro_f1", "macro F1", scores.macro_f1, over),
        Fact(
            key="calibration_error",
            label="calibration error",
            value=scores.calibration_error,
            text=f"{scores.calibration_error:.4f}, expected, {len(scores.reliability)} bins",
        ),
    )


def _mean_fact(key: str, label: str, value: float, over: str) -> Fact:
    return Fact(key=key, label=label, value=value, text=f"{value:.4f}{f' {over}' if over else ''}")


def _in_json_alone(scores: Scores) -> tuple[Fact, ...]:
    return (
        Fact(key="right", label="", value=scores.right),
        Fact(key="accuracy_interval", label="", value=list(scores.interval)),
        Fact(key="classes", label="", value=list(scores.classes)),
        Fact(key="warnings", label="", value=list(scores.warnings)),
        Fact(key="confusion", label="", value=scores.confusion.tolist()),
        Fact(
            key="unreadable",
            label="",
            value=[{"file": one.name, "reason": one.reason} for one in scores.unreadable],
        ),
    )


def _class_table(scores: Scores) -> Table:
    rows = tuple(_class_row(one) for one in scores.per_class)
    drawn, title = rows, "Classes"
    notes: tuple[str, ...] = ()
    if len(rows) > MOST_CLASSES:
        present = [one for one in scores.per_class if one.f1 is not None]
        worst = sorted(present, key=lambda one: (one.f1, one.name))[:MOST_CLASSES]
        drawn, title = tuple(_class_row(one) for one in worst), f"The {len(worst)} classes of the lowest F1"
        notes = (f"{len(rows) - len(worst):,} more classes: --json has all",)
    return Table(
        key="per_class",
        title=title,
        columns=(Column(key="class", heading="class", show=printable), *SHARES),
        rows=rows,
        drawn=drawn,
        notes=notes,
    )


def _class_row(one: ClassScores) -> Row:
    return {
        "class": one.name,
        "precision": one.precision,
        "recall": one.recall,
        "f1": one.f1,
        "support": one.support,
    }


def _pair_table(scores: Scores) -> Table:
    support = {one.name: one.support for one in scores.per_class}
    rows = tuple(
        {"true": true, "prediction": prediction, "count": count, "share": count / support[true]}
        for true, prediction, count in scores.confusions(MOST_PAIRS)
    )
    return Table(
        key="confused",
        title="Confused most",
        columns=(
            Column(key="true", heading="true", show=printable),
            Column(key="prediction", heading="prediction", show=printable),
            Column(key="count", heading="images", show=show_count, is_number=True),
            Column(key="share", heading="of the class", show=show_share, is_number=True),
        ),
        rows=rows,
    )


def _mistake_table(scores: Scores, top: int) -> Table:
    wrong = scores.images - scores.right
    rows = tuple(
        {"file": one.name, "true": one.label, "prediction": one.prediction, "probability": one.probability}
        for one in scores.mistakes(top)
    )
    return Table(
        key="mistakes",
        title="Most confident mistakes",
        columns=(
            Column(key="file", heading="file", show=printable),
            Column(key="true", heading="true", show=printable),
            Column(key="prediction", heading="prediction", show=printable),
            Column(key="probability", heading="probability", show=show_accuracy, is_number=True),
        ),
        rows=rows,
        notes=(f"{wrong - len(rows):,} more mistakes: --top N, or --csv for all",)
        if wrong > len(rows)
        else (),
    )


def write_predictions(scores: Scores, path: Path) -> Path:
    """Writes the prediction for every image as CSV (UTF-8), in the order of the data.

    Raises:
        UsageError: The file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for row in range(scores.images):
        one = scores.image(row)
        cells = (printable(one.name), one.label, one.prediction, f"{one.probability:.6f}", int(one.is_right))
        writer.writerow(cells)
    try:
        return write_whole(path, text.getvalue())
    except OSError as error:
        raise unwritable_csv(path, error) from error
