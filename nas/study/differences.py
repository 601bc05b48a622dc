"""Says in words how a study differs from what is asked for now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.data.description import DataDescription

if TYPE_CHECKING:
    from nas.study.journal_schema import Identity, Provenance

LATENCY_TABLE = "; latency table "
"""Stands in an evaluator's fingerprint before that of a table, which changes nothing that is measured."""


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
    before, now = json.loads(there), json.loads(here)
    pairs = [
        f"{key} is {before.get(key)} there, {now.get(key)} here"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    return f"the recipe differs: {'; '.join(pairs)}" if pairs else ""
