"""Reads a folder of images: class subfolders, or train/ and val/ (or test/) with class subfolders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas import values
from nas.data.files import read_files
from nas.data.images import Files, Part, Reading, Wanted
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
    source = read_files(
        listed,
        how,
        name=printable(folder.resolve().name),
        classes=layout.classes,
        sizes={path: tree.size(path) for files in listed.values() for path in files.paths},
        resident_bytes=resident_bytes,
        progress=progress,
    )
    warnings += source.warnings
    _check_no_class_is_empty(folder, layout, source.parts, warnings, is_for_training=is_for_training)
    return replace(source, notes=notes + source.notes, warnings=warnings)


def has_classes(folder: Path) -> bool:
    """Whether a folder holds a subfolder of images for each class, or for each split with such subfolders."""
    tree = list_tree(folder)
    try:
        find_layout(tree, find_kinds(tree))
    except DataError:
        return False
    return True


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
    parts: Mapping[str, Part],
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
