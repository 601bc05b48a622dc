"""Random search: the baseline every other controller has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.algorithm import Algorithm
from controllers.contract import Conditions, Floats, Tokens
from controllers.problem import Problem


class RandomSearch(Algorithm):
    """Draws every active decision uniformly and learns nothing.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed gives the same proposals.

    Raises:
        ControllerError: An argument is wrong.
    """

    def __init__(
        self, problem: Problem | Sequence[int], conditions: Conditions | None = None, *, seed: int = 0
    ) -> None:
        super().__init__("RandomSearch", problem, conditions, seed=seed, settings={})
        self._log_options = np.log(self._decisions.cardinalities)

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:  # noqa: ARG002
        return self._decisions.sample(rng, n)

    def _log_prob(self, tokens: Tokens) -> Floats:
        result: Floats = -np.where(self._decisions.active(tokens), self._log_options, 0.0).sum(axis=1)
        return result
