"""What makes two runs one study, where a study comes from, and how two of them differ in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from nas.data.description import DataDescription
from nas.errors import StudyError
from nas.reading import parse_json

LATENCY_TABLE = "; latency table "
"""Stands in an evaluator's fingerprint before that of a table, which changes nothing that is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two runs the same study; all of it must be equal for a resume.

    Attributes:
        space: Fingerprint of the search space.
        data: Fingerprint of the images.
        split: Fingerprint of how they were split.
        recipe: Fingerprint of the training recipe.
        evaluator: Fingerprint of everything that decides what is measured.
        objective: The objective as JSON.
        controller: Name of the controller.
        seed: Seed of the study.
        deterministic_workers: Width of the fixed schedule; None when results count as they come.
    """

    space: str
    evaluator: str
    objective: str
    controller: str
    seed: int
    deterministic_workers: int | None = None
    data: str = ""
    split: str = ""
    recipe: str = ""

    def at_width_of(self, other: Identity) -> Identity:
        """This, with the width of the fixed schedule that the other was begun with, if both have one."""
        if None in (self.deterministic_workers, other.deterministic_workers):
            return self
        return replace(self, deterministic_workers=other.deterministic_workers)

    def check_same(
        self,
        other: Identity,
        folder: Path,
        *,
        told: Provenance | None = None,
        tells: Provenance | None = None,
    ) -> None:
        """Checks that the study in a folder (`other`) is this one.

        Args:
            other: The study's identity.
            folder: Its folder.
            told: What the study says of itself in words.
            tells: The same of what is asked for now.

        Raises:
            StudyError: It is not; names every difference.
        """
        names = [
            field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)
        ]
        if names:
            found = differences(names, other, self, told or Provenance(), tells or Provenance())
            raise StudyError(
                f"{folder} holds another study: {'; '.join(found)}. Give the same "
                f"{', '.join(causes(names))} to continue it, or another folder to begin another"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a study comes from, as text for reports and exports; empty if unknown.

    Attributes:
        space_name: Name of the space.
        data_text: The images.
        recipe_json: The training recipe.
        preprocessing_json: What an image goes through before a network sees it.
        data_json: The images' classes and how many there are of each in each split.
    """

    space_name: str = ""
    data_text: str = ""
    recipe_json: str = ""
    preprocessing_json: str = ""
    data_json: str = ""


def differences(
    names: Sequence[str], before: Identity, now: Identity, told: Provenance, tells: Provenance
) -> list[str]:
    """A sentence for each part of the identity that differs.

    Args:
        names: The parts.
        before: The study's identity.
        now: That of what is asked for.
        told: What the study says of itself; empty where an earlier version did not.
        tells: What there is to say now.
    """
    return [_sentence(name, before, now, told, tells) for name in causes(names)]


def causes(names: Sequence[str]) -> list[str]:
    """The parts that differ, without those that differ only because another does."""
    if "data" in names:
        # Other images are split otherwise, and the evaluator's own fingerprint covers both and the recipe.
        names = [name for name in names if name != "split"]
    if {"data", "split", "recipe"} & set(names):
        names = [name for name in names if name != "evaluator"]
    return list(names)


def _sentence(name: str, before: Identity, now: Identity, told: Provenance, tells: Provenance) -> str:
    there, here = getattr(before, name), getattr(now, name)
    words = ""
    if name in ("data", "split"):
        words = _data_words(name, told, tells)
    elif name == "recipe" and told.recipe_json and tells.recipe_json:
        words = _recipe_words(told.recipe_json, tells.recipe_json)
    elif name == "space" and told.space_name and tells.space_name:
        words = (
            f"space is {told.space_name} there, {tells.space_name} here"
            if told.space_name != tells.space_name
            else f"the space {told.space_name} has other choices there"
        )
    elif name == "evaluator" and there.split(LATENCY_TABLE)[0] == here.split(LATENCY_TABLE)[0]:
        words = "the latency table is another one there" if LATENCY_TABLE in there else ""
    elif name == "evaluator" and told.recipe_json and told.recipe_json == tells.recipe_json:
        words = (
            "the recipe is the same, but candidates start from other weights (--init) or are measured "
            f"otherwise (evaluator {there!r} there, {here!r} here)"
        )
    return words or f"{name} is {there!r} there, {here!r} here"


def _data_words(name: str, told: Provenance, tells: Provenance) -> str:
    before, now = DataDescription.from_json(told.data_json), DataDescription.from_json(tells.data_json)
    if before is None or now is None:
        if not (told.data_text and tells.data_text):
            return ""
        what = "images differ" if name == "data" else "images are split otherwise"
        return (
            f"the {what}: {told.data_text} there, {tells.data_text} here (an earlier version of mnas began "
            "the study, and did not count them by class)"
        )
    if name == "split":
        return f"the images are split otherwise now: {now.split_changes_from(before)}"
    changes = now.changes_from(before)
    if not changes:
        return "the images differ now: as many of each class, but with other names, sizes or pixels"
    return f"the images differ now: {'; '.join(changes)}"


def _recipe_words(there: str, here: str) -> str:
    before, now = parse_json(there), parse_json(here)
    pairs = [
        f"{key} is {before.get(key)} there, {now.get(key)} here"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    return f"the recipe differs: {'; '.join(pairs)}" if pairs else ""
