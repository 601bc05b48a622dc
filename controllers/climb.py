"""The candidates that a climb has looked at: each once, the best first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats, Tokens
from controllers.problem import Problem

KEPT = 1024
"""Candidates that are kept at most: far more than a climb goes on from, or gives in the end."""

_SEED = 0x6D6E6173  # of the numbers behind the keys, which only have to differ


class Climb:
    """Keeps candidates with their scores, and says from which to go on.

    Args:
        problem: Which candidates may be proposed.

    Source: of a candidate's key as a sum of one random number for each option, Zobrist, 1970.
    """

    def __init__(self, problem: Problem) -> None:
        decisions = problem.decisions
        self._problem = problem
        self._columns = np.arange(len(decisions))
        self._numbers = np.random.Generator(np.random.PCG64(_SEED)).integers(
            np.iinfo(np.uint64).max, size=(len(decisions), decisions.width), dtype=np.uint64
        )
        self._tokens: Tokens = np.zeros((0, len(decisions)), dtype=np.int64)
        self._keys: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._looked_at: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)  # also what is not feasible
        self._scores: Floats = np.zeros(0)
        self._is_left: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def new(self, tokens: Tokens) -> tuple[Tokens, npt.NDArray[np.int64]]:
        """Those of the candidates `(n, decisions)` that may be proposed and are new here, and their rows."""
        keys, first = np.unique(self._key(tokens), return_index=True)
        is_new = ~np.isin(keys, self._looked_at)
        self._looked_at = np.concatenate([self._looked_at, keys[is_new]])
        rows = np.sort(first[is_new])
        rows = rows[self._problem.are_feasible(tokens[rows])]
        return tokens[rows], rows

    def add(self, tokens: Tokens, scores: Floats) -> None:
        """Takes in new candidates `(n, decisions)` with their scores `(n,)`; the best are kept."""
        some = np.sort(np.argsort(-scores, kind="stable")[:KEPT])
        tokens, scores = tokens[some], scores[some]
        scores = np.concatenate([self._scores, scores])
        kept = np.sort(np.argsort(-scores, kind="stable")[:KEPT])
        self._scores = scores[kept]
        self._tokens = np.concatenate([self._tokens, tokens])[kept]
        self._keys = np.concatenate([self._keys, self._key(tokens)])[kept]
        self._is_left = np.concatenate([self._is_left, np.ones(len(tokens), dtype=np.bool_)])[kept]

    def beam(self, n: int) -> Tokens:
        """Those of the `n` best that it has not given before, `(at most n, decisions)`."""
        best = np.argsort(-self._scores, kind="stable")[:n]
        best = best[self._is_left[best]]
        self._is_left[best] = False
        return self._tokens[best]

    def best(self, n: int, *, but: Tokens) -> Tokens:
        """The `n` best except some `(m, decisions)`, the best first."""
        order = np.argsort(-self._scores, kind="stable")
        order = order[~np.isin(self._keys[order], self._key(but))]
        return self._tokens[order[:n]]

    def _key(self, tokens: Tokens) -> npt.NDArray[np.uint64]:
        keys: npt.NDArray[np.uint64] = self._numbers[self._columns, tokens].sum(axis=1, dtype=np.uint64)
        return keys
