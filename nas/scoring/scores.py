"""`Scores`: how good predicted classes are; torchmetrics does the arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional import classification as tm

from nas.data.images import Part
from nas.scoring.calibration import BINS, ConfidenceBin, bin_by_confidence
from nas.scoring.outputs import Outputs
from nas.scoring.scored import Scored
from nas.scoring.top_classes import TopClasses, joined, likeliest
from nas.statistics import wilson_interval
from nas.task_metrics import measure_if_defined
from nas.tasks import CLASSIFICATION, TOP, TaskName
from nas.units import show_interval

MOST_LOGITS = 1 << 28
"""Logits that are kept for the AUROC: 1 GiB."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """How well one class is told from the others.

    Attributes:
        name: Of the class.
        precision: Share of the images predicted to be of it that are; None where none was.
        recall: Share of its images that are predicted; None where it has no image.
        f1: Harmonic mean of both, 0 where no prediction of it is right; None where it has no image.
        support: Its images.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredImage:
    """One image with its true class and the prediction.

    Attributes:
        name: What it is called: its path, or its place in a pack.
        label: The true class.
        prediction: The likeliest class.
        probability: Probability of the prediction.
    """

    name: str
    label: str
    prediction: str
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.prediction == self.label


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores(Scored):
    """How good predicted classes are. Averages over classes are over those that have an image.

    The labels of `part` are indices into `classes`.

    Attributes:
        right: Number of right predictions.
        accuracy: Share of them.
        interval: Central 95 % interval of the accuracy on images like these (Wilson).
        top5: Share of images whose true class is among the five likeliest; None with at most five classes.
        balanced_accuracy: Mean recall of the classes.
        macro_f1: Mean F1 of the classes.
        auroc: Mean area under the ROC curve of the classes, each against all others; None with more than
            2**28 logits, or images of one class.
        calibration_error: Expected calibration error, 15 bins: how far probabilities of predictions are from
            the share that is right, on average.
        per_class: The scores of each class.
        confusion: int64 of shape (classes, classes): images by true class (rows) and prediction (columns).
        reliability: The predictions by their probability.
        predictions: The likeliest classes of each.
    """

    right: int
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    balanced_accuracy: float
    macro_f1: float
    auroc: float | None
    calibration_error: float
    per_class: tuple[ClassScores, ...]
    confusion: Counts
    reliability: tuple[ConfidenceBin, ...]
    predictions: TopClasses

    @property
    def task(self) -> TaskName:
        """What was predicted."""
        return CLASSIFICATION

    @property
    def headline(self) -> tuple[tuple[str, str], ...]:
        """The numbers to look at first, with their names."""
        return (("accuracy", f"{self.accuracy:.4f}"), ("95 % interval", show_interval(self.interval)))

    @property
    def majority(self) -> ClassScores:
        """The class with the most images: predicting it always is right for its share of them."""
        return max(self.per_class, key=lambda one: one.support)

    @property
    def majority_share(self) -> float:
        """Share of the images that is of the largest class."""
        return self.majority.support / self.images

    def doubts(self) -> tuple[str, ...]:
        """Warnings of an accuracy that predicting without looking would reach."""
        low, _ = self.interval
        share = f"{self.majority_share:.4f}"
        within = f"accuracy {self.accuracy:.4f} (95 % interval {show_interval(self.interval)})"
        chance = 1 / len(self.classes)
        warnings = []
        if low <= chance:
            warnings.append(
                f"{within} is not above chance, 1/{len(self.classes):,} = {chance:.4f}: the weights may be "
                "untrained, or the images not those that the network is for"
            )
        elif low <= self.majority_share < 1:
            warnings.append(
                f"{within} is not above {share}, the share of {self.majority.name!r}: always predicting the "
                "largest class does as well; look at the balanced accuracy"
            )
        predicted = np.flatnonzero(self.confusion.sum(0))
        if len(predicted) == 1 and sum(one.support > 0 for one in self.per_class) > 1:
            warnings.append(f"every image is predicted to be {self.classes[int(predicted[0])]!r}")
        return tuple(warnings)

    def image(self, row: int) -> ScoredImage:
        """One image of those that were read, by its row in `predictions`."""
        place = int(self.predictions.places[row])
        return ScoredImage(
            name=self.part.name(place),
            label=self.classes[int(self.part.labels[place])],
            prediction=self.classes[int(self.predictions.classes[row, 0])],
            probability=float(self.predictions.probabilities[row, 0]),
        )

    def mistakes(self, top: int = 10) -> tuple[ScoredImage, ...]:
        """The wrong predictions of the greatest probability, the greatest first."""
        wrong = np.flatnonzero(self.predictions.classes[:, 0] != self.part.labels[self.predictions.places])
        order = np.argsort(-self.predictions.probabilities[wrong, 0], kind="stable")
        return tuple(self.image(int(row)) for row in wrong[order[:top]])

    def confusions(self, top: int = 10) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes: true class, prediction, images."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:top]
        pairs = ((int(place) // len(self.classes), int(place) % len(self.classes)) for place in order)
        return tuple(
            (self.classes[row], self.classes[column], int(wrong[row, column]))
            for row, column in pairs
            if wrong[row, column]
        )


def score_classes(outputs: Iterator[Outputs], part: Part, classes: Sequence[str]) -> Scores:
    """Scores what a network gives for images of known classes.

    Of many images of many classes only the likeliest classes are kept, and no AUROC is computed.

    Args:
        outputs: Batch by batch, of at least one image.
        part: The images, with labels that are indices into `classes`.
        classes: Names of the classes, in the order of the logits.
    """
    keeps_all = len(part) * len(classes) <= MOST_LOGITS
    kept: list[TopClasses] = []
    logits: list[torch.Tensor] = []
    for batch in outputs:
        kept.append(likeliest(batch, TOP))
        logits += [torch.from_numpy(batch.logits)] if keeps_all else []
    predictions = joined(kept)
    labels = torch.from_numpy(part.labels[predictions.places])
    auroc = measure_if_defined(CLASSIFICATION, "auroc", torch.cat(logits), labels) if keeps_all else None
    return score(predictions, part, classes, auroc=auroc)


def score(
    predictions: TopClasses, part: Part, classes: Sequence[str], *, auroc: float | None = None
) -> Scores:
    """Scores predictions.

    Args:
        predictions: Of at least one image, with the five likeliest classes where there are more than five.
        part: The images, with labels that are indices into `classes`.
        classes: Names of the classes, in the order of the logits.
        auroc: Of all their probabilities; None where that is not known.
    """
    labels = torch.from_numpy(part.labels[predictions.places])
    predicted = torch.from_numpy(predictions.classes[:, 0])
    confidence = torch.from_numpy(predictions.probabilities[:, 0].copy())
    is_right = predicted == labels
    confusion = tm.multiclass_confusion_matrix(predicted, labels, len(classes)).numpy().astype(np.int64)
    per_class = _per_class(predicted, labels, confusion, classes)
    right = int(is_right.sum())
    return Scores(
        classes=tuple(classes),
        images=len(predictions),
        right=right,
        accuracy=right / len(predictions),
        interval=wilson_interval(right, len(predictions)),
        top5=_top5(predictions, labels, len(classes)),
        balanced_accuracy=_mean(one.recall for one in per_class),
        macro_f1=_mean(one.f1 for one in per_class),
        auroc=auroc,
        # The binary form takes the probability and whether it is right, as the multiclass form does.
        calibration_error=float(tm.binary_calibration_error(confidence, is_right.long(), n_bins=BINS)),
        per_class=per_class,
        confusion=confusion,
        reliability=bin_by_confidence(predictions.probabilities[:, 0], is_right.numpy()),
        part=part,
        predictions=predictions,
        unreadable=predictions.unreadable,
    )


def _per_class(
    predicted: torch.Tensor, labels: torch.Tensor, confusion: Counts, classes: Sequence[str]
) -> tuple[ClassScores, ...]:
    scores = [
        measure(predicted, labels, len(classes), average=None).tolist()
        for measure in (tm.multiclass_precision, tm.multiclass_recall, tm.multiclass_f1_score)
    ]
    support, predictions = confusion.sum(1).tolist(), confusion.sum(0).tolist()
    return tuple(
        ClassScores(
            name=name,
            precision=scores[0][index] if predictions[index] else None,
            recall=scores[1][index] if support[index] else None,
            f1=scores[2][index] if support[index] else None,
            support=support[index],
        )
        for index, name in enumerate(classes)
    )


def _top5(predictions: TopClasses, labels: torch.Tensor, num_classes: int) -> float | None:
    if num_classes <= TOP:
        return None
    found = (torch.from_numpy(predictions.classes[:, :TOP]) == labels[:, None]).any(1)
    return float(found.double().mean())


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
