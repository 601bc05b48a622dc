"""The training loss of each task, its weights by class, and what it is without any knowledge of an image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nas.data.images import ImageData, Labels
from nas.errors import RecipeError
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION
from nas.training.recipe import LossOptions, RegressionLoss

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs (batch, outputs), float32, and the labels of their images to the mean loss."""

Floats = npt.NDArray[np.float64]


def make_loss(data: ImageData, options: LossOptions, device: torch.device) -> Loss:
    """Makes the loss of a task, which never waits for the device.

    It takes labels as the data have them: classes of shape (batch,), or probabilities (batch, classes) that
    are mixed and smoothed already; labels of 0 and 1, or mixed ones, not smoothed; numbers in their own unit.

    Raises:
        RecipeError: Weights by class are asked for where there are no classes.
    """
    found = class_weights(data, options)
    weights = None if found is None else torch.tensor(found, dtype=torch.float32, device=device)
    if data.task == CLASSIFICATION:
        return _CrossEntropy(options.label_smoothing, weights)
    if data.task == MULTILABEL:
        return _BinaryCrossEntropy(options.label_smoothing, weights)
    return _Distance(options.regression_loss, Unit(data, device))


class Unit:
    """Brings numbers from the labels' own unit to zero mean and unit deviation, and back.

    Args:
        data: Numbers to predict, with their mean and deviation.
        device: Where the numbers are.
    """

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self._mean = torch.tensor(data.target_mean, device=device)
        self._std = torch.tensor(data.target_std, device=device)

    def standardised(self, numbers: Tensor) -> Tensor:
        """Maps (batch, columns) in the labels' unit to what a network gives."""
        return (numbers - self._mean) / self._std

    def restored(self, outputs: Tensor) -> Tensor:
        """Maps what a network gives, (batch, columns), to the labels' unit."""
        return outputs * self._std + self._mean


def class_weights(data: ImageData, options: LossOptions) -> Floats | None:
    """The weights of classes or labels on the training split, `(outputs,)`; None where all are 1.

    A class without a training image is left out and has weight 0. A label that all training images have, or
    none, has weight 1.

    Raises:
        RecipeError: There are no classes.
    """
    if options.class_weights == "none":
        return None
    if data.task == REGRESSION:
        raise RecipeError(
            "class_weights='balanced' needs classes or labels, but the task is regression: leave it out",
            field="class_weights",
        )
    if data.task == MULTILABEL:
        shares = data.train.labels.mean(0, dtype=np.float64)
        is_mixed = (shares > 0) & (shares < 1)
        return np.where(is_mixed, (1 - shares) / np.where(is_mixed, shares, 1), 1.0)
    counts = np.bincount(data.train.labels, minlength=data.num_classes)
    present = np.count_nonzero(counts)
    return np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0.0)


def chance_loss(data: ImageData, options: LossOptions) -> float:
    """The mean training loss of outputs that are the same for every image.

    Classes all have the same probability, ln(classes), with or without label smoothing and balanced weights.
    Labels have the probabilities that make the loss least: without weights and smoothing, it is the entropy
    of their frequencies. Numbers are predicted by their mean.
    """
    if data.task == CLASSIFICATION:
        return math.log(data.num_classes)
    if data.task == MULTILABEL:
        return _label_chance(data.train.labels, options.label_smoothing, class_weights(data, options))
    standardised = (data.train.labels - np.array(data.target_mean)) / np.array(data.target_std)
    zeros, targets = torch.zeros(standardised.shape), torch.tensor(standardised, dtype=torch.float32)
    return float(_distance(options.regression_loss)(zeros, targets))


def _label_chance(labels: Labels, smoothing: float, weights: Floats | None) -> float:
    shares = labels.mean(0, dtype=np.float64)
    positive = shares if weights is None else shares * weights
    total = positive + 1 - shares
    least = (positive * (1 - smoothing / 2) + (1 - shares) * smoothing / 2) / total
    sides = np.stack([least, 1 - least])
    entropies = -(sides * np.log(np.where(sides > 0, sides, 1))).sum(0)
    return float((total * entropies).mean())


class _CrossEntropy:
    """Each image is weighted by its class.

    torch's own weights would also weight the smoothed part: of 30 images of one class beside 1 of the other,
    the smoothing of 0.1 alone would make the rare class the better answer for all.
    """

    def __init__(self, smoothing: float, weights: Tensor | None) -> None:
        self._smoothing = smoothing
        self._weights = weights

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        smoothing = 0.0 if labels.ndim == 2 else self._smoothing
        if self._weights is None:
            return functional.cross_entropy(outputs, labels, label_smoothing=smoothing)
        losses = functional.cross_entropy(outputs, labels, label_smoothing=smoothing, reduction="none")
        return (losses * self._of(labels, self._weights)).mean()

    def _of(self, labels: Tensor, weights: Tensor) -> Tensor:
        """The weight of each image, `(batch,)`; that of a mixed one is the mean by its shares."""
        if labels.ndim == 1:
            return weights[labels]
        return (labels @ weights - self._smoothing * weights.mean()) / (1 - self._smoothing)


class _BinaryCrossEntropy:
    """Each label that an image has is weighted by its weight, with its smoothed part."""

    def __init__(self, smoothing: float, weights: Tensor | None) -> None:
        self._smoothing = smoothing
        self._weights = weights

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        targets = labels * (1 - self._smoothing) + self._smoothing / 2
        weights = None if self._weights is None else 1 + labels * (self._weights - 1)
        return functional.binary_cross_entropy_with_logits(outputs, targets, weight=weights)


class _Distance:
    """The distance of outputs from standardised labels."""

    def __init__(self, kind: RegressionLoss, unit: Unit) -> None:
        self._distance = _distance(kind)
        self._unit = unit

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self._distance(outputs, self._unit.standardised(labels))


def _distance(kind: RegressionLoss) -> Loss:
    return functional.huber_loss if kind == "huber" else functional.mse_loss
