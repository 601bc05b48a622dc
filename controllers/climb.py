"""Climbing from candidates to better neighbours, where a score says how much each candidate is wanted."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats, Tokens
from controllers.kernel import Near
from controllers.mutation import neighbours
from controllers.problem import Problem

BEAM, HOPS = 6, 12
"""Candidates whose neighbours are looked at in a step of a climb, and the most steps of it."""

RANKED = 256
"""Candidates that a climb gives, the best first, in case that others have been proposed."""

LOOKED_AROUND = 256
"""Most neighbours that a step of a climb looks at, drawn at random where there are more."""

KEPT = 1024
"""Candidates that are kept at most: far more than a climb goes on from, or gives in the end."""

_SEED = 0x6D6E6173  # of the numbers behind the keys, which only have to differ


class Score(Protocol):
    """Says how much candidates are wanted."""

    def __call__(self, tokens: Tokens, near: Near | None) -> Floats:
        """Returns a score of each candidate, `(n,)`; `near` says from which others they differ little."""
        ...


def climb(problem: Problem, start: Tokens, score: Score, rng: np.random.Generator, *, but: Tokens) -> Tokens:
    """Moves from the best candidates to their neighbours until none is better.

    Args:
        problem: Which candidates may be proposed.
        start: Candidates to begin with, `(n, decisions)`.
        score: How much candidates are wanted.
        rng: Draws which neighbours are looked at, where there are many.
        but: Candidates that are not to be given, `(m, decisions)`.

    Returns:
        The `RANKED` best that were looked at, the best first, `(at most RANKED, decisions)`.
    """
    found = Climb(problem)
    fresh, near = start, None
    for _ in range(HOPS):
        tokens, kept = found.new(fresh)
        near = None if near is None else near.of(kept)
        found.add(tokens, score(tokens, near))
        beam = found.beam(BEAM)
        if not len(beam):
            break
        fresh, parent_of = neighbours(problem.decisions, beam, rng, LOOKED_AROUND)
        near = Near(beam, parent_of)
    return found.best(RANKED, but=but)


class Climb:
    """Keeps candidates with their scores, and says from which to go on.

    Args:
        problem: Which candidates may be proposed.

    Source: of a candidate's key as a sum of one random number for each option, Zobrist, 1970.
    """

    def __init__(self, problem: Problem) -> None:
        decisions = problem.decisions
        self._problem = problem
        self._columns = decisions.width * np.arange(len(decisions))
        self._numbers = np.random.Generator(np.random.PCG64(_SEED)).integers(
            np.iinfo(np.uint64).max, size=len(decisions) * decisions.width, dtype=np.uint64
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
        keys: npt.NDArray[np.uint64] = self._numbers[tokens + self._columns].sum(axis=1, dtype=np.uint64)
        return keys
