"""A Gaussian process over candidates: a value for any candidate, with how far it may be off."""

from __future__ import annotations

import math

import numpy as np

from controllers.contract import Floats, State, Tokens
from controllers.decisions import Decisions
from controllers.kernel import JITTER, Ints, Kernel, Near, Prior, inverse_of, one_hot


class GaussianProcess:
    """Values of candidates as effects of single decisions and a smooth function of all of them: see `Kernel`.

    Similarities are sums over decisions, so they are read from a table with a row for each option and a
    column for each measurement: of a candidate's neighbours only what differs is added up.

    Args:
        decisions: What the tokens mean.
        prior: Of the hyperparameters.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: algorithm 2.1 and equation
    5.12.
    """

    def __init__(self, decisions: Decisions, prior: Prior | None = None) -> None:
        self._kernel = Kernel(decisions, Prior() if prior is None else prior)
        self._rows: Ints = np.zeros((0, len(decisions)), dtype=np.int64)
        self._offset, self._scale = 0.0, 1.0
        self._distances: Floats = np.zeros((self._kernel.width, 0))
        self._effects: Floats = np.zeros((self._kernel.width, 0))
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
        return self._kernel.weights

    @property
    def noise(self) -> float:
        """Standard deviation of one measurement, in units of the values last conditioned on."""
        return self._kernel.noise * self._scale

    @property
    def measurement_noise(self) -> float:
        """The same, less what is a candidate's own."""
        return math.sqrt(self._kernel.noise_variance) * self._scale

    def fit(self, tokens: Tokens, values: Floats, *, steps: int, noise: float | None = None) -> None:
        """Moves the hyperparameters up the posterior density by so many steps of Adam.

        Args:
            tokens: Canonical candidates `(n, decisions)`.
            values: What was measured of each, `(n,)`.
            steps: How many.
            noise: Standard deviation of one measurement where it is known, in units of the values.
        """
        self._know(noise, _spread(values))
        targets = (values - values.mean()) / _spread(values)
        self._kernel.fit(self._kernel.rows(tokens), targets, steps=steps)

    def condition(self, tokens: Tokens, values: Floats, *, noise: float | None = None) -> None:
        """Takes in what was measured, in place of what was taken in before.

        Args:
            tokens: Canonical candidates `(n, decisions)`.
            values: What was measured of each, `(n,)`.
            noise: As for `fit`.
        """
        self._offset, self._scale = float(values.mean()), _spread(values)
        self._know(noise, self._scale)
        self.restore(tokens, values)

    def _know(self, noise: float | None, scale: float) -> None:
        self._kernel.known_variance = None if noise is None else (noise / scale) ** 2

    def restore(self, tokens: Tokens, values: Floats) -> None:
        """Does the same in the units it has, such as those of a saved state."""
        self._rows = self._kernel.rows(tokens)
        self._distances, self._effects = self._kernel.tables(self._rows)
        self._measured_inverse = self._inverse = inverse_of(self._kernel.covariance(self._rows))
        self._regard(values)

    def extend(self, tokens: Tokens, values: Floats) -> None:
        """Takes in more measurements, one by one, in the units it has: each takes the square of their number.

        Args:
            tokens: Canonical candidates of those that are new, `(m, decisions)`.
            values: What was measured, of those there were and then of the new ones, `(n + m,)`.
        """
        self.forget_imagined()
        for row in self._kernel.rows(tokens):
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
        rows = self._kernel.rows(tokens)
        expected = self._alike(rows) @ self._coefficients
        left = self._add(rows)
        left[np.diag_indices(len(rows))] += JITTER
        drawn = expected + np.linalg.cholesky(left) @ rng.standard_normal(len(rows))
        self._targets = np.concatenate([self._targets, drawn])
        self._coefficients = self._inverse @ self._targets

    def _add(self, rows: Ints) -> Floats:
        """Enlarges the inverse by candidates; returns the covariance that their values had left, `(n, n)`.

        Source: Rasmussen and Williams, 2006, equations A.11 and A.12.
        """
        n = self.size
        alike, left = self._left(rows)
        least, diagonal = self._kernel.noise_variance + JITTER, np.diag_indices(len(rows))
        if left[diagonal].min(initial=least) < least / 2:  # not even its noise: rounding has added up
            self._inverse = inverse_of(self._kernel.covariance(self._rows))
            alike, left = self._left(rows)
        left[diagonal] = np.maximum(left[diagonal], least / 2)
        inverse = np.empty((n + len(rows), n + len(rows)))
        inverse[n:, n:] = np.linalg.inv(left)
        inverse[n:, :n] = -inverse[n:, n:] @ alike
        inverse[:n, n:] = inverse[n:, :n].T
        inverse[:n, :n] = self._inverse - alike.T @ inverse[n:, :n]
        distances, effects = self._kernel.tables(rows)
        self._inverse = inverse
        self._rows = np.concatenate([self._rows, rows])
        self._distances = np.concatenate([self._distances, distances], axis=1)
        self._effects = np.concatenate([self._effects, effects], axis=1)
        return left

    def _left(self, rows: Ints) -> tuple[Floats, Floats]:
        """What the values of candidates follow from those measured, `(n, size)`, and the covariance left."""
        similarity = self._alike(rows)
        alike = similarity @ self._inverse
        return alike, self._kernel.covariance(rows) - alike @ similarity.T

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
        similarity = self._alike(self._kernel.rows(tokens), near)
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
        rows = self._kernel.rows(tokens)
        similarity = self._alike(rows, near)
        expected = similarity @ self._coefficients
        deviation = np.zeros(len(rows))
        some = np.arange(len(rows))
        if closer is not None and closer < len(rows):
            some = np.argpartition(-expected, closer)[:closer]
        alike = similarity[some]
        explained = ((alike @ self._inverse) * alike).sum(axis=1)
        deviation[some] = np.sqrt(np.maximum(self._kernel.variance(rows[some]) - explained, 1e-10))
        return expected * self._scale + self._offset, deviation * self._scale

    def _alike(self, rows: Ints, near: Near | None = None) -> Floats:
        """Covariance of the values of candidates with those measured, `(n, size)`."""
        return self._kernel.similarity(rows, (self._distances, self._effects), near)

    def similarity(self, one: Tokens, other: Tokens) -> Floats:
        """Returns how much the values of candidates vary together by what is smooth, `(n, m)`."""
        distances, _ = self._kernel.tables(self._kernel.rows(other))
        return self._kernel.smooth(one_hot(self._kernel.rows(one), self._kernel.width) @ distances)

    def covariance(self, tokens: Tokens) -> Floats:
        """Returns how the values of candidates may be off from those expected, together, `(n, n)`."""
        rows = self._kernel.rows(tokens)
        similarity = self._alike(rows)
        covariance = self._kernel.covariance(rows) - similarity @ self._inverse @ similarity.T
        covariance[np.diag_indices(len(rows))] -= self._kernel.noise_variance + JITTER
        found: Floats = covariance * self._scale**2
        return found

    def at_measured(self) -> Floats:
        """Returns the expected value of each candidate that was measured, `(n,)`: what is left is noise."""
        noise = self._kernel.noise_variance + JITTER
        return (self._targets - noise * self._coefficients) * self._scale + self._offset

    def left_out(self) -> tuple[Floats, Floats]:
        """Predicts each measurement from all others: expected values and deviations, noise included."""
        precision = np.diag(self._inverse)
        # Equation 5.12: what is left of a value, over its precision, is the error of predicting it.
        expected = self._targets - self._coefficients / precision
        return expected * self._scale + self._offset, self._scale / np.sqrt(precision)

    def state_dict(self) -> State:
        """Returns the hyperparameters and units; what was measured is given again."""
        known = math.nan if self._kernel.known_variance is None else self._kernel.known_variance
        return {
            "parameters": self._kernel.parameters.copy(),
            "units": np.array([self._offset, self._scale, known]),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state, with nothing measured yet."""
        self._kernel.parameters = np.array(state["parameters"], dtype=np.float64)
        self.restore(np.zeros((0, self._rows.shape[1]), dtype=np.int64), np.zeros(0))
        if "units" in state:
            self._offset, self._scale, known = np.asarray(state["units"]).tolist()
            self._kernel.known_variance = None if math.isnan(known) else known


def _spread(values: Floats) -> float:
    """Standard deviation, or 1 where all values are equal."""
    spread = float(values.std())
    return spread if spread > 0 else 1.0
