"""The JSON form of architectures: frozen dataclasses by the types of their fields, ops by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from search_spaces.errors import SpaceError
from search_spaces.ops import BUILT_IN_OPS, Op

T = TypeVar("T")
FORMAT = "search_spaces.network/1"
MOST_TEXT = 2**22
"""Characters of a network; the longest of the published ones takes 2,688."""

_hints = cache(get_type_hints)


def op_name(op_type: type[Op]) -> str:
    """The name an op has in JSON: `module:Class`."""
    return f"{op_type.__module__}:{op_type.__qualname__}"


def to_json(value: object, *, indent: int | None = 1) -> str:
    """Writes a description as JSON text; equal descriptions give equal texts.

    Args:
        value: The description.
        indent: Spaces of each level; None writes one line without any.

    Raises:
        SpaceError: A field holds something that is no number, word, tuple or op.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps({"format": FORMAT, **_write(value, type(value))}, indent=indent, separators=separators)


def _write(value: object, hint: object = None) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value)) if hint is type(value) else {}
        data = {
            field.name: _write(getattr(value, field.name), hints.get(field.name)) for field in fields(value)
        }
        return data if hint is type(value) else {"op": op_name(type(value)), **data}  # type: ignore[arg-type]
    if isinstance(value, tuple):
        item_hint = get_args(hint)[0] if get_origin(hint) is tuple else None
        return [_write(item, item_hint) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SpaceError(f"a field must be a number, a word, a tuple or an op to be written, but got {value!r}")


def from_json(cls: type[T], text: str, op_types: tuple[type[Op], ...], place: str) -> T:
    """Reads what `to_json` wrote of a `cls`.

    Args:
        cls: The class described.
        text: The JSON.
        op_types: The user's own ops that may occur, beside the built-in ones.
        place: What messages call the whole.

    Raises:
        SpaceError: It is no JSON, has missing or unknown fields, an unknown op, or is not valid.
    """
    if len(text) > MOST_TEXT:
        raise SpaceError(
            f"an architecture must have at most {MOST_TEXT:,} characters, but has {len(text):,}", field="text"
        )
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise SpaceError(f'an architecture must be a JSON object with "format": "{FORMAT}"', field="text")
        made: T = _read(data, cls, {op_name(op): op for op in (*BUILT_IN_OPS, *op_types)}, place)
    except SpaceError:
        raise
    except ValueError as error:  # no JSON, or a number of thousands of digits
        raise SpaceError(f"an architecture must be JSON, but {error}", field="text") from None
    except RecursionError:
        raise SpaceError("an architecture must be JSON, but is nested too deeply", field="text") from None
    return made


def _read(data: Any, hint: Any, ops: Mapping[str, type[Op]], place: str) -> Any:
    """Makes the value that a field of this type has."""
    kind = _kind(hint)
    if kind == "plain":
        return data
    if kind == "op":
        return _read_op(data, ops, place)
    if kind == "tuple":
        if not isinstance(data, list):
            raise SpaceError(f"`{place}` must be a list, but got {data!r}", field=place)
        item = place.removesuffix("s")
        return tuple(
            _read(part, get_args(hint)[0], ops, f"{item}{n}") for n, part in enumerate(data, start=1)
        )
    hints, values = _hints(hint), _fields_of(hint, data, place)
    places = {name: name if _kind(hints[name]) in ("tuple", "dataclass") else place for name in values}
    return hint(**{name: _read(part, hints[name], ops, places[name]) for name, part in values.items()})


@cache
def _kind(hint: Any) -> str:
    """How a field of this type is read: as `op`, `tuple`, `dataclass`, or `plain` as it stands."""
    if hint is Op:
        return "op"
    if get_origin(hint) is tuple:
        return "tuple"
    return "dataclass" if is_dataclass(hint) and isinstance(hint, type) else "plain"


def _read_op(data: Any, ops: Mapping[str, type[Op]], place: str) -> Any:
    if not isinstance(data, dict) or "op" not in data:
        raise SpaceError(
            f'an op must be an object with a field "op", but got {data!r} in {place}', field="op"
        )
    name, rest = data["op"], {key: value for key, value in data.items() if key != "op"}
    if not isinstance(name, str) or name not in ops:
        raise SpaceError(
            f"op {name!r} in {place} is not known here: it is none of {', '.join(ops)}; "
            "give the class in `op_types`, or the file of the user's own space",
            field="op_types",
        )
    values = _fields_of(ops[name], rest, place)
    return ops[name](**{key: _read_op_field(value, ops, place) for key, value in values.items()})


def _read_op_field(value: Any, ops: Mapping[str, type[Op]], place: str) -> Any:
    if isinstance(value, list):
        return tuple(_read_op_field(item, ops, place) for item in value)
    return _read_op(value, ops, place) if isinstance(value, dict) else value


def _fields_of(cls: Any, data: Any, place: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SpaceError(f"{place} must be an object, but got {data!r}", field=place)
    known, needed = _names(cls)
    if not needed <= data.keys() <= known.keys():
        unknown, missing = sorted(data.keys() - known.keys()), sorted(needed - data.keys())
        raise SpaceError(
            f"{place} must have just the fields {[*known]}: unknown {unknown}, missing {missing}", field=place
        )
    return data


@cache
def _names(cls: type[Any]) -> tuple[dict[str, None], frozenset[str]]:
    """Names of the fields of a dataclass, in order, and of those that have no default."""
    found = fields(cls)
    return (
        {field.name: None for field in found},
        frozenset(field.name for field in found if field.default is MISSING),
    )
