"""What `nas evaluate` prints of predicted labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.data.tree import printable
from nas.report.printing import Column, Fact, Row, Table, show_accuracy, show_count
from nas.report.scores_facts import calibration_facts, interval_fact, more_in_csv, only_worst, score_fact
from nas.units import show_interval

if TYPE_CHECKING:
    from nas.scoring.multilabel_scores import LabelScores, MultilabelScores

MOST_LABELS = 20
"""Labels in the table: with more than these, the worst of them are shown."""

COLUMNS = (
    Column(key="label", heading="label", show=printable),
    Column(key="average_precision", heading="AP", show=show_accuracy, is_number=True),
    Column(key="frequency", heading="chance", show=show_accuracy, is_number=True),
    Column(key="precision", heading="precision", show=show_accuracy, is_number=True),
    Column(key="recall", heading="recall", show=show_accuracy, is_number=True),
    Column(key="f1", heading="F1", show=show_accuracy, is_number=True),
    Column(key="auroc", heading="AUROC", show=show_accuracy, is_number=True),
    Column(key="support", heading="images", show=show_count, is_number=True),
)


def label_facts(scores: MultilabelScores) -> tuple[Fact, ...]:
    """Averages, and what is in JSON alone."""
    present = sum(one.support > 0 for one in scores.per_label)
    over = f" over {present:,} of {len(scores.classes):,} labels" if present < len(scores.classes) else ""
    none = "none: no image has a label"
    within = f"{over}, 95 % interval {show_interval(scores.interval)}"
    return (
        score_fact("mean_average_precision", "mean AP", scores.mean_average_precision, none, within),
        interval_fact("mean_average_precision", scores.interval),
        Fact(
            key="label_frequency",
            label="chance",
            value=scores.label_frequency,
            text=f"{scores.label_frequency:.4f}, the mean label frequency: the AP of a random order",
        ),
        score_fact("macro_f1", "macro F1", scores.macro_f1, none, over),
        score_fact("micro_f1", "micro F1", scores.micro_f1, none),
        score_fact("auroc", "AUROC", scores.auroc, "none: no label that some images have and others do not"),
        score_fact(
            "exact_match",
            "exact match",
            scores.exact_match,
            said=", the share of images with all labels right",
        ),
        score_fact(
            "hamming_loss", "Hamming loss", scores.hamming_loss, said=", the share of labels that is wrong"
        ),
        *calibration_facts(scores.calibration_error, scores.reliability),
        Fact(key="classes", label="", value=list(scores.classes)),
        Fact(key="wrong", label="", value=scores.wrong),
    )


def label_tables(scores: MultilabelScores, top: int) -> tuple[Table, ...]:
    """Labels, and so many mistakes."""
    return (_label_table(scores), *([_mistake_table(scores, top)] if top else []))


def label_rows(scores: MultilabelScores) -> Iterator[tuple[object, ...]]:
    """The lines of the CSV, its header first: of each label, whether it is true, and its probability."""
    names = [cell for name in scores.classes for cell in (f"{name}_true", f"{name}_probability")]
    yield "file", "is_right", *names
    for row in range(scores.images):
        one = scores.image(row)
        has = set(one.labels)
        pairs = zip(scores.classes, one.probabilities, strict=True)
        cells = [cell for name, value in pairs for cell in (int(name in has), f"{value:.6f}")]
        yield printable(one.name), int(one.is_right), *cells


def _label_table(scores: MultilabelScores) -> Table:
    said = "predicted from a probability of 0.5 on"
    table = Table(
        key="per_label",
        title=f"Labels, {said}",
        columns=COLUMNS,
        rows=tuple(_label_row(one, scores.images) for one in scores.per_label),
    )
    return only_worst(
        table,
        by="average_precision",
        most=MOST_LABELS,
        title=f"The {{}} labels of the lowest AP, {said}",
        what="labels",
    )


def _label_row(one: LabelScores, images: int) -> Row:
    return {
        "label": one.name,
        "average_precision": one.average_precision,
        "frequency": one.support / images,
        "precision": one.precision,
        "recall": one.recall,
        "f1": one.f1,
        "auroc": one.auroc,
        "support": one.support,
    }


def _mistake_table(scores: MultilabelScores, top: int) -> Table:
    rows = tuple(
        {"file": one.name, "label": one.label, "is_present": one.is_present, "probability": one.probability}
        for one in scores.mistakes(top)
    )
    return Table(
        key="mistakes",
        title="Largest mistakes",
        columns=(
            Column(key="file", heading="file", show=printable),
            Column(key="label", heading="label", show=printable),
            Column(key="is_present", heading="true", show=lambda value: "yes" if value else "no"),
            Column(key="probability", heading="probability", show=show_accuracy, is_number=True),
        ),
        rows=rows,
        notes=more_in_csv(scores.wrong - len(rows), "wrong labels"),
    )
