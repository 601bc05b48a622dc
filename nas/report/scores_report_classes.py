"""What `nas evaluate` prints of predicted classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.data.tree import printable
from nas.report.printing import Column, Fact, Row, Table, show_accuracy, show_count, show_share
from nas.report.scores_facts import calibration_facts, interval_fact, more_in_csv, only_worst, score_fact
from nas.units import show_interval

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


def class_facts(scores: Scores) -> tuple[Fact, ...]:
    """Averages, and what is in JSON alone."""
    return (*_averages(scores), *_in_json_alone(scores))


def class_tables(scores: Scores, top: int) -> tuple[Table, ...]:
    """Classes, pairs that are confused, and so many mistakes."""
    tables = [_class_table(scores)]
    tables += [_pair_table(scores)] if len(scores.classes) > 2 else []
    tables += [_mistake_table(scores, top)] if top else []
    return tuple(tables)


def class_rows(scores: Scores) -> Iterator[tuple[object, ...]]:
    """The lines of the CSV, its header first."""
    yield CSV_COLUMNS
    for row in range(scores.images):
        one = scores.image(row)
        yield printable(one.name), one.label, one.prediction, f"{one.probability:.6f}", int(one.is_right)


def _averages(scores: Scores) -> tuple[Fact, ...]:
    share, majority = scores.majority_share, printable(scores.majority.name)
    present = sum(one.support > 0 for one in scores.per_class)
    over = f" over {present:,} of {len(scores.classes):,} classes" if present < len(scores.classes) else ""
    accuracy = f"{scores.accuracy:.4f}, 95 % interval {show_interval(scores.interval)}"
    return (
        Fact(key="accuracy", label="accuracy", value=scores.accuracy, text=accuracy),
        Fact(
            key="majority_share",
            label="majority share",
            value=share,
            text=f"{share:.4f}, the accuracy of always predicting {majority}",
        ),
        score_fact("top5", "top-5 accuracy", scores.top5, "none: there are at most five classes"),
        score_fact("balanced_accuracy", "balanced accuracy", scores.balanced_accuracy, said=over),
        score_fact("macro_f1", "macro F1", scores.macro_f1, said=over),
        score_fact(
            "auroc", "AUROC", scores.auroc, "none: images of one class, or too many images and classes"
        ),
        *calibration_facts(scores.calibration_error, scores.reliability),
    )


def _in_json_alone(scores: Scores) -> tuple[Fact, ...]:
    return (
        Fact(key="right", label="", value=scores.right),
        interval_fact("accuracy", scores.interval),
        Fact(key="classes", label="", value=list(scores.classes)),
        Fact(key="confusion", label="", value=scores.confusion.tolist()),
    )


def _class_table(scores: Scores) -> Table:
    table = Table(
        key="per_class",
        title="Classes",
        columns=(Column(key="class", heading="class", show=printable), *SHARES),
        rows=tuple(map(_class_row, scores.per_class)),
    )
    return only_worst(
        table, by="f1", most=MOST_CLASSES, title="The {} classes of the lowest F1", what="classes"
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
        notes=more_in_csv(wrong - len(rows), "mistakes"),
    )
