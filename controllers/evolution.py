"""Aging evolution: the oldest of a population makes room for the mutated winner of a tournament."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controllers.candidates import Candidates
from controllers.contract import (
    Candidate,
    Conditions,
    ControllerError,
    Costs,
    Feasible,
    Feedback,
    Floats,
    Key,
    Proposal,
    Reward,
    State,
    Tokens,
)
from controllers.mutation import changes_at, mutate, without_policy
from controllers.results import Results
from controllers.state import check_made_alike


class RegularizedEvolution:
    """Evolution in which every candidate dies of age, however good it was.

    The first `population` results come from uniform draws. From then on a candidate is the best of `sample`
    members drawn without replacement, with one decision taken otherwise; its result joins the population and
    the oldest leaves it. A lucky measurement is forgotten by that, unless its children do well too.

    Results may come late or never. `Outcome.fidelity` is not looked at: feed back rewards that can be
    compared.

    Args:
        cardinalities: Number of options of each decision.
        conditions: For each decision the `(parent, options)` of which any makes it active; None: always.
        seed: The same seed and the same results give the same proposals.
        key: Identity of a candidate, for not proposing one twice; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        costs: Accepted so that all controllers are made alike; evolution learns from rewards alone.
        reward: Likewise.
        population: Members, at least 2.
        sample: Members of a tournament, 1 to `population`.

    Raises:
        ControllerError: An argument breaks its law.

    Source: Real et al., AAAI 2019, Algorithm 1; there the population is 100 and the sample 25.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        key: Key | None = None,
        feasible: Feasible | None = None,
        costs: Costs | None = None,  # noqa: ARG002  # see the docstring
        reward: Reward | None = None,  # noqa: ARG002
        population: int = 50,
        sample: int = 10,
    ) -> None:
        if not 1 <= sample <= population or population < 2:
            raise ControllerError(
                f"1 <= sample <= population and population >= 2 must hold, but got sample={sample} and "
                f"population={population}"
            )
        self._candidates = Candidates(cardinalities, conditions, seed=seed, key=key, feasible=feasible)
        self._decisions = self._candidates.decisions
        self._results = Results(self._decisions)
        self._size, self._sample = population, sample
        self._made: State = {
            "controller": "RegularizedEvolution",
            "decisions": self._decisions.fingerprint,
            "population": population,
            "sample": sample,
        }

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, fewer or none only when no others can be found."""
        return self._candidates.propose(n, self._draw, without_policy)

    def feedback(self, results: Feedback) -> None:
        """Lets results into the population, in the order in which they come, and the oldest out of it.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        for _, tokens, _ in self._results.take(results):
            self._candidates.note(tokens)

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the up to `n` candidates with the best mean reward, best first.

        Raises:
            ControllerError: `n` is below 1.
        """
        return self._results.best(n)

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly; the population is the last of the results."""
        return {
            "made": dict(self._made),
            "candidates": self._candidates.state_dict(),
            "results": self._results.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues where the state was taken.

        Raises:
            ControllerError: The state is of a controller made otherwise.
        """
        check_made_alike(state, self._made)
        self._candidates.load_state_dict(state["candidates"])
        self._results.load_state_dict(state["results"])

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

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        is_young = len(self._results) < self._size or self._results.worst == math.inf
        if is_young or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        tokens, rewards = self._results.latest(self._size)
        entrants = rng.random((n, len(rewards))).argsort(axis=1)[:, : self._sample]
        winners = entrants[np.arange(n), rewards[entrants].argmax(axis=1)]
        return mutate(self._decisions, rng, tokens[winners], changes_at(temperature))
