"""What is done to values among which some collapsed: a fence below, and a tail that counts less."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
