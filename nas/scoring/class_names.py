"""Matches the classes of images with those of a network, by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.data.images import Files, Part
from nas.data.labelled import Labelled
from nas.data.tree import few
from nas.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Images whose labels are a network's.

    Attributes:
        part: The images.
        notes: What was done to the labels, and which classes have no image.
    """

    part: Part
    notes: tuple[str, ...] = ()


def match_classes(labelled: Labelled, classes: Sequence[str]) -> Matched:
    """Gives images the labels that a network has for classes of the same names.

    Accents that are written in two ways (composed or not, as macOS does) are the same.

    Args:
        labelled: The images, with labels in the order of their own classes.
        classes: Those of the network, in the order of its logits.

    Raises:
        DataError: Images have a class that the network does not know.
    """
    known = {unicodedata.normalize("NFC", name): index for index, name in enumerate(classes)}
    own = [unicodedata.normalize("NFC", name) for name in labelled.classes]
    counts = np.bincount(labelled.part.labels, minlength=len(own))
    unknown = [
        name
        for name, key, count in zip(labelled.classes, own, counts, strict=True)
        if count and key not in known
    ]
    if unknown:
        raise DataError(_unknown(labelled, unknown, classes), field="data")
    to_label = np.array([known.get(key, -1) for key in own], dtype=np.int64)
    labels = to_label[labelled.part.labels]
    notes = []
    order = [index for index in to_label.tolist() if index >= 0]
    if order != sorted(order):
        notes.append("the data list the classes in another order than the network: they are matched by name")
    missing = [name for index, name in enumerate(classes) if not (labels == index).any()]
    if missing:
        notes.append(
            f"{len(missing):,} of {len(classes):,} classes have no image here ({few(missing)}): averages are "
            "over the others"
        )
    part: Part = replace(labelled.part, labels=labels)
    return Matched(part=part, notes=tuple(notes))


def _unknown(labelled: Labelled, unknown: Sequence[str], classes: Sequence[str]) -> str:
    """What is wrong with the classes, and what helps."""
    message = (
        f"the network must know the classes of the images, but {few(unknown)} of {labelled.name} "
        f"{'is' if len(unknown) == 1 else 'are'} none of its {len(classes):,} ({few(classes)})"
    )
    if all(name.isdigit() for name in unknown) and not isinstance(labelled.part, Files):
        return f"{message}: name the classes of the pack or arrays in `classes`, in the order of the labels"
    return f"{message}: rename the folders as in training, remove these images, or give a folder of splits"
