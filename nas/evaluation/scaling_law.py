"""The quadratic law of how a metric depends on where the growth of a network goes, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.statistics import t_quantile
from search_spaces import Direction

Array = npt.NDArray[np.float64]

TERMS = 6
"""Of a quadratic over the simplex: three shares, and their three products of two."""

GRID = 30
"""The law's best direction is looked for in steps of one part in so many."""

DRAWS = 2_000
LEVEL = 0.9
"""Of the draws of the law, the share whose best directions an interval of a share holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """What the law says of one direction, or of the difference of two.

    Attributes:
        value: The metric's mean over trainings, or the difference of two means.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLaw:
    """A metric as a quadratic of the shares of depth, width and resolution, at one cost.

    Attributes:
        best: Where it is best.
        intervals: Least and most of each share of the best direction, in 9 of 10 draws of the law.
        deviation: Standard deviation of a training around the law: noise, and what no quadratic says.
        trainings: Trainings it was fitted on.
        weights: Its coefficients, of depth, width, resolution, and their products.
        covariance: Of the weights, row by row.

    Source: Scheffe, Experiments with Mixtures, J. Royal Stat. Soc. B 20, 1958.
    """

    best: Direction
    intervals: dict[str, tuple[float, float]]
    deviation: float
    trainings: int
    weights: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    def at(self, direction: Direction) -> Estimated:
        """The metric in a direction."""
        return self._estimate(_terms([direction])[0])

    def difference(self, one: Direction, other: Direction) -> Estimated:
        """How much larger the metric is in one direction than in another."""
        first, second = _terms([one, other])
        return self._estimate(first - second)

    def _estimate(self, terms: Array) -> Estimated:
        value = float(terms @ np.array(self.weights))
        variance = float(terms @ np.array(self.covariance) @ terms)
        half = t_quantile(self.trainings - TERMS) * max(0.0, variance) ** 0.5
        return Estimated(value=value, low=value - half, high=value + half)


def fit_law(
    trainings: Sequence[tuple[Direction, float]], *, sign: float = 1.0, seed: int = 0
) -> ScalingLaw | None:
    """Fits the law by least squares; None where the trainings are too few, or too alike, to tell.

    Args:
        trainings: The direction of each training, and what was measured of it.
        sign: 1 where more is better, -1 where less is.
        seed: Of the draws that the intervals come from.
    """
    terms = _terms([direction for direction, _ in trainings])
    values = np.array([value for _, value in trainings], dtype=np.float64)
    freedom = len(values) - TERMS
    if freedom < 1 or np.linalg.matrix_rank(terms) < TERMS:
        return None
    weights: Array = np.linalg.lstsq(terms, values, rcond=None)[0].astype(np.float64)
    variance = float(np.sum((values - terms @ weights) ** 2)) / freedom
    covariance: Array = variance * np.linalg.inv(terms.T @ terms).astype(np.float64)
    grid = _grid()
    predicted = sign * (_terms(grid) @ weights)
    return ScalingLaw(
        best=grid[int(predicted.argmax())],
        intervals=_intervals(grid, weights, covariance, freedom, sign=sign, seed=seed),
        deviation=variance**0.5,
        trainings=len(values),
        weights=tuple(weights.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
    )


def middle(directions: Sequence[Direction]) -> Direction:
    """The mean of directions, share by share."""
    depth, width, _ = (float(share) for share in _shares(directions).mean(0))
    return Direction(depth=depth, width=width, resolution=max(0.0, 1 - depth - width))


def _intervals(
    grid: Sequence[Direction], weights: Array, covariance: Array, freedom: int, *, sign: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Where the best directions of laws lie that the trainings allow: draws of Student's t."""
    rng = np.random.default_rng(seed)
    normal = rng.multivariate_normal(np.zeros(TERMS), covariance, DRAWS, method="eigh")
    drawn = weights + normal / np.sqrt(rng.chisquare(freedom, (DRAWS, 1)) / freedom)
    best = (sign * drawn @ _terms(grid).T).argmax(1)
    shares = _shares(grid)[best]
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    names = ("depth", "width", "resolution")
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}


def _grid() -> list[Direction]:
    return [
        Direction(depth=depth / GRID, width=width / GRID, resolution=(GRID - depth - width) / GRID)
        for depth in range(GRID + 1)
        for width in range(GRID + 1 - depth)
    ]


def _shares(directions: Sequence[Direction]) -> Array:
    return np.array([(one.depth, one.width, one.resolution) for one in directions], dtype=np.float64)


def _terms(directions: Sequence[Direction]) -> Array:
    shares = _shares(directions)
    depth, width, resolution = shares.T
    return np.column_stack([shares, depth * width, depth * resolution, width * resolution])
