"""`load_data`: from a folder, a pack, a name or arrays to `ImageData` in three splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy.typing as npt

from nas.argument_checks import whole
from nas.data.image_folder import load_folder
from nas.data.images import Files, ImageData, Pixels, SplitName, check_fits
from nas.data.named_data import NAMES, find_name, load_named, near_names
from nas.data.packs import array_source, load_pack
from nas.data.reading import Fit
from nas.data.splits import Source, split_source
from nas.errors import DataError
from nas.trial import Say, say_nothing

__all__ = ["NAMES", "Files", "ImageData", "Pixels", "SplitName", "check_fits", "from_arrays", "load_data"]

DEFAULT_ROOT = Path("~/.cache/mnas/data")
LEAST_RESOLUTION, GREATEST_RESOLUTION = 4, 2048


def load_data(
    spec: str | Path | ImageData,
    *,
    root: str | Path | None = None,
    download: bool = False,
    resolution: int | None = None,
    search_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
    resident_bytes: int = 2 << 30,
    fit: Fit = "crop",
    progress: Say = say_nothing,
) -> ImageData:
    """Reads images and splits them into train, search and test.

    Args:
        spec: A folder of images, a `.npz` pack, the name of a data set (`NAMES`), or data already loaded,
            which are returned as they are.
        root: Folder with torchvision's files, for data sets by name; by default `~/.cache/mnas/data`.
        download: Whether a data set by name may be downloaded into `root`.
        resolution: Height and width in pixels; by default that of the images, or their median.
        search_fraction: Share of the training images that becomes the search split.
        test_fraction: Share of all images that becomes the test split, where no test or val set is given.
        seed: Seed of the split.
        resident_bytes: A folder whose decoded images take more bytes is read from disk during training.
        fit: How an image that is not square becomes square: its centre is cut out (`crop`), it is padded with
            black (`pad`), or it is distorted (`stretch`).
        progress: Told how many images of a folder or pack were read.

    Raises:
        DataError: There are no such data, or they cannot be used; the message says what to do.
    """
    if isinstance(spec, ImageData):
        return spec
    if resolution is not None:
        resolution = whole(
            "resolution", resolution, least=LEAST_RESOLUTION, most=GREATEST_RESOLUTION, error=DataError
        )
    if fit not in get_args(Fit):
        raise DataError(f"`fit in {get_args(Fit)}` must hold, but got fit={fit!r}")
    where = Path(root if root is not None else DEFAULT_ROOT).expanduser()
    source = _read(
        spec,
        root=where,
        download=download,
        resolution=resolution,
        resident_bytes=resident_bytes,
        fit=fit,
        progress=progress,
    )
    return split_source(source, search_fraction=search_fraction, test_fraction=test_fraction, seed=seed)


def from_arrays(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    name: str = "arrays",
    classes: tuple[str, ...] | None = None,
    test_images: npt.NDArray[Any] | None = None,
    test_labels: npt.NDArray[Any] | None = None,
    mirrors: bool = True,
    fit: Fit = "crop",
    search_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> ImageData:
    """Makes data from arrays in memory.

    Args:
        images: uint8 of shape (n, h, w), (n, h, w, channels) or (n, channels, h, w), channels 1 or 3.
        labels: Integers from 0, of shape (n,).
        name: What people call the data.
        classes: Names of the classes; by default their numbers.
        test_images: A test set, or None to carve one.
        test_labels: Its labels.
        mirrors: Whether a mirrored image keeps its label.
        fit: As in `load_data`.
        search_fraction: As in `load_data`.
        test_fraction: As in `load_data`.
        seed: As in `load_data`.

    Raises:
        DataError: Shapes, types or labels do not fit.
    """
    parts = {"train": (images, labels)}
    if (test_images is None) != (test_labels is None):
        raise DataError("test_images and test_labels must be given together, but one of them is missing")
    if test_images is not None and test_labels is not None:
        parts["test"] = (test_images, test_labels)
    source = array_source(name, parts, classes=classes, mirrors=mirrors, fit=fit)
    return split_source(source, search_fraction=search_fraction, test_fraction=test_fraction, seed=seed)


def _read(
    spec: str | Path,
    *,
    root: Path,
    download: bool,
    resolution: int | None,
    resident_bytes: int,
    fit: Fit,
    progress: Say,
) -> Source:
    name = find_name(spec) if isinstance(spec, str) and not _looks_like_path(spec) else None
    if name is not None:
        return load_named(name, root=root, download=download, resolution=resolution, fit=fit)
    path = Path(spec).expanduser()
    if path.is_dir():
        return load_folder(
            path, resolution=resolution, resident_bytes=resident_bytes, fit=fit, progress=progress
        )
    if path.is_file() and path.suffix == ".npz":
        return load_pack(path, resolution=resolution, fit=fit, progress=progress)
    if path.exists():
        raise DataError(f"{path} must be a folder of images or a .npz pack, but is neither")
    if isinstance(spec, Path) or _looks_like_path(spec):
        raise DataError(f"there is no folder or pack {path}: check the path")
    raise DataError(f"{spec!r} is no folder and no known data set: {near_names(spec)}")


def _looks_like_path(spec: str) -> bool:
    return "/" in spec or "\\" in spec or spec.startswith((".", "~")) or spec.endswith(".npz")
