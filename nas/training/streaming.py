"""Streams batches of images to a device: decoded from files, or each augmented by itself, while it trains."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nas.data.decoding import READ_ERRORS, decode, open_image, tolerated
from nas.data.images import Files, ImageData, Pixels, SplitName
from nas.data.tree import few, printable
from nas.errors import DataError
from nas.machine import usable_cores
from nas.training.moves import Augment, Draw, draw_moves, move
from nas.training.sampling import Sampling, epoch_order

Copied = tuple[tuple[Tensor, Tensor], "torch.cuda.Event"]
"""A batch on its way to a GPU, and the event that says it is there."""

UNREADABLE = -1
"""The class of an image that could not be read; where labels are not classes, its labels are NaN."""

MOST_LOADERS = 16
"""Decoding processes beside one GPU: more only add memory."""

ROOM_FOR_CROPS = 4
"""A large JPEG that is cut at random is decoded to at least so many times the resolution."""


class View(NamedTuple):
    """An augmented image as a function of a few numbers: it is the same wherever and whenever it is made.

    Attributes:
        seed: Of everything random in it.
        stage: Number of the stage of the training, which decides its size and strength.
        is_mirrored: Whether left and right are exchanged.
    """

    seed: int
    stage: int
    is_mirrored: bool = False


class Place(NamedTuple):
    """One image of a pass.

    Attributes:
        split: Its split.
        number: Its index there.
        view: Which view of it is meant; None is the image as it is.
    """

    split: SplitName
    number: int
    view: View | None = None


Augmenter = Callable[[Image.Image, View], Tensor]
"""Makes a view of a whole upright image of mode L or RGB: float32 of shape (channels, side, side)."""


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
        augment: Makes views of images, where views are asked for.
        least_side: A large JPEG of which views are made is decoded to at least so many pixels a side; by
            default there is room for crops.

    Attributes:
        loaders: Processes that decode.
    """

    def __init__(
        self,
        data: ImageData,
        device: torch.device,
        *,
        loaders: int | None = None,
        augment: Augmenter | None = None,
        least_side: int | None = None,
    ) -> None:
        self._data = data
        self._device = device
        self._places = PlaceSampler()
        self._pass = 0
        self._unreadable: dict[str, None] = {}
        self._dataset = DecodedImages(data, augment, least_side)
        self.loaders = sensible_loaders(device) if loaders is None else loaders
        self._loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            self._dataset,
            batch_sampler=self._places,
            num_workers=self.loaders,
            persistent_workers=self.loaders > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=ignore_interrupts,
        )

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Paths of the images that could not be read, in the order in which that was seen."""
        return tuple(map(printable, self._unreadable))

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Batches`."""
        return tuple(f"{path} cannot be read, and is left out" for path in self.unreadable)

    def draws(
        self,
        batch_size: int,
        augment: Augment,
        padding: int,
        rng: np.random.Generator,
        sampling: Sampling = "shuffled",
    ) -> Iterator[Draw]:
        """See `Batches`: decoded images and their labels, and moves if there are any."""
        count = len(self._data.train)
        order = epoch_order(self._data.train.labels, sampling, rng)
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

    def views(self, batches: Sequence[Sequence[tuple[int, View]]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields batches of views of training images, each an index and its view: float32, and labels."""
        return self._pass_of([[Place("train", index, view) for index, view in batch] for batch in batches])

    def _load(
        self, split: SplitName, order: Sequence[int], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        places = [Place(split, index) for index in order]
        return self._pass_of(
            [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
        )

    def _pass_of(self, batches: Sequence[list[Place]]) -> Iterator[tuple[Tensor, Tensor]]:
        self._pass += 1
        this_pass = self._pass
        self._places.batches = [*batches]
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
            kept = is_readable(labels)
            if kept.all():
                yield images, labels
                continue
            self._note([place for place, is_kept in zip(places, kept.tolist(), strict=True) if not is_kept])
            if places[0].split == "train":
                yield self._filled(images, labels, places[0].view)
            elif kept.any():
                yield images[kept], labels[kept]

    def _note(self, places: Sequence[Place]) -> None:
        """Writes down which images could not be read.

        Raises:
            DataError: They are too many.
        """
        for split, index, _ in places:
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

    def _filled(self, images: Tensor, labels: Tensor, view: View | None) -> tuple[Tensor, Tensor]:
        """Puts the next readable image of a batch, counted round, where one could not be read."""
        readable = is_readable(labels).nonzero()[:, 0]
        if not len(readable):
            image, label = self._first_readable(view)
            return image.expand_as(images).clone(), label.expand_as(labels).clone()
        rows = torch.arange(len(labels))
        after = torch.searchsorted(readable, rows) % len(readable)
        source = readable[after]
        return images[source], labels[source]

    def _first_readable(self, view: View | None) -> tuple[Tensor, Tensor]:
        """The first training image that can be read, for a batch of which none can."""
        every = (self._dataset[Place("train", index, view)] for index in range(len(self._data.train)))
        return next((image, label) for image, label in every if is_readable(label[None]).all())


def is_readable(labels: Tensor) -> Tensor:
    """Says of each image by its label or labels, `(batch, ...)`, whether it could be read: `(batch,)`."""
    return labels != UNREADABLE if labels.ndim == 1 else ~labels.isnan().any(1)


class PlaceSampler(Sampler[list[Place]]):
    """Batches of places, set again before each pass: the loader and its processes stay."""

    def __init__(self) -> None:
        self.batches: list[list[Place]] = []

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class DecodedImages(Dataset[tuple[Tensor, Tensor]]):
    """One image a time, and its label: uint8 of shape (channels, resolution, resolution), or a view of it.

    In place of an image that cannot be read there is a black one, or the same view of a black one, with the
    label `UNREADABLE`, or labels that are NaN.
    """

    def __init__(
        self, data: ImageData, augment: Augmenter | None = None, least_side: int | None = None
    ) -> None:
        self._parts: dict[SplitName, Files | Pixels] = {
            "train": data.train,
            "search": data.search,
            "test": data.test,
        }
        self._reading = data.reading
        self._augment = augment
        self._least_side = least_side or ROOM_FOR_CROPS * data.resolution

    def __getitem__(self, place: Place) -> tuple[Tensor, Tensor]:
        part = self._parts[place.split]
        label = torch.tensor(part.labels[place.number])
        try:
            seen = self._read(part, place)
        except READ_ERRORS:
            if isinstance(part, Pixels):
                raise
            unknown = UNREADABLE if label.ndim == 0 else math.nan
            seen, label = self._black(is_whole=place.view is not None), torch.full_like(label, unknown)
        if isinstance(seen, Tensor):
            return seen, label
        assert self._augment is not None
        assert place.view is not None
        return self._augment(seen, place.view), label  # an error in it is not the file's

    def _black(self, *, is_whole: bool) -> Tensor | Image.Image:
        """A black image, as `_read` gives one: a batch needs every image of the same shape and type."""
        side = self._reading.resolution
        if is_whole:
            return Image.new("L" if self._reading.channels == 1 else "RGB", (side, side))
        return torch.zeros((self._reading.channels, side, side), dtype=torch.uint8)

    def _read(self, part: Files | Pixels, place: Place) -> Tensor | Image.Image:
        """The image as it is, or whole where a view of it is meant."""
        if place.view is not None:
            return self._whole(part, place.number)
        if isinstance(part, Pixels):
            return torch.from_numpy(part.images[place.number].copy())
        return torch.from_numpy(decode(Path(part.root) / part.paths[place.number], self._reading).copy())

    def _whole(self, part: Files | Pixels, index: int) -> Image.Image:
        """The image before it is cut, upright, in mode L or RGB."""
        if isinstance(part, Pixels):
            pixels = part.images[index]
            return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        return open_image(Path(part.root) / part.paths[index], self._reading, least_side=self._least_side)


def ignore_interrupts(_: int = 0) -> None:
    """Leaves Ctrl-C to the process that trains, which may still want a batch: it ends the decoding ones."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def sensible_loaders(device: torch.device) -> int:
    """Number of decoding processes: as many as this process has threads beside a GPU, none on a CPU.

    On a CPU the cores are for training: threads that wait for each other lose more to a process on their
    core than decoding takes.
    """
    if device.type == "cpu":
        return 0
    return min(MOST_LOADERS, usable_cores(), max(4, torch.get_num_threads()))


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
