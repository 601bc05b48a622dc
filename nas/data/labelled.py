"""`load_labelled`: the images of one split, read as a network that exists was trained to see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from nas.data.images import Carving, ImageData, Part, Reading, SplitName, joined
from nas.data.loading import read_source
from nas.data.splits import Source, split_source
from nas.data.targets import require_task
from nas.errors import DataError
from nas.tasks import CLASSIFICATION, TaskName
from nas.trial import Say, say_nothing
from nas.values import clean

WholeOrSplit = Literal["test", "search", "train", "all"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Images of known classes, and where they come from.

    Attributes:
        name: What users call the data.
        classes: Names of the classes, labels or columns of the data, in their own order.
        part: The images, with labels as in `ImageData`.
        reading: How they were read.
        split: Which split they are, or `all`.
        task: What the labels are.
        content_digest: That of the data, whatever the size they are read at (see `ImageData`).
        split_fingerprint: That of the split; empty where it was given by the data or is all of them.
        carving: How the split was carved; None where it was given, is all of them, or that is not known.
        unreadable: Names of images that cannot be read, of the split or of what it was carved from.
        labels_are_listed: See `Source`.
        notes: What was decided on the user's behalf.
        warnings: What the user should look at.
    """

    name: str
    classes: tuple[str, ...]
    part: Part
    reading: Reading
    split: WholeOrSplit
    content_digest: str
    task: TaskName = CLASSIFICATION
    split_fingerprint: str = ""
    carving: Carving | None = None
    unreadable: tuple[str, ...] = ()
    labels_are_listed: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def load_labelled(
    spec: str | Path | ImageData,
    split: WholeOrSplit,
    reading: Reading,
    *,
    carving: Carving,
    task: TaskName | None = None,
    root: str | Path | None = None,
    download: bool = False,
    progress: Say = say_nothing,
) -> Labelled:
    """Reads one split as a network sees it.

    Less is asked of images than for a training: one class is enough, some may have no image, and those that
    cannot be read are skipped, however many they are. A split that the data do not give is carved from the
    training images, as `load_data` does.

    Args:
        spec: As in `load_data`.
        split: Which split; `all` is every image.
        reading: How images become pixels.
        carving: Seed and fractions for a split that is carved.
        task: What the network was trained for; None takes what the labels say.
        root: As in `load_data`.
        download: As in `load_data`.
        progress: Receives how many images were read.

    Raises:
        DataError: There are no such data, no such split, no image in it, or data that are loaded already were
            read otherwise or have another task.
    """
    if split not in get_args(WholeOrSplit):
        raise DataError(
            f"`split in {get_args(WholeOrSplit)}` must hold, but got split={split!r}: give one of these",
            field="split",
        )
    if isinstance(spec, ImageData):
        require_task(task, spec.task, spec.name)
        return _of_loaded(spec, split, reading)
    source = read_source(spec, reading, task=task, root=root, download=download, progress=progress)
    given = joined([*source.parts.values()]) if split == "all" else source.given(split)
    if given is None or (split == "train" and "train" in source.parts):
        return _carved(source, split, carving)
    if not len(given):
        raise DataError(
            f"the {split} split of {source.name} must hold images, but is empty: add some", field="split"
        )
    return Labelled(
        name=clean(source.name),
        classes=tuple(map(clean, source.classes)),
        part=given,
        reading=reading,
        split=split,
        task=source.task,
        content_digest=source.content_digest,
        unreadable=tuple(chain(*source.unreadable.values())) if split == "all" else source.lost(split),
        labels_are_listed=source.labels_are_listed,
        notes=source.notes,
        warnings=source.warnings,
    )


def _carved(source: Source, split: WholeOrSplit, carving: Carving) -> Labelled:
    if "train" not in source.parts:
        raise DataError(
            f"{source.name} must give the {split} split or training images to carve it from, but gives "
            f"{', '.join(source.parts)}: choose that split, or all",
            field="split",
        )
    try:
        data = split_source(
            source,
            search_fraction=carving.search_fraction,
            test_fraction=carving.test_fraction,
            seed=carving.seed,
        )
    except DataError as error:
        if error.field not in ("", "data"):
            raise
        raise DataError(
            f"the {split} split of {source.name} must be carved, but cannot be: {error}; or choose the split "
            "all, which is every image",
            field="split",
        ) from error
    return replace(
        _of_loaded(data, split, source.reading),
        unreadable=source.lost(_name(split)),
        labels_are_listed=source.labels_are_listed,
    )


def _of_loaded(data: ImageData, split: WholeOrSplit, reading: Reading) -> Labelled:
    differences = _differences(data, reading)
    everything = (data.train, data.search, data.test)
    return Labelled(
        name=data.name,
        classes=data.classes,
        part=joined(everything) if split == "all" else data.split(_name(split)),
        reading=data.reading,
        split=split,
        task=data.task,
        content_digest=data.content_digest,
        split_fingerprint="" if split == "all" else data.split_fingerprint,
        carving=None if split == "all" else data.carving,
        notes=data.notes,
        warnings=data.warnings + differences,
    )


def _name(split: WholeOrSplit) -> SplitName:
    assert split != "all"
    return split


def _differences(data: ImageData, reading: Reading) -> tuple[str, ...]:
    """Warns of images that are loaded already and may look otherwise than those of the training.

    Raises:
        DataError: They are of another size or number of channels.
    """
    warnings = []
    for field in ("resolution", "channels", "fit", "bits", "float_white", "background"):
        has, needs = getattr(data.reading, field), getattr(reading, field)
        if has == needs:
            continue
        message = (
            f"the network was trained on images read with {field}={needs}, but {data.name} was loaded with "
            f"{field}={has}: give the path of the data in place of loaded data"
        )
        if field in ("resolution", "channels"):
            raise DataError(message, field="data")
        warnings.append(message)
    return tuple(warnings)
