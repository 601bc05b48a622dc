"""Random search: the baseline every other controller has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.candidates import Candidates
from controllers.contract import (
    Candidate,
    Conditions,
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
from controllers.results import Results
from controllers.state import check_made_alike


class RandomSearch:
    """Draws every active decision uniformly and learns nothing.

    Args:
        cardinalities: Number of options of each decision.
        conditions: For each decision the `(parent, options)` of which any makes it active; None: always.
        seed: The same seed gives the same proposals.
        key: Identity of a candidate, for not proposing one twice; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        costs: Accepted so that all controllers are made alike; random search has no use for it.
        reward: Likewise.

    Raises:
        ControllerError: An argument breaks its law.
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
    ) -> None:
        self._candidates = Candidates(cardinalities, conditions, seed=seed, key=key, feasible=feasible)
        self._decisions = self._candidates.decisions
        self._results = Results(self._decisions)
        self._log_options = np.log(self._decisions.cardinalities)
        self._made: State = {"controller": "RandomSearch", "decisions": self._decisions.fingerprint}

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, fewer or none only when no others can be found."""
        return self._candidates.propose(n, self._draw, self._log_prob)

    def feedback(self, results: Feedback) -> None:
        """Remembers the results, and candidates that others chose, so as not to propose them again.

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
        """Returns everything needed to continue exactly."""
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
        """Returns nothing: nothing is learned."""
        return {}

    def probabilities(self) -> list[Floats] | None:
        """Returns None: nothing is learned."""
        return None

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:  # noqa: ARG002
        return self._decisions.sample(rng, n)

    def _log_prob(self, tokens: Tokens) -> Floats:
        result: Floats = -np.where(self._decisions.active(tokens), self._log_options, 0.0).sum(axis=1)
        return result
