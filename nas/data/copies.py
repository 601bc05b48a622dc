"""Finds images that are copies of each other, within a split and across splits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.data.images import Labels
from nas.data.targets import label_text
from nas.data.tree import printable
from nas.tasks import CLASSIFICATION, TaskName
from nas.values import few

# One number per image; two images have the same number if, and only if, they are copies of each other.
Contents = npt.NDArray[np.int64]
Key = tuple[int, bytes] | None

SAMPLE_BYTES = 4_096
CHUNK_BYTES = 1 << 20
BATCH = 64  # files a thread reads at a time


def file_contents(root: Path, sizes: Mapping[str, int]) -> dict[str, int]:
    """Numbers files by their bytes: copies get the same number, every other file one of its own.

    Only files of equal size are read: first some bytes of the middle, then the whole of those that agree.

    Args:
        root: The folder that the paths are relative to.
        sizes: The size in bytes of each path.
    """
    groups = [group for group in _group(sizes, sizes.values()) if sizes[group[0]] > 0]
    with ThreadPoolExecutor(16) as pool:
        for read in (_sample, _whole):
            suspects = [path for group in groups for path in group]
            files = [(f"{root}/{path}", sizes[path]) for path in suspects]
            batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
            groups = _group(suspects, chain.from_iterable(pool.map(partial(_each, read), batches)))
    first = {path: group[0] for group in groups for path in group}
    numbers = {path: number for number, path in enumerate(sizes)}
    return {path: numbers[first.get(path, path)] for path in sizes}


def array_contents(images: Mapping[str, Iterable[npt.NDArray[np.uint8] | bytes]]) -> dict[str, Contents]:
    """Numbers the images of several splits by their pixels, or by their bytes."""
    numbers: dict[bytes, int] = {}
    found = {}
    for part, every in images.items():
        digests = (_digest(image) for image in every)
        found[part] = np.array([numbers.setdefault(key, len(numbers)) for key in digests], dtype=np.int64)
    return found


def conflicting_labels(
    names: Mapping[str, Sequence[str]],
    labels: Mapping[str, Labels],
    contents: Mapping[str, Contents],
    classes: Sequence[str],
    task: TaskName = CLASSIFICATION,
) -> tuple[str, ...]:
    """The warning for copies of one image under different labels; names, labels and contents are by split."""
    met: dict[int, tuple[str, Any]] = {}
    pairs = []
    for part, numbers in contents.items():
        for name, label, number in zip(names[part], labels[part].tolist(), numbers.tolist(), strict=True):
            first, first_label = met.setdefault(number, (name, label))
            if label != first_label:
                own, other = (label_text(task, classes, each) for each in (label, first_label))
                pairs.append(f"{printable(name)} ({own}) is {printable(first)} ({other})")
    if not pairs:
        return ()
    are = "image is a copy" if len(pairs) == 1 else "images are copies"
    return (f"{len(pairs):,} {are} with another label: {few(pairs)}",)


def shared_images(contents: Mapping[str, Contents]) -> tuple[str, ...]:
    """A warning for every two splits with copies of the same images."""
    pairs = [("search", "training"), ("test", "training"), ("test", "search")]
    numbers = {{"train": "training"}.get(part, part): each for part, each in contents.items()}
    warnings = []
    for held_out, other in pairs:
        if held_out in numbers and other in numbers:
            count, total = int(np.isin(numbers[held_out], numbers[other]).sum()), len(numbers[held_out])
            if count:
                warnings.append(
                    f"{count:,} of {total:,} {held_out} images are copies of {other} images, so what is "
                    f"measured on {held_out} images is overstated: remove them from one of the two"
                )
    return tuple(warnings)


def _group(paths: Iterable[str], keys: Iterable[object]) -> list[list[str]]:
    """The paths with equal keys, two or more each; a key of None equals no other."""
    groups: dict[object, list[str]] = defaultdict(list)
    for path, key in zip(paths, keys, strict=True):
        if key is not None:
            groups[key].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _each(read: Callable[[str, int], Key], files: Sequence[tuple[str, int]]) -> list[Key]:
    return [read(path, size) for path, size in files]


def _sample(path: str, size: int) -> Key:
    return _hash(path, size, start=max(0, (size - SAMPLE_BYTES) // 2), most=SAMPLE_BYTES)


def _whole(path: str, size: int) -> Key:
    return _hash(path, size, start=0, most=size)


def _hash(path: str, size: int, *, start: int, most: int) -> Key:
    """Size and digest of a piece of a file; None where it cannot be read, which its decoding will name."""
    sha = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - faster; there may be a million files
            file.seek(start)
            while most > 0 and (chunk := file.read(min(most, CHUNK_BYTES))):
                sha.update(chunk)
                most -= len(chunk)
    except OSError:
        return None
    return size, sha.digest()


def _digest(image: npt.NDArray[np.uint8] | bytes) -> bytes:
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
