"""Owns aging evolution: the oldest of a population makes room for the mutated winner of a tournament.

Does not own the mutation (`controllers.mutation`), nor the rule against repeats (`controllers.candidates`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controllers.candidates import Candidates
from controllers.contract import (
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
    as_outcome,
)
from controllers.mutation import changes_at, mutate, without_policy
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
        self._size, self._sample = population, sample
        self._tokens: list[tuple[int, ...]] = []  # the population, oldest first
        self._rewards: list[float] = []  # NaN where infeasible: the worst is looked up when it is needed
        self._worst = math.inf
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
        """Lets results into the population, in the order in which they come.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        checked = [(self._decisions.check(p.tokens), as_outcome(p, result)) for p, result in results]
        for tokens, outcome in checked:
            self._candidates.note(tokens)
            self._tokens.append(tokens)
            self._rewards.append(outcome.reward if outcome.is_feasible else math.nan)
            if outcome.is_feasible:
                self._worst = min(self._worst, outcome.reward)
        del self._tokens[: -self._size], self._rewards[: -self._size]

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly: the population and the candidates seen."""
        return {
            "made": dict(self._made),
            "candidates": self._candidates.state_dict(),
            "tokens": np.array(self._tokens, dtype=np.int64).reshape(-1, len(self._decisions)),
            "rewards": np.array(self._rewards, dtype=np.float64),
            "worst": None if self._worst == math.inf else self._worst,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues where the state was taken.

        Raises:
            ControllerError: The state is of a controller made otherwise.
        """
        check_made_alike(state, self._made)
        self._candidates.load_state_dict(state["candidates"])
        self._tokens = [tuple(row) for row in np.asarray(state["tokens"]).tolist()]
        self._rewards = np.asarray(state["rewards"]).tolist()
        self._worst = math.inf if state["worst"] is None else float(state["worst"])

    def diagnostics(self) -> dict[str, float]:
        """Returns the population's size, its mean and best reward, once it has a reward."""
        if self._worst == math.inf:
            return {}
        rewards = self._filled_rewards()
        return {
            "population": float(len(rewards)),
            "population_mean": float(rewards.mean()),
            "population_best": float(rewards.max()),
        }

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the share of each option in the population; None while it is empty."""
        if not self._tokens:
            return None
        tokens = np.array(self._tokens, dtype=np.int64)
        return [
            np.bincount(tokens[:, decision], minlength=count) / len(tokens)
            for decision, count in enumerate(self._decisions.cardinalities)
        ]

    def _filled_rewards(self) -> Floats:
        rewards = np.array(self._rewards)
        return np.where(np.isnan(rewards), self._worst, rewards)

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        is_young = len(self._tokens) < self._size or self._worst == math.inf
        if is_young or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        rewards = self._filled_rewards()
        entrants = rng.random((n, len(rewards))).argsort(axis=1)[:, : self._sample]
        winners = entrants[np.arange(n), rewards[entrants].argmax(axis=1)]
        parents = np.array(self._tokens, dtype=np.int64)[winners]
        return mutate(self._decisions, rng, parents, changes_at(temperature))
