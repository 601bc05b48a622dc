"""What the columns of a journal may hold beside what they are declared as, read as numbers and texts."""

from __future__ import annotations

import numpy as np

_SIZES: dict[int, tuple[str, str, float]] = {
    1: ("", "<i1", 0.0),
    2: ("<f2", "<i2", 6.2e-5),
    4: ("<f4", "<i4", 1e-20),
    8: ("<f8", "<i8", 1e-200),
}
"""Of numpy scalars by their bytes: the float, the integer, and the size below which a float is an integer."""


def stored_number(value: object) -> float | None:
    """The number in a column of numbers; None where there is none, or it cannot be read.

    SQLite keeps what it does not know as the bytes it is made of, and earlier versions gave it numpy scalars:
    `float32`, `int64` and others, little endian. Bytes of a measured float never look like a small integer's.
    """
    if isinstance(value, bytes):
        return _from_bytes(value)
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def stored_count(value: object) -> int | None:
    """The whole number in a column of whole numbers; None where there is none, or it cannot be read."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "little", signed=True) if len(value) in _SIZES else None
    return value if isinstance(value, int) else None


def stored_text(value: object) -> str:
    """The text in a column of texts."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _from_bytes(value: bytes) -> float | None:
    if len(value) not in _SIZES:
        return None
    as_float, as_integer, least = _SIZES[len(value)]
    integer = int(np.frombuffer(value, as_integer)[0])
    if not as_float or integer == 0:
        return float(integer)
    number = float(np.frombuffer(value, as_float)[0])
    return number if abs(number) >= least else float(integer)  # NaN too: a negative integer looks like it
