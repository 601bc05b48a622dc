"""JSON files of latencies: frozen dataclasses written as they are, and read back strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from nas.errors import LatencyError
from nas.io import write_whole
from nas.reading import read_json

T = TypeVar("T")


def read_file(path: Path, *, kind: str, version: int) -> tuple[dict[str, Any], int]:
    """Reads a file that says its format and version; returns its values and the version.

    Args:
        path: The file.
        kind: The `format` that it must state.
        version: The newest version that can be read.

    Raises:
        LatencyError: It cannot be read, is no JSON, or states another format or a newer version.
    """
    try:
        data = read_json(path)
    except OSError as error:
        raise LatencyError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise LatencyError(
            f"{path} must be JSON, but is damaged ({error}): restore it, or name another file"
        ) from error
    if not isinstance(data, dict) or data.get("format") != kind:
        raise LatencyError(f"{path} must state `format` {kind!r}, but is another file: name one that does")
    found = data.get("version")
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= version:
        raise LatencyError(
            f"`version` must be an integer from 1 to {version}, but is {found!r} in {path}: install a newer "
            "mnas, or measure again"
        )
    return data, found


def write_file(path: Path, data: Mapping[str, Any]) -> None:
    """Writes values as JSON, whole or not at all; the folder is made where there is none.

    Raises:
        LatencyError: The file cannot be written.
    """
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise _not_writable(path, error) from error


def require_writable(path: Path) -> None:
    """Checks, before time is spent on a result, that it can be written; makes the folder.

    Raises:
        LatencyError: It cannot.
    """
    if path.is_dir():
        raise LatencyError(f"--out must be a file, but {path} is a folder: name a file in it", field="out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, error) from error
    if not os.access(path.parent, os.W_OK):
        raise _not_writable(path, PermissionError("the folder may not be written to"))


def read_record(kind: Callable[..., T], data: object, where: str) -> T:
    """Makes a dataclass of a JSON object that has its fields, each of its type; other values are ignored.

    Args:
        kind: The dataclass.
        data: The object.
        where: What to call it in errors.

    Raises:
        LatencyError: A value is missing, or is not of its type.
    """
    if not isinstance(data, Mapping):
        raise LatencyError(f"`{where}` must be an object, but is {data!r}", field=where)
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        place = f"{where}.{field.name}"
        if field.name in data:
            values[field.name] = _read(hints[field.name], data[field.name], place)
        elif field.default is MISSING:
            raise LatencyError(f"`{place}` is missing", field=place)
    return kind(**values)


def _read(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as the type of a field: a record, an optional value, a tuple, a number or text."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return read_record(hint, value, where)  # type: ignore[arg-type]
    if origin in (Union, UnionType):
        return None if value is None else _read(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise LatencyError(f"`{where}` must be a list, but is {value!r}", field=where)
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise LatencyError(f"`{where}` must have {len(kinds)} values, but has {len(value)}", field=where)
        pairs = zip(kinds, value, strict=True)
        return tuple(_read(kind, one, f"{where}[{place}]") for place, (kind, one) in enumerate(pairs))
    expected = {float: (int, float), int: (int,), bool: (bool,)}.get(hint, (str,))
    if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
        raise LatencyError(f"`{where}` must be {hint}, but is {value!r}", field=where)
    return float(value) if hint is float else value


def _not_writable(path: Path, error: OSError) -> LatencyError:
    return LatencyError(
        f"{path} cannot be written ({error.strerror or error}): choose another --out", field="out"
    )
