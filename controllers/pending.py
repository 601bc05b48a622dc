"""Candidates under way: proposed, and without a result so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from controllers.contract import Candidate, Tokens
from controllers.decisions import Decisions

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
