"""Brings images to a device, batch by batch, augmented there: from memory, or from files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nas.data.images import ImageData, Pixels, SplitName
from nas.training.moves import Augment, Draw, draw_moves, move
from nas.training.sampling import Sampling, epoch_order
from nas.training.streaming import StreamedBatches


class Batches(Protocol):
    """Batches on one device: uint8 images (batch, channels, resolution, resolution) and their labels.

    A training batch comes in two halves, so that the second can be part of a recorded step: `draws` says
    which images and how they are moved, `read` makes them of that by work on the device alone.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened to images since they were loaded: those that can no longer be read."""
        ...

    def draws(
        self,
        batch_size: int,
        augment: Augment,
        padding: int,
        rng: np.random.Generator,
        sampling: Sampling = "shuffled",
    ) -> Iterator[Draw]:
        """Draws an epoch in a new order (see `epoch_order`), without a last partial batch."""
        ...

    def read(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Makes the augmented images and labels of one draw, without waiting for the device."""
        ...

    def scan(self, split: SplitName, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields a whole split in its own order, as it is, without images that cannot be read."""
        ...


def make_batches(data: ImageData, device: torch.device) -> Batches:
    """Chooses by whether the data are in memory; moves the training and search splits to the device if so."""
    return ResidentBatches(data, device) if data.is_resident else StreamedBatches(data, device)


def epoch(
    batches: Batches, batch_size: int, augment: Augment, padding: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the training split once in a new order, augmented, without a last partial batch."""
    for draw in batches.draws(batch_size, augment, padding, rng):
        yield batches.read(draw)


class ResidentBatches:
    """All images stay on the device as uint8; a batch is one gather with its crop and flip.

    Args:
        data: The images.
        device: Where they stay.
        splits: Those that are moved there at once; another follows when it is asked for.
    """

    def __init__(
        self, data: ImageData, device: torch.device, splits: Sequence[SplitName] = ("train", "search")
    ) -> None:
        self._data = data
        self._device = device
        self._parts: dict[SplitName, tuple[Tensor, Tensor]] = {}
        for split in splits:
            self.part(split)

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Batches`: nothing happens to images in memory."""
        return ()

    def draws(
        self,
        batch_size: int,
        augment: Augment,
        padding: int,
        rng: np.random.Generator,
        sampling: Sampling = "shuffled",
    ) -> Iterator[Draw]:
        """See `Batches`: indices, and moves if any; an epoch of both crosses in one copy each."""
        count = len(self._data.train)
        order = torch.from_numpy(epoch_order(self._data.train.labels, sampling, rng)).to(self._device)
        moves = draw_moves(count, augment, padding, rng).to(self._device)
        for start in range(0, count - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            yield (chosen,) if augment == "none" else (chosen, moves[start : start + batch_size])

    def read(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """See `Batches`."""
        images, labels = self.part("train")
        chosen = draw[0]
        return (images[chosen] if len(draw) == 1 else move(images, chosen, draw[1])), labels[chosen]

    def scan(self, split: SplitName, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        images, labels = self.part(split)
        for start in range(0, len(labels), batch_size):
            yield images[start : start + batch_size], labels[start : start + batch_size]

    def part(self, split: SplitName) -> tuple[Tensor, Tensor]:
        """A whole split on the device: images as uint8, and labels."""
        if split not in self._parts:
            part = self._data.split(split)
            assert isinstance(part, Pixels)
            with warnings.catch_warnings():
                # Arrays shared by the workers of a machine are read-only, and are only read here.
                warnings.filterwarnings("ignore", message=".*not writable.*")
                pixels, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
            self._parts[split] = pixels.to(self._device), labels.to(self._device)
        return self._parts[split]
