"""Reads a folder of images: class subfolders, or train/ and val/ (or test/) with class subfolders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nas import values
from nas.data.copies import Contents, conflicting_labels, file_contents
from nas.data.encoded import EncodedPart, decode_parts
from nas.data.images import Files, Reading, Wanted
from nas.data.layout import Layout, find_layout
from nas.data.splits import Source
from nas.data.tree import (
    Kinds,
    Tree,
    count,
    describe_others,
    describe_undecodable,
    few,
    find_kinds,
    is_within,
    list_tree,
    printable,
)
from nas.errors import DataError
from nas.trial import Say, say_nothing
from nas.values import digest


def load_folder(
    folder: Path,
    how: Wanted | Reading,
    *,
    resident_bytes: int,
    progress: Say = say_nothing,
) -> Source:
    """Reads a folder of images.

    `train/` is learnt from. Of `val/` and `test/`, a single one is the test split; where both are there,
    `val/` is the search split. Without `train/`, the subfolders of the folder itself are the classes. Hidden
    files and those that are no images are passed over and counted. The digest is that of names and sizes.

    Args:
        folder: The folder.
        how: What is wanted of its images; or how they are read, where a network exists that is tried on them:
            then one class is enough, and a class may be empty.
        resident_bytes: Decoded images of more bytes than this are left on disk and read as they are needed.
        progress: Receives how many images were read.

    Raises:
        DataError: The folder is empty or ambiguous, has empty or differing classes, or too many
            unreadable images.
    """
    tree = list_tree(folder)
    kinds = find_kinds(tree)
    is_for_training = isinstance(how, Wanted)
    layout = find_layout(tree, kinds, least_classes=2 if is_for_training else 1)
    listed = _list_parts(tree, layout)
    notes = layout.notes + _describe_passed_over(tree, layout, kinds)
    warnings = layout.warnings + _describe_skipped(tree, layout, kinds)
    _check_no_class_is_empty(folder, layout, listed, warnings, is_for_training=is_for_training)
    content = digest(*(f"{path} {tree.size(path)}" for files in listed.values() for path in files.paths))
    decoded = decode_parts(
        {part: _encoded(files) for part, files in listed.items()},
        how=how,
        progress=progress,
        resident_bytes=resident_bytes,
    )
    files = {part: every.take(decoded.kept[part]) for part, every in listed.items()}
    survey = decoded.survey
    content = digest(content, *survey.marks) if survey.marks else content
    notes += survey.notes
    if not decoded.pixels:
        notes += (f"{sum(map(len, files.values())):,} images stay on disk and are read as they are needed",)
    warnings += decoded.warnings
    _check_no_class_is_empty(folder, layout, files, warnings, is_for_training=is_for_training)
    contents = _contents(tree, files)
    return Source(
        name=printable(folder.resolve().name),
        classes=layout.classes,
        reading=survey.reading,
        parts=decoded.pixels or files,
        content_digest=content,
        notes=notes,
        warnings=warnings + _conflicts(files, contents, layout.classes),
        contents=contents,
        unreadable=decoded.unreadable,
    )


def _list_parts(tree: Tree, layout: Layout) -> dict[str, Files]:
    """The images of each part, class by class."""
    return {
        part: Files(
            root=str(tree.root),
            paths=tuple(path for name in layout.classes for path in by_class[name]),
            labels=np.repeat(
                np.arange(len(layout.classes)), [len(by_class[name]) for name in layout.classes]
            ),
        )
        for part, by_class in layout.images.items()
    }


def _encoded(files: Files) -> EncodedPart:
    return EncodedPart(
        sources=[Path(files.root) / path for path in files.paths],
        names=[printable(path) for path in files.paths],
        labels=files.labels,
    )


def _contents(tree: Tree, parts: Mapping[str, Files]) -> dict[str, Contents]:
    """Which images are copies of each other, by part."""
    sizes = {path: tree.size(path) for files in parts.values() for path in files.paths}
    numbers = file_contents(tree.root, sizes)
    return {
        part: np.array([numbers[path] for path in files.paths], dtype=np.int64)
        for part, files in parts.items()
    }


def _conflicts(
    parts: Mapping[str, Files], contents: Mapping[str, Contents], classes: tuple[str, ...]
) -> tuple[str, ...]:
    names = {part: files.paths for part, files in parts.items()}
    labels = {part: files.labels for part, files in parts.items()}
    return conflicting_labels(names, labels, contents, classes)


def _describe_skipped(tree: Tree, layout: Layout, kinds: Kinds) -> tuple[str, ...]:
    """Warns of images that are there and not used, but for damaged ones."""
    warnings = []
    if tree.skipped:
        named = [f"{printable(skipped.path)} ({skipped.reason})" for skipped in tree.skipped]
        warnings.append(f"skipped {count(tree.skipped, 'path')}: {values.few(named)}")
    undecodable = [path for path in sorted(kinds.undecodable) if _is_looked_at(path, layout)]
    return tuple(warnings) + describe_undecodable(undecodable)


def _describe_passed_over(tree: Tree, layout: Layout, kinds: Kinds) -> tuple[str, ...]:
    """Notes the files that are no images, the hidden ones, and those that are met twice."""
    notes = describe_others([path for path in sorted(kinds.others) if _is_looked_at(path, layout)])
    if tree.hidden:
        counts = Counter(path.rpartition("/")[2] for path in tree.hidden)
        by_name = [f"{name} ({times:,} times)" if times > 1 else name for name, times in counts.most_common()]
        notes += (f"passed over {count(tree.hidden, 'hidden path')}: {few(by_name)}",)
    if tree.repeated:
        notes += (
            f"passed over {count(tree.repeated, 'link')} to what is there already: {few(tree.repeated)}",
        )
    return notes


def _is_looked_at(path: str, layout: Layout) -> bool:
    """Whether a path is in a split, or beside it in a folder above; other folders are named as a whole."""
    above = path.rpartition("/")[0]
    return any(is_within(path, folder) or is_within(folder, above) for folder in layout.parts.values())


def _check_no_class_is_empty(
    folder: Path,
    layout: Layout,
    parts: Mapping[str, Files],
    warnings: tuple[str, ...],
    *,
    is_for_training: bool,
) -> None:
    """Checks that there is an image of each class to train from; a held-out split may lack some."""
    for part, files in parts.items():
        counts = np.bincount(files.labels, minlength=len(layout.classes))
        empty = [name for name, count in zip(layout.classes, counts, strict=True) if count == 0]
        where = printable(str(folder / layout.parts[part]))
        if empty and ((part == "train" and is_for_training) or not len(files)):
            known = "".join(f"; {warning}" for warning in warnings)
            raise DataError(
                f"each class needs images that Pillow opens, but {few(empty)} in {where} has none: "
                f"add images or remove the subfolder{known}"
            )
