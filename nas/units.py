"""What people type for a quantity or a choice: `30M`, `5ms`, `2GiB`, a word among known words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

from nas.argument_checks import MOST_SEED
from nas.errors import UsageError

_QUANTITY = re.compile(
    r"\s*([+-]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ]*)\s*"
)
MOST_PHIS = 100
"""Members of a family that one command makes at most."""

_COUNT_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_MILLISECOND_UNITS = {"": 1.0, "ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_BYTE_UNITS = {
    "": 1.0,
    **{f"{letter}b": 1000.0**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024.0**power for power, letter in enumerate("kmgt", start=1)},
}
_HOUR_UNITS = {"": 1.0, "h": 1.0, "m": 1 / 60, "min": 1 / 60, "s": 1 / 3600, "d": 24.0}


def parse_count(text: str) -> float:
    """Reads a positive number of things: `30M` is 30 million, `2.5G` is 2.5 billion, `1e6` a million.

    Raises:
        UsageError: It is not one.
    """
    return _quantity(text, _COUNT_UNITS, "a count such as 30M, 2.5G or 300000")


def parse_milliseconds(text: str) -> float:
    """Reads a time: `5ms`, `800us`, `0.01s`; a bare number is milliseconds.

    Raises:
        UsageError: It is not one.
    """
    return _quantity(text, _MILLISECOND_UNITS, "a time such as 5ms, 800us or 0.01s")


def parse_bytes(text: str) -> float:
    """Reads an amount of memory: `2GiB`, `500MB`; a bare number is bytes.

    Raises:
        UsageError: It is not one.
    """
    return _quantity(text, _BYTE_UNITS, "an amount of memory such as 2GiB or 500MB")


def parse_hours(text: str) -> float:
    """Reads a duration: `1.5`, `1.5h`, `90min`, `2d`; a bare number is hours.

    Raises:
        UsageError: It is not one.
    """
    return _quantity(text, _HOUR_UNITS, "a duration such as 1.5h, 90min or 2d")


def _quantity(text: str, units: Mapping[str, float], example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or unit not in units:
        known = ", ".join(name for name in units if name)
        raise UsageError(f"{text!r} is not {example} (units: {known})")
    value = float(match[1]) * units[unit]
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"a quantity must be greater than 0 and finite, but got {text!r}: give {example}")
    return value


def parse_positive_int(text: str) -> int:
    """Reads an integer of at least 1.

    Raises:
        UsageError: It is not one.
    """
    return _integer(text, least=1)


def parse_natural(text: str) -> int:
    """Reads an integer of at least 0.

    Raises:
        UsageError: It is not one.
    """
    return _integer(text, least=0)


def _integer(text: str, *, least: int) -> int:
    """An integer from a least one to the largest that SQLite, and so a journal, can hold."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value <= MOST_SEED:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise UsageError(f"an integer from {least} to 2**63 - 1 is needed, but got {shown!r}")
    return value


def parse_number(text: str) -> float:
    """Reads a finite number of at least 0.

    Raises:
        UsageError: It is not one.
    """
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"a number is needed, but got {text!r}") from None
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"a finite number of at least 0 is needed, but got {text!r}")
    return value


def parse_phis(text: str) -> tuple[float, ...]:
    """Reads phis of compound scaling: `3`, `1..7` (steps of 1), `0.5,1,2`; below 0 shrinks.

    Raises:
        UsageError: It is none of these.
    """
    first, dots, last = text.partition("..")
    try:
        if dots:
            low, high = int(first), int(last)
            phis = tuple(float(phi) for phi in range(low, min(high, low + MOST_PHIS) + 1))
        else:
            phis = tuple(float(word) for word in text.split(","))
    except (ValueError, OverflowError):
        phis = ()
    if len(phis) > MOST_PHIS:
        raise UsageError(f"at most {MOST_PHIS} phis at a time are made, but {text!r} has more: give fewer")
    if not phis or not all(math.isfinite(phi) for phi in phis):
        raise UsageError(
            f"{text!r} is no phi: give one such as 3, a range such as 1..7, or a list such as 0.5,1,2"
        )
    return phis


def parse_rungs(text: str) -> tuple[float, ...]:
    """Reads rungs: `1,3,9`, numbers above 0.

    Raises:
        UsageError: They are not.
    """
    try:
        rungs = tuple(float(word) for word in text.split(","))
    except ValueError:
        rungs = ()
    if not rungs or not all(math.isfinite(rung) and rung > 0 for rung in rungs):
        raise UsageError(f"{text!r} are no rungs: give rising numbers above 0, such as 1,3,9")
    return rungs


def parse_bases(text: str) -> tuple[float, float, float]:
    """Reads the bases of compound scaling: `1.2,1.1,1.15` for depth, width and resolution.

    Raises:
        UsageError: It is not three numbers above 0.
    """
    try:
        bases = tuple(float(word) for word in text.split(","))
    except ValueError:
        bases = ()
    if len(bases) != 3 or not all(math.isfinite(base) and base > 0 for base in bases):
        raise UsageError(
            f"{text!r} is not three bases above 0 for depth, width and resolution: give 1.2,1.1,1.15"
        )
    return bases[0], bases[1], bases[2]


def one_of(what: str, options: Iterable[str]) -> Callable[[str], str]:
    """Makes a reader of a word that must be among the options; a near miss is answered with a hint."""
    known = tuple(options)

    def read(text: str) -> str:
        if text in known:
            return text
        raise UsageError(f"there is no {what} {text!r}: {hint(text, known)}")

    return read


def hint(word: str, options: Iterable[str]) -> str:
    """Words what may have been meant: the nearest options, or all of them where none is near."""
    known = list(dict.fromkeys(options))
    by_lower = {option.lower(): option for option in known}
    near = [by_lower[lower] for lower in get_close_matches(word.lower(), by_lower, n=3, cutoff=0.55)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(known)}" if known else "there are none"
