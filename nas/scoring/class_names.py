"""Matches the classes, labels or columns of images with those of a network, by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nas.data.images import Files, Labels, Part
from nas.data.labelled import Labelled
from nas.data.table import NUMBER
from nas.data.tree import few
from nas.errors import DataError
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Images whose labels are a network's.

    Attributes:
        part: The images.
        notes: What was done to the labels, and which classes or labels have no image.
    """

    part: Part
    notes: tuple[str, ...] = ()


def match_names(labelled: Labelled, names: Sequence[str]) -> Matched:
    """Gives images the labels that a network has for classes, labels or columns of the same names.

    Accents that are written in two ways (composed or not, as macOS does) are the same.

    Args:
        labelled: The images, with labels in the order of their own names.
        names: Those of the network, in the order of its outputs.

    Raises:
        DataError: Images have a class, label or column that the network does not know, or lack a column of
            labels or numbers.
    """
    known = {_key(name): index for index, name in enumerate(names)}
    places = np.array([known.get(_key(name), -1) for name in labelled.classes], dtype=np.int64)
    is_used = _is_used(labelled)
    unknown = [
        name
        for name, place, used in zip(labelled.classes, places, is_used, strict=True)
        if used and place < 0
    ]
    if unknown:
        raise DataError(_unknown(labelled, unknown, names), field="data")
    if labelled.task == CLASSIFICATION:
        labels = places[labelled.part.labels]
    else:
        if not labelled.labels_are_listed:
            _require_all(labelled, names)
        is_known = places >= 0
        labels = np.zeros((len(labelled.part), len(names)), np.float32)
        labels[:, places[is_known]] = labelled.part.labels[:, is_known]
    part: Part = replace(labelled.part, labels=labels)
    return Matched(part=part, notes=_order_note(labelled, places) + _missing_note(labelled, labels, names))


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_used(labelled: Labelled) -> npt.NDArray[np.bool_]:
    """Whether each name of the data says something of an image: an unused one need not be known."""
    labels = labelled.part.labels
    if labelled.task == CLASSIFICATION:
        counts = np.bincount(labels, minlength=len(labelled.classes))
    elif labelled.task == MULTILABEL:
        counts = labels.sum(0)
    else:
        counts = np.ones(len(labelled.classes), np.int64)
    is_used: npt.NDArray[np.bool_] = counts > 0
    return is_used


def _require_all(labelled: Labelled, names: Sequence[str]) -> None:
    """Checks that the data say something of every output: what is not said of images is not known."""
    has = set(map(_key, labelled.classes))
    missing = [name for name in names if _key(name) not in has]
    if missing:
        what = TASKS[labelled.task].outputs
        raise DataError(
            f"the images must have all {len(names):,} {what} of the network, but {labelled.name} lacks "
            f"{few(missing)}: add {'it' if len(missing) == 1 else 'them'} to the labels, or leave the images "
            "to nas predict",
            field="data",
        )


def _order_note(labelled: Labelled, places: npt.NDArray[np.int64]) -> tuple[str, ...]:
    order = [place for place in places.tolist() if place >= 0]
    if order == sorted(order):
        return ()
    what = TASKS[labelled.task].outputs
    return (f"the data list the {what} in another order than the network: they are matched by name",)


def _missing_note(labelled: Labelled, labels: Labels, names: Sequence[str]) -> tuple[str, ...]:
    """Names the classes or labels that no image has."""
    if labelled.task == CLASSIFICATION:
        counts = np.bincount(labels, minlength=len(names))
    elif labelled.task == MULTILABEL:
        counts = labels.sum(0)
    else:
        return ()
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if not missing:
        return ()
    what = TASKS[labelled.task].outputs
    return (
        f"{len(missing):,} of {len(names):,} {what} have no image here ({few(missing)}): averages are over "
        "the others",
    )


def _unknown(labelled: Labelled, unknown: Sequence[str], names: Sequence[str]) -> str:
    """What is wrong with the names, and what helps."""
    what = TASKS[labelled.task].outputs
    if labelled.task != REGRESSION and _are_numbers(unknown) and not _are_numbers(names):
        return (
            f"the network is for {what} ({few(names)}), but the labels of {labelled.name} are numbers "
            f"({few(unknown)}): give images with {what}, or the bundle of a network for numbers"
        )
    message = (
        f"the network must know the {what} of the images, but {few(unknown)} of {labelled.name} "
        f"{'is' if len(unknown) == 1 else 'are'} none of its {len(names):,} ({few(names)})"
    )
    if all(name.isdigit() for name in unknown) and not isinstance(labelled.part, Files):
        return f"{message}: name the {what} of the pack or arrays in `classes`, in the order of the labels"
    if labelled.task != CLASSIFICATION:
        more = ",..." if len(names) > 2 else ""
        chosen = "" if labelled.labels_are_listed else f" (labels.csv:{','.join(names[:2])}{more})"
        return f"{message}: name them as in training, or leave them out{chosen}"
    return f"{message}: rename the folders as in training, remove these images, or give a folder of splits"


def _are_numbers(names: Sequence[str]) -> bool:
    """Whether all names are measured numbers: whole ones are more often the names of classes."""
    return all(NUMBER.fullmatch(name) and not name.isdigit() for name in names)
