"""The batches of a full training: each is a function of seed, epoch and place, on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nas.data.images import ImageData, SplitName
from nas.errors import RecipeError
from nas.full_training.augmentation import Augmentation, Mixing
from nas.full_training.ranks import Ranks, share_of_batch
from nas.full_training.recipe import FullRecipe
from nas.training.accuracy import Normalise
from nas.training.batches import Batches, ResidentBatches
from nas.training.moves import move
from nas.training.sampling import epoch_order
from nas.training.streaming import StreamedBatches, View

Batch = tuple[Tensor, Tensor]
"""Normalised images, float32 of shape (batch, channels, side, side), and labels as the data have them, or
mixed ones of shape (batch, outputs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything random in the images of an epoch, by their places in it.

    Attributes:
        images: Indices of the training images.
        seeds: Seeds of their views.
        is_mirrored: Whether they are mirrored.
        shifts: Shares by which they are shifted down and to the right, in [-1, 1], of shape (count, 2).
        mixing: Seeds of the mixing, by batch.
    """

    images: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.int64]
    is_mirrored: npt.NDArray[np.bool_]
    shifts: npt.NDArray[np.float64]
    mixing: npt.NDArray[np.int64]

    @classmethod
    def of(cls, recipe: FullRecipe, data: ImageData, *, seed: int, epoch: int) -> Order:
        """Draws the order of an epoch."""
        count = len(data.train)
        rng = np.random.default_rng((seed, epoch))
        order = epoch_order(data.train.labels, recipe.sampling, rng)
        images = order[np.arange(count) // recipe.repeats]
        flips = rng.random(count) < 0.5
        if recipe.flip == "alternating":
            # Which epochs mirror an image is drawn once, for the whole training.
            flips = (np.random.default_rng(seed).random(count) < 0.5)[images] ^ bool(epoch % 2)
        elif recipe.flip == "none" or (recipe.flip == "auto" and not data.mirrors):
            flips = np.zeros(count, dtype=bool)
        return cls(
            images=images,
            seeds=rng.integers(0, 2**62, size=count),
            is_mirrored=flips,
            shifts=rng.uniform(-1, 1, size=(count, 2)),
            mixing=rng.integers(0, 2**31, size=recipe.steps_an_epoch(count)),
        )


class TrainingBatches:
    """Brings the batches of a training to a device, and the whole splits for its evaluation.

    Shifts and mirrors of images in memory are done on the device, all of a batch together. Anything else is
    done to each image by itself, beside the training where there are processes for it.

    Args:
        data: The images.
        recipe: Which views of them are trained on.
        ranks: Whose share of each batch is brought, and where to.
        seed: Of everything random.

    Attributes:
        splits: Brings whole splits.

    Raises:
        RecipeError: The ranks cannot share a batch.
    """

    def __init__(self, data: ImageData, recipe: FullRecipe, ranks: Ranks, *, seed: int) -> None:
        self._data = data
        self._recipe = recipe
        self._ranks = ranks
        self._seed = seed
        self._size = checked_batch(recipe, data, ranks)
        self._steps = recipe.steps(len(data.train))
        self._mixing = Mixing(recipe, data)
        self._normalise = Normalise(data, ranks.device)
        augmentation = Augmentation.of(recipe, data)
        self._streamed: StreamedBatches | None = None
        if not (data.is_resident and is_simple(recipe)):
            self._streamed = StreamedBatches(
                data, ranks.device, augment=augmentation, least_side=augmentation.least_side
            )
        if data.is_resident:
            # Views of training images are made from those on the host.
            needed: tuple[SplitName, ...] = ("search",) if self._streamed else ("train", "search")
            self.splits: Batches = ResidentBatches(data, ranks.device, needed)
        else:
            assert self._streamed is not None
            self.splits = self._streamed

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Paths of the images that this process could not read."""
        return () if self._streamed is None else self._streamed.unreadable

    def epoch(self, number: int, *, first: int = 0) -> Iterator[Batch]:
        """Yields this rank's share of the batches of an epoch, counted from 0, from the batch `first` on."""
        order = Order.of(self._recipe, self._data, seed=self._seed, epoch=number)
        per_epoch = self._recipe.steps_an_epoch(len(self._data.train))
        numbers = range(first, min(per_epoch, self._steps - number * per_epoch))
        places = [
            share_of_batch(
                np.arange(batch * self._size, (batch + 1) * self._size), self._ranks.rank, self._ranks.world
            )
            for batch in numbers
        ]
        stages = [self._recipe.stage_at(number * per_epoch + batch, self._steps) for batch in numbers]
        if self._streamed is None:
            loaded = self._moved(order, places, stages)
        else:
            loaded = self._viewed(self._streamed, order, places, stages)
        for batch, stage, (images, labels) in zip(numbers, stages, loaded, strict=True):
            yield self._mixing(images, labels, stage=stage, seed=int(order.mixing[batch]))

    def _viewed(
        self,
        streamed: StreamedBatches,
        order: Order,
        places: Sequence[npt.NDArray[np.int64]],
        stages: Sequence[int],
    ) -> Iterator[Batch]:
        """Views that are made image by image."""
        chosen = [
            [
                (
                    int(order.images[place]),
                    View(int(order.seeds[place]), stage, bool(order.is_mirrored[place])),
                )
                for place in batch
            ]
            for batch, stage in zip(places, stages, strict=True)
        ]
        for images, labels in streamed.views(chosen):
            yield images.contiguous(memory_format=torch.channels_last), labels

    def _moved(
        self, order: Order, places: Sequence[npt.NDArray[np.int64]], stages: Sequence[int]
    ) -> Iterator[Batch]:
        """Views that are made on the device, a batch at a time."""
        assert isinstance(self.splits, ResidentBatches)
        images, labels = self.splits.part("train")
        resolution, device = self._data.resolution, self._ranks.device
        most = self._recipe.shift_pixels(resolution) if self._recipe.crop == "shifted" else 0
        shifts = np.rint(order.shifts * (most + 0.499)).clip(-most, most).astype(np.int64)
        moves = torch.from_numpy(np.column_stack([shifts, order.is_mirrored])).to(device)
        indices = torch.from_numpy(order.images).to(device)
        for batch, stage in zip(places, stages, strict=True):
            where = torch.from_numpy(batch).to(device)
            chosen = indices[where]
            pixels = self._normalise(move(images, chosen, moves[where]))
            yield resized(pixels, self._recipe.side(stage, resolution)), labels[chosen]


def checked_batch(recipe: FullRecipe, data: ImageData, ranks: Ranks) -> int:
    """Images a step; of these each rank has an equal share of at least two.

    Raises:
        RecipeError: It has not.
    """
    size = recipe.batch_for(len(data.train))
    share = share_of_batch(np.arange(size), ranks.rank, ranks.world)
    if len(share) < 2:
        raise RecipeError(
            f"each of {ranks.world} processes must have 2 images a step for batch norm, but the "
            f"batch has {size} ({len(data.train)} training images): give a larger batch_size, more images or "
            "fewer processes",
            field="batch_size",
        )
    return size


def is_simple(recipe: FullRecipe) -> bool:
    """Whether the views of a recipe are shifted and mirrored images."""
    return not recipe.auto_augment and not recipe.random_erase and recipe.crop != "resized"


def resized(images: Tensor, side: int) -> Tensor:
    """Resizes (batch, channels, height, width) to a square (bilinear, antialiased)."""
    if images.shape[-1] == side:
        return images
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True).contiguous(
        memory_format=torch.channels_last
    )
