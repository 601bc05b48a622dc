"""The command line that begins a search like one that a study stores."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.config.settings import Settings
from nas.errors import NasError
from nas.options import DeclaredOption, options_of
from nas.training.recipe import Recipe
from nas.units import number_text


def command_of(stored: Mapping[str, Any], folder: Path) -> str:
    """The `nas search` that begins a search with these settings; empty where it was not such a command.

    Args:
        stored: The settings of a study, as its journal has them.
        folder: Where the new search writes, and where the study is.
    """
    try:
        settings = Settings.from_dict(stored, folder)
        recipe = Recipe.from_json(settings.recipe)
    except (NasError, TypeError, ValueError):
        return ""
    words = [["nas search"]]
    words += [list(_words(one, getattr(settings, name))) for name, one in options_of(Settings).items()]
    usual = Recipe()
    words += [
        list(_words(one, getattr(recipe, name)))
        for name, one in options_of(Recipe).items()
        if getattr(recipe, name) != getattr(usual, name)
    ]
    words.append(["--out", shlex.quote(f"{folder.name}-again")])
    return " \\\n  ".join(" ".join(line) for line in words if line)


def _words(one: DeclaredOption, value: Any) -> Iterator[str]:
    """An option with its value; nothing where it is the default."""
    if value is None or value == one.default or value == ():
        return
    if one.kind is bool:
        yield one.flag
        return
    if one.option.is_repeated:  # each is a file that was read, and its content
        for path, _ in value:
            yield one.flag
            yield shlex.quote(path)
        return
    yield one.flag
    yield shlex.quote(_word(value))


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    if isinstance(value, float):
        return number_text(value).replace(",", "")
    return value if isinstance(value, str) else json.dumps(value)
