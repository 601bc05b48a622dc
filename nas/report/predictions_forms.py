"""How the predictions of each task are written: the cells of a CSV, the rows of a table, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nas.data.tree import printable
from nas.report.printing import Column, Row, Table, show_accuracy, show_count
from nas.tasks import CLASSIFICATION, MULTILABEL
from nas.units import show_value

if TYPE_CHECKING:
    from nas.export.preprocessing import Preprocessing
    from nas.scoring.predictions import AnyPrediction, MultilabelPrediction, Prediction, RegressionPrediction

P = TypeVar("P", bound="AnyPrediction", contravariant=True)

MOST_CLASSES = 20
"""Classes in the table of counts."""

MOST_BELOW = 5
"""Labels below the threshold that a row of the table names."""

NO_LABEL = "(no label)"
"""What images without a predicted label are counted as."""


class Form(Protocol[P]):
    """How the predictions of one task are written; it counts those that it has seen for a summary."""

    @property
    def header(self) -> Sequence[str]:
        """The names of the cells."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table of images, without the file."""
        ...

    def add(self, one: P) -> None:
        """Counts a prediction."""
        ...

    def cells(self, one: P) -> Sequence[str]:
        """The cells of a prediction."""
        ...

    def row(self, one: P) -> Row:
        """The row of a prediction in JSON."""
        ...

    def drawn(self, one: P) -> Row:
        """The row of a prediction for users."""
        ...

    def summary(self) -> Table:
        """What was predicted of all images together."""
        ...


def form_of(preprocessing: Preprocessing, top: int) -> Form[Any]:
    """How the predictions of a network are written.

    Args:
        preprocessing: What the network predicts.
        top: Classes or labels of each image.
    """
    if preprocessing.task == CLASSIFICATION:
        return ClassForm(top)
    return LabelForm(preprocessing.classes) if preprocessing.task == MULTILABEL else NumberForm(preprocessing)


class ClassForm:
    """Predictions of classes: the likeliest ones in turn."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._counts: Counter[str] = Counter()

    @property
    def header(self) -> Sequence[str]:
        """See `Form`."""
        more = [f"{name}_{place}" for place in range(2, self._top + 1) for name in ("class", "probability")]
        return ["file", "class", "probability", *more]

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Form`."""
        return (
            Column(key="class", heading="class", show=printable),
            Column(key="probability", heading="probability", show=show_accuracy, is_number=True),
            *([Column(key="others", heading="then", show=printable)] if self._top > 1 else []),
        )

    def add(self, one: Prediction) -> None:
        """See `Form`."""
        self._counts[one.label] += 1

    def cells(self, one: Prediction) -> Sequence[str]:
        """See `Form`."""
        pairs = zip(one.classes, one.probabilities, strict=True)
        return [printable(one.file), *(cell for name, p in pairs for cell in (name, f"{p:.6f}"))]

    def row(self, one: Prediction) -> Row:
        """See `Form`."""
        pairs = [*zip(one.classes, one.probabilities, strict=True)]
        return {
            "file": one.file,
            "class": one.label,
            "probability": one.probability,
            "top": [{"class": name, "probability": value} for name, value in pairs],
            "others": _listed(pairs[1:]),
        }

    def drawn(self, one: Prediction) -> Row:
        """See `Form`."""
        return self.row(one)

    def summary(self) -> Table:
        """See `Form`."""
        return _counted(self._counts, "class", "classes")


class LabelForm:
    """Predictions of labels: the predicted ones, and the probability of each."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._counts: Counter[str] = Counter()

    @property
    def header(self) -> Sequence[str]:
        """See `Form`."""
        return ["file", "labels", *self._labels]

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Form`."""
        return (
            Column(key="predicted", heading="labels", show=printable),
            Column(key="below", heading="below the threshold", show=printable),
        )

    def add(self, one: MultilabelPrediction) -> None:
        """See `Form`."""
        self._counts.update(one.labels or (NO_LABEL,))

    def cells(self, one: MultilabelPrediction) -> Sequence[str]:
        """See `Form`; labels that were not asked for have an empty cell."""
        known = dict(zip(one.classes, one.probabilities, strict=True))
        shares = [f"{known[name]:.6f}" if name in known else "" for name in self._labels]
        return [printable(one.file), "|".join(one.labels), *shares]

    def row(self, one: MultilabelPrediction) -> Row:
        """See `Form`."""
        probabilities = dict(zip(one.classes, one.probabilities, strict=True))
        return {"file": one.file, "labels": list(one.labels), "probabilities": probabilities}

    def drawn(self, one: MultilabelPrediction) -> Row:
        """See `Form`."""
        pairs = [*zip(one.classes, one.probabilities, strict=True)]
        count = len(one.labels)
        below = pairs[count:]
        more = f", and {len(below) - MOST_BELOW:,} more" if len(below) > MOST_BELOW else ""
        return {
            "file": one.file,
            "predicted": _listed(pairs[:count]) or "none",
            "below": _listed(below[:MOST_BELOW]) + more,
        }

    def summary(self) -> Table:
        """See `Form`."""
        return _counted(self._counts, "label", "labels")


class NumberForm:
    """Predictions of numbers, in the labels' own unit."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._columns = preprocessing.classes
        self._count = 0
        self._sums = [0.0] * len(self._columns)
        self._least = [float("inf")] * len(self._columns)
        self._most = [float("-inf")] * len(self._columns)

    @property
    def header(self) -> Sequence[str]:
        """See `Form`."""
        return ["file", *self._columns]

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Form`."""
        return tuple(
            Column(key=f"value_{index}", heading=printable(name), show=show_value, is_number=True)
            for index, name in enumerate(self._columns)
        )

    def add(self, one: RegressionPrediction) -> None:
        """See `Form`."""
        self._count += 1
        self._sums = [total + value for total, value in zip(self._sums, one.values, strict=True)]
        self._least = [*map(min, self._least, one.values)]
        self._most = [*map(max, self._most, one.values)]

    def cells(self, one: RegressionPrediction) -> Sequence[str]:
        """See `Form`."""
        return [printable(one.file), *(f"{value:.7g}" for value in one.values)]

    def row(self, one: RegressionPrediction) -> Row:
        """See `Form`."""
        return {"file": one.file, "values": dict(zip(one.columns, one.values, strict=True))}

    def drawn(self, one: RegressionPrediction) -> Row:
        """See `Form`."""
        return {"file": one.file, **{f"value_{index}": value for index, value in enumerate(one.values)}}

    def summary(self) -> Table:
        """See `Form`."""
        rows = tuple(
            {"column": name, "mean": total / self._count, "least": least, "most": most}
            for name, total, least, most in zip(
                self._columns, self._sums, self._least, self._most, strict=True
            )
        )
        shown = {"mean": "mean", "least": "least", "most": "greatest"}
        return Table(
            key="summary",
            title="Predicted numbers",
            columns=(
                Column(key="column", heading="column", show=printable),
                *(
                    Column(key=key, heading=heading, show=show_value, is_number=True)
                    for key, heading in shown.items()
                ),
            ),
            rows=rows,
        )


def _listed(pairs: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in pairs)


def _counted(counts: Counter[str], what: str, plural: str) -> Table:
    """How many images have which class or label."""
    rows = tuple({what: name, "images": number} for name, number in counts.most_common())
    hidden = len(rows) - MOST_CLASSES
    return Table(
        key="counts",
        title=f"Images by {what}",
        columns=(
            Column(key=what, heading=what, show=printable),
            Column(key="images", heading="images", show=show_count, is_number=True),
        ),
        rows=rows,
        drawn=rows[:MOST_CLASSES],
        notes=(f"{hidden:,} more {plural}",) if hidden > 0 else (),
    )
