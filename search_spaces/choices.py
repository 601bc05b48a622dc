"""`choice`: a value that is still open, put where the value will be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NoReturn, TypeVar, cast, overload

import numpy as np

from search_spaces.errors import SpaceError

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class Choice:
    """Options for one value; made by `choice`.

    Two choices are equal, and so are one tied decision, when they are the same object, or when they carry
    the same name and equal options.

    Attributes:
        options: The values to choose from; they may hold choices themselves.
        name: Name of the decision, or None to be named after its place in the template.
    """

    __slots__ = ("name", "options")

    def __init__(self, options: tuple[Any, ...], name: str | None) -> None:
        self.options = options
        self.name = name

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Choice) or self.name is None:
            return False
        return self.name == other.name and self.options == other.options

    def __hash__(self) -> int:
        return id(self) if self.name is None else hash(self.name)

    def __repr__(self) -> str:
        options = ", ".join(map(repr, self.options))
        return f"choice({options})" if self.name is None else f"choice({options}, name={self.name!r})"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(
            f"{self!r} has no value yet: order, arithmetic and truth are for decoded networks only"
        )

    __bool__ = __int__ = __float__ = __index__ = __neg__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __pow__ = _refuse


@overload
def choice(option1: A, option2: B, /, *, name: str | None = None) -> A | B: ...
@overload
def choice(option1: A, option2: B, option3: C, /, *, name: str | None = None) -> A | B | C: ...
@overload
def choice(
    option1: A, option2: B, option3: C, option4: D, /, *, name: str | None = None
) -> A | B | C | D: ...
@overload
def choice(*options: T, name: str | None = None) -> T: ...
def choice(*options: Any, name: str | None = None) -> Any:
    """Leaves a value open: `MBConv(kernel_size=choice(3, 5))`.

    Options may be numbers (numpy's become Python's), words, ops, tuples, or hold choices of their own, which
    then exist only where that option is chosen. One choice object used in several places, or
    the same name used in several places, is one decision.

    Args:
        *options: What to choose from. Equal options are merged, the first one kept; where a single option is
            left, it is returned itself and nothing is left to decide.
        name: Name of the decision; by default its place in the template.

    Raises:
        SpaceError: There is no option.
    """
    distinct: list[Any] = []
    for given in options:
        option = given.item() if isinstance(given, np.generic) else given
        if not any(type(option) is type(kept) and option == kept for kept in distinct):
            distinct.append(option)
    if not distinct:
        raise SpaceError(
            "`choice` needs at least one option, but got none: write choice(3, 5)", field="options"
        )
    return distinct[0] if len(distinct) == 1 else Choice(tuple(distinct), name)


def children(value: object) -> Iterator[tuple[str, object]]:
    """Yields the parts of a dataclass or tuple in reading order, each with its step in a path."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    kind: Any = type(value)
    for name in _field_names(kind):
        yield f".{name}", getattr(value, name)


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    """Names of the fields of a dataclass; none of anything else."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


_PLAIN = (int, float, str, bool, type(None))
"""Types without parts: most values of a network, so that walks over it need not look into them."""


def has_choice(value: object) -> bool:
    """Says whether anything in a value is still open."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return False
    if kind is Choice:
        return True
    if isinstance(value, tuple) and any(map(has_choice, value)):
        return True
    return any(has_choice(getattr(value, name)) for name in _field_names(kind))


def substitute(value: T, pick: Callable[[Choice], object]) -> T:
    """Returns the value with every choice, however deep, replaced by what `pick` gives for it.

    Parts without choices are kept as they are, so equal parts of two results are the same object.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Choice):
        return cast(T, substitute(pick(value), pick))
    if isinstance(value, tuple):
        items = tuple(substitute(item, pick) for item in value)
        changed = any(new is not old for new, old in zip(items, value, strict=True))
        return cast(T, items) if changed else value
    kind: Any = type(value)
    parts = {name: getattr(value, name) for name in _field_names(kind)}
    closed = {name: substitute(part, pick) for name, part in parts.items()}
    if any(closed[name] is not part for name, part in parts.items()):
        return cast(T, kind(**closed))
    return value
