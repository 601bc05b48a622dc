"""Candidates under way, and algorithms that choose each candidate by the results and by those."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from controllers.algorithm import Algorithm
from controllers.contract import Candidate, Proposal, State, Tokens, require_count
from controllers.decisions import Decisions
from controllers.problem import Problem

MOST_PENDING = 64
"""Most candidates under way that count: of an older one nobody may have said that it was lost."""


class Pending:
    """The candidates under way, of many the latest `MOST_PENDING`.

    Args:
        decisions: What the tokens mean.

    Attributes:
        candidates: In the order in which they were proposed.
    """

    def __init__(self, decisions: Decisions) -> None:
        self.candidates: list[Candidate] = []
        self._decisions = decisions

    @property
    def rows(self) -> Tokens:
        """The candidates as an array, `(n, decisions)`."""
        return np.array(self.candidates, dtype=np.int64).reshape(-1, len(self._decisions))

    def add(self, candidate: Candidate) -> None:
        """Takes in a candidate that was proposed."""
        self.candidates = [*self.candidates, candidate][-MOST_PENDING:]

    def remove(self, some: Sequence[Candidate]) -> None:
        """Takes out candidates that have a result or will have none."""
        self.candidates = [candidate for candidate in self.candidates if candidate not in some]

    def load(self, rows: npt.ArrayLike) -> None:
        """Continues from what `rows` gave."""
        self.candidates = [tuple(row) for row in np.asarray(rows).tolist()]


class Estimating(Algorithm):
    """An algorithm that estimates candidates from results, and knows which are under way.

    Args:
        name: As in `Algorithm`, and so are `problem`, `seed` and `settings`.
        problem: What is searched.
        seed: Of all draws.
        settings: What it must be made with to continue from a state.
        first: Results before estimates are used, at least 2.

    Raises:
        ControllerError: An argument is wrong.
    """

    def __init__(self, name: str, problem: Problem, *, seed: int, settings: State, first: int) -> None:
        self._first = require_count("first", first, least=2)
        super().__init__(name, problem, None, seed=seed, settings=settings)
        self._pending = Pending(self._decisions)

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, each chosen with the ones before it under way."""
        found: list[Proposal] = []
        for _ in range(require_count("n", n)):
            proposals = super().propose()
            if not proposals:
                break
            found += proposals
            self._pending.add(proposals[0].tokens)
        return found

    def _forget(self, lost: Sequence[Candidate]) -> None:
        self._pending.remove(lost)

    @property
    def _can_predict(self) -> bool:
        return len(self._results) >= self._first and math.isfinite(self._results.worst)
