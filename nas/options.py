"""Declares an option where its value lives: a field of a dataclass says its help, reader and group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nas.units import one_of, parse_number, parse_positive_int

Resume = Literal["fixed", "changeable", "moved"]
"""What a resume may do with an option: nothing, change it, or say where the same thing is now."""

_KEY = "option"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What a field is as an option of a command.

    Attributes:
        help: What it is, in a few words; the default is added from the field.
        group: Heading that it stands under.
        flag: Its name on the command line; empty is the field's, with hyphens.
        metavar: Placeholder of its value in the help.
        read: Makes its value of a word; None follows the field's type.
        default_text: The default in words, where the field's own says too little.
        is_repeated: Whether it may be given several times.
        resume: What a resume may do with it.
        also: Other commands than `nas search` and `nas resume` that take it.
    """

    help: str
    group: str = ""
    flag: str = ""
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    default_text: str = ""
    is_repeated: bool = False
    resume: Resume = "fixed"
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredOption:
    """An option with what its field says of it.

    Attributes:
        name: The field's name.
        option: What was declared.
        default: The field's default.
        kind: The field's type, without None.
    """

    name: str
    option: Option
    default: Any
    kind: Any

    @property
    def flag(self) -> str:
        """Its name on the command line; what is true by default is switched off by it."""
        prefix = "--no-" if self.default is True else "--"
        return self.option.flag or prefix + self.name.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it takes; empty where it takes others."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def read(self) -> Callable[[str], Any]:
        """Makes its value of a word; raises `UsageError` where it cannot."""
        if self.option.read is not None:
            return self.option.read
        if self.choices:
            return one_of(self.name.replace("_", " "), self.choices)
        return {int: parse_positive_int, float: parse_number}.get(self.kind, str)

    @property
    def help(self) -> str:
        """What it is, its choices, and its default."""
        words = self.option.help
        if self.choices:
            words = f"{words}: {', '.join(self.choices)}" if words else ", ".join(self.choices)
        default = self.option.default_text
        has_default = self.kind is not bool and self.default is not None and self.default != ()
        if not default and has_default:
            default = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        return f"{words} (default {default})" if default else words


def option(default: Any, help: str, **declared: Any) -> Any:  # noqa: A002  # argparse's own word
    """A field of a dataclass that is an option too; see `Option` for what can be declared."""
    return field(default=default, metadata={_KEY: Option(help=help, **declared)})


@cache
def options_of(kind: type) -> Mapping[str, DeclaredOption]:
    """The options that the fields of a dataclass declare, by the fields' names, in their order."""
    hints = get_type_hints(kind)
    return {f.name: _declared(f, hints[f.name]) for f in fields(kind) if _KEY in f.metadata}


def _declared(one: Field[Any], hint: Any) -> DeclaredOption:
    if get_origin(hint) in (Union, UnionType):
        (hint, *_) = (kind for kind in get_args(hint) if kind is not type(None))
    return DeclaredOption(name=one.name, option=one.metadata[_KEY], default=one.default, kind=hint)
