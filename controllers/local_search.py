"""Local search: neighbours of the best candidate so far, then ever farther ones."""

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


class LocalSearch:
    """Hill climbing from the best candidate so far.

    After `first` results from uniform draws, a candidate is the incumbent with one decision taken otherwise.
    When all such neighbours have been seen, two decisions change, then four, then eight: so it leaves a local
    optimum by itself. Hard to beat where rewards are exact, and easily led astray where they are not: of many
    noisy measurements the best is a lucky one. Results of a candidate that come again are averaged.

    Results may come late or never. `Outcome.fidelity` is not looked at: feed back rewards that can be
    compared.

    Args:
        cardinalities: Number of options of each decision.
        conditions: For each decision the `(parent, options)` of which any makes it active; None: always.
        seed: The same seed and the same results give the same proposals.
        key: Identity of a candidate, for not proposing one twice; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        costs: Accepted so that all controllers are made alike; local search learns from rewards alone.
        reward: Likewise.
        first: Results from uniform draws before the climb, at least 1.

    Raises:
        ControllerError: An argument breaks its law.

    Source: as a baseline for architecture search, White et al., UAI 2021.
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
        first: int = 10,
    ) -> None:
        if first < 1:
            raise ControllerError(f"first >= 1 must hold, but got first={first}")
        self._candidates = Candidates(cardinalities, conditions, seed=seed, key=key, feasible=feasible)
        self._decisions = self._candidates.decisions
        self._results = Results(self._decisions)
        self._first = first
        self._incumbent: list[Candidate] = []  # empty before the first reward
        self._made: State = {
            "controller": "LocalSearch",
            "decisions": self._decisions.fingerprint,
            "first": first,
        }

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, fewer or none only when no others can be found."""
        return self._candidates.propose(n, self._draw, without_policy)

    def feedback(self, results: Feedback) -> None:
        """Makes the candidate with the best mean reward the incumbent.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        for _, tokens, _ in self._results.take(results):
            self._candidates.note(tokens)
        self._incumbent = self._results.best(1)

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the up to `n` candidates with the best mean reward, best first.

        Raises:
            ControllerError: `n` is below 1.
        """
        return self._results.best(n)

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly: the results and the candidates seen."""
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
        self._incumbent = self._results.best(1)

    def diagnostics(self) -> dict[str, float]:
        """Returns the incumbent's mean reward and number of results, once there is one."""
        if not self._incumbent:
            return {}
        rewards = self._results.rewards_of(*self._incumbent)
        return {"incumbent_reward": float(rewards.mean()), "incumbent_results": float(len(rewards))}

    def probabilities(self) -> list[Floats] | None:
        """Returns None: there is no policy."""
        return None

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        if len(self._results) < self._first or not self._incumbent or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        parents = np.tile(np.array(self._incumbent, dtype=np.int64), (n, 1))
        return mutate(self._decisions, rng, parents, changes_at(temperature))
