"""Checks single arguments of functions: the law, the value and the remedy where one is wrong."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

import numpy as np

from nas.conversion import shown
from nas.errors import NasError, UsageError

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
