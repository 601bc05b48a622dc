"""What is done to values of which some are far below: a fence, a tail that counts less, or ranks alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats

FENCE = 6.0
"""Values so many spreads below the median collapsed; with a normal distribution it is 7.7 deviations."""

FIRST_PREFIX = 8
"""The spread is that of the first so many values, or of twice as many and so on, where that is larger."""

_MOST = 30.0  # beyond so many spreads below the median a squashed value is not told from another


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The middle of values and how far the better ones are from it, which outliers below do not change.

    Attributes:
        middle: The median.
        spread: From there to the 90 % quantile; 0 where most values are equal.
    """

    middle: float
    spread: float

    @classmethod
    def of(cls, values: Floats) -> Scale:
        """The scale of values `(n,)` in the order in which they came, none of them NaN.

        A search comes to look at good candidates only, whose spread is that of the noise; the first ones,
        which were drawn at random, then look like outliers. So it is the widest of the scales of the first
        8, 16, 32 and so on.
        """
        ends = [FIRST_PREFIX * 2**n for n in range(64) if FIRST_PREFIX * 2**n < len(values)]
        found = [np.quantile(values[:end], [0.5, 0.9]) for end in (*ends, len(values))]
        middle, high = max(found, key=lambda one: float(one[1] - one[0]))
        return cls(middle=float(middle), spread=float(high - middle))

    def has_collapsed(self, values: Floats) -> npt.NDArray[np.bool_]:
        """Which values are too low to be told from a failure, `(n,)`."""
        if self.spread <= 0:
            return np.zeros(len(values), dtype=np.bool_)
        return np.asarray(values < self.middle - FENCE * self.spread, dtype=np.bool_)

    def squash(self, values: Floats) -> Floats:
        """Values whose lower half grows with the logarithm only; in the same order, and alike above."""
        if self.spread <= 0:
            return values
        below = np.maximum(self.middle - values, 0.0) / self.spread
        return np.where(below > 0, self.middle - self.spread * np.log1p(below), values)

    def expand(self, squashed: Floats) -> Floats:
        """The values that were squashed."""
        if self.spread <= 0:
            return squashed
        below = np.clip((self.middle - squashed) / self.spread, 0.0, math.log1p(_MOST))
        return np.where(below > 0, self.middle - self.spread * np.expm1(below), squashed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Values by their rank alone, as a normal distribution has them: a cliff below is one step more.

    Attributes:
        values: Those that were ranked, each once, from the lowest.
        scores: What each of them counts, in about the units of the values above the median.

    Source: normal scores, van der Waerden, 1952.
    """

    values: Floats
    scores: Floats

    @classmethod
    def of(cls, values: Floats) -> Ranks:
        """The ranks of values `(n,)`, none of them NaN; they stay as they are where most are equal."""
        known, first, counts = np.unique(np.sort(values), return_index=True, return_counts=True)
        middle, high = np.quantile(values, [0.5, 0.9]).tolist()
        if high <= middle:
            return cls(values=known, scores=known)
        quantiles, normal = (first + 0.5 * counts) / len(values), NormalDist()
        unit = (high - middle) / normal.inv_cdf(0.9)
        scores = [middle + unit * normal.inv_cdf(quantile) for quantile in quantiles.tolist()]
        return cls(values=known, scores=np.array(scores))

    def squash(self, values: Floats) -> Floats:
        """The scores of values, in the same order; NaN where a value is."""
        return _along(values, self.values, self.scores)

    def expand(self, squashed: Floats) -> Floats:
        """The values that have such scores."""
        return _along(squashed, self.scores, self.values)


def _along(values: Floats, knots: Floats, there: Floats) -> Floats:
    """Where values lie between knots, above the last as far as they are from it; below the first, there."""
    above: Floats = np.maximum(values - knots[-1], 0.0)
    return np.asarray(np.interp(values, knots, there) + above, dtype=np.float64)
