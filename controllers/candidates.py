"""Proposing each candidate once: what was seen, what is feasible, and what to do when draws repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import numpy as np

from controllers.contract import Candidate, ControllerError, Floats, Proposal, State, Tokens
from controllers.problem import DIGEST_BYTES, Problem

DRAWS_PER_ROUND = 256
"""Most candidates drawn at a time, unless more are asked for."""

POLICY_ROUNDS = 4
"""Rounds drawn from the policy as it is, of n, 4n, 16n and 64n candidates."""

TEMPERATURES = (2.0, 4.0, 8.0)
"""Then one round from each of these flatter versions of the policy: its neighbourhood first."""

UNIFORM_ROUNDS = 16
"""Then, in a space too large to list, so many rounds from the uniform distribution, and then it gives up."""

LISTED = 65_536
"""A space of at most so many candidates is listed, so that none of them is ever missed."""


class Draw(Protocol):
    """Draws candidates from a policy."""

    def __call__(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        """Returns canonical tokens `(n, decisions)`; the temperature divides the logits, inf is uniform."""
        ...


class Candidates:
    """Hands out candidates that were never handed out before.

    Draws that were seen or are infeasible are drawn again: from the policy, then from flatter versions of it,
    then uniformly. A space of at most `LISTED` candidates is searched to its last one; in a larger one the
    search ends after `UNIFORM_ROUNDS * DRAWS_PER_ROUND` uniform draws without success, which happens only
    where almost nothing is feasible. In both cases the caller gets fewer than were asked for.

    Args:
        problem: What is searched.
        seed: Of the generator behind all draws, at least 0.

    Raises:
        ControllerError: The seed is no integer or below 0.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ControllerError(f"seed must be an integer of at least 0, but got {seed!r}", field="seed")
        self.proposed = 0
        self.rng = np.random.Generator(np.random.PCG64(int(seed)))
        self._problem = problem
        self._seen: set[bytes] = set()
        self._seen_in_order = bytearray()
        self._known: set[bytes] = set()  # rows; spares calls of `key`, and is never needed to continue
        self._listed: Tokens | None = None
        self._is_listable = True  # until it is found out
        self._open: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None

    def propose(self, n: int, draw: Draw, log_prob: Callable[[Tokens], Floats]) -> list[Proposal]:
        """Returns up to `n` unseen feasible candidates and marks them as seen.

        Args:
            n: How many are wanted, at least 1.
            draw: Draws candidates from the policy.
            log_prob: Log-probabilities `(n,)` of candidates `(n, decisions)` under the policy.

        Raises:
            ControllerError: `key` or `feasible` returns what it must not.
        """
        found: list[Candidate] = []
        for rows in self._rounds(n, draw):
            self._take(rows, n, found)
            if len(found) == n:
                break
        if not found:
            return []
        log_probs = log_prob(np.array(found, dtype=np.int64)).tolist()
        first, self.proposed = self.proposed, self.proposed + len(found)
        return [
            Proposal(tokens=tokens, log_prob=value, number=number)
            for number, (tokens, value) in enumerate(zip(found, log_probs, strict=True), start=first)
        ]

    def note(self, tokens: Candidate) -> None:
        """Marks a candidate, in canonical form, as seen: it was chosen elsewhere."""
        (row,) = _as_bytes(np.array([tokens], dtype=np.int64))
        if row not in self._known:
            self._is_new(tokens, row)

    def state_dict(self) -> State:
        """Returns the generator's state, the count of proposals and 8 bytes per candidate seen."""
        return {
            "rng": _pack_rng(self.rng),
            "proposed": self.proposed,
            "seen": np.frombuffer(bytes(self._seen_in_order), dtype=np.uint64),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state; what can be found out again is forgotten."""
        _unpack_rng(self.rng, state["rng"])
        self.proposed = int(state["proposed"])
        self._seen_in_order = bytearray(np.asarray(state["seen"], dtype=np.uint64).tobytes())
        starts = range(0, len(self._seen_in_order), DIGEST_BYTES)
        self._seen = {bytes(self._seen_in_order[i : i + DIGEST_BYTES]) for i in starts}
        self._known.clear()
        self._open = None

    def _rounds(self, n: int, draw: Draw) -> Iterator[Tokens]:
        """Yields candidates from the most to the least wanted; each round only when the last fell short."""
        for round_ in range(POLICY_ROUNDS):
            count = max(n, min(n * 4**round_, DRAWS_PER_ROUND))
            yield draw(self.rng, count, 1.0)
        for temperature in TEMPERATURES:
            yield draw(self.rng, DRAWS_PER_ROUND, temperature)
        if self._listed is None and self._is_listable:
            self._listed = self._problem.decisions.enumerate(LISTED)
            self._is_listable = self._listed is not None
        if self._listed is None:
            for _ in range(UNIFORM_ROUNDS):
                yield draw(self.rng, DRAWS_PER_ROUND, math.inf)
        else:
            yield from self._remaining(self._listed)

    def _remaining(self, listed: Tokens) -> Iterator[Tokens]:
        """Yields what is left of a listed space in random order, and strikes it off as it goes."""
        if self._open is None:
            self._open = np.ones(len(listed), dtype=np.bool_)
        # The whole list is shuffled, not what is left: what was struck off must not change the order.
        order = self.rng.permutation(len(listed))
        order = order[self._open[order]]
        for start in range(0, len(order), DRAWS_PER_ROUND):
            rows = order[start : start + DRAWS_PER_ROUND]
            yield listed[rows]
            self._open[rows] = False  # only reached when none of them is left

    def _take(self, rows: Tokens, n: int, found: list[Candidate]) -> None:
        """Moves unseen feasible rows to `found` until it holds `n`."""
        named = dict(zip(_as_bytes(rows), range(len(rows)), strict=True))  # the places of equal rows differ
        unknown = {row: place for row, place in named.items() if row not in self._known}
        if not unknown:
            return
        candidates = rows[list(unknown.values())]
        mask = self._problem.are_feasible(candidates).tolist()
        for row, tokens, is_feasible in zip(unknown, candidates.tolist(), mask, strict=True):
            if len(found) == n:
                return
            if is_feasible and self._is_new(tuple(tokens), row):
                found.append(tuple(tokens))

    def _is_new(self, tokens: Candidate, row: bytes) -> bool:
        """Returns whether the candidate is seen for the first time, and marks it."""
        self._known.add(row)
        digest = self._problem.digest(tokens)
        if digest in self._seen:
            return False
        self._seen.add(digest)
        self._seen_in_order += digest
        return True


def _as_bytes(rows: Tokens) -> list[bytes]:
    """Each of the candidates `(n, decisions)` as bytes, which are hashed faster than a tuple."""
    whole = np.ascontiguousarray(rows)
    kind = np.dtype((np.void, whole.itemsize * whole.shape[1]))
    return cast("list[bytes]", whole.view(kind).ravel().tolist())


def _pack_rng(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Returns the state of a PCG64 generator as six words."""
    state = rng.bit_generator.state
    words = []
    for value in (state["state"]["state"], state["state"]["inc"]):
        words += [value >> 64, value & 0xFFFFFFFFFFFFFFFF]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def _unpack_rng(rng: np.random.Generator, words: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in words)
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
