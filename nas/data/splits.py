"""Owns `Source`, what a reader of images hands over, and carving it into three splits.

Does not own reading: folders, packs and named data sets are files of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.decoding import READ_ERRORS, decode
from nas.data.images import Files, ImageData, Images, Labels, Part, Pixels, digest
from nas.data.pixel_checks import pixel_warnings
from nas.data.reading import Reading
from nas.errors import DataError

LEAST_IMAGES_PER_CLASS = 3
STATISTICS_IMAGES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Images as they came, all of one resolution, before they are split.

    Attributes:
        train: Images to learn from; what is not given beside them is carved from them.
        search: A given selection set, or None.
        test: A given test set, or None.
        content_digest: See `ImageData`; so are the other fields.
    """

    name: str
    classes: tuple[str, ...]
    reading: Reading
    train: Part
    search: Part | None = None
    test: Part | None = None
    content_digest: str
    mirrors: bool = True
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def split_source(source: Source, *, search_fraction: float, test_fraction: float, seed: int) -> ImageData:
    """Carves a source into three splits, each class in the same proportions, at least one image of each.

    Args:
        source: What a reader handed over.
        search_fraction: Share of the training images that becomes the search split, unless one is given.
        test_fraction: Share of all images that becomes the test split, unless one is given.
        seed: Decides which images; the split's fingerprint holds the outcome.

    Raises:
        DataError: A fraction is out of range, or there are too few classes or images of a class.
    """
    for name, fraction in (("search_fraction", search_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise DataError(f"`0 < {name} < 1` must hold, but got {name}={fraction}")
    _check_classes(source)
    rng = np.random.default_rng(seed)
    rest, test, test_where = _carve(source.train, source.test, test_fraction, rng)
    train, search, search_where = _carve(rest, source.search, search_fraction, rng)
    sample = sample_images(train, source.reading)
    mean, std = channel_statistics(sample)
    seen = [part.images for part in (train, search, test) if isinstance(part, Pixels)] or [sample]
    return ImageData(
        name=source.name,
        classes=source.classes,
        reading=source.reading,
        train=train,
        search=search,
        test=test,
        mean=mean,
        std=std,
        mirrors=source.mirrors,
        content_digest=source.content_digest,
        split_fingerprint=digest(test_where, search_where),
        notes=source.notes,
        warnings=(*source.warnings, *pixel_warnings(seen)),
    )


def stratified(labels: Labels, fraction: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Chooses a share of each class, at least one image and never all; returns their indices, ascending."""
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))


def sample_images(part: Part, reading: Reading) -> Images:
    """At most 2,000 images of a part, spread evenly; at most 256 of those on disk."""
    where = np.unique(np.linspace(0, len(part) - 1, min(len(part), STATISTICS_IMAGES)).astype(np.int64))
    if isinstance(part, Files):
        where = where[:: max(1, len(where) // 256)]
    return _read(part, where, reading)


def channel_statistics(pixels: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in [0, 1]."""
    # Integer sums are exact, so the statistics do not depend on the order of summation.
    sums = pixels.sum(axis=(0, 2, 3), dtype=np.int64)
    squares = (pixels.astype(np.int64) ** 2).sum(axis=(0, 2, 3))
    count = pixels.size // pixels.shape[1]
    mean = sums / count / 255
    std = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, (1 / 255) ** 2))
    return tuple(map(float, mean)), tuple(map(float, std))


def _carve(
    pool: Part, given: Part | None, fraction: float, rng: np.random.Generator
) -> tuple[Part, Part, npt.NDArray[np.int64]]:
    """Returns what stays, what was carved or given, and the carved indices (none when it was given)."""
    if given is not None:
        return pool, given, np.empty(0, dtype=np.int64)
    where = stratified(pool.labels, fraction, rng)
    stays = np.setdiff1d(np.arange(len(pool)), where)
    return pool.take(stays), pool.take(where), where


def _check_classes(source: Source) -> None:
    if len(source.classes) < 2:
        raise DataError(f"at least 2 classes are needed, but {source.name} has {len(source.classes)}")
    counts = np.bincount(source.train.labels, minlength=len(source.classes))
    fewest = int(counts.argmin())
    if counts[fewest] < LEAST_IMAGES_PER_CLASS:
        raise DataError(
            f"each class needs at least {LEAST_IMAGES_PER_CLASS} training images, one for each split, but "
            f"{source.classes[fewest]!r} of {source.name} has {counts[fewest]}: add some or remove the class"
        )


def _read(part: Part, where: npt.NDArray[np.int64], reading: Reading) -> Images:
    if isinstance(part, Pixels):
        return part.images[where]
    images = []
    for index in where:
        try:
            images.append(decode(Path(part.root) / part.paths[index], reading))
        except READ_ERRORS:
            continue  # counted when the folder was read; a few of 256 do not move a mean
    if not images:
        raise DataError(
            f"none of {len(where)} images in {part.root} could be decoded: is the folder complete?"
        )
    return np.stack(images)
