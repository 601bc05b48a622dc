"""The likeliest classes of images, which is all that is kept of many images and many classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.scoring.outputs import Numbers, Outputs, Places, Unreadable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopClasses:
    """The likeliest classes of images, in the order of the images.

    Attributes:
        places: int64 of shape (count,), the index of each image that was read.
        classes: int64 of shape (count, k), the k likeliest classes, the likeliest first.
        probabilities: float64 of shape (count, k), their probabilities (softmax).
        unreadable: The images that were not read.
    """

    places: Places
    classes: npt.NDArray[np.int64]
    probabilities: Numbers
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.places)


def likeliest(outputs: Outputs, top: int) -> TopClasses:
    """Keeps so many classes of each image; of equal ones the first."""
    classes = np.argsort(-outputs.values, axis=1, kind="stable")[:, :top].astype(np.int64)
    return TopClasses(
        places=outputs.places,
        classes=classes,
        probabilities=np.take_along_axis(outputs.values, classes, axis=1),
        unreadable=outputs.unreadable,
    )


def joined(parts: Sequence[TopClasses]) -> TopClasses:
    """Puts the predictions of batches, at least one, together."""
    return TopClasses(
        places=np.concatenate([part.places for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        unreadable=tuple(one for part in parts for one in part.unreadable),
    )
