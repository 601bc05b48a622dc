"""`MultilabelScores`: how good the probabilities of labels are; torchmetrics does the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional import classification as tm

from nas.data.images import Part
from nas.scoring.calibration import BINS, ConfidenceBin, bin_by_confidence
from nas.scoring.outputs import Outputs
from nas.scoring.scored import Scored
from nas.task_metrics import interval_of, measure_if_defined
from nas.tasks import MULTILABEL, THRESHOLD, TaskName
from nas.units import show_interval

DEVIATIONS = 1.96
"""How many standard deviations a score must be above chance to be taken for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """How well one label is found.

    Attributes:
        name: Of the label.
        average_precision: Mean precision over the images that have it, all images in the order of its
            probability; None where no image has it.
        auroc: Share of pairs, one image with it and one without, that are in the right order; None where
            there is no such pair.
        precision: Share of the images predicted to have it that do; None where none was.
        recall: Share of the images with it that are predicted; None where no image has it.
        f1: Harmonic mean of both, 0 where no prediction of it is right; None where no image has it.
        support: Images that have it.
    """

    name: str
    average_precision: float | None
    auroc: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredLabels:
    """One image with its true labels and the predicted ones.

    Attributes:
        name: What it is called: its path, or its place in a pack.
        labels: The true labels, in the order of the network's.
        predictions: The labels with a probability of at least 0.5, likewise.
        probabilities: The probability of every label, likewise.
    """

    name: str
    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def is_right(self) -> bool:
        """Whether the labels are predicted exactly."""
        return self.predictions == self.labels


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMistake:
    """One label of one image that is predicted wrongly.

    Attributes:
        name: What the image is called.
        label: The label.
        is_present: Whether the image has it.
        probability: The probability that was predicted.
    """

    name: str
    label: str
    is_present: bool
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MultilabelScores(Scored):
    """How good predicted labels are. Averages over labels are over those that an image has.

    A label counts as predicted from a probability of 0.5 on. The labels of `part` are 0 and 1.

    Attributes:
        mean_average_precision: Mean over the labels; None where no image has one.
        interval: Its central 95 % interval on images like these, by resampling; None where there is none.
        label_frequency: Mean share of the images that has a label: the average precision of a random order.
        macro_f1: Mean F1 of the labels; None where no image has one.
        micro_f1: F1 over all labels of all images together; likewise.
        auroc: Mean over the labels that some images have and others do not; None where there are none.
        exact_match: Share of the images of which all labels are right.
        hamming_loss: Share of labels that is wrong, over all labels of all images.
        calibration_error: Expected calibration error over all labels of all images, 15 bins.
        per_label: The scores of each label.
        reliability: The probabilities of labels, and how often the image has them.
        predictions: The outputs for each.
    """

    mean_average_precision: float | None
    interval: tuple[float, float] | None
    label_frequency: float
    macro_f1: float | None
    micro_f1: float | None
    auroc: float | None
    exact_match: float
    hamming_loss: float
    calibration_error: float
    per_label: tuple[LabelScores, ...]
    reliability: tuple[ConfidenceBin, ...]
    predictions: Outputs

    @property
    def task(self) -> TaskName:
        """What was predicted."""
        return MULTILABEL

    @property
    def headline(self) -> tuple[tuple[str, str], ...]:
        """The numbers to look at first, with their names."""
        shown = "none" if self.mean_average_precision is None else f"{self.mean_average_precision:.4f}"
        return (
            ("mean average precision", shown),
            ("95 % interval", show_interval(self.interval)),
            ("chance", f"{self.label_frequency:.4f}"),
        )

    @property
    def wrong(self) -> int:
        """Labels that are wrong, over all images."""
        return int((self._predicted() != self._truth()).sum())

    def doubts(self) -> tuple[str, ...]:
        """Warnings of scores that predicting without looking would reach."""
        warnings = []
        if self.mean_average_precision is None:
            warnings.append("no image has a label: nothing says whether labels are found")
        elif self._is_chance(self.mean_average_precision):
            warnings.append(
                f"mean average precision {self.mean_average_precision:.4f} is not above chance, the label "
                f"frequency {self.label_frequency:.4f}, as far as {self.images:,} images can tell: the "
                "weights may be untrained, or the images not those that the network is for"
            )
        predicted = self._predicted()
        if self.images > 1 and self.micro_f1 is not None and (predicted == predicted[0]).all():
            names = [name for name, has in zip(self.classes, predicted[0], strict=True) if has]
            warnings.append(f"every image is predicted to have {', '.join(names) or 'no label'}")
        return tuple(warnings)

    def _is_chance(self, mean_average_precision: float) -> bool:
        """Whether the order of the images may be random: by the precision, and by the variance of the AUROC.

        Source: Mann & Whitney, Ann. Math. Stat. 18, 1947: the variance of the statistic of a random order.
        The deviation of the mean is at most the mean deviation, however the labels hang together.
        """
        deviations = [
            math.sqrt((self.images + 1) / (12 * one.support * (self.images - one.support)))
            for one in self.per_label
            if one.auroc is not None
        ]
        if mean_average_precision <= self.label_frequency:
            return True
        if self.auroc is None:
            return False
        return self.auroc <= 0.5 + DEVIATIONS * sum(deviations) / len(deviations)

    def image(self, row: int) -> ScoredLabels:
        """One image of those that were read, by its row in `predictions`."""
        probabilities = self.predictions.values[row]
        return ScoredLabels(
            name=self.part.name(int(self.predictions.places[row])),
            labels=self._names(self._truth()[row]),
            predictions=self._names(probabilities >= THRESHOLD),
            probabilities=tuple(probabilities.tolist()),
        )

    def mistakes(self, top: int = 10) -> tuple[LabelMistake, ...]:
        """The wrong labels whose probability is farthest from the truth, the farthest first."""
        truth = self._truth()
        rows, columns = np.nonzero(self._predicted() != truth)
        distances = np.abs(self.predictions.values[rows, columns] - truth[rows, columns])
        return tuple(
            LabelMistake(
                name=self.part.name(int(self.predictions.places[rows[place]])),
                label=self.classes[columns[place]],
                is_present=bool(truth[rows[place], columns[place]]),
                probability=float(self.predictions.values[rows[place], columns[place]]),
            )
            for place in np.argsort(-distances, kind="stable")[:top]
        )

    def _names(self, has: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(name for name, one in zip(self.classes, has, strict=True) if one)

    def _predicted(self) -> npt.NDArray[np.bool_]:
        return self.predictions.values >= THRESHOLD

    def _truth(self) -> npt.NDArray[np.bool_]:
        truth: npt.NDArray[np.bool_] = self.part.labels[self.predictions.places] > 0
        return truth


def score_labels(predictions: Outputs, part: Part, classes: Sequence[str]) -> MultilabelScores:
    """Scores the labels that a network gives images.

    Args:
        predictions: Of at least one image.
        part: The images, with labels of 0 and 1 in the order of `classes`.
        classes: Names of the labels, in the order of the logits.
    """
    logits = torch.from_numpy(predictions.logits)
    labels = torch.from_numpy(part.labels[predictions.places].astype(np.int64))
    probabilities = torch.from_numpy(predictions.values)
    predicted = (probabilities >= THRESHOLD).long()
    per_label = _per_label(probabilities, predicted, labels, classes)
    frequencies = [one.support / len(labels) for one in per_label if one.support]
    is_right = predicted == labels
    return MultilabelScores(
        classes=tuple(classes),
        images=len(predictions),
        mean_average_precision=measure_if_defined(MULTILABEL, "mean_average_precision", logits, labels),
        interval=interval_of(MULTILABEL, "mean_average_precision", logits, labels),
        label_frequency=sum(frequencies) / len(frequencies) if frequencies else 0.0,
        macro_f1=measure_if_defined(MULTILABEL, "macro_f1", logits, labels),
        micro_f1=float(tm.binary_f1_score(predicted, labels)) if frequencies else None,
        auroc=measure_if_defined(MULTILABEL, "auroc", logits, labels),
        exact_match=float(is_right.all(1).double().mean()),
        hamming_loss=1 - float(is_right.double().mean()),
        calibration_error=float(
            tm.binary_calibration_error(probabilities.flatten(), labels.flatten(), n_bins=BINS)
        ),
        per_label=per_label,
        reliability=bin_by_confidence(predictions.values.ravel(), labels.numpy().ravel() > 0),
        part=part,
        predictions=predictions,
        unreadable=predictions.unreadable,
    )


def _per_label(
    probabilities: Tensor, predicted: Tensor, labels: Tensor, classes: Sequence[str]
) -> tuple[LabelScores, ...]:
    precision, recall, f1 = (
        measure(predicted.T, labels.T, multidim_average="samplewise").reshape(-1).tolist()
        for measure in (tm.binary_precision, tm.binary_recall, tm.binary_f1_score)
    )
    supports, found = labels.sum(0).tolist(), predicted.sum(0).tolist()

    def ranked(measure: Callable[[Tensor, Tensor], Tensor], index: int) -> float:
        return float(measure(probabilities[:, index], labels[:, index]))

    return tuple(
        LabelScores(
            name=name,
            average_precision=ranked(tm.binary_average_precision, index) if support else None,
            auroc=ranked(tm.binary_auroc, index) if 0 < support < len(labels) else None,
            precision=precision[index] if found[index] else None,
            recall=recall[index] if support else None,
            f1=f1[index] if support else None,
            support=support,
        )
        for index, (name, support) in enumerate(zip(classes, supports, strict=True))
    )
