"""Local search: neighbours of the best candidate so far, then ever farther ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controllers.algorithm import Algorithm
from controllers.contract import Candidate, Conditions, State, Tokens, require_count
from controllers.mutation import changes_at, mutate
from controllers.problem import Problem
from controllers.results import Told


class LocalSearch(Algorithm):
    """Hill climbing from the best candidate so far.

    After `first` results from uniform draws, a candidate is the incumbent with one decision changed. When all
    such neighbours have been seen, two decisions change, then four, then eight: so it leaves a local optimum
    by itself. Hard to beat where rewards are exact, and easily led astray where they are not: of many noisy
    measurements the best is a lucky one. Results of a candidate that come again are averaged.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        first: Results from uniform draws before the climb, at least 1.

    Raises:
        ControllerError: An argument is wrong.

    Source: as a baseline for architecture search, White et al., UAI 2021.
    """

    def __init__(
        self,
        problem: Problem | Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        first: int = 10,
    ) -> None:
        self._first = require_count("first", first)
        self._incumbent: list[Candidate] = []  # empty before the first reward
        super().__init__("LocalSearch", problem, conditions, seed=seed, settings={"first": self._first})

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        if len(self._results) < self._first or not self._incumbent or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        parents = np.tile(np.array(self._incumbent, dtype=np.int64), (n, 1))
        return mutate(self._decisions, rng, parents, changes_at(temperature))

    def _learn(self, told: Sequence[Told]) -> None:  # noqa: ARG002  # all results count
        """Makes the candidate with the best mean reward the incumbent."""
        self._incumbent = self._results.best(1)

    def _load_own_state(self, state: State) -> None:  # noqa: ARG002  # the results say it
        self._incumbent = self._results.best(1)

    def diagnostics(self) -> dict[str, float]:
        """Returns the incumbent's mean reward and number of results, once there is one."""
        if not self._incumbent:
            return {}
        rewards = self._results.rewards_of(*self._incumbent)
        return {"incumbent_reward": float(rewards.mean()), "incumbent_results": float(len(rewards))}
