"""The tasks that a network is trained for, and the metrics of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from nas.errors import DataError

TaskName = Literal["classification", "multilabel", "regression"]
"""One class for each image, any number of labels, or numbers."""

CLASSIFICATION: TaskName = "classification"
MULTILABEL: TaskName = "multilabel"
REGRESSION: TaskName = "regression"

TOP = 5
"""Classes among which the true one counts as found, for `top5`."""

THRESHOLD = 0.5
"""Probability from which on a label counts as predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is known of a task by its name.

    Attributes:
        name: The name.
        metrics: Names of its metrics; the first is what is maximised where nothing else is said.
        outputs: What the outputs of a network stand for, in the plural.
    """

    name: TaskName
    metrics: tuple[str, ...]
    outputs: str


TASKS: Mapping[TaskName, Task] = {
    task.name: task
    for task in (
        Task(
            name=CLASSIFICATION,
            metrics=("accuracy", "balanced_accuracy", "macro_f1", "top5", "auroc"),
            outputs="classes",
        ),
        Task(name=MULTILABEL, metrics=("mean_average_precision", "macro_f1", "auroc"), outputs="labels"),
        Task(name=REGRESSION, metrics=("r2", "rmse", "mae"), outputs="columns"),
    )
}
"""Every task by its name."""


def check_metrics(task: TaskName, names: Iterable[str]) -> None:
    """Checks that a task has these metrics.

    Raises:
        DataError: It has not.
    """
    for name in names:
        if name not in TASKS[task].metrics:
            raise DataError(
                f"a metric of {task} must be one of {', '.join(TASKS[task].metrics)}, but got {name!r}",
                field="metric",
            )
