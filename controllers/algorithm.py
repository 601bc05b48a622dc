"""What surrounds a search algorithm: proposals without repeats, results on record, saved states."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from controllers.candidates import Candidates
from controllers.contract import (
    Candidate,
    Conditions,
    ControllerError,
    Feedback,
    Floats,
    Proposal,
    State,
    Tokens,
    require_count,
)
from controllers.finals import COMPARED, Beliefs, observed_beliefs
from controllers.problem import Problem
from controllers.results import Results, Told


class Algorithm(ABC):
    """A search algorithm as a controller: a subclass says how to `_draw`.

    An algorithm that keeps more than the results also says how to `_learn`, and saves what it keeps by
    `_own_state` and `_load_own_state`; one that counts on results to come says how to `_forget`. It uses
    `_problem`, its `_decisions`, the `_results` so far, and `_rng`, the generator that `_draw` is given.
    `controllers/local_search.py` is an example.

    Results may come late or never, and for candidates that others chose. `Outcome.fidelity` is not used: feed
    back rewards that can be compared.

    Args:
        name: Of the algorithm, as saved states name it.
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`; None with a `Problem`.
        seed: The same seed and the same results give the same proposals; at least 0.
        settings: The algorithm's own arguments as JSON values; a state is loaded only where they are equal.

    Raises:
        ControllerError: The problem or the seed is wrong.
    """

    def __init__(
        self,
        name: str,
        problem: Problem | Sequence[int],
        conditions: Conditions | None,
        *,
        seed: int,
        settings: State,
    ) -> None:
        self._problem = Problem.of(problem, conditions)
        self._decisions = self._problem.decisions
        self._results = Results(self._decisions, self._problem.measured_costs)
        self._candidates = Candidates(self._problem, seed)
        self._rng = self._candidates.rng
        self._made: State = {"controller": name, "decisions": self._decisions.fingerprint, **settings}

    @abstractmethod
    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        """Draws candidates, the most wanted first; those seen before or infeasible are left out afterwards.

        Args:
            rng: Source of randomness.
            n: How many are wanted; more or fewer may be returned.
            temperature: 1 first. When too few of the draws are new it grows: 2, 4 and 8 ask for candidates
                farther away; infinity asks for uniform ones.

        Returns:
            Canonical tokens `(n, decisions)`.
        """

    def _learn(self, told: Sequence[Told]) -> None:  # noqa: B027  # not every algorithm learns
        """Learns from the latest results, which `_results` holds already."""

    def _forget(self, lost: Sequence[Candidate]) -> None:  # noqa: B027  # few count on what is to come
        """Counts no longer on results of candidates that were under way."""

    def _log_prob(self, tokens: Tokens) -> Floats:
        """Returns the log-probabilities `(n,)` of candidates under the policy; NaN where there is none."""
        return np.full(len(tokens), math.nan)

    def _own_state(self) -> State:
        """Returns what cannot be worked out from the results, as arrays and JSON values."""
        return {}

    def _load_own_state(self, state: State) -> None:  # noqa: B027  # nor keeps more than the results
        """Continues from what `_own_state` returned; the results are loaded already."""

    def diagnostics(self) -> dict[str, float]:
        """Returns numbers about the last update; empty where there are none."""
        return {}

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the probability of each option; None where there is no policy."""
        return None

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, fewer or none only when no others can be found.

        Raises:
            ControllerError: `n` is below 1.
        """
        return self._candidates.propose(require_count("n", n), self._draw, self._log_prob)

    def feedback(self, results: Feedback) -> None:
        """Takes results and learns from them; from lost ones it learns nothing.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        taken = self._results.take(results)
        self._forget([candidate for _, candidate, outcome in taken if outcome.is_lost])
        told = [one for one in taken if not one[2].is_lost]
        for _, candidate, _ in told:
            self._candidates.note(candidate)
        self._learn(told)

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the up to `n` candidates with the best mean reward, best first.

        Raises:
            ControllerError: `n` is below 1.
        """
        return self._results.best(n)

    def beliefs(self, n: int = COMPARED) -> Beliefs:
        """Returns what is believed of the rewards of the `n` best candidates.

        Raises:
            ControllerError: `n` is below 1.
        """
        return observed_beliefs(self._results, require_count("n", n))

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly."""
        return {
            "made": dict(self._made),
            "candidates": self._candidates.state_dict(),
            "results": self._results.state_dict(),
            **self._own_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues where the state was taken.

        Raises:
            ControllerError: The state is of a controller made with other arguments.
        """
        self._check_made_alike(state)
        state = {**state.get("search", {}), **state}  # the first version nested what policy gradients share
        self._candidates.load_state_dict(state["candidates"])
        self._results.load_state_dict(state["results"])
        self._load_own_state(state)

    def _check_made_alike(self, state: State) -> None:
        saved = state.get("made")
        if not isinstance(saved, dict):
            raise ControllerError(
                f"a controller's state must say how it was made, but it holds {sorted(state)}", field="state"
            )
        for name in self._made.keys() | saved.keys():
            if saved.get(name) != self._made.get(name):
                raise ControllerError(
                    f"a state must be loaded into a controller made alike, but {name} was "
                    f"{saved.get(name)!r} and is {self._made.get(name)!r} now",
                    field=name,
                )
