"""Runs a network over images batch by batch, and gives what its outputs stand for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.decoding import READ_ERRORS, decode, decoding_threads
from nas.data.images import Files, Images, Part, Reading
from nas.errors import ExportError
from nas.export.preprocessing import Preprocessing
from nas.scoring.runtimes import Logits, Runtime
from nas.values import whole

BATCH_PIXELS = 1 << 20
MOST_IN_A_BATCH = 256
LEAST_IN_A_BATCH = 8
AHEAD = 2
"""Batches that are decoded while the network is at work on the one before them."""

Places = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An image that could not be read.

    Attributes:
        name: What it is called: its path, or its place in a pack.
        reason: Why, as far as Pillow says.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outputs:
    """What a network gives for images, in the order of the images.

    Attributes:
        places: int64 of shape (count,), the index of each image that was read.
        logits: float32 of shape (count, outputs), as the network gives them.
        values: float64 of shape (count, outputs), what they stand for: probabilities of classes or of labels,
            or numbers in the labels' own unit.
        unreadable: The images that were not read.
    """

    places: Places
    logits: Logits
    values: Numbers
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.places)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Puts batches, at least one, together."""
    return Outputs(
        places=np.concatenate([part.places for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        unreadable=tuple(one for part in parts for one in part.unreadable),
    )


def batch_size_for(batch_size: int | None, resolution: int) -> int:
    """The batch size that was given; else up to 256 images, fewer where they are large.

    Raises:
        UsageError: It is no integer of at least 1.
    """
    if batch_size is not None:
        return whole("batch_size", batch_size, least=1)
    return min(MOST_IN_A_BATCH, max(LEAST_IN_A_BATCH, BATCH_PIXELS // resolution**2))


def run_over(run: Runtime, part: Part, preprocessing: Preprocessing, *, batch_size: int) -> Iterator[Outputs]:
    """Runs a network over images; memory is that of a few batches, however many images there are.

    Args:
        run: The network.
        part: The images; those on disk are decoded in threads, ahead of the network.
        preprocessing: How they become pixels, and what the outputs stand for.
        batch_size: Images a forward pass.

    Yields:
        The outputs for each batch.

    Raises:
        ExportError: An output is not finite.
        ExecutorError: The memory does not suffice.
    """
    for places, images, unreadable in _batches(part, preprocessing.reading, batch_size):
        logits = run(images) if len(images) else np.empty((0, len(preprocessing.classes)), np.float32)
        is_finite = np.isfinite(logits).all(1)
        if not is_finite.all():
            name = part.name(int(places[int(np.flatnonzero(~is_finite)[0])]))
            raise ExportError(
                f"the logits of the network must be finite, but for {name} are not: its weights or its "
                "preprocessing are damaged; export it again",
                field="bundle",
            )
        yield Outputs(
            places=places, logits=logits, values=preprocessing.interpret(logits), unreadable=unreadable
        )


Batch = tuple[Places, Images, tuple[Unreadable, ...]]


def _batches(part: Part, reading: Reading, batch_size: int) -> Iterator[Batch]:
    starts = range(0, len(part), batch_size)
    if isinstance(part, Files):
        yield from _decoded(part, reading, [range(len(part))[s : s + batch_size] for s in starts])
        return
    for start in starts:
        images = part.images[start : start + batch_size]
        yield np.arange(start, start + len(images)), images, ()


def _decoded(files: Files, reading: Reading, batches: Sequence[range]) -> Iterator[Batch]:
    """Decodes files in threads, at most so many batches ahead."""
    waiting: deque[tuple[range, list[Future[Images | Unreadable]]]] = deque()
    with ThreadPoolExecutor(decoding_threads()) as pool:
        try:
            for places in batches:
                waiting.append((places, [pool.submit(_decode, files, index, reading) for index in places]))
                if len(waiting) > AHEAD:
                    yield _collected(*waiting.popleft(), reading)
            while waiting:
                yield _collected(*waiting.popleft(), reading)
        finally:
            pool.shutdown(cancel_futures=True)  # what nobody will look at is not decoded


def _decode(files: Files, index: int, reading: Reading) -> Images | Unreadable:
    try:
        return decode(Path(files.root) / files.paths[index], reading)
    except READ_ERRORS as error:
        return Unreadable(name=files.name(index), reason=reason_of(error))


def _collected(places: range, decoded: Sequence[Future[Images | Unreadable]], reading: Reading) -> Batch:
    results = [one.result() for one in decoded]
    readable = [index for index, one in zip(places, results, strict=True) if not isinstance(one, Unreadable)]
    images = [one for one in results if not isinstance(one, Unreadable)]
    shape = (0, reading.channels, reading.resolution, reading.resolution)
    return (
        np.array(readable, dtype=np.int64),
        np.stack(images) if images else np.empty(shape, np.uint8),
        tuple(one for one in results if isinstance(one, Unreadable)),
    )


def reason_of(error: Exception) -> str:
    """What a decoder complains of, in one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    words = lines[0] if lines else type(error).__name__
    return "no image that Pillow knows" if words.startswith("cannot identify image file") else words
