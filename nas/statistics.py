"""Rank correlations, intervals and quantiles, by scipy, which is loaded at the first call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Probability that an interval covers, where nothing else is said."""


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
    from scipy.stats import kendalltau

    return float(kendalltau(*_pair(a, b)).statistic)


def spearman(a: Sequence[float] | NDArray[np.floating], b: Sequence[float] | NDArray[np.floating]) -> float:
    """Returns Spearman's rank correlation of two lists of equal length, in [-1, 1]; ties get average ranks.

    Where a list is constant no order is stated, and the result is nan.

    Raises:
        ValueError: The lists differ in length, hold fewer than two values, or a value is not finite.

    Source: Spearman 1904, The proof and measurement of association between two things.
    """
    from scipy.stats import spearmanr

    first, second = _pair(a, b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan  # scipy warns of it too
    return float(spearmanr(first, second).statistic)


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


def wilson_interval(successes: int, count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns the central interval of a probability of which so many successes were seen in `count` draws.

    Source: Wilson, J. Am. Stat. Assoc. 22, 1927.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def t_quantile(freedom: int, *, confidence: float = CONFIDENCE) -> float:
    """Returns the half-width of Student's t's central interval, for so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def deviation_interval(
    deviation: float, freedom: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Returns the central interval of a normal standard deviation, estimated with these degrees of freedom.

    It is that of the chi-square distribution.
    """
    from scipy.special import chdtri

    tail = (1 - confidence) / 2
    low, high = (deviation * math.sqrt(freedom / chdtri(freedom, p)) for p in (tail, 1 - tail))
    return float(low), float(high)
