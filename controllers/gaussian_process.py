"""A Gaussian process over candidates: a value for any candidate, with how far it may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats, State, Tokens
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

_JITTER = 1e-6  # of the values' variance; keeps the matrix of equal candidates invertible

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


class GaussianProcess:
    """Values of candidates as effects of single decisions plus a smooth function of all of them.

    A decision by itself has a linear trend along the order of its options and an effect of each option. The
    similarity of two candidates is `exp(-sum over decisions of weight * distance)`, where the distance of two
    options is half their being different and half the square of how far apart they are in the order in which
    they are listed. A decision that matters gets a large weight, one that does not a small one; so
    interactions of any order are learnt, and a list of kernel sizes is used as a scale. Weights, amplitudes
    and noise maximise the posterior density of the values under log-normal priors. Where the noise is known
    from measuring beforehand it is held there, and only a candidate's own part is estimated.

    Similarities are sums over decisions, so they are read from a table with a row for each option and a
    column for each measurement: of a candidate's neighbours only what differs is added up.

    Args:
        decisions: What the tokens mean.
        prior: Of the hyperparameters.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: algorithm 2.1, equations
    5.9 and 5.12; the overlap of categories as a kernel with a weight for each, Ru et al., ICML 2020.
    """

    def __init__(self, decisions: Decisions, prior: Prior | None = None) -> None:
        prior = Prior() if prior is None else prior
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
        self._parameters = self._prior_mean.copy()
        self._rows: Ints = np.zeros((0, count), dtype=np.int64)
        self._offset, self._scale = 0.0, 1.0
        self._known_variance: float | None = None  # of the noise, in units of the values' variance
        self._distances: Floats = np.zeros((len(option), 0))
        self._effects: Floats = np.zeros((len(option), 0))
        self._inverse: Floats = np.zeros((0, 0))
        self._targets: Floats = np.zeros(0)
        self._coefficients: Floats = np.zeros(0)
        self._measured_inverse, self._measured_coefficients = self._inverse, self._coefficients

    @property
    def size(self) -> int:
        """How many measurements it was conditioned on."""
        return len(self._rows)

    @property
    def weights(self) -> Floats:
        """How fast the value may change with each decision, `(decisions,)`."""
        return np.asarray(np.exp(self._parameters[WEIGHTS:]), dtype=np.float64)

    @property
    def noise(self) -> float:
        """Standard deviation of one measurement, in units of the values last conditioned on."""
        if self._known_variance is not None:
            return math.sqrt(self._known_variance) * self._scale
        return math.exp(0.5 * self._parameters[NOISE]) * self._scale

    @property
    def measurement_noise(self) -> float:
        """The same, less what is a candidate's own."""
        return math.sqrt(self._noise_variance) * self._scale

    def fit(self, tokens: Tokens, values: Floats, *, steps: int, noise: float | None = None) -> None:
        """Moves the hyperparameters up the posterior density by so many steps of Adam.

        Args:
            tokens: Canonical candidates `(n, decisions)`.
            values: What was measured of each, `(n,)`.
            steps: How many.
            noise: Standard deviation of one measurement where it is known, in units of the values.
        """
        features = self._features(self._encode(tokens))
        self._known_variance = None if noise is None else (noise / _spread(values)) ** 2
        targets = (values - values.mean()) / _spread(values)
        first, second = np.zeros_like(self._parameters), np.zeros_like(self._parameters)
        for step in range(1, steps + 1):
            gradient = self._gradient(features, targets)
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient**2
            mean, square = first / (1 - 0.9**step), second / (1 - 0.99**step)
            self._parameters = self._parameters + LEARNING_RATE * mean / (np.sqrt(square) + 1e-8)

    def condition(self, tokens: Tokens, values: Floats, *, noise: float | None = None) -> None:
        """Takes in what was measured, in place of what was taken in before.

        Args:
            tokens: Canonical candidates `(n, decisions)`.
            values: What was measured of each, `(n,)`.
            noise: As for `fit`.
        """
        self._offset, self._scale = float(values.mean()), _spread(values)
        self._known_variance = None if noise is None else (noise / self._scale) ** 2
        self.restore(tokens, values)

    def restore(self, tokens: Tokens, values: Floats) -> None:
        """Does the same in the units it has, such as those of a saved state."""
        self._rows = self._encode(tokens)
        self._distances, self._effects = self._tables(self._rows)
        self._measured_inverse = self._inverse = _inverse(self._covariance(self._features(self._rows)))
        self._regard(values)

    def extend(self, tokens: Tokens, values: Floats) -> None:
        """Takes in more measurements, one by one, in the units it has: each takes the square of their number.

        Args:
            tokens: Canonical candidates of those that are new, `(m, decisions)`.
            values: What was measured, of those there were and then of the new ones, `(n + m,)`.
        """
        self.forget_imagined()
        for row in self._encode(tokens):
            self._add(row[None])
        self._measured_inverse = self._inverse
        self._regard(values)

    def imagine(self, tokens: Tokens, rng: np.random.Generator) -> None:
        """Takes in candidates `(n, decisions)` as if they had been measured, with values that it draws.

        The values are drawn together from what it predicts. The candidates take the place of those that were
        imagined before.

        Source: fantasies as in Snoek et al., NeurIPS 2012, section 3.2.
        """
        self.forget_imagined()
        if not len(tokens):
            return
        rows = self._encode(tokens)
        expected = self._similarity_to_measured(rows) @ self._coefficients
        left = self._add(rows)
        left[np.diag_indices(len(rows))] += _JITTER
        drawn = expected + np.linalg.cholesky(left) @ rng.standard_normal(len(rows))
        self._targets = np.concatenate([self._targets, drawn])
        self._coefficients = self._inverse @ self._targets

    def _add(self, rows: Ints) -> Floats:
        """Enlarges the inverse by candidates; returns the covariance that their values had left, `(n, n)`.

        Source: Rasmussen and Williams, 2006, equations A.11 and A.12.
        """
        n = self.size
        alike, left = self._left(rows)
        least, diagonal = self._noise_variance + _JITTER, np.diag_indices(len(rows))
        if left[diagonal].min(initial=least) < least / 2:  # not even its noise: rounding has added up
            self._inverse = _inverse(self._covariance(self._features(self._rows)))
            alike, left = self._left(rows)
        left[diagonal] = np.maximum(left[diagonal], least / 2)
        inverse = np.empty((n + len(rows), n + len(rows)))
        inverse[n:, n:] = np.linalg.inv(left)
        inverse[n:, :n] = -inverse[n:, n:] @ alike
        inverse[:n, n:] = inverse[n:, :n].T
        inverse[:n, :n] = self._inverse - alike.T @ inverse[n:, :n]
        distances, effects = self._tables(rows)
        self._inverse = inverse
        self._rows = np.concatenate([self._rows, rows])
        self._distances = np.concatenate([self._distances, distances], axis=1)
        self._effects = np.concatenate([self._effects, effects], axis=1)
        return left

    def _left(self, rows: Ints) -> tuple[Floats, Floats]:
        """What the values of candidates follow from those measured, `(n, size)`, and the covariance left."""
        similarity = self._similarity_to_measured(rows)
        alike = similarity @ self._inverse
        return alike, self._covariance(self._features(rows)) - alike @ similarity.T

    def forget_imagined(self) -> None:
        """Goes back to what was measured."""
        n = len(self._measured_inverse)
        self._inverse, self._coefficients = self._measured_inverse, self._measured_coefficients
        self._rows, self._targets = self._rows[:n], self._targets[:n]
        self._distances, self._effects = self._distances[:, :n], self._effects[:, :n]

    def _regard(self, values: Floats) -> None:
        """Sets what was measured of each candidate."""
        self._targets = (values - self._offset) / self._scale
        self._measured_coefficients = self._coefficients = self._inverse @ self._targets

    def mean(self, tokens: Tokens, *, near: Near | None = None) -> Floats:
        """Returns the expected value of each candidate, `(n,)`."""
        similarity = self._similarity_to_measured(self._encode(tokens), near)
        expected: Floats = similarity @ self._coefficients * self._scale + self._offset
        return expected

    def predict(
        self, tokens: Tokens, *, near: Near | None = None, closer: int | None = None
    ) -> tuple[Floats, Floats]:
        """Returns expected values and their standard deviations, noise apart, each `(n,)`.

        Args:
            tokens: Canonical candidates `(n, decisions)`.
            near: Candidates from which they differ in few decisions: that makes it fast.
            closer: Of how many with the largest expected values a deviation is wanted, those of the others
                are 0: the time of a deviation grows with the square of the measurements; None means all.
        """
        rows = self._encode(tokens)
        similarity = self._similarity_to_measured(rows, near)
        expected = similarity @ self._coefficients
        deviation = np.zeros(len(rows))
        some = np.arange(len(rows))
        if closer is not None and closer < len(rows):
            some = np.argpartition(-expected, closer)[:closer]
        alike = similarity[some]
        explained = ((alike @ self._inverse) * alike).sum(axis=1)
        deviation[some] = np.sqrt(np.maximum(self._variance(rows[some]) - explained, 1e-10))
        return expected * self._scale + self._offset, deviation * self._scale

    def similarity(self, one: Tokens, other: Tokens) -> Floats:
        """Returns how much the values of candidates vary together by what is smooth, `(n, m)`."""
        distances, _ = self._tables(self._encode(other))
        return self._smooth(_one_hot(self._encode(one), len(self._order)) @ distances)

    def covariance(self, tokens: Tokens) -> Floats:
        """Returns how the values of candidates may be off from those expected, together, `(n, n)`."""
        rows = self._encode(tokens)
        similarity = self._similarity_to_measured(rows)
        covariance = self._covariance(self._features(rows)) - similarity @ self._inverse @ similarity.T
        covariance[np.diag_indices(len(rows))] -= self._noise_variance + _JITTER
        found: Floats = covariance * self._scale**2
        return found

    def at_measured(self) -> Floats:
        """Returns the expected value of each candidate that was measured, `(n,)`: what is left is noise."""
        noise = self._noise_variance + _JITTER
        return (self._targets - noise * self._coefficients) * self._scale + self._offset

    def left_out(self) -> tuple[Floats, Floats]:
        """Predicts each measurement from all others: expected values and deviations, noise included."""
        precision = np.diag(self._inverse)
        # Equation 5.12: what is left of a value, over its precision, is the error of predicting it.
        expected = self._targets - self._coefficients / precision
        return expected * self._scale + self._offset, self._scale / np.sqrt(precision)

    def state_dict(self) -> State:
        """Returns the hyperparameters and units; what was measured is given again."""
        known = math.nan if self._known_variance is None else self._known_variance
        return {
            "parameters": self._parameters.copy(),
            "units": np.array([self._offset, self._scale, known]),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state, with nothing measured yet."""
        self._parameters = np.array(state["parameters"], dtype=np.float64)
        self.restore(np.zeros((0, len(self._decisions)), dtype=np.int64), np.zeros(0))
        if "units" in state:
            self._offset, self._scale, known = np.asarray(state["units"]).tolist()
            self._known_variance = None if math.isnan(known) else known

    def _encode(self, tokens: Tokens) -> Ints:
        """The row of each decision's option, or of its not being active, `(n, decisions)`."""
        active = self._decisions.active(tokens)
        rows: Ints = np.where(active, tokens, self._sizes - 1) + self._first
        return rows

    def _features(self, rows: Ints) -> tuple[Floats, Floats]:
        """Which options candidates have, `(n, rows)`, and where they are in the order, `(n, decisions)`."""
        return _one_hot(rows, len(self._order)), self._order[rows]

    def _shares(self) -> Floats:
        weights = self.weights
        shares: Floats = weights / weights.sum()
        return shares

    def _tables(self, rows: Ints) -> tuple[Floats, Floats]:
        """Of each option, how far it is from that of each candidate, and how their effects vary together."""
        theirs = rows[:, self._decision_of].T  # (rows, n): the candidates' row of the same decision
        is_equal = theirs == np.arange(len(self._order))[:, None]
        one, other = self._order[:, None], self._order[theirs]
        unequal = 0.25 * (self._is_active[:, None] + self._is_active[theirs])
        distances = np.where(is_equal, 0.0, unequal + 0.5 * (one - other) ** 2)
        trend, additive = np.exp(self._parameters[[TREND, ADDITIVE]])
        effects = 4 * trend * one * other + additive * is_equal
        shares = self._shares()[self._decision_of][:, None]
        return self.weights[self._decision_of][:, None] * distances, shares * effects

    def _smooth(self, distances: Floats) -> Floats:
        amplitude = math.exp(self._parameters[AMPLITUDE])
        result: Floats = amplitude * np.exp(-distances)
        return result

    def _similarity_to_measured(self, rows: Ints, near: Near | None = None) -> Floats:
        """Covariance of values, `(n, measured)`: a candidate's own part is shared by its own measurements."""
        distances, effects = self._sums(rows, near)
        return effects + self._smooth(distances) + self._own * _is_none(distances)

    def _sums(self, rows: Ints, near: Near | None) -> tuple[Floats, Floats]:
        """Distances and effects summed over the decisions of candidates, each `(n, measured)`."""
        if near is None:
            options = _one_hot(rows, len(self._order))
            return options @ self._distances, options @ self._effects
        parents = self._encode(near.parents)
        options, theirs = _one_hot(parents, len(self._order)), parents[near.parent_of]
        which, decision = np.nonzero(rows != theirs)
        turn = np.arange(len(which)) - np.searchsorted(which, which)
        tables = self._distances, self._effects
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
        return OWN_SHARE * math.exp(self._parameters[NOISE])

    @property
    def _noise_variance(self) -> float:
        if self._known_variance is not None:
            return self._known_variance
        return (1 - OWN_SHARE) * math.exp(self._parameters[NOISE])

    def _variance(self, rows: Ints) -> Floats:
        trend, amplitude, additive = np.exp(self._parameters[[TREND, AMPLITUDE, ADDITIVE]])
        variance: Floats = (
            amplitude + additive + self._own + 4 * trend * self._order[rows] ** 2 @ self._shares()
        )
        return variance

    def _parts(self, features: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats, Floats]:
        """Trend, effects of options, smooth part and equality of candidates, each `(n, n)`."""
        options, order = features
        trend, additive = np.exp(self._parameters[[TREND, ADDITIVE]])
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
            self._smooth(distances),
            _is_none(distances),
        )

    def _covariance(self, features: tuple[Floats, Floats]) -> Floats:
        return self._measured(*self._parts(features))

    def _measured(self, trend: Floats, additive: Floats, smooth: Floats, is_equal: Floats) -> Floats:
        """Covariance of measurements, from the parts of the similarity of their candidates."""
        covariance = trend + additive + smooth + self._own * is_equal
        covariance[np.diag_indices(len(covariance))] += self._noise_variance + _JITTER
        return covariance

    def _gradient(self, features: tuple[Floats, Floats], targets: Floats) -> Floats:
        """Gradient of the log posterior density by the hyperparameters (equation 5.9)."""
        options, order = features
        trend, additive, smooth, is_equal = self._parts(features)
        estimated_noise = 0.0 if self._known_variance is not None else 1 - OWN_SHARE
        inverse = _inverse(self._measured(trend, additive, smooth, is_equal))
        coefficients = inverse @ targets
        slope = 0.5 * (np.outer(coefficients, coefficients) - inverse)
        by_noise = OWN_SHARE * (slope * is_equal).sum() + estimated_noise * np.trace(slope)
        amplitudes = [
            (slope * trend).sum(),
            (slope * smooth).sum(),
            math.exp(self._parameters[NOISE]) * by_noise,
            (slope * additive).sum(),
        ]
        by_weight = self._by_weight(slope * smooth, options, order) + self._by_share(slope, options, order)
        gradient = np.concatenate([amplitudes, by_weight * self.weights])
        result: Floats = gradient - (self._parameters - self._prior_mean) / self._prior_deviation**2
        return result

    def _by_weight(self, by_smooth: Floats, options: Floats, order: Floats) -> Floats:
        """Of the smooth part by each weight: minus the squared distance along the decision's features."""
        scaled = np.concatenate([0.5 * options * self._is_active, math.sqrt(0.5) * order], axis=1)
        along = 2 * (by_smooth @ scaled * scaled - by_smooth.sum(axis=1)[:, None] * scaled**2)
        decision_of = np.concatenate([self._decision_of, np.arange(len(self._decisions))])
        return np.bincount(decision_of, along.sum(axis=0)).astype(np.float64)

    def _by_share(self, slope: Floats, options: Floats, order: Floats) -> Floats:
        """Of the effects of single decisions by each weight, which has a share of them."""
        trend, additive = np.exp(self._parameters[[TREND, ADDITIVE]])
        by_option = (options * (slope @ options)).sum(axis=0)
        by_share = 4 * trend * (order * (slope @ order)).sum(axis=0)
        by_share = by_share + additive * np.bincount(self._decision_of, by_option)
        result: Floats = (by_share - by_share @ self._shares()) / self.weights.sum()
        return result


def _inverse(matrix: Floats) -> Floats:
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


def _one_hot(rows: Ints, width: int) -> Floats:
    options = np.zeros((len(rows), width))
    options[np.arange(len(rows))[:, None], rows] = 1.0
    return options


def _is_none(distances: Floats) -> Floats:
    """1 where two candidates are one, as none is as near to another as to itself."""
    return np.asarray(distances < 1e-9, dtype=np.float64)


def _spread(values: Floats) -> float:
    """Standard deviation, or 1 where all values are equal."""
    spread = float(values.std())
    return spread if spread > 0 else 1.0
