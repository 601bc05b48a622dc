"""What is predicted for one image, by the task of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nas.scoring.outputs import Outputs
from nas.scoring.top_classes import likeliest


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The likeliest classes of one image.

    Attributes:
        file: Its path, as given, or below the folder that was given.
        classes: The likeliest classes, the likeliest first.
        probabilities: Their probabilities, in [0, 1].
    """

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.classes[0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.probabilities[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilabelPrediction:
    """The labels of one image.

    Attributes:
        file: Its path, as given, or below the folder that was given.
        classes: The likeliest labels, by default all of them, the likeliest first.
        probabilities: Their probabilities, in [0, 1]; they do not sum to 1.
        threshold: Probability from which on a label counts as predicted.
    """

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    threshold: float

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that count as predicted, the likeliest first; there may be none."""
        pairs = zip(self.classes, self.probabilities, strict=True)
        return tuple(name for name, probability in pairs if probability >= self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionPrediction:
    """The numbers that are predicted for one image.

    Attributes:
        file: Its path, as given, or below the folder that was given.
        columns: The names of the numbers.
        values: The numbers, in the unit of the labels that the network was trained on.
    """

    file: str
    columns: tuple[str, ...]
    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """The first number, which is the only one where there is one column."""
        return self.values[0]


AnyPrediction = Prediction | MultilabelPrediction | RegressionPrediction
"""The prediction of each task."""

Read = Callable[[Outputs], Iterator[AnyPrediction]]
"""What the outputs of a batch say of its images."""


def class_reader(files: Sequence[str], classes: Sequence[str], top: int) -> Read:
    """Makes the predictions of classes, so many of each image."""

    def read(outputs: Outputs) -> Iterator[Prediction]:
        for file, names, values in _ranked(outputs, files, classes, top):
            yield Prediction(file=file, classes=names, probabilities=values)

    return read


def label_reader(files: Sequence[str], labels: Sequence[str], top: int, threshold: float) -> Read:
    """Makes the predictions of labels, so many of each image."""

    def read(outputs: Outputs) -> Iterator[MultilabelPrediction]:
        for file, names, values in _ranked(outputs, files, labels, top):
            yield MultilabelPrediction(file=file, classes=names, probabilities=values, threshold=threshold)

    return read


def number_reader(files: Sequence[str], columns: tuple[str, ...]) -> Read:
    """Makes the predictions of numbers."""

    def read(outputs: Outputs) -> Iterator[RegressionPrediction]:
        for place, values in zip(outputs.places.tolist(), outputs.values.tolist(), strict=True):
            yield RegressionPrediction(file=files[place], columns=columns, values=tuple(values))

    return read


def _ranked(
    outputs: Outputs, files: Sequence[str], names: Sequence[str], top: int
) -> Iterator[tuple[str, tuple[str, ...], tuple[float, ...]]]:
    """The file, the likeliest names and their probabilities of each image."""
    found = likeliest(outputs, top)
    rows = zip(found.places.tolist(), found.classes.tolist(), found.probabilities.tolist(), strict=True)
    for place, order, probabilities in rows:
        yield files[place], tuple(names[index] for index in order), tuple(probabilities)
