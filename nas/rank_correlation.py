"""How far two rankings of the same things agree: Kendall's tau-b and Spearman's rho, both with ties."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def kendall_tau(
    a: Sequence[float] | NDArray[np.floating], b: Sequence[float] | NDArray[np.floating]
) -> float:
    """Returns Kendall's tau-b of two lists of equal length, in [-1, 1].

    Pairs that are tied in one list count for neither side and shrink the norm; where a list is constant no
    order is stated, and the result is nan.

    Raises:
        ValueError: The lists differ in length, hold fewer than two values, or a value is not finite.

    Source: Kendall 1945, The treatment of ties in ranking problems.
    """
    first, second = _pair(a, b)
    concordance, untied_first, untied_second = 0.0, 0.0, 0.0
    for index in range(len(first) - 1):  # row by row: memory stays linear in the length
        signs_first = np.sign(first[index + 1 :] - first[index])
        signs_second = np.sign(second[index + 1 :] - second[index])
        concordance += float(signs_first @ signs_second)
        untied_first += float(np.abs(signs_first).sum())
        untied_second += float(np.abs(signs_second).sum())
    if not untied_first or not untied_second:
        return math.nan
    return concordance / math.sqrt(untied_first * untied_second)


def spearman(a: Sequence[float] | NDArray[np.floating], b: Sequence[float] | NDArray[np.floating]) -> float:
    """Returns Spearman's rank correlation of two lists of equal length, in [-1, 1]; ties get average ranks.

    Where a list is constant no order is stated, and the result is nan.

    Raises:
        ValueError: The lists differ in length, hold fewer than two values, or a value is not finite.

    Source: Spearman 1904, The proof and measurement of association between two things.
    """
    first, second = (average_ranks(values) for values in _pair(a, b))
    first, second = first - first.mean(), second - second.mean()
    norm = math.sqrt(float(first @ first) * float(second @ second))
    return max(-1.0, min(1.0, float(first @ second) / norm)) if norm else math.nan


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the ranks 1 to n of (n,) values; equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2.0)[which]
    return ranks


def _pair(
    a: Sequence[float] | NDArray[np.floating], b: Sequence[float] | NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise ValueError(
            "a rank correlation needs two lists of equal length of at least 2 values, but got shapes "
            f"{first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(
            "a rank correlation needs finite values: leave out what is nan or infinite in both lists"
        )
    return first, second
