"""Reads `.npz` packs of images.

A pack holds one of two forms, beside an optional `classes` (names, one per class):

*Plain*: `train_images`, uint8 of shape (n, h, w), (n, h, w, channels) or (n, channels, h, w), with 1 or 3
channels; `train_labels`, integers of shape (n,). Likewise `val_` and `test_` where there are such splits.

*Encoded*: `train_jpeg`, uint8, the bytes of all encoded images (JPEG or PNG) end to end; `train_offset`,
integers of shape (n + 1,), so that image i is `train_jpeg[train_offset[i]:train_offset[i + 1]]`;
`train_label`, integers of shape (n,). Likewise `val_` and `test_`.

`valid_`, `eval_` and the like mean `val_`, as for folders. Labels count from 0; in place of them there may be
floating point numbers of shape (n,) or (n, columns) for regression, or 0 and 1 of shape (n, labels) for
multi-label images. `test_` is the test split and
`val_` the search split; `val_` alone is the test split. Other arrays are passed over, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.data.copies import Contents, array_contents, conflicting_labels
from nas.data.decoding import recolour, resize
from nas.data.encoded import EncodedPart, decode_parts
from nas.data.images import Fit, Images, Labels, Numbered, Pixels, Reading, Wanted
from nas.data.layout import PART_WORDS, part_name
from nas.data.splits import Source
from nas.data.survey import cut_notes, native_side, square_notes
from nas.data.targets import array_task, column_names, float_labels
from nas.data.tree import few, printable
from nas.errors import DataError
from nas.reading import OBJECTS, ONE_ARRAY, read_arrays
from nas.tasks import CLASSIFICATION, REGRESSION, TaskName
from nas.trial import Say, say_nothing
from nas.values import digest

Array = npt.NDArray[Any]
PLAIN_FIELDS: tuple[str, ...] = ("images", "labels")
ENCODED_FIELDS: tuple[str, ...] = ("jpeg", "offset", "label")
MOST_CLASSES = 10_000_000
"""As many as a network may have."""

FORMS = "train_images and train_labels, or train_jpeg, train_offset and train_label"


def load_pack(
    path: Path, how: Wanted | Reading, *, task: TaskName | None = None, progress: Say = say_nothing
) -> Source:
    """Reads a pack and decodes it once; with a `Reading`, for a network that exists, any part is enough.

    Raises:
        DataError: The file is truncated or no pack, arrays are missing or do not agree, or too many images
            cannot be read.
    """
    found = _read_arrays(path)
    arrays, notes = _usual_names(found)
    parts = ("train",) if isinstance(how, Wanted) else tuple(PART_WORDS)
    if any(f"{part}_jpeg" in arrays for part in parts):
        content = digest(*(found[name] for name in sorted(found)))
        source = _encoded_source(path, arrays, how, content, task, progress)
        fields = ENCODED_FIELDS
    elif any(f"{part}_images" in arrays for part in parts):
        source = _plain_source(path, arrays, how, task)
        fields = PLAIN_FIELDS
    else:
        raise DataError(f"{path} must hold {FORMS}, but holds {few(sorted(found)) or 'nothing'}")
    used = {f"{part}_{field}" for part in PART_WORDS for field in fields if f"{part}_{fields[0]}" in arrays}
    warnings = _unused_arrays(sorted(arrays.keys() - used - {"classes"}), fields)
    return replace(source, notes=notes + source.notes, warnings=warnings + source.warnings)


def array_source(
    name: str,
    images: Mapping[str, tuple[Array, Array]],
    how: Wanted | Reading,
    *,
    classes: tuple[str, ...] | None = None,
    mirrors: bool | None = None,
    task: TaskName | None = None,
) -> Source:
    """Makes a source from arrays in memory.

    Args:
        name: What users call the data.
        images: Images and labels of `train` and, where given, `val` and `test`. Images are uint8 of shape
            (n, h, w), (n, h, w, channels) or (n, channels, h, w); labels as in `array_task`.
        how: What is wanted of the images, by default the resolution that their shape and the fit give; or
            how they are read, for a network that exists.
        classes: Names of the classes or columns; by default their numbers.
        mirrors: Whether a mirrored image keeps its label; by default where labels are not numbers.
        task: What networks learn; by default what the labels' type and shape say.

    Raises:
        DataError: Shapes or types do not fit.
    """
    task, labels, classes = _targets(
        name, {part: each for part, (_, each) in images.items()}, classes, how, task
    )
    first = {part: channels_first(f"{name} {part}", pixels) for part, (pixels, _) in images.items()}
    parts = {}
    for part, pixels in first.items():
        if len(pixels) != len(labels[part]):
            raise DataError(
                f"{name} {part} must hold one label per image, but has {len(pixels):,} images and "
                f"{len(labels[part]):,} labels"
            )
        side = how.resolution or _side(pixels.shape[2], pixels.shape[3], how.fit)
        coloured = recolour(pixels, how.channels) if isinstance(how, Reading) else pixels
        parts[part] = Pixels(
            images=np.ascontiguousarray(resize(coloured, side, how.fit)),
            labels=labels[part],
            names=Numbered(part, np.arange(len(pixels))),
        )
    channels, side, _ = _shape(name, parts)
    contents = array_contents(first)
    return Source(
        name=name,
        classes=classes,
        reading=how if isinstance(how, Reading) else Reading(channels=channels, resolution=side, fit=how.fit),
        parts=parts,
        # Of the images as they are given, so that it is the same whatever size they are read at.
        content_digest=digest(*(array for part in first for array in (first[part], labels[part]))),
        mirrors=task != REGRESSION if mirrors is None else mirrors,
        task=task,
        notes=_as_trained(first, how) if isinstance(how, Reading) else _cropped(first, how),
        warnings=_conflicts(labels, contents, classes, task),
        contents=contents,
        native_side=native_side([each.shape[2:] for each in first.values()], how.fit),
    )


def _targets(
    name: str,
    raw: Mapping[str, Array],
    classes: tuple[str, ...] | None,
    how: Wanted | Reading,
    task: TaskName | None,
) -> tuple[TaskName, dict[str, Labels], tuple[str, ...]]:
    """The task, the labels of each part, and the names of what the outputs of a network stand for."""
    task = array_task(name, raw.values(), task)
    if task == CLASSIFICATION:
        labels = {part: _check_labels(f"{name} {part}", each) for part, each in raw.items()}
        classes = classes or _numbered_classes(name, labels, how)
        for part, each in labels.items():
            _check_range(f"{name} {part}", each, len(classes))
        return task, labels, classes
    labels = {part: float_labels(f"{name} {part}", each, task) for part, each in raw.items()}
    return task, labels, column_names(name, labels, classes)


def _shape(name: str, parts: Mapping[str, Pixels]) -> tuple[int, ...]:
    """The one shape of all images."""
    shapes = {part: pixels.images.shape[1:] for part, pixels in parts.items()}
    first = next(iter(shapes))
    for part, shape in shapes.items():
        if shape != shapes[first]:
            raise DataError(
                f"all parts of {name} must hold images of one shape, but {first} has {shapes[first]} and "
                f"{part} has {shape}"
            )
    return shapes[first]


def channels_first(name: str, images: Array) -> Images:
    """Brings images to shape (count, channels, height, width).

    Raises:
        DataError: The images are not uint8, or have no pixels, or no axis looks like channels.
    """
    if images.dtype != np.uint8:
        raise DataError(
            f"images of {name} must be uint8 in 0..255, but are {images.dtype}: convert them first"
        )
    if 0 in images.shape:
        raise DataError(f"images of {name} must have pixels, but the array has the shape {images.shape}")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    raise DataError(
        f"images of {name} must have shape (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w), "
        f"but have {images.shape}"
    )


def _read_arrays(path: Path) -> dict[str, Array]:
    try:
        return read_arrays(path)
    except (OSError, ValueError) as error:
        if str(error) == ONE_ARRAY:
            raise DataError(
                f"{path} must be a .npz pack, but is one array: write it with np.savez"
            ) from error
        is_of_objects = OBJECTS in str(error)
        remedy = "write texts with np.array(names, dtype=str)" if is_of_objects else "is it complete?"
        raise DataError(f"{path} cannot be read as a .npz pack ({error}): {remedy}", field="data") from error


def _plain_source(
    path: Path, arrays: Mapping[str, Array], how: Wanted | Reading, task: TaskName | None
) -> Source:
    parts = {}
    for part in PART_WORDS:
        if f"{part}_images" in arrays:
            images, labels = _need(path, arrays, f"{part}_images", f"{part}_labels")
            parts[part] = (images, labels)
    return array_source(path.stem, parts, how, classes=_class_names(path, arrays), task=task)


def _encoded_source(
    path: Path,
    arrays: Mapping[str, Array],
    how: Wanted | Reading,
    content: str,
    task: TaskName | None,
    progress: Say,
) -> Source:
    encoded, raw = _encoded_parts(path, arrays)
    task, labels, classes = _targets(str(path), raw, _class_names(path, arrays), how, task)
    contents = array_contents(encoded)
    conflicts = _conflicts(labels, contents, classes, task)
    parts = {
        part: EncodedPart(sources=images, names=_image_names(part, len(images)), labels=labels[part])
        for part, images in encoded.items()
    }
    decoded = decode_parts(parts, how=how, progress=progress)
    for part, kept in decoded.kept.items():
        if not len(kept):
            raise DataError(
                f"none of the {len(labels[part])} images of {path} {part} can be read: replace them",
                field="data",
            )
    survey = decoded.survey
    return Source(
        name=printable(path.stem),
        classes=classes,
        reading=survey.reading,
        parts=decoded.pixels,
        content_digest=digest(content, *survey.marks) if survey.marks else content,
        mirrors=task != REGRESSION,
        task=task,
        notes=survey.notes,
        warnings=decoded.warnings + conflicts,
        contents={part: contents[part][kept] for part, kept in decoded.kept.items()},
        unreadable=decoded.unreadable,
        native_side=survey.native_side,
    )


def _encoded_parts(
    path: Path, arrays: Mapping[str, Array]
) -> tuple[dict[str, list[bytes]], dict[str, Array]]:
    """The bytes of each image, and the labels, by part."""
    encoded: dict[str, list[bytes]] = {}
    labels: dict[str, Array] = {}
    for part in PART_WORDS:
        if f"{part}_jpeg" in arrays:
            stream, offset, label = _need(path, arrays, f"{part}_jpeg", f"{part}_offset", f"{part}_label")
            labels[part] = label if label.ndim else label[None]
            encoded[part] = _cut(f"{path} {part}", stream, offset, len(labels[part]))
    return encoded, labels


def _usual_names(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Renames arrays whose name says the split in another word, unless the usual name is there; notes it."""
    named = dict(arrays)
    notes = []
    for name in sorted(arrays):
        prefix, _, kind = name.rpartition("_")
        what = part_name(prefix) if kind in {*PLAIN_FIELDS, *ENCODED_FIELDS} else None
        usual = f"{what.part}_{kind}" if what is not None and not what.rest else name
        if usual not in named:
            named[usual] = named.pop(name)
            notes.append(f"{printable(name)} is read as {usual}")
    return named, tuple(notes)


def _unused_arrays(names: Sequence[str], fields: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    form = " and ".join(f"train_{field}" for field in fields)
    return (f"passed over the arrays {few(names)}: they are no part of a pack with {form}",)


def _side(height: int, width: int, fit: Fit) -> int:
    """The side that arrays of one shape get where none is given."""
    sides = {"crop": min(height, width), "pad": max(height, width), "stretch": math.sqrt(height * width)}
    return round(sides[fit])


def _cropped(images: Mapping[str, Images], how: Wanted) -> tuple[str, ...]:
    """Notes that arrays are cropped to a square, where any is, and how much of them that cuts off."""
    shapes = {f"every {part} image": each.shape[2:] for part, each in images.items()}
    is_cropped = how.fit == "crop" and any(height != width for height, width in shapes.values())
    return tuple(cut_notes([*shapes.values()], [*shapes], said_from=0.0)) if is_cropped else ()


def _conflicts(
    labels: Mapping[str, Labels],
    contents: Mapping[str, Contents],
    classes: tuple[str, ...],
    task: TaskName,
) -> tuple[str, ...]:
    names = {part: _image_names(part, len(each)) for part, each in labels.items()}
    return conflicting_labels(names, labels, contents, classes, task)


def _as_trained(images: Mapping[str, Images], reading: Reading) -> tuple[str, ...]:
    """Notes what arrays become that are of another shape or colour than a network was trained on."""
    notes = square_notes([each.shape[2:] for each in images.values()], reading)
    if {each.shape[1] for each in images.values()} != {reading.channels}:
        colour = "grey" if reading.channels == 1 else "colour"
        notes.append(f"images become {colour}, as the network was trained on such")
    return tuple(notes)


def _image_names(part: str, count: int) -> Numbered:
    return Numbered(part, np.arange(count))


def _need(path: Path, arrays: Mapping[str, Array], *names: str) -> list[Array]:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"{path} must hold {' and '.join(names)} together, but lacks {', '.join(missing)}")
    return [arrays[name] for name in names]


def _cut(name: str, stream: Array, offset: Array, count: int) -> list[bytes]:
    if stream.dtype != np.uint8 or stream.ndim != 1:
        raise DataError(
            f"the byte stream of {name} must be uint8 of shape (bytes,), but is {stream.dtype}{stream.shape}"
        )
    if offset.shape != (count + 1,) or offset.dtype.kind not in "iu":
        raise DataError(
            f"the offsets of {name} must be {count + 1} integers for {count} labels, "
            f"but are {offset.dtype}{offset.shape}"
        )
    offset = offset.astype(np.int64)
    steps = np.diff(offset)
    if offset[0] != 0 or (steps < 0).any() or offset[-1] > len(stream):
        raise DataError(
            f"the offsets of {name} must rise from 0 to at most {len(stream)}, the bytes there are"
        )
    raw = stream.tobytes()
    return [raw[start : start + size] for start, size in zip(offset[:-1], steps, strict=True)]


def _check_labels(name: str, labels: Array) -> Labels:
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.dtype.kind == "f" and (flat == np.floor(flat)).all() and (np.abs(flat) < 2**53).all():
        flat = flat.astype(np.int64)
    if flat.ndim != 1 or flat.dtype.kind not in "iu":
        raise DataError(
            f"labels of {name} must be integers, one per image, but are {labels.dtype}{labels.shape}"
        )
    if len(flat) == 0:
        raise DataError(f"{name} must hold at least one image, but its labels have the shape {labels.shape}")
    if int(flat.max()) > np.iinfo(np.int64).max:
        raise DataError(f"labels of {name} must count from 0, but range from {flat.min()} to {flat.max()}")
    return flat.astype(np.int64)


def _check_range(name: str, labels: Labels, classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels of {name} must be in 0..{classes - 1}, but range from {labels.min()} to {labels.max()}"
        )


def _class_names(path: Path, arrays: Mapping[str, Array]) -> tuple[str, ...] | None:
    """The names that a pack gives to its classes; bytes are read as UTF-8."""
    if "classes" not in arrays:
        return None
    names = arrays["classes"]
    if names.ndim != 1:
        raise DataError(
            f"`classes` of {path} must be one name per class, of shape (classes,), but has the shape "
            f"{names.shape}"
        )
    return tuple(
        name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name) for name in names
    )


def _numbered_classes(name: str, labels: Mapping[str, Labels], how: Wanted | Reading) -> tuple[str, ...]:
    """Names classes by their numbers; where a network exists, images of some may be missing."""
    if isinstance(how, Reading):
        highest = max(int(each.max()) for each in labels.values())
        if highest >= MOST_CLASSES:
            raise DataError(
                f"labels of {name} must be below {MOST_CLASSES:,}, but one is {highest:,}: number the classes"
            )
        return tuple(map(str, range(highest + 1)))
    return _number_classes(f"{name} train", labels["train"])


def _number_classes(name: str, labels: Labels) -> tuple[str, ...]:
    """Names classes by their numbers.

    Raises:
        DataError: A number has no image, so that it is hardly a class.
    """
    present = np.unique(labels)
    missing = np.flatnonzero(present != np.arange(len(present)))
    if len(missing):
        raise DataError(
            f"labels of {name} must count from 0 without a gap, but range from {present[0]} to {present[-1]} "
            f"and none is {missing[0]}: number the classes from 0, or name them all in `classes`"
        )
    return tuple(map(str, range(len(present))))
