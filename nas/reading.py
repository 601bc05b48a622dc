"""Reads files of others within bounds: bytes, text, JSON and arrays; nothing that is read runs."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from nas.machine import free_memory
from nas.values import shown

MOST_TEXT = 64 * 2**20
"""Bytes of a file of text; JSON takes up to some 25 times as much memory."""

MOST_DEPTH = 100
"""Lists and objects within each other in JSON."""

MOST_INTEGER = 2**64
"""The size that whole numbers in JSON must stay below."""

MOST_ARRAYS = 100_000
"""Arrays in one file."""

MOST_HEADER = 10_000
"""Bytes that describe one array in a file."""

OBJECTS, ONE_ARRAY = "Python objects", "it is one array"
"""What messages say of an array that numpy would unpickle, and of a file that holds no archive of them."""

_MANY_DIGITS = re.compile(r"\d{20}")

_HEADERS: Mapping[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextmanager
def ordinary(path: Path, most: int | None = None) -> Iterator[tuple[BinaryIO, int]]:
    """Opens an ordinary file for reading; yields it and its size in bytes.

    Args:
        path: The file.
        most: So many bytes it may have; by default what is free of this machine's memory.

    Raises:
        OSError: It cannot be read, is no ordinary file (a device, a pipe), or has more bytes.
    """
    limit = free_memory()[0] if most is None else most
    # Opening a pipe would wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb", closefd=True) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it must be an ordinary file, but is a device or a pipe")
        if status.st_size > limit:
            what = "which are free of the memory" if most is None else "the most for such a file"
            raise OSError(f"it must have at most {limit:,} bytes, {what}, but has {status.st_size:,}")
        yield file, status.st_size


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Reads an ordinary file whole, of at most so many bytes, or what is free of the memory.

    Raises:
        OSError: It cannot be read, is no ordinary file, or has more bytes.
    """
    with ordinary(path, most) as (file, size):
        return file.read(size)


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """Reads a file of UTF-8 text, with the ends of its lines as they are.

    Raises:
        OSError: It cannot be read, is no ordinary file, or has more than `most` bytes.
        UnicodeDecodeError: It is no UTF-8 text.
    """
    return read_bytes(path, most).decode("utf-8")


def parse_json(text: str | bytes) -> Any:
    """Reads JSON text.

    Raises:
        ValueError: It is no JSON, is too long, is nested too deeply, or has a number that is too large.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    if len(text) > MOST_TEXT:
        raise ValueError(f"JSON must have at most {MOST_TEXT:,} characters, but has {len(text):,}")
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    if text.count("[") + text.count("{") > MOST_DEPTH or _MANY_DIGITS.search(text):
        _check_values(value)
    return value


def read_json(path: Path) -> Any:
    """Reads a file of JSON.

    Raises:
        OSError: It cannot be read, is no ordinary file, or is too large.
        ValueError: It is no UTF-8 text, no JSON, is nested too deeply, or has a number that is too large.
    """
    return parse_json(read_text(path))


def _too_deep() -> ValueError:
    return ValueError(f"lists and objects of JSON must be at most {MOST_DEPTH} deep, but are deeper")


def _check_values(value: object) -> None:
    """Checks depth and whole numbers, level by level."""
    level: list[object] = [value]
    depth = 0
    while level:
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
            elif isinstance(one, int) and abs(one) >= MOST_INTEGER:
                raise ValueError(f"numbers of JSON must be below 2**64, but one has {one.bit_length()} bits")
            if depth == MOST_DEPTH and isinstance(one, dict | list):
                raise _too_deep()
        level = inner
        depth += 1


def require_types(value: Any) -> None:
    """Checks that a dataclass that was made of JSON holds what its fields are declared as.

    Raises:
        TypeError: A field holds something else.
    """
    hints = get_type_hints(type(value))
    for field in fields(value):
        found = getattr(value, field.name)
        if not _fits(hints[field.name], found):
            raise TypeError(f"`{field.name}` must be {field.type}, but is {shown(found)}")


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(kinds) == len(value) and all(map(_fits, kinds, value))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(arguments[0], name) and _fits(arguments[1], one) for name, one in value.items()
        )
    if is_dataclass(hint) and type(value) is hint:
        require_types(value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Reads all arrays of an `.npz` file; what it says of their sizes is checked before memory is taken.

    Raises:
        OSError: It cannot be read, or is no ordinary file.
        ValueError: It is no such file, is damaged, holds something else than plain arrays, or what is in it
            does not fit into the free memory.
    """
    try:
        with ordinary(path, 2**62) as (file, _):
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise ValueError(ONE_ARRAY)
            with zipfile.ZipFile(file) as archive:
                check_archive(archive)
                members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
                return {name: _read_member(archive, member) for name, member in members.items()}
    except (OSError, ValueError):
        raise
    except Exception as error:  # zipfile, zlib, lzma, tokenize and numpy each have errors of their own
        raise ValueError(str(error) or "it is damaged, or does not fit into memory") from error


def check_archive(archive: zipfile.ZipFile) -> None:
    """Checks that what an archive unpacks to fits into the free memory.

    Raises:
        ValueError: It does not, or it holds too many files.
    """
    sizes = [member.file_size for member in archive.infolist()]
    if len(sizes) > MOST_ARRAYS:
        raise ValueError(f"it must hold at most {MOST_ARRAYS:,} arrays, but holds {len(sizes):,}")
    free = free_memory()[0]
    if sum(sizes) > free:
        raise ValueError(
            f"its arrays must fit into the {free:,} bytes of memory that are free, but take {sum(sizes):,}"
        )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """An array, whose header must state as many bytes as there are; the bytes of what is no array."""
    name = member.filename
    with archive.open(member) as file:
        head = file.read(len(np.lib.format.MAGIC_PREFIX))
        if head != np.lib.format.MAGIC_PREFIX:
            return np.asarray(head + file.read())
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name} must be an array of version 1 or 2, but is of {version}")
        try:
            shape, _, kind = _HEADERS[version](file, max_header_size=MOST_HEADER)
        except SyntaxError as error:  # numpy reads some types as Python expressions
            raise ValueError(f"the header of {name} must be one of an array, but: {error}") from error
        there = member.file_size - file.tell()
    if kind.hasobject:
        raise ValueError(f"{name} must hold numbers or texts, but holds {OBJECTS}")
    stated = math.prod(shape, start=kind.itemsize)
    if stated != there or min(shape, default=0) < 0 or not kind.itemsize:
        raise ValueError(f"{name} must have the {stated:,} bytes that its header states, but has {there:,}")
    with archive.open(member) as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(
            file, allow_pickle=False, max_header_size=MOST_HEADER
        )
        return array
