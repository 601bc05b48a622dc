"""Owns bringing images to a device, batch by batch, augmented there: from memory, or from files.

Does not own what is done with the batches: `nas.training.training` sees one interface for both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nas.data.decoding import READ_ERRORS, decode
from nas.data.images import Files, ImageData, Pixels, SplitName
from nas.errors import DataError

Augment = Literal["none", "crop", "crop_flip"]


class Batches(Protocol):
    """Batches on one device: uint8 images (batch, channels, resolution, resolution) and int64 labels."""

    def epoch(
        self, batch_size: int, augment: Augment, padding: int, rng: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the training split once in a new order, augmented, without a last partial batch."""
        ...

    def scan(self, split: SplitName, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields a whole split in its own order, as it is."""
        ...


def make_batches(data: ImageData, device: torch.device) -> Batches:
    """Chooses by whether the data are in memory; moves the training and search splits to the device if so."""
    return ResidentBatches(data, device) if data.is_resident else StreamedBatches(data, device)


class ResidentBatches:
    """All images stay on the device as uint8; a batch is one gather with its crop and flip."""

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self._data = data
        self._device = device
        self._parts: dict[SplitName, tuple[Tensor, Tensor]] = {}
        self._part("train")
        self._part("search")

    def epoch(
        self, batch_size: int, augment: Augment, padding: int, rng: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`. The whole epoch's order and shifts cross to the device in one copy."""
        images, labels = self._part("train")
        order = torch.from_numpy(rng.permutation(len(labels))).to(self._device)
        moves = draw_moves(len(labels), augment, padding, rng).to(self._device)
        for start in range(0, len(labels) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            if augment == "none":
                yield images[chosen], labels[chosen]
            else:
                yield move(images, chosen, moves[start : start + batch_size]), labels[chosen]

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
    """Images are decoded from files by loader processes while the device trains."""

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self._data = data
        self._device = device
        # On the CPU the cores are for training; beside a GPU a few decode.
        self._processes = 0 if device.type == "cpu" else min(4, os.cpu_count() or 1)

    def epoch(
        self, batch_size: int, augment: Augment, padding: int, rng: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        count = len(self._data.train)
        order = rng.permutation(count)
        moves = draw_moves(count, augment, padding, rng).to(self._device)
        within = torch.arange(batch_size, device=self._device)
        whole = count - count % batch_size
        for start, (images, labels) in zip(
            range(0, whole, batch_size), self._load("train", order[:whole].tolist(), batch_size), strict=True
        ):
            if augment != "none":
                images = move(images, within, moves[start : start + batch_size])
            yield images, labels

    def scan(self, split: SplitName, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        return self._load(split, range(len(self._data.split(split))), batch_size)

    def _load(
        self, split: SplitName, order: Sequence[int], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        part = self._data.split(split)
        files = DecodedFiles(part, self._data.channels, self._data.resolution)
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            files,
            batch_size=batch_size,
            sampler=order,
            num_workers=self._processes,
            pin_memory=self._device.type == "cuda",
        )
        for images, labels in loader:
            yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


class DecodedFiles(Dataset[tuple[Tensor, Tensor]]):
    """One image a time: uint8 of shape (channels, resolution, resolution), and its label."""

    def __init__(self, part: Files | Pixels, channels: int, resolution: int) -> None:
        self._part = part
        self._channels = channels
        self._resolution = resolution

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        label = torch.tensor(int(self._part.labels[index]))
        if isinstance(self._part, Pixels):
            return torch.from_numpy(self._part.images[index].copy()), label
        path = Path(self._part.root) / self._part.paths[index]
        try:
            return torch.from_numpy(decode(path, self._channels, self._resolution).copy()), label
        except READ_ERRORS as error:
            raise DataError(f"{path} could be read when the search began, but not now: {error}") from error


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
