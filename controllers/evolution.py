"""Aging evolution: the oldest of a population makes room for the mutated winner of a tournament."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controllers.algorithm import Algorithm
from controllers.contract import Conditions, ControllerError, Floats, Tokens, require_count
from controllers.mutation import changes_at, mutate
from controllers.problem import Problem


class RegularizedEvolution(Algorithm):
    """Evolution in which every candidate dies of age, however good it was.

    The first `population` results come from uniform draws. From then on a candidate is the best of `sample`
    members drawn without replacement, with one decision changed; its result joins the population and the
    oldest leaves it. So a lucky measurement is forgotten, unless its children do well too.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        population: Members, at least 2: the latest results.
        sample: Members of a tournament, 1 to `population`.

    Raises:
        ControllerError: An argument is wrong.

    Source: Real et al., AAAI 2019, Algorithm 1; there the population is 100 and the sample 25.
    """

    def __init__(
        self,
        problem: Problem | Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        population: int = 50,
        sample: int = 10,
    ) -> None:
        self._size = require_count("population", population, least=2)
        self._sample = require_count("sample", sample)
        if self._sample > self._size:
            raise ControllerError(
                f"sample <= population must hold, but got sample={sample} and population={population}",
                field="sample",
            )
        settings = {"population": self._size, "sample": self._sample}
        super().__init__("RegularizedEvolution", problem, conditions, seed=seed, settings=settings)

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        is_young = len(self._results) < self._size or self._results.worst == math.inf
        if is_young or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        tokens, rewards = self._results.latest(self._size)
        entrants = rng.random((n, len(rewards))).argsort(axis=1)[:, : self._sample]
        winners = entrants[np.arange(n), rewards[entrants].argmax(axis=1)]
        return mutate(self._decisions, rng, tokens[winners], changes_at(temperature))

    def diagnostics(self) -> dict[str, float]:
        """Returns the population's size, its mean and best reward, once it has a reward."""
        if self._results.worst == math.inf:
            return {}
        _, rewards = self._results.latest(self._size)
        return {
            "population": float(len(rewards)),
            "population_mean": float(rewards.mean()),
            "population_best": float(rewards.max()),
        }

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the share of each option in the population; None while it is empty."""
        tokens, _ = self._results.latest(self._size)
        return self._decisions.shares(tokens) if len(tokens) else None
