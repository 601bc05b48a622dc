"""Says what images go through before a network, and what its outputs mean, as data for programs elsewhere."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.data.images import Carving, Reading
from nas.errors import DataError, ExportError
from nas.reading import parse_json
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, THRESHOLD, TaskName

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from search_spaces import Network

FITS = {
    "crop": "resize the shorter side to the resolution (bilinear, antialiased), crop the centre: Pillow's "
    "ImageOps.fit with Resampling.BILINEAR",
    "pad": "resize the longer side to the resolution (bilinear, antialiased), pad with black on both sides",
    "stretch": "resize both sides to the resolution (bilinear, antialiased)",
}
VALUES = "divide the pixels by 255, subtract the mean, divide by the std, channel by channel"
BEFORE: dict[str, Any] = {"fit": "crop", "bits": 16, "float_white": 255.0, "background": None}
"""How images were read by the versions that did not write it."""

LAYOUT = "float32 of shape (batch, channels, resolution, resolution)"

ANSWERS: dict[TaskName, str] = {
    CLASSIFICATION: "the softmax of the logits is the probability of each of the classes",
    MULTILABEL: "the sigmoid of each logit is the probability of one of the classes, which are labels: an "
    f"image may have any number of them; a label of at least {THRESHOLD:g} counts as predicted",
    REGRESSION: "multiply the logits by target_std and add target_mean, column by column: these are numbers "
    "in the unit of the labels; the classes are the names of the columns",
}
"""What the outputs of a network stand for, in words."""

Outputs = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """Which images a network was trained on.

    Attributes:
        data: Digest of the images (`ImageData.content_digest`), whatever the size they were trained at.
        split: Fingerprint of which image was in which split.
        carving: How the splits that the data did not give were carved; None where that is not known.
    """

    data: str
    split: str
    carving: Carving | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """From an image file to the network's input, and from its outputs to what they stand for.

    Attributes:
        reading: How an image file becomes pixels.
        mean: Mean of each channel, of pixels in [0, 1].
        std: Standard deviation of each channel, of pixels in [0, 1].
        classes: Names of the outputs, in their order: classes, labels, or columns of numbers.
        task: What the network predicts.
        target_mean: Mean of each column of numbers in training, in its own unit; empty for other tasks. An
            output is the number less this mean, divided by this deviation.
        target_std: Standard deviation of each, likewise.
        trained_on: The images that mean, std and classes are those of; None where that is not known.

    Raises:
        ExportError: A value is out of range, or the numbers of channels or columns differ.
    """

    reading: Reading
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    task: TaskName = CLASSIFICATION
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    trained_on: TrainedOn | None = None

    def __post_init__(self) -> None:
        self._check_images()
        self._check_targets()

    def _check_images(self) -> None:
        channels = self.reading.channels
        if not len(self.mean) == len(self.std) == channels:
            raise ExportError(
                f"mean, std must have {channels} values, but got {len(self.mean)} and {len(self.std)}"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise ExportError(f"the mean must be finite, but is {self.mean}")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ExportError(f"`std > 0` must hold for every channel, but got {self.std}")

    def _check_targets(self) -> None:
        if self.task not in TASKS:
            raise ExportError(
                f"`task in {tuple(TASKS)}` must hold, but got task={self.task!r}: it may be of a "
                "later version",
                field="task",
            )
        columns = len(self.classes) if self.task == REGRESSION else 0
        if not len(self.target_mean) == len(self.target_std) == columns:
            raise ExportError(
                f"target_mean, target_std must have {columns} values for {self.task} of "
                f"{len(self.classes)} {TASKS[self.task].outputs}, but got {len(self.target_mean)} and "
                f"{len(self.target_std)}: give those of the data that the network was trained on",
                field="target_mean",
            )
        if not all(map(math.isfinite, self.target_mean)):
            raise ExportError(
                f"the target_mean must be finite, but is {self.target_mean}", field="target_mean"
            )
        if not all(math.isfinite(value) and value > 0 for value in self.target_std):
            raise ExportError(
                f"`target_std > 0` must hold for every column, but got {self.target_std}", field="target_std"
            )

    @classmethod
    def of(cls, data: ImageData) -> Preprocessing:
        """What images like these went through in training."""
        return cls(
            reading=data.reading,
            mean=data.mean,
            std=data.std,
            classes=data.classes,
            task=data.task,
            target_mean=data.target_mean,
            target_std=data.target_std,
            trained_on=TrainedOn(
                data=data.content_digest, split=data.split_fingerprint, carving=data.carving
            ),
        )

    @property
    def mode(self) -> str:
        """Pillow's name for the colours: `L` or `RGB`."""
        return "L" if self.reading.channels == 1 else "RGB"

    @property
    def resize(self) -> str:
        """What makes an image of any kind and size one of the network's, in words."""
        how = self.reading
        behind = "ignore transparency" if how.background is None else f"lay it on grey {how.background}"
        return (
            f"turn as the EXIF tag says, shift whole numbers of more than 8 bits right by {how.bits - 8}, "
            f"scale floating point numbers by 255 / {how.float_white:g}, {behind}, convert to the mode, "
            f"{FITS[how.fit]}"
        )

    @property
    def answers(self) -> str:
        """What the outputs of the network stand for, in words."""
        return ANSWERS[self.task]

    def interpret(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Maps outputs of the network to what they stand for.

        Args:
            outputs: Of shape (batch, outputs), as the network gives them.

        Returns:
            float64 of the same shape: probabilities of classes or labels, or numbers in the labels' own unit.
        """
        from scipy.special import expit, softmax

        values: npt.NDArray[np.float64] = outputs.astype(np.float64)
        if self.task == REGRESSION:
            values = values * np.array(self.target_std) + np.array(self.target_mean)
        elif self.task == MULTILABEL:
            values = expit(values)
        else:
            values = softmax(values, axis=1)
        return values

    def check_fits(self, network: Network) -> None:
        """Checks that the network takes such images and has an output for every class, label or column.

        Raises:
            ExportError: Resolution, channels or number of outputs differ.
        """
        wanted = (
            ("resolution", network.resolution, self.reading.resolution),
            ("in_channels", network.in_channels, self.reading.channels),
            ("num_classes", network.num_classes, len(self.classes)),
        )
        for field, has, needs in wanted:
            if has != needs:
                raise ExportError(
                    f"the network has {field}={has}, but the preprocessing is for {field}={needs}: "
                    "give the preprocessing of the data it was trained on"
                )

    def to_json(self) -> str:
        """Writes it as one flat JSON object, with the steps in words."""
        numbers = {"mean": self.mean, "std": self.std, "classes": self.classes}
        targets = {"target_mean": self.target_mean, "target_std": self.target_std}
        trained_on = None if self.trained_on is None else asdict(self.trained_on)
        words = {"mode": self.mode, "resize": self.resize, "values": VALUES, "layout": LAYOUT}
        return json.dumps(
            {
                **asdict(self.reading),
                **numbers,
                "task": self.task,
                **(targets if self.task == REGRESSION else {}),
                "trained_on": trained_on,
                **words,
                "answers": self.answers,
            },
            indent=1,
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads what `to_json` wrote; what earlier versions did not write is as they did it.

        Raises:
            ExportError: It is no such object.
        """
        try:
            values: Any = parse_json(text)
            given = {name: values[name] for name in ("channels", "resolution")}
            later = {name: values.get(name, before) for name, before in BEFORE.items()}
            lists = {name: tuple(values[name]) for name in ("mean", "std", "classes")}
            lists |= {name: tuple(values.get(name, ())) for name in ("target_mean", "target_std")}
            return cls(
                reading=Reading(**given, **later),
                **lists,
                task=values.get("task", CLASSIFICATION),
                trained_on=_read_trained_on(values.get("trained_on")),
            )
        except DataError as error:
            raise ExportError(f"a preprocessing is out of range: {error}", field=error.field) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(
                f"a preprocessing must be what `Preprocessing.to_json` writes, but: {error!r}"
            ) from error


def _read_trained_on(values: Any) -> TrainedOn | None:
    if values is None:
        return None
    carving = values["carving"]
    return TrainedOn(**{**values, "carving": None if carving is None else Carving(**carving)})
