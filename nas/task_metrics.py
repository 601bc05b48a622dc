"""`measure`: the metrics of a task, of outputs and labels; torchmetrics does the arithmetic.

It is loaded where it is needed: it takes seconds, and the accuracy needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nas.errors import DataError
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, THRESHOLD, TOP, TaskName, check_metrics

RESAMPLES, MOST_RESAMPLED = 200, 5_000_000
"""Resamples for an interval, and the most outputs of which there is one: more would take minutes."""


def measure(task: TaskName, names: Sequence[str], outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Measures how good outputs are.

    Averages are over the classes or labels for which the metric is defined: those that have an image, and for
    `auroc` that not all images have. Averages over columns of numbers are unweighted; `rmse` and `mae` are in
    the labels' own unit.

    Args:
        task: What the outputs are.
        names: Which metrics, see `TASKS`.
        outputs: Of shape (images, outputs): logits, or numbers in the labels' own unit.
        labels: int64 of shape (images,) for classes; else floats of the outputs' shape.

    Raises:
        DataError: The task has no such metric, or it is not defined on these labels.
    """
    check_metrics(task, names)
    found = {}
    for name in names:
        value = measure_if_defined(task, name, outputs, labels)
        if value is None:
            raise DataError(
                f"{name} must be defined on the {len(labels):,} images it is measured on, but their "
                f"labels are too much alike: take more images, or another metric of {task}",
                field="metric",
            )
        found[name] = value
    return found


def measure_if_defined(task: TaskName, name: str, outputs: Tensor, labels: Tensor) -> float | None:
    """Measures one metric of a task as `measure` does; None where it is not defined on these labels."""
    # Of large logits float32 has sigmoids of 1 that do not differ any more.
    return _METRICS[task][name](outputs.double(), labels if task == CLASSIFICATION else labels.double())


def interval_of(
    task: TaskName, name: str, outputs: Tensor, labels: Tensor, *, seed: int = 0
) -> tuple[float, float] | None:
    """The central 95 % interval of a metric on images like these: of 200 resamples of the images.

    None with more than five million outputs, where that would take minutes, and where the metric is not
    defined on resamples.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3, percentiles.
    """
    if outputs.numel() > MOST_RESAMPLED:
        return None
    rng, count, values = np.random.default_rng(seed), len(labels), []
    for _ in range(RESAMPLES):
        chosen = torch.from_numpy(rng.integers(0, count, count)).to(labels.device)
        value = measure_if_defined(task, name, outputs[chosen], labels[chosen])
        if value is not None:  # a resample may hold one class alone
            values.append(value)
    if len(values) < RESAMPLES / 2:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _mean(values: Tensor, is_defined: Tensor) -> float | None:
    """The mean of what is defined; None where nothing is."""
    return float(values[is_defined].double().mean()) if bool(is_defined.any()) else None


def _support(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.bincount(labels, minlength=outputs.shape[1])


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs.argmax(1) == labels).double().mean())


def _top5(outputs: Tensor, labels: Tensor) -> float:
    likeliest = outputs.topk(min(TOP, outputs.shape[1]), dim=1).indices
    return float((likeliest == labels[:, None]).any(1).double().mean())


def _balanced_accuracy(outputs: Tensor, labels: Tensor) -> float | None:
    from torchmetrics.functional import classification as tm

    recalls = tm.multiclass_recall(outputs, labels, num_classes=outputs.shape[1], average="none")
    return _mean(recalls, _support(outputs, labels) > 0)


def _macro_f1(outputs: Tensor, labels: Tensor) -> float | None:
    from torchmetrics.functional import classification as tm

    scores = tm.multiclass_f1_score(outputs, labels, num_classes=outputs.shape[1], average="none")
    return _mean(scores, _support(outputs, labels) > 0)


def _auroc(outputs: Tensor, labels: Tensor) -> float | None:
    present = torch.nn.functional.one_hot(labels, outputs.shape[1])
    return _label_auroc(outputs.softmax(1), present)


def _label_auroc(probabilities: Tensor, labels: Tensor) -> float | None:
    """The mean over the columns that hold both kinds."""
    from torchmetrics.functional.classification import binary_auroc

    counts = labels.sum(0)
    return _mean_by_column(binary_auroc, probabilities, labels, (counts > 0) & (counts < len(labels)))


def _mean_average_precision(outputs: Tensor, labels: Tensor) -> float | None:
    from torchmetrics.functional.classification import binary_average_precision

    return _mean_by_column(binary_average_precision, outputs.sigmoid(), labels, labels.sum(0) > 0)


def _mean_by_column(
    score: Callable[[Tensor, Tensor], Tensor], probabilities: Tensor, labels: Tensor, is_defined: Tensor
) -> float | None:
    """The mean of a score of two kinds over the columns that have it; None where there are none."""
    columns = [
        score(probabilities[:, column], labels[:, column].long())
        for column in is_defined.nonzero().flatten().tolist()
    ]
    return float(torch.stack(columns).double().mean()) if columns else None


def _label_f1(outputs: Tensor, labels: Tensor) -> float | None:
    from torchmetrics.functional import classification as tm

    count = outputs.shape[1]
    predicted = (outputs.sigmoid() >= THRESHOLD).long()
    if count == 1:
        scores = tm.binary_f1_score(predicted[:, 0], labels[:, 0].long())[None]
    else:
        scores = tm.multilabel_f1_score(predicted, labels.long(), num_labels=count, average="none")
    return _mean(scores, labels.sum(0) > 0)


def _r2(outputs: Tensor, labels: Tensor) -> float | None:
    """The mean over the columns of numbers that are not all equal."""
    from torchmetrics.functional import regression

    is_defined = (labels != labels[:1]).any(0)
    if len(labels) < 2 or not bool(is_defined.any()):
        return None
    scores = regression.r2_score(outputs[:, is_defined], labels[:, is_defined], multioutput="raw_values")
    return float(scores.mean())


def _rmse(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs - labels).square().mean(0).sqrt().mean())


def _mae(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs - labels).abs().mean())


_METRICS: Mapping[TaskName, Mapping[str, Callable[[Tensor, Tensor], float | None]]] = {
    CLASSIFICATION: {
        "accuracy": _accuracy,
        "balanced_accuracy": _balanced_accuracy,
        "macro_f1": _macro_f1,
        "top5": _top5,
        "auroc": _auroc,
    },
    MULTILABEL: {
        "mean_average_precision": _mean_average_precision,
        "macro_f1": _label_f1,
        "auroc": lambda outputs, labels: _label_auroc(outputs.sigmoid(), labels),
    },
    REGRESSION: {"r2": _r2, "rmse": _rmse, "mae": _mae},
}
