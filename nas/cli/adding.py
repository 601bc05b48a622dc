"""Adds options to the parser of a command, most of them generated from the fields that they set.

An option that was not given is None, so that a resume can tell what a user wants changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nas.config.settings import TRAINING, Settings
from nas.errors import UsageError
from nas.latency.devices import DeviceSettings
from nas.options import DeclaredOption, options_of
from nas.training.recipe import Recipe
from nas.units import parse_positive_int
from search_spaces import SearchSpace

Parser = argparse.ArgumentParser
Group = argparse._ArgumentGroup

IMAGENET = {"resolution": 224, "num_classes": 1000, "in_channels": 3}
"""Shape of the images that the published spaces were made for."""


def take(
    group: Group | Parser,
    name: str,
    read: Callable[[str], Any],
    metavar: str,
    words: str,
    *,
    dest: str | None = None,
    default: Any = None,
    action: str = "store",
) -> None:
    """Adds an option with a value; its name goes in front of what its reader complains of.

    The help ends with the default, where there is one.
    """

    def read_option(text: str) -> Any:
        try:
            return read(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    if default is not None and default != ():
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        words = f"{words} (default {shown})"
    place = dest or name.removeprefix("--").replace("-", "_")
    group.add_argument(
        name, dest=place, type=read_option, metavar=metavar, help=words, default=default, action=action
    )


def add_declared(group: Group | Parser, one: DeclaredOption) -> None:
    """Adds an option as its field declares it."""
    if one.kind is bool:
        group.add_argument(
            one.flag, dest=one.name, action="store_const", const=not one.default, help=one.help
        )
        return
    take(
        group,
        one.flag,
        one.read,
        one.option.metavar,
        one.help,
        dest=one.name,
        action="append" if one.option.is_repeated else "store",
    )


def add_settings(parser: Parser, settings: Iterable[DeclaredOption], *, with_recipe: bool = True) -> None:
    """Adds options of `Settings` under their headings, the recipe's with those of the training."""
    groups: dict[str, Group] = {}
    for one in settings:
        heading = one.option.group
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
            if with_recipe and heading == TRAINING:
                add_recipe(groups[heading])
        add_declared(groups[heading], one)
        if one.name == "data_root":
            add_download(groups[heading])


def taken_by(command: str) -> Iterator[DeclaredOption]:
    """The settings that another command than a search takes too."""
    return (one for one in options_of(Settings).values() if command in one.option.also)


def add_recipe(group: Group) -> None:
    """Adds how each candidate is trained."""
    for one in options_of(Recipe).values():
        add_declared(group, one)


def add_download(group: Group) -> None:
    """Adds the permission to download; it is asked for each time, so that no study stores it."""
    group.add_argument("--download", action="store_true", help="allow downloading a data set by name")


def add_json(parser: Parser) -> None:
    """Adds the option that every command that prints a table has."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def add_device(group: Group) -> None:
    """Adds what latency depends on besides the network."""
    for one in options_of(DeviceSettings).values():
        add_declared(group, one)


def add_shape(group: Group) -> None:
    """Adds the shape of the images that a space is made for where there are no images."""
    take(
        group,
        "--num-classes",
        parse_positive_int,
        "N",
        f"classes (default: the space's, {IMAGENET['num_classes']})",
    )
    take(
        group,
        "--in-channels",
        parse_positive_int,
        "N",
        f"1 grey, 3 colour (default {IMAGENET['in_channels']})",
    )


def shape_of(arguments: argparse.Namespace, ready: SearchSpace | None) -> dict[str, int]:
    """Resolution, classes and channels as given, else those of a ready-made space, else ImageNet's."""
    known = IMAGENET if ready is None else {name: getattr(ready.template, name) for name in IMAGENET}
    given = {name: getattr(arguments, name) for name in IMAGENET}
    return {name: known[name] if given[name] is None else given[name] for name in IMAGENET}
