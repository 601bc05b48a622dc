"""`RegressionScores`: how near predicted numbers are, in their own unit; torchmetrics does the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional import regression

from nas.data.images import Part
from nas.scoring.outputs import Numbers, Outputs
from nas.scoring.scored import Scored
from nas.task_metrics import interval_of, measure_if_defined
from nas.tasks import REGRESSION, TaskName
from nas.units import show_interval, show_value

LEAST_SPREAD = 0.01
"""Deviation of predictions, over that of the labels, below which they are taken for one number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnScores:
    """How near one column of numbers is. All but `r2` are in its own unit.

    Attributes:
        name: Of the column.
        r2: 1 less the squared error over that of predicting the mean of these labels; None where all labels
            are equal.
        rmse: Root of the mean squared error.
        mae: Mean absolute error.
        bias: Mean of the predictions less that of the labels.
        mean: Mean of the labels.
        deviation: Standard deviation of the labels: the RMSE of predicting their mean.
    """

    name: str
    r2: float | None
    rmse: float
    mae: float
    bias: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredNumbers:
    """One image with its true numbers and the predicted ones.

    Attributes:
        name: What it is called: its path, or its place in a pack.
        labels: The true numbers, in the order of the columns.
        predictions: The predicted ones.
    """

    name: str
    labels: tuple[float, ...]
    predictions: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """One predicted number of one image.

    Attributes:
        name: What the image is called.
        column: Name of the number.
        label: The true number.
        prediction: The predicted one.
    """

    name: str
    column: str
    label: float
    prediction: float

    @property
    def value(self) -> float:
        """The prediction less the true number."""
        return self.prediction - self.label


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegressionScores(Scored):
    """How near predicted numbers are, in the labels' own unit. Averages over columns are unweighted.

    Attributes:
        r2: Mean over the columns whose labels are not all equal; None where there are none.
        interval: Its central 95 % interval on images like these, by resampling; None where there is none.
        rmse: Mean over the columns.
        mae: Mean over the columns.
        per_column: The scores of each column.
        predictions: The outputs for each.
    """

    r2: float | None
    interval: tuple[float, float] | None
    rmse: float
    mae: float
    per_column: tuple[ColumnScores, ...]
    predictions: Outputs

    @property
    def task(self) -> TaskName:
        """What was predicted."""
        return REGRESSION

    @property
    def headline(self) -> tuple[tuple[str, str], ...]:
        """The numbers to look at first, with their names."""
        shown = "none" if self.r2 is None else f"{self.r2:.4f}"
        return (
            ("R2", shown),
            ("95 % interval", show_interval(self.interval)),
            ("RMSE", show_value(self.rmse)),
            ("MAE", show_value(self.mae)),
        )

    @property
    def labels(self) -> Numbers:
        """The true numbers of the images that were read: float64 of shape (images, columns)."""
        return self.part.labels[self.predictions.places].astype(np.float64)

    def doubts(self) -> tuple[str, ...]:
        """Warnings of numbers that predicting without looking would reach."""
        warnings = []
        poor = [one for one in self.per_column if one.r2 is not None and one.r2 <= 0]
        if poor:
            shown = ", ".join(f"{one.name!r} (R2 {one.r2:.4f})" for one in poor)
            warnings.append(
                f"{shown} {'is' if len(poor) == 1 else 'are'} predicted no better than by the mean of these "
                "labels, which has an R2 of 0: the weights may be untrained, or the images not those that "
                "the network is for"
            )
        spreads = self.predictions.values.std(0)
        for one, spread, values in zip(self.per_column, spreads, self.predictions.values.T, strict=True):
            if one.deviation > 0 and spread < LEAST_SPREAD * one.deviation:
                warnings.append(f"every image is predicted to have {one.name!r} of about {values.mean():.6g}")
        if self.r2 is None:
            warnings.append("there is no R2, as all labels of each column are equal")
        return tuple(warnings)

    def image(self, row: int) -> ScoredNumbers:
        """One image of those that were read, by its row in `predictions`."""
        place = int(self.predictions.places[row])
        return ScoredNumbers(
            name=self.part.name(place),
            labels=tuple(map(float, self.part.labels[place])),
            predictions=tuple(self.predictions.values[row].tolist()),
        )

    def residuals(self, top: int = 10) -> tuple[Residual, ...]:
        """The predictions farthest from the truth, the farthest first.

        Columns are compared in deviations of their labels.
        """
        labels = self.labels
        scales = np.array([one.deviation or 1.0 for one in self.per_column])
        distances = np.abs(self.predictions.values - labels) / scales
        order = np.argsort(-distances, axis=None, kind="stable")[:top]
        return tuple(
            Residual(
                name=self.part.name(int(self.predictions.places[row])),
                column=self.classes[column],
                label=float(labels[row, column]),
                prediction=float(self.predictions.values[row, column]),
            )
            for row, column in zip(*np.unravel_index(order, distances.shape), strict=True)
        )


def score_numbers(predictions: Outputs, part: Part, columns: Sequence[str]) -> RegressionScores:
    """Scores the numbers that a network gives images.

    Args:
        predictions: Of at least one image.
        part: The images, with numbers in the labels' own unit, in the order of `columns`.
        columns: Names of the columns of numbers, in the order of the outputs.
    """
    values = torch.from_numpy(predictions.values)
    labels = torch.from_numpy(part.labels[predictions.places].astype(np.float64))
    r2, rmse, mae = (measure_if_defined(REGRESSION, name, values, labels) for name in ("r2", "rmse", "mae"))
    assert rmse is not None
    assert mae is not None
    return RegressionScores(
        classes=tuple(columns),
        images=len(predictions),
        r2=r2,
        interval=interval_of(REGRESSION, "r2", values, labels),
        rmse=rmse,
        mae=mae,
        per_column=tuple(
            _column(name, values[:, index], labels[:, index]) for index, name in enumerate(columns)
        ),
        part=part,
        predictions=predictions,
        unreadable=predictions.unreadable,
    )


def _column(name: str, values: torch.Tensor, labels: torch.Tensor) -> ColumnScores:
    return ColumnScores(
        name=name,
        r2=float(regression.r2_score(values, labels)) if bool((labels != labels[0]).any()) else None,
        rmse=float(regression.mean_squared_error(values, labels, squared=False)),
        mae=float(regression.mean_absolute_error(values, labels)),
        bias=float((values - labels).mean()),
        mean=float(labels.mean()),
        deviation=float(labels.std(correction=0)),
    )
