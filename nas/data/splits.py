"""`Source`, what a reader of images hands over, and carving it into three splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nas.data.copies import Contents, shared_images
from nas.data.decoding import READ_ERRORS, decode
from nas.data.images import Carving, Files, ImageData, Images, Labels, Part, Pixels, Reading, SplitName
from nas.data.iterative import iterative
from nas.data.survey import pixel_warnings
from nas.data.targets import by_name, imbalance_warning, label_counts, target_statistics
from nas.data.tree import few
from nas.errors import DataError
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, TaskName
from nas.values import clean, digest, real, seed_of

T = TypeVar("T")

LEAST_IMAGES_PER_CLASS = 3
STATISTICS_IMAGES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Images as they came, all of one resolution, before they are split.

    Attributes:
        parts: The images of `train`, and of `val` and `test` where they are given: what is missing is carved
            from `train`. `val` is the search split beside `test`, and alone the test split.
        content_digest: See `ImageData`; so are the other fields.
        contents: By part, a number per image that only its copies share; copies are kept in one split.
            Without them every image is taken to be different.
        unreadable: By part, the names of images that cannot be read.
        labels_are_listed: Whether a label that `classes` lacks is on no image; else nothing is known of it.
    """

    name: str
    classes: tuple[str, ...]
    reading: Reading
    parts: Mapping[str, Part]
    content_digest: str
    mirrors: bool = True
    task: TaskName = CLASSIFICATION
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    contents: Mapping[str, Contents] = field(default_factory=dict)
    unreadable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels_are_listed: bool = False
    native_side: float | None = None

    def lost(self, name: SplitName) -> tuple[str, ...]:
        """Names of images that cannot be read, of a split that is given, or of what it is carved from."""
        by_split = _by_split(self.unreadable)
        return by_split.get(name, by_split.get("train", ()))

    def given(self, name: SplitName) -> Part | None:
        """The part that is a split; None where it is to be carved."""
        return _by_split(self.parts).get(name)


def _by_split(parts: Mapping[str, T]) -> dict[str, T]:
    """Names parts by split."""
    val = "search" if "test" in parts else "test"
    return {val if part == "val" else part: each for part, each in parts.items()}


def split_source(source: Source, *, search_fraction: float, test_fraction: float, seed: int) -> ImageData:
    """Carves a source into three splits that are alike.

    Each class, label or quantile of numbers has its share of each split, at least one image where there are
    enough.

    Args:
        source: What a reader handed over.
        search_fraction: Share of the training images that becomes the search split, unless one is given.
        test_fraction: Share of all images that becomes the test split, unless one is given.
        seed: Decides which images; the split's fingerprint holds the outcome.

    Raises:
        DataError: A fraction is out of range, there are too few classes or images of a class or label, or all
            numbers of a column are equal.
    """
    search_fraction, test_fraction = (
        real(name, fraction, above=0, below=1, error=DataError)
        for name, fraction in (("search_fraction", search_fraction), ("test_fraction", test_fraction))
    )
    seed = seed_of(seed, error=DataError)
    _check_labels(source)
    rng = np.random.default_rng(seed)
    everything = source.parts["train"]
    pool = Pool(part=everything, contents=_contents(source, "train", everything))
    reserve = 2 if source.given("search") is None else 1
    rest, test, test_where = _carve(pool, source, "test", test_fraction, rng, reserve)
    train, search, search_where = _carve(rest, source, "search", search_fraction, rng, 1)
    sample = sample_images(train.part, source.reading)
    mean, std = channel_statistics(sample)
    target_mean, target_std = _target_statistics(source, train.part)
    parts = (train.part, search.part, test.part)
    seen = [part.images for part in parts if isinstance(part, Pixels)] or [sample]
    shared = shared_images({"train": train.contents, "search": search.contents, "test": test.contents})
    return ImageData(
        name=clean(source.name),
        classes=tuple(map(clean, source.classes)),
        reading=source.reading,
        train=train.part,
        search=search.part,
        test=test.part,
        mean=mean,
        std=std,
        mirrors=source.mirrors,
        content_digest=source.content_digest,
        split_fingerprint=digest(test_where, search_where),
        carving=Carving(seed=seed, search_fraction=search_fraction, test_fraction=test_fraction),
        task=source.task,
        target_mean=target_mean,
        target_std=target_std,
        native_side=source.native_side,
        notes=source.notes + _copies_note(pool, are_apart=not shared),
        warnings=source.warnings
        + _missing_classes(source, {"search": search.part, "test": test.part})
        + shared
        + pixel_warnings(seen)
        + _imbalance(source, parts),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """Images with the numbers of their contents.

    Attributes:
        part: The images.
        contents: As in `Source`, for each image.
    """

    part: Part
    contents: Contents

    def take(self, indices: npt.NDArray[np.int64]) -> Pool:
        """Chooses images."""
        return Pool(part=self.part.take(indices), contents=self.contents[indices])


def stratified(
    labels: Labels,
    fraction: float,
    rng: np.random.Generator,
    *,
    contents: Contents | None = None,
    reserve: int = 1,
) -> npt.NDArray[np.int64]:
    """Chooses a share of each class, at least one image and never all; returns their indices, ascending.

    Copies of an image are chosen together or not at all; those with different labels are never chosen. A
    class of too few different images is split as if all were different.

    Args:
        labels: The class of each image.
        fraction: Share of each class.
        rng: Decides which images.
        contents: Numbers that only copies share, by image; None when all images are different.
        reserve: How many different images of each class must be left where there are copies.
    """
    if contents is None:
        contents = np.arange(len(labels))
    _, first, group, sizes = np.unique(contents, return_index=True, return_inverse=True, return_counts=True)
    is_mixed = np.bincount(group, weights=labels != labels[first[group]]) > 0
    is_first = first[group] == np.arange(len(labels))
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        leaders = members[(is_first & ~is_mixed[group])[members]]
        left = reserve - int(is_mixed[group[members]].any())
        if len(leaders) == len(members) or len(leaders) <= left:
            chosen.append(rng.permutation(members)[:count])
        else:
            groups = group[rng.permutation(leaders)]
            fitting = groups[_fill(sizes[groups], count, len(groups) - max(left, 0))]
            chosen.append(np.flatnonzero(np.isin(group, fitting)))
    return np.unique(np.concatenate(chosen))


def _fill(sizes: npt.NDArray[np.int64], room: int, most: int) -> list[int]:
    """Indices of the first sizes that fit into the room, at most so many; the smallest where none fits."""
    taken: list[int] = []
    for index, size in enumerate(sizes.tolist()):
        if size <= room and len(taken) < most:
            taken.append(index)
            room -= size
    return taken or [int(sizes.argmin())]


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
    pool: Pool, source: Source, name: SplitName, fraction: float, rng: np.random.Generator, reserve: int
) -> tuple[Pool, Pool, npt.NDArray[np.int64]]:
    """Returns what stays, what was carved or given, and the carved indices (none when it was given)."""
    given = source.given(name)
    if given is not None:
        return pool, Pool(part=given, contents=_contents(source, name, given)), np.empty(0, dtype=np.int64)
    labels, contents = pool.part.labels, pool.contents
    if source.task == CLASSIFICATION:
        where = stratified(labels, fraction, rng, contents=contents, reserve=reserve)
    else:
        labels = by_name(source.task, source.classes, labels)
        where = iterative(source.task, labels, fraction, rng, contents=contents, reserve=reserve)
    stays = np.setdiff1d(np.arange(len(pool.part)), where)
    return pool.take(stays), pool.take(where), where


def _contents(source: Source, name: SplitName, part: Part) -> Contents:
    """The numbers of a part's contents; where they are not known, numbers that no other image has."""
    known = _by_split(source.contents).get(name)
    start = {"train": 0, "search": 1, "test": 2}[name] << 40
    return known if known is not None else np.arange(start, start + len(part))


def _copies_note(pool: Pool, *, are_apart: bool) -> tuple[str, ...]:
    copies = len(pool.part) - len(np.unique(pool.contents))
    kept = ", and kept in one split with those" if are_apart else ""
    return (f"{copies:,} of {len(pool.part):,} images are copies of others{kept}",) if copies else ()


def _missing_classes(source: Source, parts: Mapping[str, Part]) -> tuple[str, ...]:
    """Warns of held-out splits without images of some classes or labels."""
    warnings = []
    for name, part in parts.items():
        counts = label_counts(source.task, source.classes, part.labels)
        missing = [label for label, count in zip(source.classes, counts, strict=True) if not count]
        if missing:
            share = f"{len(missing):,} of {len(source.classes):,} {TASKS[source.task].outputs}"
            warnings.append(f"the {name} split lacks {share}: {few(missing)}")
    return tuple(warnings)


def _imbalance(source: Source, parts: Sequence[Part]) -> tuple[str, ...]:
    """Warns of classes of which one is so large that accuracy misleads."""
    if source.task != CLASSIFICATION:
        return ()
    return imbalance_warning(source.classes, np.concatenate([part.labels for part in parts]))


def _target_statistics(source: Source, train: Part) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each column of numbers; nothing for other tasks."""
    if source.task != REGRESSION:
        return (), ()
    return target_statistics(source.name, source.classes, train.labels)


def _check_labels(source: Source) -> None:
    """Checks that there is something to learn, and enough of it for three splits."""
    if source.task == CLASSIFICATION:
        return _check_classes(source)
    labels = source.parts["train"].labels
    if len(labels) < LEAST_IMAGES_PER_CLASS:
        raise DataError(
            f"at least {LEAST_IMAGES_PER_CLASS} training images are needed, one for each split, but "
            f"{source.name} has {len(labels)}: add some",
            field="data",
        )
    absent = [
        name
        for name, count in zip(source.classes, label_counts(source.task, source.classes, labels), strict=True)
        if not count
    ]
    if absent:
        raise DataError(
            f"each label needs training images that have it, but {few(absent)} of {source.name} has none: "
            "add some, or leave the label out",
            field="data",
        )
    if source.task == MULTILABEL:
        _check_shared(source, labels)
    return None


def _check_shared(source: Source, labels: Labels) -> None:
    """Checks that most images with labels have one that can be in all splits."""
    is_shared = labels.sum(0) >= LEAST_IMAGES_PER_CLASS
    count, alone = len(labels), int((labels.any(1) & ~labels[:, is_shared].any(1)).sum())
    if 2 * alone > count:
        raise DataError(
            f"most images must have a label that at least {LEAST_IMAGES_PER_CLASS} images have, one for each "
            f"split, but {alone:,} of the {count:,} of {source.name} have rarer ones alone, as are "
            f"{int((~is_shared).sum()):,} of its {len(is_shared):,} labels: give another column, add images, "
            "or give --task regression if they are numbers to predict",
            field="data",
        )


def _check_classes(source: Source) -> None:
    if len(source.classes) < 2:
        only = "".join(f", {name!r}" for name in source.classes)
        raise DataError(
            f"at least 2 classes are needed, but {source.name} has {len(source.classes)}{only}: add images "
            "of another class",
            field="data",
        )
    counts = np.bincount(source.parts["train"].labels, minlength=len(source.classes))
    fewest = int(counts.argmin())
    if counts[fewest] < LEAST_IMAGES_PER_CLASS:
        raise DataError(
            f"each class needs at least {LEAST_IMAGES_PER_CLASS} training images, one for each split, but "
            f"{source.classes[fewest]!r} of {source.name} has {counts[fewest]}: add some or remove the class",
            field="data",
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
