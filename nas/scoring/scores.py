"""`Scores`: how good a network's guesses are on images of known classes; torchmetrics does the arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional import classification as tm

from nas.data.images import Part
from nas.scoring.guesses import Guesses, Unreadable
from nas.statistics import wilson_interval

TOP = 5
"""Classes among which the true one counts as found, for the top-5 accuracy."""

BINS = 15
"""Bins of confidence. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """How well one class is told from the others.

    Attributes:
        name: Of the class.
        precision: Share of the images guessed to be of it that are; None where none was.
        recall: Share of its images that are guessed; None where it has no image.
        f1: Harmonic mean of both, 0 where no guess of it is right; None where it has no image.
        support: Its images.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredImage:
    """One image with its true class and the guess.

    Attributes:
        name: What it is called: its path, or its place in a pack.
        label: The true class.
        guess: The likeliest class.
        probability: Probability of the guess.
    """

    name: str
    label: str
    guess: str
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the guess is the true class."""
        return self.guess == self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceBin:
    """The guesses with a probability in one of 15 equal ranges.

    Attributes:
        low: Lower end of the range.
        high: Upper end of the range.
        images: How many guesses there are.
        confidence: Mean probability of the guesses; None where there are none.
        accuracy: Share of them that is right; None where there are none.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """How good guesses are. Averages over classes are over those that have an image.

    Attributes:
        data: What users call the images; empty where `score` alone was called. So are the next three.
        split: Which split of them, or `all`.
        bundle: The folder of the network.
        runtime: What ran it, where.
        classes: Names of the classes, in the order of the logits.
        images: Number of images.
        right: Number of right guesses.
        accuracy: Share of them.
        interval: Central 95 % interval of the accuracy on images like these (Wilson).
        top5: Share of images whose true class is among the five likeliest; None with at most five classes.
        balanced_accuracy: Mean recall of the classes.
        macro_f1: Mean F1 of the classes.
        calibration_error: Expected calibration error of the guesses, 15 bins: how far their probabilities are
            from the share that is right, on average.
        per_class: The scores of each class.
        confusion: int64 of shape (classes, classes): images by true class (rows) and guess (columns).
        reliability: The guesses by their probability.
        part: The images; a label is an index into `classes`.
        guesses: The likeliest classes of each.
        unreadable: Images that could not be read, and do not count.
        notes: What was decided on the user's behalf.
        warnings: What the user should look at before trusting the scores.
    """

    data: str = ""
    split: str = ""
    bundle: str = ""
    runtime: str = ""
    classes: tuple[str, ...]
    images: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    balanced_accuracy: float
    macro_f1: float
    calibration_error: float
    per_class: tuple[ClassScores, ...]
    confusion: Counts
    reliability: tuple[ConfidenceBin, ...]
    part: Part
    guesses: Guesses
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def majority(self) -> ClassScores:
        """The class with the most images: guessing it always is right for its share of them."""
        return max(self.per_class, key=lambda one: one.support)

    @property
    def majority_share(self) -> float:
        """Share of the images that is of the largest class."""
        return self.majority.support / self.images

    def doubts(self) -> tuple[str, ...]:
        """Warnings of an accuracy that guessing without looking would reach."""
        low, high = self.interval
        share = f"{self.majority_share:.4f}"
        within = f"accuracy {self.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f})"
        chance = 1 / len(self.classes)
        warnings = []
        if low <= chance:
            warnings.append(
                f"{within} is not above chance, 1/{len(self.classes):,} = {chance:.4f}: the weights may be "
                "untrained, or the images not those that the network is for"
            )
        elif low <= self.majority_share < 1:
            warnings.append(
                f"{within} is not above {share}, the share of {self.majority.name!r}: always guessing the "
                "largest class does as well; look at the balanced accuracy"
            )
        guessed = np.flatnonzero(self.confusion.sum(0))
        if len(guessed) == 1 and sum(one.support > 0 for one in self.per_class) > 1:
            warnings.append(f"every image is guessed to be {self.classes[int(guessed[0])]!r}")
        return tuple(warnings)

    def image(self, row: int) -> ScoredImage:
        """One image of those that were read, by its row in `guesses`."""
        place = int(self.guesses.places[row])
        return ScoredImage(
            name=self.part.name(place),
            label=self.classes[int(self.part.labels[place])],
            guess=self.classes[int(self.guesses.classes[row, 0])],
            probability=float(self.guesses.probabilities[row, 0]),
        )

    def mistakes(self, top: int = 10) -> tuple[ScoredImage, ...]:
        """The wrong guesses of the greatest probability, the greatest first."""
        wrong = np.flatnonzero(self.guesses.classes[:, 0] != self.part.labels[self.guesses.places])
        order = np.argsort(-self.guesses.probabilities[wrong, 0], kind="stable")
        return tuple(self.image(int(row)) for row in wrong[order[:top]])

    def confusions(self, top: int = 10) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes: true class, guess, images."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:top]
        pairs = ((int(place) // len(self.classes), int(place) % len(self.classes)) for place in order)
        return tuple(
            (self.classes[row], self.classes[column], int(wrong[row, column]))
            for row, column in pairs
            if wrong[row, column]
        )


def score(guesses: Guesses, part: Part, classes: Sequence[str]) -> Scores:
    """Scores guesses.

    Args:
        guesses: Of at least one image, with the five likeliest classes where there are more than five.
        part: The images, with labels that are indices into `classes`.
        classes: Names of the classes, in the order of the logits.
    """
    labels = torch.from_numpy(part.labels[guesses.places])
    guessed = torch.from_numpy(guesses.classes[:, 0])
    confidence = torch.from_numpy(guesses.probabilities[:, 0].copy())
    is_right = guessed == labels
    confusion = tm.multiclass_confusion_matrix(guessed, labels, len(classes)).numpy().astype(np.int64)
    per_class = _per_class(guessed, labels, confusion, classes)
    right = int(is_right.sum())
    return Scores(
        classes=tuple(classes),
        images=len(guesses),
        right=right,
        accuracy=right / len(guesses),
        interval=wilson_interval(right, len(guesses)),
        top5=_top5(guesses, labels, len(classes)),
        balanced_accuracy=_mean(one.recall for one in per_class),
        macro_f1=_mean(one.f1 for one in per_class),
        # The binary form takes each guess's probability and whether it is right, as the multiclass form does.
        calibration_error=float(tm.binary_calibration_error(confidence, is_right.long(), n_bins=BINS)),
        per_class=per_class,
        confusion=confusion,
        reliability=_reliability(guesses.probabilities[:, 0], is_right.numpy()),
        part=part,
        guesses=guesses,
        unreadable=guesses.unreadable,
    )


def _per_class(
    guessed: torch.Tensor, labels: torch.Tensor, confusion: Counts, classes: Sequence[str]
) -> tuple[ClassScores, ...]:
    scores = [
        measure(guessed, labels, len(classes), average=None).tolist()
        for measure in (tm.multiclass_precision, tm.multiclass_recall, tm.multiclass_f1_score)
    ]
    support, guesses = confusion.sum(1).tolist(), confusion.sum(0).tolist()
    return tuple(
        ClassScores(
            name=name,
            precision=scores[0][index] if guesses[index] else None,
            recall=scores[1][index] if support[index] else None,
            f1=scores[2][index] if support[index] else None,
            support=support[index],
        )
        for index, name in enumerate(classes)
    )


def _top5(guesses: Guesses, labels: torch.Tensor, num_classes: int) -> float | None:
    if num_classes <= TOP:
        return None
    found = (torch.from_numpy(guesses.classes[:, :TOP]) == labels[:, None]).any(1)
    return float(found.double().mean())


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def _reliability(
    confidence: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]
) -> tuple[ConfidenceBin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    where = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, BINS - 1)
    return tuple(
        ConfidenceBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            images=int(chosen.sum()),
            confidence=float(confidence[chosen].mean()) if chosen.any() else None,
            accuracy=float(is_right[chosen].mean()) if chosen.any() else None,
        )
        for index in range(BINS)
        for chosen in (where == index,)
    )
