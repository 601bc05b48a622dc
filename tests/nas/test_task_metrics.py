"""The metrics of each task agree with scikit-learn, and say where they are not defined."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics as sk  # type: ignore[import-untyped]
import torch

from nas.errors import DataError
from nas.metrics import REGISTRY
from nas.task_metrics import measure
from nas.tasks import TASKS, TaskName

Array = npt.NDArray[Any]

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 7)).astype(np.float32)
CLASSES = RNG.integers(0, 7, 200)
LABELS = (RNG.random((200, 7)) < 0.3).astype(np.float32)


def found(task: TaskName, outputs: Array, labels: Array, *names: str) -> dict[str, float]:
    """What is measured, of arrays."""
    names = names or TASKS[task].metrics
    return measure(task, names, torch.from_numpy(outputs), torch.from_numpy(labels))


def test_metrics_of_classes_are_scikit_learns() -> None:
    probabilities = torch.from_numpy(LOGITS).softmax(1).numpy()
    assert found("classification", LOGITS, CLASSES) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(CLASSES, LOGITS.argmax(1)),
            "balanced_accuracy": sk.balanced_accuracy_score(CLASSES, LOGITS.argmax(1)),
            "macro_f1": sk.f1_score(CLASSES, LOGITS.argmax(1), average="macro"),
            "top5": sk.top_k_accuracy_score(CLASSES, LOGITS, k=5),
            "auroc": sk.roc_auc_score(CLASSES, probabilities, multi_class="ovr"),
        },
        abs=1e-5,
    )


def test_metrics_of_labels_are_scikit_learns() -> None:
    probabilities = torch.from_numpy(LOGITS).sigmoid().numpy()
    assert found("multilabel", LOGITS, LABELS) == pytest.approx(
        {
            "mean_average_precision": sk.average_precision_score(LABELS, probabilities),
            "macro_f1": sk.f1_score(LABELS, probabilities >= 0.5, average="macro"),
            "auroc": sk.roc_auc_score(LABELS, probabilities),
        },
        abs=1e-5,
    )


@pytest.mark.parametrize("columns", [1, 7])
def test_metrics_of_numbers_are_scikit_learns(columns: int) -> None:
    outputs, labels = LOGITS[:, :columns], (LOGITS + LABELS)[:, :columns]
    assert found("regression", outputs, labels) == pytest.approx(
        {
            "r2": sk.r2_score(labels, outputs),
            "rmse": sk.root_mean_squared_error(labels, outputs),
            "mae": sk.mean_absolute_error(labels, outputs),
        },
        abs=1e-5,
    )


@pytest.mark.parametrize("task", ["multilabel", "classification"])
def test_large_logits_keep_their_order(task: str) -> None:
    logits = np.array([[20.0, 0.0], [21.0, 0.0], [22.0, 0.0], [23.0, 0.0]], np.float32)
    labels = np.array([[0, 1], [0, 1], [1, 0], [1, 0]], np.float32)
    truth = labels[:, 1].astype(np.int64) if task == "classification" else labels
    expected = 1.0 if task == "classification" else 0.75  # the second label is guessed
    assert found(task, logits, truth, "auroc")["auroc"] == expected


def test_classes_without_an_image_do_not_count() -> None:
    labels = CLASSES % 5
    assert found("classification", LOGITS, labels, "balanced_accuracy")["balanced_accuracy"] == pytest.approx(
        np.mean([(LOGITS[labels == one].argmax(1) == one).mean() for one in range(5)])
    )
    few = LABELS.copy()
    few[:, 3] = 0
    kept = [column for column in range(7) if column != 3]
    assert found("multilabel", LOGITS, few) == pytest.approx(
        found("multilabel", LOGITS[:, kept], few[:, kept])
    )


def test_one_label_is_enough() -> None:
    assert set(found("multilabel", LOGITS[:, :1], LABELS[:, :1])) == set(TASKS["multilabel"].metrics)


@pytest.mark.parametrize(
    ("task", "name", "labels"),
    [
        ("classification", "auroc", np.zeros(200, np.int64)),
        ("multilabel", "mean_average_precision", np.zeros((200, 7), np.float32)),
        ("regression", "r2", np.ones((200, 7), np.float32)),
    ],
)
def test_a_metric_that_is_not_defined_is_refused(task: TaskName, name: str, labels: Array) -> None:
    with pytest.raises(DataError, match=f"{name} must be defined") as caught:
        found(task, LOGITS, labels, name)
    assert caught.value.field == "metric"


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(DataError, match="a metric of regression must be one of r2"):
        found("regression", LOGITS, LABELS, "accuracy")


def test_every_metric_of_a_task_is_in_the_registry() -> None:
    assert {name for task in TASKS.values() for name in task.metrics} <= set(REGISTRY)
