"""How quantities are read and printed: `30M`, `5ms`, `2GiB`, and a word among known words."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

from nas.errors import UsageError
from nas.values import MOST_SEED
from search_spaces import Direction, SpaceError, find_direction

_QUANTITY = re.compile(
    r"\s*([+-]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ]*)\s*"
)
MOST_PHIS = 100
"""Members of a family that one command makes at most."""

_COUNT_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_MILLISECOND_UNITS = {"": 1.0, "ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_SECOND_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
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


def parse_seconds(text: str) -> float:
    """Reads a duration: `30s`, `5min`; a bare number is seconds.

    Raises:
        UsageError: It is not one.
    """
    return _quantity(text, _SECOND_UNITS, "a duration such as 30s, 5min or 2h")


def parse_fraction(text: str) -> float:
    """Reads a fraction: `0.75`.

    Raises:
        UsageError: It is not one, or above 1.
    """
    value = _quantity(text, {"": 1.0}, "a fraction such as 0.75")
    if value > 1:
        raise UsageError(f"a fraction must lie in (0, 1], but got {text!r}: divide percent by 100")
    return value


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


def show_count(value: float) -> str:
    """Formats a count with three digits: `29.8M`, `1.05G`, `812`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{_three_digits(value / size)}{unit}"
    return f"{value:g}" if value == int(value) else f"{value:.3g}"


def _three_digits(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"


def show_accuracy(value: float) -> str:
    """Formats an accuracy as a fraction with four digits."""
    return f"{value:.4f}"


def show_accuracies(values: Sequence[float], show: Callable[[float], str] = show_accuracy) -> str:
    """Formats the accuracies of one network's trainings: `0.9130 ± 0.0080 (n=3)`, or one accuracy.

    Args:
        values: The accuracies, or another metric.
        show: Formats one.
    """
    if len(values) == 1:
        return show(values[0])
    return f"{show(statistics.fmean(values))} ± {show(statistics.stdev(values))} (n={len(values)})"


def show_interval(interval: tuple[float, float] | None) -> str:
    """Prints the ends of an interval with four digits; `none` where there is none."""
    return "none" if interval is None else f"{show_accuracy(interval[0])} to {show_accuracy(interval[1])}"


def show_share(value: float) -> str:
    """Formats a share in percent: `41 %`, `0.2 %`, `0 %`."""
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def show_seconds(seconds: float) -> str:
    """Formats a duration with two units: `8 s`, `4 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def show_bytes(value: float) -> str:
    """Formats an amount of memory: `512 MiB`."""
    for unit, size in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if value >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{value:.0f} B"


def show_milliseconds(value: float) -> str:
    """Formats a short time: `4.20 ms`."""
    return f"{value:.2f} ms"


def show_number(value: float) -> str:
    """Formats a number of which nothing is known with four digits: `0.9132`, `87.5`, `29.8M`."""
    return f"{value:.4g}" if abs(value) < 1000 else show_count(value)


def show_value(value: float) -> str:
    """Formats a number in a unit of its own, which may be an angle, a year or a price, with six digits."""
    return f"{value:.6g}"


def number_text(value: float) -> str:
    """The shortest text for a number that reads back as the same number, thousands apart: `30,000,000`."""
    short = f"{value:,.12g}"
    return short if float(short.replace(",", "")) == value else f"{float(value):,}"


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


def parse_finalists(text: str) -> int | Literal["auto"]:
    """Reads an integer of at least 0, or `auto`.

    Raises:
        UsageError: It is neither.
    """
    return "auto" if text == "auto" else _integer(text, least=0)


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
            phis = tuple(dict.fromkeys(float(word) for word in text.split(",")))
    except (ValueError, OverflowError):
        phis = ()
    if len(phis) > MOST_PHIS:
        raise UsageError(f"at most {MOST_PHIS} phis can be made at a time, but {text!r} has more: give fewer")
    if not phis or not all(math.isfinite(phi) for phi in phis):
        raise UsageError(
            f"{text!r} is no phi: give one such as 3, a range such as 1..7, or a list such as 0.5,1,2"
        )
    return phis


def _numbers(text: str) -> tuple[float, ...]:
    """Finite numbers with commas between them; none where a word is something else."""
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def parse_rungs(text: str) -> tuple[float, ...]:
    """Reads rungs: `1,3,9`, numbers above 0.

    Raises:
        UsageError: They are not.
    """
    rungs = _numbers(text)
    if not rungs or not all(rung > 0 for rung in rungs):
        raise UsageError(f"{text!r} are no rungs: give rising numbers above 0, such as 1,3,9")
    return rungs


def parse_factors(text: str) -> tuple[float, ...]:
    """Reads factors of a cost: `2,4,8`, numbers above 1.

    Raises:
        UsageError: They are not.
    """
    factors = _numbers(text)
    if not factors or not all(factor > 1 for factor in factors):
        raise UsageError(f"{text!r} are no factors: give numbers above 1, such as 2,4")
    return factors


def parse_bases(text: str) -> tuple[float, float, float]:
    """Reads the bases of compound scaling: `1.2,1.1,1.15` for depth, width and resolution.

    Raises:
        UsageError: It is not three numbers above 0.
    """
    bases = _numbers(text)
    if len(bases) != 3 or not all(base > 0 for base in bases):
        raise UsageError(
            f"{text!r} is not three bases above 0 for depth, width and resolution: give 1.2,1.1,1.15"
        )
    return bases[0], bases[1], bases[2]


def parse_direction(text: str) -> Direction:
    """Reads a direction of scaling: a name, or shares of depth, width and resolution.

    Raises:
        UsageError: It is neither.
    """
    try:
        return find_direction(text)
    except SpaceError as error:
        raise UsageError(str(error), field=error.field) from None


def one_of(what: str, options: Iterable[str]) -> Callable[[str], str]:
    """Makes a reader of a word that must be among the options; a near miss is answered with a hint."""
    known = tuple(options)

    def read(text: str) -> str:
        if text in known:
            return text
        raise UsageError(f"there is no {what} {text!r}: {hint(text, known)}")

    return read


def hint(word: str, options: Iterable[str]) -> str:
    """Says what may have been meant: the nearest options, or all of them where none is near."""
    known = list(dict.fromkeys(options))
    by_lower = {option.lower(): option for option in known}
    near = [by_lower[lower] for lower in get_close_matches(word.lower(), by_lower, n=3, cutoff=0.55)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(known)}" if known else "there are none"
