"""By how much hypervolume a candidate whose metrics are uncertain is expected to add to a front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from controllers.contract import Floats
from controllers.pareto import is_dominated

POINTS = 128
"""Random points of the costs at which the front is looked at, where there are several costs."""

_REACH, _CELLS = 9.0, 8192  # beyond so many deviations an excess is certain or none
_GRID = np.linspace(-_REACH, _REACH, _CELLS + 1)
_BELOW = 0.5 * np.array([math.erfc(-z / math.sqrt(2.0)) for z in _GRID])
_EXCESS = _GRID * _BELOW + np.exp(-0.5 * _GRID**2) / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A front as steps: the best value that is reached by the candidates of some costs or less.

    With one cost there is a step between each two neighbours on the front. With several, steps are cubes
    without extent, at random points.

    Attributes:
        lower: Least costs of each step, `(steps, costs)`.
        upper: Most costs of each, `(steps, costs)`.
        level: The value that is reached there, `(steps,)`; more is better.
    """

    lower: Floats
    upper: Floats
    level: Floats

    @classmethod
    def of(
        cls,
        values: Floats,
        costs: Floats,
        *,
        least: float,
        best: Floats,
        worst: Floats,
        rng: np.random.Generator,
    ) -> Self:
        """The steps of the front of some points.

        Args:
            values: Of each point, `(n,)`; more is better.
            costs: Of each point, `(n, costs)`; less is better.
            least: The reference value, which is reached everywhere.
            best: Least costs that are looked at, `(costs,)`; used where there are several.
            worst: The reference point's costs, `(costs,)`.
            rng: Draws points where there are several costs.
        """
        count = costs.shape[1]
        if count == 0:
            empty = np.zeros((1, 0))
            return cls(lower=empty, upper=empty, level=np.array([max([least, *values.tolist()])]))
        if count == 1:
            is_front = ~is_dominated(np.column_stack([costs, -values]))
            is_front &= (values > least) & (costs[:, 0] < worst[0])
            order = costs[is_front, 0].argsort(kind="stable")
            ends = costs[is_front, 0][order]
            return cls(
                lower=np.concatenate([[-np.inf], ends])[:, None],
                upper=np.concatenate([ends, worst])[:, None],
                level=np.concatenate([[least], values[is_front][order]]),
            )
        points = best + (worst - best) * rng.random((POINTS, count))
        is_met = (costs[None] <= points[:, None]).all(axis=2)
        level = np.where(is_met, values, -np.inf).max(axis=1, initial=least)
        return cls(lower=points, upper=points, level=level)

    def improvement(
        self, mean: Floats, deviation: Floats, cost_mean: Floats, cost_deviation: Floats
    ) -> Floats:
        """Returns how much hypervolume each candidate is expected to add, `(n,)`, in proportion.

        The hypervolume is the integral, over all costs, of what a candidate that reaches them has above the
        front there. Where the metrics are independent its expectation is the integral of the product of two
        expectations, each of which has a closed form.

        Args:
            mean: Expected values `(n,)`.
            deviation: Their standard deviations `(n,)`.
            cost_mean: Expected costs `(n, costs)`.
            cost_deviation: Their standard deviations `(n, costs)`; 0 where they are exact.

        Source: expected hypervolume improvement, Emmerich et al., CEC 2011.
        """
        result = excess(mean[:, None] - self.level, deviation[:, None])
        for one in range(cost_mean.shape[1]):
            cost, spread = cost_mean[:, [one]], cost_deviation[:, [one]]
            lower, upper = self.lower[:, one], self.upper[:, one]
            if lower is upper or np.array_equal(lower, upper):
                result = result * _probability(upper - cost, spread)
            else:
                result = result * (excess(upper - cost, spread) - excess(lower - cost, spread))
        return np.asarray(result.sum(axis=1), dtype=np.float64)


def excess(mean: Floats, deviation: Floats) -> Floats:
    """Returns the expectation of the positive part of normal variables."""
    if not deviation.any():
        return np.maximum(mean, 0.0)
    z = mean / np.maximum(deviation, 1e-12)
    found = np.where(z > _REACH, mean, deviation * np.interp(z, _GRID, _EXCESS, left=0.0))
    return np.asarray(found, dtype=np.float64)


def _probability(mean: Floats, deviation: Floats) -> Floats:
    """The probability that normal variables are not negative."""
    if not deviation.any():
        return (mean >= 0).astype(np.float64)
    return np.interp(mean / np.maximum(deviation, 1e-12), _GRID, _BELOW, left=0.0, right=1.0)
