"""Brings images to a device, batch by batch, augmented there: from memory, or from files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nas.data.decoding import READ_ERRORS, decode, tolerated
from nas.data.images import Files, ImageData, Pixels, SplitName
from nas.data.tree import few, printable
from nas.errors import DataError

Augment = Literal["none", "crop", "crop_flip"]

Draw = tuple[Tensor, ...]
"""What one training batch is read from, on the device: the same shapes for every batch of a training."""

Place = tuple[SplitName, int]
"""An image by its split and its index there."""

Copied = tuple[tuple[Tensor, Tensor], "torch.cuda.Event"]
"""A batch on its way to a GPU, and the event that says it is there."""

UNREADABLE = -1
"""The label of an image that could not be read."""

MOST_LOADERS = 16
"""Decoding processes beside one GPU: more only add memory."""


class Batches(Protocol):
    """Batches on one device: uint8 images (batch, channels, resolution, resolution) and int64 labels.

    A training batch comes in two halves, so that the second can be part of a recorded step: `draws` says
    which images and how they are moved, `read` makes them of that by work on the device alone.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened to images since they were loaded: those that can no longer be read."""
        ...

    def draws(
        self, batch_size: int, augment: Augment, padding: int, rng: np.random.Generator
    ) -> Iterator[Draw]:
        """Draws the training split once in a new order, without a last partial batch."""
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
    """All images stay on the device as uint8; a batch is one gather with its crop and flip."""

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self._data = data
        self._device = device
        self._parts: dict[SplitName, tuple[Tensor, Tensor]] = {}
        self._part("train")
        self._part("search")

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Batches`: nothing happens to images in memory."""
        return ()

    def draws(
        self, batch_size: int, augment: Augment, padding: int, rng: np.random.Generator
    ) -> Iterator[Draw]:
        """See `Batches`: indices, and moves if any; an epoch of both crosses in one copy each."""
        count = len(self._part("train")[1])
        order = torch.from_numpy(rng.permutation(count)).to(self._device)
        moves = draw_moves(count, augment, padding, rng).to(self._device)
        for start in range(0, count - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            yield (chosen,) if augment == "none" else (chosen, moves[start : start + batch_size])

    def read(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """See `Batches`."""
        images, labels = self._part("train")
        chosen = draw[0]
        return (images[chosen] if len(draw) == 1 else move(images, chosen, draw[1])), labels[chosen]

    def scan(self, split: SplitName, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        images, labels = self._part(split)
        for start in range(0, len(labels), batch_size):
            yield images[start : start + batch_size], labels[start : start + batch_size]

    def _part(self, split: SplitName) -> tuple[Tensor, Tensor]:
        if split not in self._parts:
            part = self._data.split(split)
            assert isinstance(part, Pixels)
            with warnings.catch_warnings():
                # Arrays shared by the workers of a machine are read-only, and are only read here.
                warnings.filterwarnings("ignore", message=".*not writable.*")
                pixels, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
            self._parts[split] = pixels.to(self._device), labels.to(self._device)
        return self._parts[split]


class StreamedBatches:
    """Images are decoded from files while the device trains; one set of processes serves all passes.

    The processes start with the first pass and stay until this object is gone, so that neither an epoch
    nor the next training waits for them. Beside a GPU, a batch is copied there while the one before it is
    used. One pass at a time: a pass that continues after another began is an error.

    An image that can no longer be read is left out of evaluation. In training, the next readable image of
    its batch takes its place, so that a batch keeps its size. Too many of them are an error.

    Args:
        data: What to read; every split is served.
        device: Where the batches go.
        loaders: Processes that decode, 0 for this one; by default `sensible_loaders`.

    Attributes:
        loaders: Processes that decode.
    """

    def __init__(self, data: ImageData, device: torch.device, *, loaders: int | None = None) -> None:
        self._data = data
        self._device = device
        self._places = PlaceSampler()
        self._pass = 0
        self._unreadable: dict[str, None] = {}
        self._dataset = DecodedFiles(data)
        self.loaders = sensible_loaders(device) if loaders is None else loaders
        self._loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            self._dataset,
            batch_sampler=self._places,
            num_workers=self.loaders,
            persistent_workers=self.loaders > 0,
            pin_memory=device.type == "cuda",
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Batches`."""
        return tuple(f"{printable(path)} cannot be read, and is left out" for path in self._unreadable)

    def draws(
        self, batch_size: int, augment: Augment, padding: int, rng: np.random.Generator
    ) -> Iterator[Draw]:
        """See `Batches`: decoded images and their labels, and moves if there are any."""
        count = len(self._data.train)
        order = rng.permutation(count)
        moves = draw_moves(count, augment, padding, rng).to(self._device)
        whole = count - count % batch_size
        loaded = self._load("train", order[:whole].tolist(), batch_size)
        for start, batch in zip(range(0, whole, batch_size), loaded, strict=True):
            yield batch if augment == "none" else (*batch, moves[start : start + batch_size])

    def read(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """See `Batches`."""
        images, labels = draw[:2]
        if len(draw) == 2:
            return images, labels
        return move(images, torch.arange(len(images), device=images.device), draw[2]), labels

    def scan(self, split: SplitName, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        return self._load(split, range(len(self._data.split(split))), batch_size)

    def _load(
        self, split: SplitName, order: Sequence[int], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self._pass += 1
        this_pass = self._pass
        places: list[Place] = [(split, index) for index in order]
        self._places.batches = [
            places[start : start + batch_size] for start in range(0, len(places), batch_size)
        ]
        loaded: Iterable[tuple[Tensor, Tensor]] = self._readable(self._places.batches)
        if self._device.type == "cuda":
            loaded = copied_ahead(loaded, self._device)
        for images, labels in loaded:
            if this_pass != self._pass:
                raise RuntimeError(
                    "images from files must be read in one pass at a time, but another began: end this one"
                )
            yield images, labels

    def _readable(self, batches: Sequence[Sequence[Place]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the loader's batches, with what could not be read replaced or left out."""
        for places, (images, labels) in zip(batches, self._loader, strict=True):
            kept = labels != UNREADABLE
            if kept.all():
                yield images, labels
                continue
            self._note([place for place, is_kept in zip(places, kept.tolist(), strict=True) if not is_kept])
            if places[0][0] == "train":
                yield self._filled(images, labels)
            elif kept.any():
                yield images[kept], labels[kept]

    def _note(self, places: Sequence[Place]) -> None:
        """Writes down which images could not be read.

        Raises:
            DataError: They are too many.
        """
        for split, index in places:
            part = self._data.split(split)
            assert isinstance(part, Files)
            self._unreadable[part.paths[index]] = None
        total = sum(len(part) for part in (self._data.train, self._data.search, self._data.test))
        lost = [*self._unreadable]
        if len(lost) > tolerated(total):
            raise DataError(
                f"at most 1% of the images, or one, may become unreadable, but {len(lost)} of {total} of "
                f"{self._data.name} cannot be read: {few(lost)}; check that the folder is there, "
                "restore the files, and resume"
            )

    def _filled(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Puts the next readable image of a batch, counted round, where one could not be read."""
        readable = (labels != UNREADABLE).nonzero()[:, 0]
        if not len(readable):
            image, label = self._first_readable()
            return image.expand_as(images).clone(), label.expand_as(labels).clone()
        rows = torch.arange(len(labels))
        after = torch.searchsorted(readable, rows) % len(readable)
        source = readable[after]
        return images[source], labels[source]

    def _first_readable(self) -> tuple[Tensor, Tensor]:
        """The first training image that can be read, for a batch of which none can."""
        every = (self._dataset["train", index] for index in range(len(self._data.train)))
        return next((image, label) for image, label in every if int(label) != UNREADABLE)


class PlaceSampler(Sampler[list[Place]]):
    """Batches of places, set again before each pass: the loader and its processes stay."""

    def __init__(self) -> None:
        self.batches: list[list[Place]] = []

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class DecodedFiles(Dataset[tuple[Tensor, Tensor]]):
    """One image a time: uint8 of shape (channels, resolution, resolution), and its label.

    An image that cannot be read is black, with the label `UNREADABLE`.
    """

    def __init__(self, data: ImageData) -> None:
        self._parts: dict[SplitName, Files | Pixels] = {
            "train": data.train,
            "search": data.search,
            "test": data.test,
        }
        self._reading = data.reading

    def __getitem__(self, place: Place) -> tuple[Tensor, Tensor]:
        split, index = place
        part = self._parts[split]
        label = torch.tensor(int(part.labels[index]))
        if isinstance(part, Pixels):
            return torch.from_numpy(part.images[index].copy()), label
        path = Path(part.root) / part.paths[index]
        try:
            return torch.from_numpy(decode(path, self._reading).copy()), label
        except READ_ERRORS:
            side = self._reading.resolution
            black = torch.zeros((self._reading.channels, side, side), dtype=torch.uint8)
            return black, torch.tensor(UNREADABLE)


def sensible_loaders(device: torch.device) -> int:
    """Number of decoding processes: as many as this process has threads beside a GPU, none on a CPU.

    On a CPU the cores are for training: threads that wait for each other lose more to a process on their
    core than decoding takes.
    """
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_LOADERS, cores, max(4, torch.get_num_threads()))


def copied_ahead(
    batches: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Copies each batch of pinned tensors to a GPU on a stream of its own, one batch ahead of its use.

    Source: PyTorch's notes on CUDA semantics, "Use pinned memory buffers" and `Tensor.record_stream`.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: Copied | None = None
    for images, labels in batches:
        with torch.cuda.stream(stream):
            batch = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            copied = batch, stream.record_event()
        if waiting is not None:
            yield _handed_over(waiting, device)
        waiting = copied
    if waiting is not None:
        yield _handed_over(waiting, device)


def _handed_over(copied: Copied, device: torch.device) -> tuple[Tensor, Tensor]:
    """Has the current stream wait for the copies, and keeps their memory until it is done with them."""
    batch, is_there = copied
    current = torch.cuda.current_stream(device)
    current.wait_event(is_there)
    for tensor in batch:
        tensor.record_stream(current)
    return batch


def draw_moves(count: int, augment: Augment, padding: int, rng: np.random.Generator) -> Tensor:
    """Draws a shift down, a shift right (both in -padding..padding) and a flip (0 or 1) for each image.

    Returns:
        int64 of shape (count, 3).
    """
    moves: npt.NDArray[np.int64] = rng.integers(-padding, padding + 1, size=(count, 3))
    moves[:, 2] = rng.integers(0, 2, size=count) if augment == "crop_flip" else 0
    return torch.from_numpy(moves)


def move(images: Tensor, chosen: Tensor, moves: Tensor) -> Tensor:
    """Gathers images shifted and flipped; what a shift uncovers mirrors the image's edge (reflect padding).

    Args:
        images: uint8 of shape (count, channels, height, width).
        chosen: int64 of shape (batch,), indices into the images.
        moves: int64 of shape (batch, 3), as `draw_moves` gives them.

    Returns:
        uint8 of shape (batch, channels, height, width).
    """
    channels, height, width = images.shape[1:]
    rows = _reflect(torch.arange(height, device=images.device) + moves[:, 0:1], height)
    columns = _reflect(torch.arange(width, device=images.device) + moves[:, 1:2], width)
    columns = torch.where(moves[:, 2:3] == 1, width - 1 - columns, columns)
    every_channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return images[
        chosen[:, None, None, None], every_channel, rows[:, None, :, None], columns[:, None, None, :]
    ]


def _reflect(index: Tensor, size: int) -> Tensor:
    return (size - 1 - (size - 1 - index.abs()).abs()).clamp_(0, size - 1)
