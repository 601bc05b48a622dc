"""What a resume may change of a study's settings, and where the files that they name are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.config.settings import PARALLEL_ONLY, Settings, flag_of
from nas.data.spec import split_columns
from nas.errors import StudyError
from nas.options import options_of
from nas.reading import parse_json
from nas.training.recipe import Recipe

OWN = ("space", "controller", "evaluator")
"""Settings that may be `file.py:name` of the user's own."""


def resumed(settings: Settings, given: Mapping[str, Any], folder: Path) -> Settings:
    """A study's settings with what a resume may change changed.

    Args:
        settings: Those of the study.
        given: What the user gave this time, by field name; the recipe as JSON.
        folder: The study's folder, for the message.

    Raises:
        StudyError: Something else is given than what the study was made with; names each difference.
    """
    changed = {name: value for name, value in given.items() if name != "recipe"}
    there = {name: getattr(settings, name) for name in changed} | {"controller": settings.chosen_controller}
    found = [
        f"{flag_of(name)} is {_shown(there[name])} there, {_shown(value)} here"
        for name, value in changed.items()
        if not _may_become(name, there[name], value)
    ]
    found += _recipe_differences(settings.recipe, given.get("recipe", settings.recipe))
    if found:
        raise StudyError(
            f"{folder} holds a study with other settings: {'; '.join(found)}. Leave these out to "
            "continue it, or give another --out to begin another study"
        )
    if given.get("executor", settings.executor) != settings.executor:
        # What was said of the machines of one executor says nothing of another's.
        forgotten = [name for name in PARALLEL_ONLY if name != "latency_resource"]
        changed = {name: options_of(Settings)[name].default for name in forgotten} | changed
    for name, one in options_of(Settings).items():
        if name in changed and one.option.is_repeated:
            changed[name] = tuple(dict.fromkeys((*getattr(settings, name), *changed[name])))
    return replace(settings, **changed)


def _may_become(name: str, before: object, value: object) -> bool:
    if name in OWN:  # a file that was moved keeps its name; its content is compared by the study
        return value == before or _is_same_file(str(value), str(before))
    if (
        name in ("latency_table", "proxy_check", "supernet", "init") and before is None
    ):  # there is nothing that could be moved
        return False
    return value == before or options_of(Settings)[name].option.resume != "fixed"


def _recipe_differences(before: str, now: str) -> list[str]:
    """How a recipe differs from the stored one, in which a field that is newer has its default."""
    there, here = parse_json(Recipe.from_json(before).to_json()), parse_json(now)
    return [
        f"{flag_of(key)} is {_shown(there.get(key))} there, {_shown(here[key])} here"
        for key in here
        if here[key] != there.get(key)
    ]


def _is_same_file(one: str, other: str) -> bool:
    """Whether two texts are one name in files of one name, which may have moved: contents are compared."""
    return ":" in one and Path(one).name == Path(other).name


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    return f"{value:,.12g}" if isinstance(value, float) else str(value)


def check_still_there(settings: Settings, stored: Settings, folder: Path) -> None:
    """Checks that the files of a study are where they were, or where they are said to be now.

    Args:
        settings: Those of this run.
        stored: Those of the study.
        folder: The study's folder, for the message.

    Raises:
        StudyError: One is not; names the option that says where it is.
    """
    for name, one in options_of(Settings).items():
        path = _path_of(name, settings) if one.option.resume == "moved" else None
        if path is None or Path(path).exists():
            continue
        if path != _path_of(name, stored):
            law = (
                f"the study in {folder} was searched with {one.flag} {getattr(stored, name)}, and cannot "
                f"be continued with {path}, which is not there: check the path"
            )
        else:
            new = {**dict.fromkeys(OWN, "NEW.py:name"), "data": f"NEW{_columns_of(stored)}"}.get(name, "NEW")
            law = (
                f"the study in {folder} was searched with {one.flag} {path}, which is not there: if it was "
                f"moved, say where it is now, nas resume {folder} {one.flag} {new}"
            )
        raise StudyError(law, field=name)


def _path_of(name: str, settings: Settings) -> str | None:
    """The file or folder that a setting names; None where it names none."""
    value: str | None = getattr(settings, name)
    is_data_by_name = not Path(str(settings.data)).is_absolute()
    if name in OWN:
        return str(value).rpartition(":")[0] or None
    if name == "data":
        return None if is_data_by_name else str(split_columns(str(value))[0])
    if name == "data_root":
        return value if is_data_by_name else None
    is_name = name == "init" and value is not None and not Path(value).is_absolute()
    return None if is_name else value


def _columns_of(settings: Settings) -> str:
    """The columns of labels that the data name, as in `:age`; empty where they name none."""
    columns = split_columns(str(settings.data))[1]
    return f":{columns}" if columns else ""
