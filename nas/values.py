"""Checks and converts single values: arguments, numbers, texts, and how a value is shown."""

from __future__ import annotations

import hashlib
import math
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Real
from typing import Any
from unicodedata import category

import numpy as np

from nas.errors import MetricError, NasError, UsageError

SHOWN = 100
"""Characters of a value that a message repeats."""

HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, marks that turn the direction of text, and halves of pairs."""

LISTED = 5
"""Things that a message names; the others are counted."""


def as_number(value: object, what: str) -> float:
    """Converts a number of whatever library to a float.

    Python's and numpy's numbers, Decimal, Fraction, truth values, and arrays or tensors of one element are
    numbers; text, complex numbers, times and masked values are not.

    Args:
        value: The number.
        what: Its name, for the message.

    Returns:
        The float, which may be NaN or infinite.

    Raises:
        MetricError: It is no number, or too large for a float.
    """
    if type(value) is float:
        return value
    number = value
    try:
        if isinstance(value, str | bytes | bytearray | np.datetime64 | np.timedelta64) or np.ma.is_masked(
            value
        ):
            raise TypeError("it is no number")
        if callable(getattr(value, "item", None)):
            number = value.item()  # type: ignore[attr-defined]
        if isinstance(
            number, str | bytes | complex
        ):  # an array's element; a complex number has a float method
            raise TypeError("it is no number")
        return float(number)  # type: ignore[arg-type]
    except OverflowError:
        raise MetricError(f"{what} must fit into a float, but got {shown(value)}") from None
    except Exception:
        raise MetricError(
            f"{what} must be one number, but got {shown(value)} of type {type(value).__name__}: convert it "
            "with float(...)"
        ) from None


def as_text(value: object, what: str) -> str:
    """Converts text to a plain string that can be stored.

    Args:
        value: The text.
        what: Its name, for the message.

    Raises:
        MetricError: It is no text.
    """
    if not isinstance(value, str):
        raise MetricError(f"{what} must be text, but got {shown(value)} of type {type(value).__name__}")
    return clean(value)


def clean(text: str) -> str:
    r"""Makes text that a file or a database takes, which NUL and lone surrogates are not.

    Bytes that Python could not read as characters, as in names of files that are not UTF-8, and in every name
    with an accent where the locale is ASCII, are read as UTF-8. The rest is written as `\x00` or `\udc80`.
    """
    plain = str.__str__(text)
    if plain.isprintable():  # surrogates and NUL are not
        return plain
    plain = plain.replace("\0", "\\x00")
    try:
        return plain.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return plain.encode("utf-8", "backslashreplace").decode("utf-8")


def harmless(text: str) -> str:
    r"""Escapes what would change a terminal or hide text, as `\x1b`; line breaks, tabs and letters stay."""
    if text.isprintable():
        return text
    return "".join(_escaped(one) if category(one) in HARMFUL and one not in "\n\t" else one for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def bounded(text: str, most: int) -> str:
    """Cuts text in the middle to `most` characters, at least 64; the end of a traceback is worth most."""
    if len(text) <= most:
        return text
    kept = most - 44  # the words between take no more
    head = kept // 4
    left_out = len(text) - kept
    return f"{text[:head]} ... ({left_out:,} characters left out) ... {text[head + left_out :]}"


def is_number(value: object) -> bool:
    """Whether it is a number that a float can hold: no NaN, no infinity, no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_count(value: object, least: int) -> bool:
    """Whether it is an integer of at least so much, and no boolean."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def plain(value: Any) -> Any:
    """Python's number or boolean for one of numpy; anything else as it is."""
    is_scalar = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
    return value.item() if is_scalar else value


def make_plain(value: Any) -> None:
    """Converts numpy's numbers and booleans in the fields of a frozen dataclass that is being made."""
    for field in fields(value):
        given = getattr(value, field.name)
        if (converted := plain(given)) is not given:
            object.__setattr__(value, field.name, converted)


def few(names: Sequence[str], word: Callable[[str], str] = str) -> str:
    """Lists the first five names, each as `word` has it, and says how many more there are."""
    more = len(names) - LISTED
    return ", ".join(map(word, names[:LISTED])) + (f" and {more:,} more" if more > 0 else "")


def counted(number: float, noun: str) -> str:
    """So many things, such as "1 image", "2,000 images", "0.5 epochs"."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}" if isinstance(number, int) else f"{number:g} {noun}{ending}"


def shown(value: object) -> str:
    """A value in a few words, whatever its own text does."""
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"
    return bounded(clean(text), SHOWN)


def digest(*parts: object) -> str:
    """Hashes the parts in order: arrays by shape, type and content, all else by its text."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.shape}{part.dtype}".encode())
            sha.update(np.ascontiguousarray(part).data)
        else:
            sha.update(str(part).encode())
        sha.update(b"\0")
    return sha.hexdigest()[:16]


MOST_SEED = 2**63 - 1
"""The largest seed: what a journal can hold as an integer."""


def whole(
    name: str, value: object, *, least: int, most: int | None = None, error: type[NasError] = UsageError
) -> int:
    """Converts an integer of Python or numpy; text, fractions, booleans and None are none.

    Raises:
        NasError: It is none, or out of range; of the type given.
    """
    number = None
    if not isinstance(value, bool | np.bool_):
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            number = None
    if number is None or number < least or (most is not None and number > most):
        highest = "2**63 - 1" if most == MOST_SEED else most
        law = f"{name} >= {least}" if most is None else f"{least} <= {name} <= {highest}"
        raise error(
            f"`{law}` must hold for an integer, but got {name}={shown(value)}: give an integer such as "
            f"{name}={max(1, least)}",
            field=name,
        )
    return number


def real(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    error: type[NasError] = UsageError,
) -> float:
    """Converts a finite number of Python or numpy; text, booleans and None are none.

    Args:
        name: The argument.
        value: What was given for it.
        least: The least number allowed.
        above: The number must be greater than this.
        below: The number must be less than this.
        most: The greatest number allowed.
        error: Type of the error.

    Raises:
        NasError: It is none, or out of range; of the type given.
    """
    number = _real(value)
    if number is None or not (least <= number <= most and above < number < below):
        left = f"{least:g} <= " if least > -math.inf else f"{above:g} < " if above > -math.inf else ""
        right = f" <= {most:g}" if most < math.inf else f" < {below:g}" if below < math.inf else ""
        law = f"{left}{name}{right}"
        if left and not right:  # `x > 0` reads better than `0 < x`
            law = f"{name} {'>=' if least > -math.inf else '>'} {max(least, above):g}"
        raise error(
            f"`{law}` must hold for a finite number, but got {name}={shown(value)}: give such a number",
            field=name,
        )
    return number


def _real(value: object) -> float | None:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def flag(name: str, value: object) -> bool:
    """Converts a boolean of Python or numpy.

    Raises:
        UsageError: It is none.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise UsageError(
        f"`{name} in (True, False)` must hold, but got {name}={shown(value)}: give one of the two",
        field=name,
    )


def seed_of(value: object, *, name: str = "seed", error: type[NasError] = UsageError) -> int:
    """Converts a seed: an integer from 0 that a journal can hold.

    Raises:
        NasError: It is none; of the type given.
    """
    return whole(name, value, least=0, most=MOST_SEED, error=error)


def instance(name: str, value: object, kinds: tuple[type[Any], ...], remedy: str) -> None:
    """Checks that an argument is of one of some types.

    Raises:
        UsageError: It is of another.
    """
    if not isinstance(value, kinds):
        words = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise UsageError(f"`{name}` must be {words}, but got {name}={shown(value)}: {remedy}", field=name)
