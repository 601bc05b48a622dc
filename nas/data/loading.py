"""`load_data`: from a folder, a pack, a known name or arrays to `ImageData` in three splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from nas.data.image_folder import has_classes, load_folder
from nas.data.images import (
    FIT,
    SEARCH_FRACTION,
    TEST_FRACTION,
    Files,
    Fit,
    ImageData,
    Pixels,
    Reading,
    SplitName,
    Wanted,
    check_fit,
    check_fits,
)
from nas.data.labels_csv import find_table, load_table
from nas.data.named import NAMES, find_name, load_named, unknown_name
from nas.data.packs import array_source, load_pack
from nas.data.spec import is_table, looks_like_path, split_columns
from nas.data.splits import Source, split_source
from nas.data.targets import check_task, require_task
from nas.errors import DataError
from nas.tasks import CLASSIFICATION, TaskName
from nas.trial import Say, say_nothing
from nas.values import whole

__all__ = ["NAMES", "Files", "ImageData", "Pixels", "SplitName", "check_fits", "from_arrays", "load_data"]

DEFAULT_ROOT = Path("~/.cache/mnas/data")
RESIDENT_BYTES = 2 << 30
LEAST_RESOLUTION, GREATEST_RESOLUTION = 4, 2048


def load_data(
    spec: str | Path | ImageData,
    *,
    task: TaskName | None = None,
    root: str | Path | None = None,
    download: bool = False,
    resolution: int | None = None,
    search_fraction: float = SEARCH_FRACTION,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    resident_bytes: int = RESIDENT_BYTES,
    fit: Fit = FIT,
    progress: Say = say_nothing,
) -> ImageData:
    """Reads images and splits them into train, search and test.

    Args:
        spec: A folder of images, a `.npz` pack, a CSV of file names and labels (`labels.csv`, or
            `labels.csv:age,height` for these columns), the name of a data set (`NAMES`), or data already
            loaded, which are returned as they are.
        task: What networks learn to predict: `classification`, `multilabel` or `regression`; by default what
            the labels say.
        root: Folder with torchvision's files, for data sets by name; by default `~/.cache/mnas/data`.
        download: Whether a data set by name may be downloaded into `root`.
        resolution: Height and width in pixels; by default that of the images, or their median.
        search_fraction: Share of the training images that becomes the search split.
        test_fraction: Share of all images that becomes the test split, where no test or val set is given.
        seed: Seed of the split.
        resident_bytes: A folder whose decoded images take more bytes is read from disk during training.
        fit: How an image that is not square becomes square: its centre is cut out (`crop`), it is padded with
            black (`pad`), or it is distorted (`stretch`).
        progress: Receives how many images of a folder or pack were read.

    Raises:
        DataError: There are no such data, or they cannot be used; the message says what to do.
    """
    task = check_task(task)
    if isinstance(spec, ImageData):
        require_task(task, spec.task, spec.name)
        return spec
    if resolution is not None:
        resolution = whole(
            "resolution", resolution, least=LEAST_RESOLUTION, most=GREATEST_RESOLUTION, error=DataError
        )
    check_fit(fit)
    source = read_source(
        spec,
        Wanted(resolution=resolution, fit=fit),
        task=task,
        root=root,
        download=download,
        resident_bytes=resident_bytes,
        progress=progress,
    )
    return split_source(source, search_fraction=search_fraction, test_fraction=test_fraction, seed=seed)


def from_arrays(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    name: str = "arrays",
    classes: tuple[str, ...] | None = None,
    task: TaskName | None = None,
    test_images: npt.NDArray[Any] | None = None,
    test_labels: npt.NDArray[Any] | None = None,
    mirrors: bool | None = None,
    fit: Fit = FIT,
    search_fraction: float = SEARCH_FRACTION,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
) -> ImageData:
    """Makes data from arrays in memory.

    Args:
        images: uint8 of shape (n, h, w), (n, h, w, channels) or (n, channels, h, w), channels 1 or 3.
        labels: Integers from 0, of shape (n,); for `multilabel` 0 and 1, of shape (n, labels); for
            `regression` numbers, of shape (n,) or (n, columns).
        name: What users call the data.
        classes: Names of the classes, labels or columns; by default their numbers.
        task: What networks learn to predict; by default what the type and shape of the labels say.
        test_images: A test set, or None to carve one.
        test_labels: Its labels.
        mirrors: Whether a mirrored image keeps its label; by default where labels are not numbers.
        fit: As in `load_data`.
        search_fraction: As in `load_data`.
        test_fraction: As in `load_data`.
        seed: As in `load_data`.

    Raises:
        DataError: Shapes, types or labels do not fit.
    """
    parts = {"train": (images, labels)}
    if (test_images is None) != (test_labels is None):
        missing = "test_images" if test_images is None else "test_labels"
        raise DataError(
            f"test_images and test_labels must be given together, but {missing} is missing: give both",
            field=missing,
        )
    if test_images is not None and test_labels is not None:
        parts["test"] = (test_images, test_labels)
    source = array_source(
        name, parts, Wanted(fit=fit), classes=classes, mirrors=mirrors, task=check_task(task)
    )
    return split_source(source, search_fraction=search_fraction, test_fraction=test_fraction, seed=seed)


def read_source(
    spec: str | Path,
    how: Wanted | Reading,
    *,
    task: TaskName | None = None,
    root: str | Path | None = None,
    download: bool = False,
    resident_bytes: int = RESIDENT_BYTES,
    progress: Say = say_nothing,
) -> Source:
    """Reads images without splitting them further.

    Args:
        spec: As in `load_data`.
        how: What is wanted of the images; or how they are read, where a network exists that is tried on them.
        task: As in `load_data`.
        root: As in `load_data`.
        download: As in `load_data`.
        resident_bytes: As in `load_data`.
        progress: As in `load_data`.

    Raises:
        DataError: There are no such data, or they cannot be used; the message says what to do.
    """
    name = find_name(spec) if isinstance(spec, str) and not looks_like_path(spec) else None
    if name is not None:
        where = Path(root if root is not None else DEFAULT_ROOT).expanduser()
        require_task(task, CLASSIFICATION, name)
        return load_named(
            name, how, root=where, download=download, resident_bytes=resident_bytes, progress=progress
        )
    path, columns = split_columns(spec)
    if path.is_file() and is_table(path):
        return load_table(
            path, how, chosen=columns, task=task, resident_bytes=resident_bytes, progress=progress
        )
    if path.is_dir():
        return _load_directory(path, how, task, resident_bytes, progress)
    if path.is_file() and path.suffix == ".npz":
        return load_pack(path, how, task=task, progress=progress)
    if path.exists():
        raise DataError(
            f"{path} must be a folder of images, a .npz pack or a .csv of file names and labels, but is none",
            field="data",
        )
    if isinstance(spec, Path) or looks_like_path(spec):
        kind = "table of labels" if is_table(path) else "folder or pack"
        raise DataError(f"there is no {kind} {path}: check the path", field="data")
    raise unknown_name(spec)


def _load_directory(
    path: Path, how: Wanted | Reading, task: TaskName | None, resident_bytes: int, progress: Say
) -> Source:
    """Reads a folder with a subfolder for each class; or, where there is none, with a table of labels."""
    table = find_table(path)
    if table is not None and not has_classes(path):
        return load_table(table, how, task=task, resident_bytes=resident_bytes, progress=progress)
    require_task(task, CLASSIFICATION, f"a folder of classes such as {path}")
    source = load_folder(path, how, resident_bytes=resident_bytes, progress=progress)
    if table is None:
        return source
    note = f"the subfolders are the classes; give {table} to read labels from it"
    return replace(source, notes=(note, *source.notes))
