"""A Gaussian process over candidates: a value for any candidate, with how far it may be off."""

from __future__ import annotations

import math

import numpy as np

from controllers.contract import Floats, State, Tokens
from controllers.decisions import Decisions

LEARNING_RATE = 0.1
"""Adam's step on the logarithms of the hyperparameters."""

OWN_SHARE = 0.3
"""Share of what trend and similarity leave unexplained that is the candidate's own, and not noise.

Only measuring again could tell the two apart. On Accel-NASBench the best surrogates miss held-out accuracies
by 0.40 points, where trainings of one network deviate by 0.27 to 0.31: half of the variance.
"""

_JITTER = 1e-6  # of the values' variance; keeps the matrix of equal candidates invertible


class GaussianProcess:
    """Values of candidates as a linear trend of each decision's order plus a smooth function of all of them.

    The similarity of two candidates is `exp(-sum over decisions of weight * distance)`, where the
    distance of two options is half their being different and half the square of how far apart they are in
    the order in which they are listed. A decision that matters gets a large weight, one that does not a small
    one; so interactions of any order are learnt, and a list of kernel sizes is used as a scale. Weights,
    amplitudes and noise maximise the posterior density of the values under log-normal priors. Where the noise
    is known from measuring beforehand it is held there, and only a candidate's own part is estimated.

    Args:
        decisions: What the tokens mean.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: algorithm 2.1, equations
    5.9 and 5.12; the overlap of categories as a kernel with a weight for each, Ru et al., ICML 2020.
    """

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        count = len(decisions)
        cardinalities = np.array(decisions.cardinalities)
        self._first = np.cumsum(cardinalities) - cardinalities
        self._width = int(cardinalities.sum())
        self._steps = np.maximum(cardinalities - 1, 1)
        # Which decision each feature belongs to: one column for each option, then one for each order.
        self._decision_of = np.concatenate([np.repeat(np.arange(count), cardinalities), np.arange(count)])
        # Logarithms: trend, amplitude, noise, then a weight for each decision.
        self._prior_mean = np.concatenate([[0.0, -1.0, -4.0], np.full(count, math.log(2.0 / count))])
        self._prior_deviation = np.concatenate([[2.0, 2.0, 2.0], np.full(count, 1.0)])
        self._parameters = self._prior_mean.copy()
        self._features: Floats = np.zeros((0, self._width + count))
        self._offset, self._scale = 0.0, 1.0
        self._known_variance: float | None = None  # of the noise, in units of the values' variance
        self._inverse: Floats = np.zeros((0, 0))
        self._targets: Floats = np.zeros(0)
        self._coefficients: Floats = np.zeros(0)

    @property
    def size(self) -> int:
        """How many measurements it was conditioned on."""
        return len(self._features)

    @property
    def weights(self) -> Floats:
        """How fast the value may change with each decision, `(decisions,)`."""
        return np.asarray(np.exp(self._parameters[3:]), dtype=np.float64)

    @property
    def noise(self) -> float:
        """Standard deviation of one measurement, in units of the values last conditioned on."""
        if self._known_variance is not None:
            return math.sqrt(self._known_variance) * self._scale
        return math.exp(0.5 * self._parameters[2]) * self._scale

    def fit(self, tokens: Tokens, values: Floats, *, steps: int, noise: float | None = None) -> None:
        """Moves the hyperparameters up the posterior density by so many steps of Adam.

        Args:
            tokens: Canonical candidates `(n, decisions)`.
            values: What was measured of each, `(n,)`.
            steps: How many.
            noise: Standard deviation of one measurement where it is known, in units of the values.
        """
        features = self._encode(tokens)
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
        self._features = self._encode(tokens)
        self._offset, self._scale = float(values.mean()), _spread(values)
        self._known_variance = None if noise is None else (noise / self._scale) ** 2
        self._inverse = np.asarray(np.linalg.inv(self._covariance(self._features)), dtype=np.float64)
        self._targets = (values - self._offset) / self._scale
        self._coefficients = self._inverse @ self._targets

    def mean(self, tokens: Tokens) -> Floats:
        """Returns the expected value of each candidate, `(n,)`."""
        similarity = self._similarity_to_measured(self._encode(tokens))
        expected: Floats = similarity @ self._coefficients * self._scale + self._offset
        return expected

    def predict(self, tokens: Tokens) -> tuple[Floats, Floats]:
        """Returns expected values and their standard deviations, noise apart, each `(n,)`."""
        features = self._encode(tokens)
        similarity = self._similarity_to_measured(features)
        explained = ((similarity @ self._inverse) * similarity).sum(axis=1)
        variance = np.maximum(self._variance(features) - explained, 1e-10)
        expected = similarity @ self._coefficients * self._scale + self._offset
        return expected, np.sqrt(variance) * self._scale

    def similarity(self, one: Tokens, other: Tokens) -> Floats:
        """Returns how much the values of candidates vary together, trend apart, `(n, m)`."""
        return self._similarity(self._encode(one), self._encode(other))[1]

    def left_out(self) -> tuple[Floats, Floats]:
        """Predicts each measurement from all others: expected values and deviations, noise included."""
        precision = np.diag(self._inverse)
        # Equation 5.12: what is left of a value, over its precision, is the error of predicting it.
        expected = self._targets - self._coefficients / precision
        return expected * self._scale + self._offset, self._scale / np.sqrt(precision)

    def state_dict(self) -> State:
        """Returns the hyperparameters; what was measured is given again."""
        return {"parameters": self._parameters.copy()}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self._parameters = np.array(state["parameters"], dtype=np.float64)

    def _encode(self, tokens: Tokens) -> Floats:
        """Features whose weighted squared distance is the distance of candidates; 0 where not active."""
        active = self._decisions.active(tokens)
        options = np.zeros((len(tokens), self._width))
        rows = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
        options[rows[active], (tokens + self._first)[active]] = 0.5
        order = np.where(active, tokens / self._steps - 0.5, 0.0)
        order[:, np.array(self._decisions.cardinalities) == 1] = 0.0
        return np.concatenate([options, math.sqrt(0.5) * order], axis=1)

    def _similarity(self, one: Floats, other: Floats) -> tuple[Floats, Floats]:
        """Trend and smooth part of the covariance of two sets of candidates."""
        trend_scale, amplitude = np.exp(self._parameters[:2])
        weights = self.weights
        by_feature = weights[self._decision_of]
        weighted = one * by_feature
        squares = (one * weighted).sum(axis=1)[:, None] + (other * other) @ by_feature
        smooth = amplitude * np.exp(np.minimum(2 * weighted @ other.T - squares, 0.0))
        shares = 8 * trend_scale * weights / weights.sum()
        trend = (one[:, self._width :] * shares) @ other[:, self._width :].T
        return trend, smooth

    def _similarity_to_measured(self, features: Floats) -> Floats:
        """Covariance of values, `(n, measured)`: a candidate's own part is shared by its own measurements."""
        trend, smooth = self._similarity(features, self._features)
        return trend + smooth + self._own * _equal(smooth, self._parameters[1])

    @property
    def _own(self) -> float:
        return OWN_SHARE * math.exp(self._parameters[2])

    def _variance(self, features: Floats) -> Floats:
        trend_scale, amplitude = np.exp(self._parameters[:2])
        shares = 8 * trend_scale * self.weights / self.weights.sum()
        variance: Floats = amplitude + self._own + features[:, self._width :] ** 2 @ shares
        return variance

    def _covariance(self, features: Floats) -> Floats:
        return self._measured(*self._similarity(features, features))

    def _measured(self, trend: Floats, smooth: Floats) -> Floats:
        """Covariance of measurements, from both parts of the similarity of their candidates."""
        covariance = trend + smooth + self._own * _equal(smooth, self._parameters[1])
        known = self._known_variance
        noise = (1 - OWN_SHARE) * math.exp(self._parameters[2]) if known is None else known
        covariance[np.diag_indices(len(covariance))] += noise + _JITTER
        return covariance

    def _gradient(self, features: Floats, targets: Floats) -> Floats:
        """Gradient of the log posterior density by the hyperparameters (equation 5.9)."""
        trend, smooth = self._similarity(features, features)
        is_equal = _equal(smooth, self._parameters[1])
        estimated_noise = 0.0 if self._known_variance is not None else 1 - OWN_SHARE
        noise = math.exp(self._parameters[2]) * (
            OWN_SHARE * is_equal + estimated_noise * np.eye(len(features))
        )
        inverse = np.linalg.inv(self._measured(trend, smooth))
        coefficients = inverse @ targets
        slope = 0.5 * (np.outer(coefficients, coefficients) - inverse)
        by_smooth = slope * smooth
        # Of the smooth part by the weight of each feature: minus the squared distance along it.
        along = 2 * (by_smooth @ features * features - by_smooth.sum(axis=1)[:, None] * features**2)
        weights = self.weights
        by_weight = np.bincount(self._decision_of, along.sum(axis=0), minlength=len(weights))
        order = features[:, self._width :]
        by_share = 8 * math.exp(self._parameters[0]) * (order * (slope @ order)).sum(axis=0) / weights.sum()
        by_weight += by_share - (by_share @ weights) / weights.sum()
        gradient = np.concatenate(
            [
                [(slope * trend).sum(), by_smooth.sum(), (slope * noise).sum()],
                by_weight * weights,
            ]
        )
        result: Floats = gradient - (self._parameters - self._prior_mean) / self._prior_deviation**2
        return result


def _equal(smooth: Floats, log_amplitude: float) -> Floats:
    """1 where two candidates are one, as none is as similar to another as to itself."""
    return np.asarray(smooth >= math.exp(log_amplitude) * (1 - 1e-9), dtype=np.float64)


def _spread(values: Floats) -> float:
    """Standard deviation, or 1 where all values are equal."""
    spread = float(values.std())
    return spread if spread > 0 else 1.0
