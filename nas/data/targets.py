"""Labels by task: what arrays of them mean, their checks, their words, and how even their classes are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from nas.data.images import Labels
from nas.data.tree import few, printable
from nas.errors import DataError
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TaskName

Array = npt.NDArray[Any]

MISLEADING_ABOVE_EVEN = 0.2
"""Accuracy misleads where the largest class has this much more than an even share of the images."""


def check_task(task: object) -> TaskName | None:
    """Checks the name of a task; None is left to be inferred.

    Raises:
        DataError: There is no such task.
    """
    for name in get_args(TaskName):
        if task == name:
            found: TaskName = name
            return found
    if task is not None:
        raise DataError(
            f"`task in {get_args(TaskName)}` must hold, but got task={task!r}: give one of these, or none",
            field="task",
        )
    return None


def require_task(wanted: TaskName | None, has: TaskName, what: str) -> None:
    """Checks that data whose task is fixed have the one that is asked for.

    Raises:
        DataError: They have another.
    """
    if wanted not in (None, has):
        raise DataError(
            f"{what} holds labels for {has}, but task={wanted} was asked for: leave the task out, or give "
            "other labels, for instance as a CSV of file names and labels",
            field="task",
        )


def majority_share(labels: Labels) -> float:
    """Share of the largest class among images, in (0, 1]: the accuracy of always answering it.

    Args:
        labels: int64 of shape (count,), at least one.
    """
    return float(np.bincount(labels).max() / len(labels))


def is_misleading(share: float, num_classes: int) -> bool:
    """Whether accuracy misleads, as the largest class has 20 points more than an even share of the images."""
    return share > 1 / num_classes + MISLEADING_ABOVE_EVEN


def imbalance_warning(classes: Sequence[str], labels: Labels) -> tuple[str, ...]:
    """The warning for classes of which one is so large that accuracy misleads; none otherwise."""
    share = majority_share(labels)
    if not is_misleading(share, len(classes)):
        return ()
    counts = np.bincount(labels, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    listed = few([f"{classes[place]} {counts[place]:,}" for place in order.tolist()])
    return (
        f"{printable(classes[order[0]])!r} is {share:.1%} of the images ({listed}), so that is the accuracy "
        "of always answering it: balanced_accuracy and macro_f1 count every class alike",
    )


def class_order(name: str) -> tuple[float, str]:
    """The key that sorts names of classes, labels or columns: whole numbers by size, then text."""
    return (int(name), name) if re.fullmatch(r"-?\d{1,300}", name) else (math.inf, name)


def by_name(task: TaskName, classes: Sequence[str], labels: Labels) -> Labels:
    """Labels with their columns in the order of their names, so that the order in a file does not count."""
    if task == CLASSIFICATION:
        return labels
    return labels[:, sorted(range(len(classes)), key=lambda place: class_order(classes[place]))]


def label_text(task: TaskName, classes: Sequence[str], label: Any) -> str:
    """The label of one image in words: its class, its labels, or its numbers with their columns."""
    if task == CLASSIFICATION:
        return printable(classes[int(label)])
    if task == MULTILABEL:
        has = [printable(name) for name, value in zip(classes, label, strict=True) if value]
        return " + ".join(has) or "no label"
    return ", ".join(f"{printable(name)} {value:g}" for name, value in zip(classes, label, strict=True))


def label_counts(task: TaskName, classes: Sequence[str], labels: Labels) -> tuple[int, ...]:
    """How many images have each class or label; for columns of numbers, how many images there are."""
    if task == CLASSIFICATION:
        return tuple(map(int, np.bincount(labels, minlength=len(classes))))
    if task == MULTILABEL:
        return tuple(map(int, labels.sum(0)))
    return (len(labels),) * len(classes)


def target_statistics(
    name: str, classes: Sequence[str], labels: Labels
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column of numbers.

    Raises:
        DataError: A column has one value throughout, so that nothing can be learned.
    """
    values = labels.astype(np.float64)
    constant = [
        column for column, low, high in zip(classes, values.min(0), values.max(0), strict=True) if low == high
    ]
    if constant:
        raise DataError(
            f"a column of numbers must have several values to be learned, but all {len(labels):,} training "
            f"images of {name} have the same in {few(constant)}: leave it out, or add other images",
            field="data",
        )
    return tuple(map(float, values.mean(0))), tuple(map(float, values.std(0)))


def array_task(name: str, labels: Iterable[Array], task: TaskName | None) -> TaskName:
    """The task that the types and shapes of arrays of labels say.

    Integers of shape (n,) or (n, 1) are classes, and floating point numbers that are not all whole are
    numbers; rows of 0 and 1 are labels, any number of them an image.

    Raises:
        DataError: They leave it open, and no task is given.
    """
    if task is not None:
        return task
    every = list(labels)
    if all(each.ndim == 1 or each.shape[1:] == (1,) for each in every):
        if not any(each.dtype.kind == "f" for each in every):
            return CLASSIFICATION
        if any((each != np.floor(each)).any() for each in every):
            return REGRESSION
        raise DataError(
            f"labels of {name} must be integers where they are classes, but are floating point numbers that "
            "are all whole: convert them, or give task='regression' if they are numbers",
            field="task",
        )
    if all(each.ndim == 2 and each.dtype.kind in "biuf" for each in every):
        if all(((each == 0) | (each == 1)).all() for each in every):
            return MULTILABEL
        if any(each.dtype.kind == "f" for each in every):
            return REGRESSION
        raise DataError(
            f"rows of integers may be numbers or 0 and 1 for each label, but those of {name} hold others: "
            "give task='regression' if they are numbers",
            field="task",
        )
    return CLASSIFICATION


def float_labels(name: str, labels: Array, task: TaskName) -> Labels:
    """Brings labels of `multilabel` or `regression` to float32 of shape (n, outputs).

    Raises:
        DataError: They are no numbers, not finite, or for `multilabel` not 0 and 1.
    """
    rows = labels[:, None] if labels.ndim == 1 else labels
    if rows.ndim != 2 or rows.dtype.kind not in "biuf" or 0 in rows.shape:
        raise DataError(
            f"labels of {name} must be numbers of shape (n,) or (n, columns) for {task}, but are "
            f"{labels.dtype}{labels.shape}",
            field="labels",
        )
    with np.errstate(over="ignore"):
        values = rows.astype(np.float32)
    is_right = np.isfinite(values) if task == REGRESSION else (rows == 0) | (rows == 1)
    if not is_right.all():
        image, column = np.argwhere(~is_right)[0].tolist()
        law = "finite numbers that float32 holds" if task == REGRESSION else "0 and 1"
        raise DataError(
            f"labels of {name} must be {law} for {task}, but image {image} has {rows[image, column]} in "
            f"column {column}: correct it, or leave the image out",
            field="labels",
        )
    return values


def column_names(name: str, labels: Mapping[str, Labels], classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the columns of labels, by default their numbers; checks that all parts have as many.

    Raises:
        DataError: They have not, or there is not one name for each.
    """
    widths = {part: each.shape[1] for part, each in labels.items()}
    first = next(iter(widths.values()))
    if set(widths.values()) != {first}:
        raise DataError(
            f"all parts of {name} must have as many columns of labels, but have "
            f"{', '.join(f'{width} ({part})' for part, width in widths.items())}",
            field="labels",
        )
    if classes is not None and len(classes) != first:
        raise DataError(
            f"`classes` must name each of the {first} columns of labels of {name}, but has {len(classes)} "
            "names",
            field="classes",
        )
    return classes or tuple(map(str, range(first)))
