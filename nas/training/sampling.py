"""The order in which the training images of an epoch are seen."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from nas.data.images import Labels

Sampling = Literal["shuffled", "balanced"]


def epoch_order(labels: Labels, sampling: Sampling, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draws the order of one epoch, `(images,)`: indices of training images.

    `shuffled` has each image once. `balanced` has as many images, of each class equally many (to one): of a
    rare class each several times, equally often (to one), of a frequent one some, others in each epoch.

    Args:
        labels: The class of each image; whatever it is where images are shuffled.
        sampling: How.
        rng: Decides.
    """
    count = len(labels)
    if sampling == "shuffled":
        return rng.permutation(count)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    wanted = np.full(len(members), count // len(members))
    wanted[rng.permutation(len(members))[: count % len(members)]] += 1
    drawn = [_cycled(each, number, rng) for each, number in zip(members, wanted, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def _cycled(members: npt.NDArray[np.int64], number: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """So many of a class's images, each as often as any other, to one."""
    rounds = [rng.permutation(members) for _ in range(-(-number // len(members)))]
    return np.concatenate(rounds)[:number] if rounds else members[:0]
