"""Judges whether a network may have been trained on the images that it is scored on."""

from __future__ import annotations

from dataclasses import dataclass

from nas.data.labelled import Labelled
from nas.export.preprocessing import TrainedOn


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the origin of images means for scores on them.

    Attributes:
        notes: How the split was made.
        warnings: Why the scores may flatter the network.
    """

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge_origin(labelled: Labelled, trained_on: TrainedOn | None) -> Judged:
    """Compares the images and their split with those of the training."""
    split, carving = labelled.split, labelled.carving
    notes = () if carving is None else (f"splits that the data do not give are carved with {carving}",)
    if trained_on is None:
        return Judged(notes=notes, warnings=_unknown(labelled))
    if labelled.content_digest != trained_on.data:
        return Judged(notes=notes, warnings=_other_images(labelled))
    if split in ("train", "all"):
        warning = f"the network was trained on {'these' if split == 'train' else 'some of these'} images"
        return Judged(notes=notes, warnings=(f"{warning}: new ones are harder",))
    if carving is not None and labelled.split_fingerprint != trained_on.split:
        return Judged(notes=notes, warnings=(_other_split(labelled, trained_on),))
    if split == "search":
        notes = (*notes, "networks and epochs are chosen on the search split, so scores on it flatter")
    return Judged(notes=notes)


def _unknown(labelled: Labelled) -> tuple[str, ...]:
    """Warns where the split would have to be that of a training of which nothing is known."""
    if labelled.split == "train" or labelled.carving is None:
        return ()
    return (
        f"the bundle does not say which images it was trained on: the {labelled.split} split is free of them "
        "only if the training had the same images, seed and fractions (--seed, --search-fraction, "
        "--test-fraction)",
    )


def _other_images(labelled: Labelled) -> tuple[str, ...]:
    if labelled.carving is None:
        return ()
    return (
        f"these are not exactly the images of the training, so that the {labelled.split} split is another "
        "one: if the network was trained on some of them, it may hold such images; if all are new to it, "
        "--split all scores all of them",
    )


def _other_split(labelled: Labelled, trained_on: TrainedOn) -> str:
    then = "" if trained_on.carving is None else f", which was carved with {trained_on.carving}"
    return (
        f"the {labelled.split} split is not that of the training{then}: the network was trained on some of "
        "these images; leave out seed and fractions, and give the images as they were"
    )
