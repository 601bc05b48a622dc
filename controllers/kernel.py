"""The covariance of a Gaussian process over candidates: its hyperparameters, and their posterior density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats, Tokens
from controllers.decisions import Decisions

LEARNING_RATE = 0.1
"""Adam's step on the logarithms of the hyperparameters."""

OWN_SHARE = 0.3
"""Share of what trend and similarity leave unexplained that is the candidate's own, and not noise.

Only measuring again could tell the two apart. On Accel-NASBench the best surrogates miss held-out accuracies
by 0.40 points, where trainings of one network deviate by 0.27 to 0.31: half of the variance.
"""

TREND, AMPLITUDE, NOISE, ADDITIVE, WEIGHTS = range(5)
"""Places of the hyperparameters, all logarithms; the weights are the rest."""

JITTER = 1e-6  # of the values' variance; keeps the matrix of equal candidates invertible

_SMALL = 64  # rows of a triangle that is not worth halving

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Means and deviations of the logarithms of hyperparameters, in units of the values' variance.

    Attributes:
        trend: Of the linear trend along each decision's order.
        amplitude: Of the smooth function of all decisions.
        noise: Of what neither explains.
        additive: Of an effect of each option by itself.
        deviation: Of all four.
    """

    trend: float = 0.0
    amplitude: float = -1.0
    noise: float = -4.0
    additive: float = -3.0
    deviation: float = 2.0


@dataclass(frozen=True, slots=True)
class Near:
    """Candidates from which others differ in few decisions, so that only the differences are added up.

    Attributes:
        parents: Canonical candidates `(m, decisions)`.
        parent_of: Which of them each of the others is near, `(n,)`.
    """

    parents: Tokens
    parent_of: Ints

    def of(self, some: Ints) -> Near:
        """The same for some of the others, by number."""
        return Near(self.parents, self.parent_of[some])


class Kernel:
    """How the values of candidates vary together.

    A decision by itself has a linear trend along the order of its options and an effect of each option. The
    similarity of two candidates is `exp(-sum over decisions of weight * distance)`, where the distance of two
    options is half their being different and half the square of how far apart they are in the order in which
    they are listed. A decision that matters gets a large weight, one that does not a small one; so
    interactions of any order are learnt, and a list of kernel sizes is used as a scale. Weights, amplitudes
    and noise maximise the posterior density of the values under log-normal priors. Where the noise is known
    from measuring beforehand it is held there, and only a candidate's own part is estimated.

    Args:
        decisions: What the tokens mean.
        prior: Of the hyperparameters.

    Attributes:
        parameters: The hyperparameters, all logarithms.
        known_variance: Of the noise where it is known, in units of the values' variance.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: equation 5.9; the overlap
    of categories as a kernel with a weight for each, Ru et al., ICML 2020.
    """

    def __init__(self, decisions: Decisions, prior: Prior) -> None:
        self._decisions = decisions
        count = len(decisions)
        cardinalities = np.array(decisions.cardinalities)
        # A row for each option of each decision, and after them one for its not being active.
        self._sizes = cardinalities + 1
        self._first = np.cumsum(self._sizes) - self._sizes
        self._decision_of = np.repeat(np.arange(count), self._sizes)
        option = np.arange(int(self._sizes.sum())) - self._first[self._decision_of]
        is_active = option < cardinalities[self._decision_of]
        steps = np.maximum(cardinalities - 1, 1)[self._decision_of]
        has_order = is_active & (cardinalities[self._decision_of] > 1)
        self._order = np.where(has_order, option / steps - 0.5, 0.0)
        self._is_active = is_active.astype(np.float64)
        means = [prior.trend, prior.amplitude, prior.noise, prior.additive]
        self._prior_mean = np.concatenate([means, np.full(count, math.log(2.0 / count))])
        self._prior_deviation = np.concatenate([np.full(WEIGHTS, prior.deviation), np.full(count, 1.0)])
        self.parameters = self._prior_mean.copy()
        self.known_variance: float | None = None

    @property
    def width(self) -> int:
        """Rows of the tables."""
        return len(self._order)

    @property
    def weights(self) -> Floats:
        """How fast the value may change with each decision, `(decisions,)`."""
        return np.asarray(np.exp(self.parameters[WEIGHTS:]), dtype=np.float64)

    def rows(self, tokens: Tokens) -> Ints:
        """The row of each decision's option, or of its not being active, `(n, decisions)`."""
        active = self._decisions.active(tokens)
        rows: Ints = np.where(active, tokens, self._sizes - 1) + self._first
        return rows

    def _features(self, rows: Ints) -> tuple[Floats, Floats]:
        """Which options candidates have, `(n, rows)`, and where they are in the order, `(n, decisions)`."""
        return one_hot(rows, self.width), self._order[rows]

    def _shares(self) -> Floats:
        weights = self.weights
        shares: Floats = weights / weights.sum()
        return shares

    def tables(self, rows: Ints) -> tuple[Floats, Floats]:
        """Of each option, how far it is from that of each candidate, and how their effects vary together."""
        theirs = rows[:, self._decision_of].T  # (rows, n): the candidates' row of the same decision
        is_equal = theirs == np.arange(self.width)[:, None]
        one, other = self._order[:, None], self._order[theirs]
        unequal = 0.25 * (self._is_active[:, None] + self._is_active[theirs])
        distances = np.where(is_equal, 0.0, unequal + 0.5 * (one - other) ** 2)
        trend, additive = np.exp(self.parameters[[TREND, ADDITIVE]])
        effects = 4 * trend * one * other + additive * is_equal
        shares = self._shares()[self._decision_of][:, None]
        return self.weights[self._decision_of][:, None] * distances, shares * effects

    def smooth(self, distances: Floats) -> Floats:
        """The smooth part of the covariance of candidates so far apart."""
        amplitude = math.exp(self.parameters[AMPLITUDE])
        result: Floats = amplitude * np.exp(-distances)
        return result

    def similarity(self, rows: Ints, tables: tuple[Floats, Floats], near: Near | None) -> Floats:
        """Covariance of values with those of others, `(n, m)`; those of one candidate share its own part.

        Args:
            rows: Of the candidates.
            tables: Of the others.
            near: Candidates from which they differ in few decisions: that makes it fast.
        """
        distances, effects = self._sums(rows, tables, near)
        return effects + self.smooth(distances) + self._own * _is_none(distances)

    def _sums(self, rows: Ints, tables: tuple[Floats, Floats], near: Near | None) -> tuple[Floats, Floats]:
        """Distances and effects summed over the decisions of candidates, each `(n, m)`."""
        if near is None:
            options = one_hot(rows, self.width)
            return options @ tables[0], options @ tables[1]
        parents = self.rows(near.parents)
        options, theirs = one_hot(parents, self.width), parents[near.parent_of]
        which, decision = np.nonzero(rows != theirs)
        turn = np.arange(len(which)) - np.searchsorted(which, which)
        found = tuple((options @ table)[near.parent_of] for table in tables)
        for number in range(turn.max(initial=-1) + 1):  # once, but for decisions that depend on another
            at = turn == number
            changed, new = which[at], rows[which[at], decision[at]]
            old = theirs[changed, decision[at]]
            for result, table in zip(found, tables, strict=True):
                result[changed] += table[new] - table[old]
        return found[0], found[1]

    @property
    def _own(self) -> float:
        return OWN_SHARE * math.exp(self.parameters[NOISE])

    @property
    def noise(self) -> float:
        """Standard deviation of one measurement."""
        if self.known_variance is not None:
            return math.sqrt(self.known_variance)
        return math.exp(0.5 * self.parameters[NOISE])

    @property
    def noise_variance(self) -> float:
        """Variance of one measurement, less what is a candidate's own."""
        if self.known_variance is not None:
            return self.known_variance
        return (1 - OWN_SHARE) * math.exp(self.parameters[NOISE])

    def variance(self, rows: Ints) -> Floats:
        """Variance of the value of each candidate, `(n,)`."""
        trend, amplitude, additive = np.exp(self.parameters[[TREND, AMPLITUDE, ADDITIVE]])
        variance: Floats = (
            amplitude + additive + self._own + 4 * trend * self._order[rows] ** 2 @ self._shares()
        )
        return variance

    def _parts(self, features: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats, Floats]:
        """Trend, effects of options, smooth part and equality of candidates, each `(n, n)`."""
        options, order = features
        trend, additive = np.exp(self.parameters[[TREND, ADDITIVE]])
        shares, weights = self._shares(), self.weights
        alike = (options * shares[self._decision_of]) @ options.T
        # Squared distance of features whose weights are those of the decisions.
        scaled = np.concatenate([0.5 * options * self._is_active, math.sqrt(0.5) * order], axis=1)
        by_feature = np.concatenate([weights[self._decision_of], weights])
        weighted = scaled * by_feature
        squares = (scaled * weighted).sum(axis=1)
        distances = np.maximum(squares[:, None] + squares - 2 * weighted @ scaled.T, 0.0)
        return (
            (order * (4 * trend * shares)) @ order.T,
            additive * alike,
            self.smooth(distances),
            _is_none(distances),
        )

    def covariance(self, rows: Ints) -> Floats:
        """Covariance of one measurement of each candidate, `(n, n)`."""
        return self._measured(*self._parts(self._features(rows)))

    def _measured(self, trend: Floats, additive: Floats, smooth: Floats, is_equal: Floats) -> Floats:
        """Covariance of measurements, from the parts of the similarity of their candidates."""
        covariance = trend + additive + smooth + self._own * is_equal
        covariance[np.diag_indices(len(covariance))] += self.noise_variance + JITTER
        return covariance

    def fit(self, rows: Ints, targets: Floats, *, steps: int) -> None:
        """Moves the hyperparameters up the posterior density of standardised values, by steps of Adam."""
        first, second = np.zeros_like(self.parameters), np.zeros_like(self.parameters)
        features = self._features(rows)
        for step in range(1, steps + 1):
            gradient = self._gradient(features, targets)
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient**2
            mean, square = first / (1 - 0.9**step), second / (1 - 0.99**step)
            self.parameters = self.parameters + LEARNING_RATE * mean / (np.sqrt(square) + 1e-8)

    def _gradient(self, features: tuple[Floats, Floats], targets: Floats) -> Floats:
        """Gradient of the log posterior density by the hyperparameters (equation 5.9)."""
        options, order = features
        trend, additive, smooth, is_equal = self._parts(features)
        estimated_noise = 0.0 if self.known_variance is not None else 1 - OWN_SHARE
        inverse = inverse_of(self._measured(trend, additive, smooth, is_equal))
        coefficients = inverse @ targets
        slope = 0.5 * (np.outer(coefficients, coefficients) - inverse)
        by_noise = OWN_SHARE * (slope * is_equal).sum() + estimated_noise * np.trace(slope)
        amplitudes = [
            (slope * trend).sum(),
            (slope * smooth).sum(),
            math.exp(self.parameters[NOISE]) * by_noise,
            (slope * additive).sum(),
        ]
        by_weight = self._by_weight(slope * smooth, options, order) + self._by_share(slope, options, order)
        gradient = np.concatenate([amplitudes, by_weight * self.weights])
        result: Floats = gradient - (self.parameters - self._prior_mean) / self._prior_deviation**2
        return result

    def _by_weight(self, by_smooth: Floats, options: Floats, order: Floats) -> Floats:
        """Of the smooth part by each weight: minus the squared distance along the decision's features."""
        scaled = np.concatenate([0.5 * options * self._is_active, math.sqrt(0.5) * order], axis=1)
        along = 2 * (by_smooth @ scaled * scaled - by_smooth.sum(axis=1)[:, None] * scaled**2)
        decision_of = np.concatenate([self._decision_of, np.arange(len(self._decisions))])
        return np.bincount(decision_of, along.sum(axis=0)).astype(np.float64)

    def _by_share(self, slope: Floats, options: Floats, order: Floats) -> Floats:
        """Of the effects of single decisions by each weight, which has a share of them."""
        trend, additive = np.exp(self.parameters[[TREND, ADDITIVE]])
        by_option = (options * (slope @ options)).sum(axis=0)
        by_share = 4 * trend * (order * (slope @ order)).sum(axis=0)
        by_share = by_share + additive * np.bincount(self._decision_of, by_option)
        result: Floats = (by_share - by_share @ self._shares()) / self.weights.sum()
        return result


def inverse_of(matrix: Floats) -> Floats:
    """The inverse of a positive definite matrix, in half the time of the general one."""
    root = _inverse_triangle(np.asarray(np.linalg.cholesky(matrix), dtype=np.float64))
    result: Floats = root.T @ root
    return result


def _inverse_triangle(lower: Floats) -> Floats:
    """The inverse of a lower triangular matrix, by halves."""
    if len(lower) <= _SMALL:
        return np.asarray(np.linalg.inv(lower), dtype=np.float64)
    half = len(lower) // 2
    result = np.zeros_like(lower)
    result[:half, :half] = _inverse_triangle(lower[:half, :half])
    result[half:, half:] = _inverse_triangle(lower[half:, half:])
    result[half:, :half] = -result[half:, half:] @ (lower[half:, :half] @ result[:half, :half])
    return result


def one_hot(rows: Ints, width: int) -> Floats:
    """1 for each row of a candidate, `(n, width)`."""
    options = np.zeros((len(rows), width))
    options[np.arange(len(rows))[:, None], rows] = 1.0
    return options


def _is_none(distances: Floats) -> Floats:
    """1 where two candidates are one, as none is as near to another as to itself."""
    return np.asarray(distances < 1e-9, dtype=np.float64)
