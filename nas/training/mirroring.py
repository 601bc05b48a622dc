"""Says how training images are augmented, and warns where a mirrored image may belong to another class."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nas.data.images import ImageData
from nas.training.recipe import Recipe
from nas.training.training import settle_augmentation

SWITCH = "--augmentation crop switches mirroring off"

WORDS = {
    "none": "none",
    "crop": "random crops, no mirroring",
    "crop_flip": f"random crops and mirroring, which makes an S look like a 2; {SWITCH}",
}

SYMBOL = re.compile(
    r"(?:(?:digits?|letters?|numbers?|num|char(?:acter)?s?|symbols?|sign)[\W_]*)?(.)", re.IGNORECASE
)
"""A class named by one character, as `7`, `b` or `digit_7`."""

NUMBER_WORDS = frozenset(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))

SIDES = (
    ("left", "right"),
    ("east", "west"),
    ("counterclockwise", "clockwise"),
    ("anticlockwise", "clockwise"),
    ("ccw", "cw"),
)
"""Words that a mirror exchanges."""


def describe_augmentation(recipe: Recipe, data: ImageData) -> str:
    """Says which augmentation a training uses, and how mirroring is switched off."""
    return WORDS[settle_augmentation(recipe, data)]


def mirror_warning(recipe: Recipe, data: ImageData) -> str | None:
    """Warns where images are mirrored although the names of the classes speak against it."""
    if settle_augmentation(recipe, data) != "crop_flip":
        return None
    if _are_symbols(data.classes):
        shown = ", ".join(data.classes[:3])
        return (
            f"classes named {shown}, ... look like digits or letters, but training images are mirrored, "
            f"which makes other characters of them: {SWITCH}"
        )
    pair = _mirrored_pair(data.classes)
    if pair is not None:
        return (
            f"a mirror makes {pair[0]} of {pair[1]}, but training images are mirrored and keep their class: "
            f"{SWITCH}"
        )
    return None


def _are_symbols(classes: Sequence[str]) -> bool:
    """Whether every class is a digit or a letter by its name."""
    if all(name.lower() in NUMBER_WORDS for name in classes):
        return True
    found = [SYMBOL.fullmatch(name.strip()) for name in classes]
    return all(match is not None and match[1].isalnum() for match in found)


def _mirrored_pair(classes: Sequence[str]) -> tuple[str, str] | None:
    """Two classes whose names differ in a side only, such as `turn_left` and `turn_right`."""
    names = {name.lower(): name for name in classes}
    for one, other in SIDES:
        for lower, name in names.items():
            twin = lower.replace(one, other)
            if twin != lower and twin in names:
                return name, names[twin]
    return None
