"""Reads images that lie on disk as files, once it is known where they are and what their labels are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nas.data.copies import conflicting_labels, file_contents
from nas.data.encoded import EncodedPart, decode_parts
from nas.data.images import Files, Reading, Wanted
from nas.data.splits import Source
from nas.data.tree import printable
from nas.tasks import CLASSIFICATION, REGRESSION, TaskName
from nas.trial import Say
from nas.values import digest


def read_files(
    parts: Mapping[str, Files],
    how: Wanted | Reading,
    *,
    name: str,
    classes: tuple[str, ...],
    sizes: Mapping[str, int],
    resident_bytes: int,
    progress: Say,
    task: TaskName = CLASSIFICATION,
    marks: tuple[object, ...] = (),
) -> Source:
    """Reads images in files. The digest is that of names and sizes.

    Args:
        parts: The files of each split that is given, all of one root.
        how: What is wanted of the images; or how they are read, for a network that exists.
        name: What users call the data.
        classes: Names of what the outputs of a network stand for.
        sizes: Bytes of each path.
        resident_bytes: Decoded images of more bytes than this are left on disk and read as they are needed.
        progress: Receives how many images were read.
        task: What the labels are.
        marks: What the digest holds besides, where paths do not say the labels.

    Raises:
        DataError: Too many images cannot be read, or their values cannot be scaled.
    """
    content = digest(*(f"{path} {sizes[path]}" for files in parts.values() for path in files.paths), *marks)
    decoded = decode_parts(
        {part: _encoded(files) for part, files in parts.items()},
        how=how,
        progress=progress,
        resident_bytes=resident_bytes,
    )
    files = {part: every.take(decoded.kept[part]) for part, every in parts.items()}
    survey, notes = decoded.survey, decoded.survey.notes
    if not decoded.pixels:
        notes += (f"{sum(map(len, files.values())):,} images stay on disk and are read as they are needed",)
    root = Path(next(iter(files.values())).root)
    numbers = file_contents(root, {path: sizes[path] for each in files.values() for path in each.paths})
    contents = {
        part: np.array([numbers[path] for path in each.paths], dtype=np.int64) for part, each in files.items()
    }
    conflicts = conflicting_labels(
        {part: each.paths for part, each in files.items()},
        {part: each.labels for part, each in files.items()},
        contents,
        classes,
        task,
    )
    return Source(
        name=name,
        classes=classes,
        reading=survey.reading,
        parts=decoded.pixels or files,
        content_digest=digest(content, *survey.marks) if survey.marks else content,
        mirrors=task != REGRESSION,
        task=task,
        notes=notes,
        warnings=decoded.warnings + conflicts,
        contents=contents,
        unreadable=decoded.unreadable,
        native_side=survey.native_side,
    )


def _encoded(files: Files) -> EncodedPart:
    return EncodedPart(
        sources=[Path(files.root) / path for path in files.paths],
        names=[printable(path) for path in files.paths],
        labels=files.labels,
    )
