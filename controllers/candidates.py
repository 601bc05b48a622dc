"""Proposing each candidate once: what was seen, what is feasible, and what to do when draws repeat."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from controllers.contract import (
    Conditions,
    ControllerError,
    Feasible,
    Floats,
    Key,
    Proposal,
    State,
    Tokens,
)
from controllers.decisions import Decisions

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

_DIGEST_BYTES = 8  # at 10^5 candidates two share a digest with a chance of 3e-10


class Draw(Protocol):
    """Draws candidates from a policy."""

    def __call__(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        """Returns canonical tokens `(n, decisions)`; the temperature divides the logits, inf is uniform."""
        ...


class Candidates:
    """Hands out candidates that were never handed out before.

    Draws that were seen or are infeasible are drawn again: from the policy, then from flatter versions of it,
    then from all candidates alike. A space of at most `LISTED` candidates is searched to its last one; in a
    larger one the search ends after `UNIFORM_ROUNDS * DRAWS_PER_ROUND` uniform draws without success, which
    happens only where almost nothing is feasible. Either way the caller gets fewer than were asked for.

    Args:
        cardinalities: Number of options of each decision.
        conditions: When each decision is active; None means always.
        seed: Of the generator behind all draws, at least 0.
        key: Identity of a candidate; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.

    Raises:
        ControllerError: Decisions or seed break their laws.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        conditions: Conditions | None,
        *,
        seed: int,
        key: Key | None,
        feasible: Feasible | None,
    ) -> None:
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ControllerError(f"seed must be an integer of at least 0, but got {seed!r}")
        self.decisions = Decisions(cardinalities, conditions)
        self.proposed = 0
        self._key = key
        self._feasible = feasible
        self.rng = np.random.Generator(np.random.PCG64(int(seed)))
        self._seen: set[bytes] = set()
        self._seen_in_order = bytearray()
        self._known: set[tuple[int, ...]] = set()  # spares calls of `key`; never needed to continue
        self._listed: Tokens | None = None
        self._open: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None

    def propose(self, n: int, draw: Draw, log_prob: Callable[[Tokens], Floats]) -> list[Proposal]:
        """Returns up to `n` unseen feasible candidates and marks them as seen.

        Args:
            n: How many are wanted, at least 1.
            draw: Draws candidates from the policy.
            log_prob: Log-probabilities `(n,)` of candidates `(n, decisions)` under the policy.

        Raises:
            ControllerError: `n` is below 1, or `key` or `feasible` returns what it must not.
        """
        if n < 1:
            raise ControllerError(f"n >= 1 must hold, but got n={n}")
        found: list[tuple[int, ...]] = []
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

    def note(self, tokens: tuple[int, ...]) -> None:
        """Marks a candidate, in canonical form, as seen: somebody else chose it."""
        if tokens not in self._known:
            self._is_new(tokens)

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
        starts = range(0, len(self._seen_in_order), _DIGEST_BYTES)
        self._seen = {bytes(self._seen_in_order[i : i + _DIGEST_BYTES]) for i in starts}
        self._known.clear()
        self._open = None

    def _rounds(self, n: int, draw: Draw) -> Iterator[Tokens]:
        """Yields candidates from the most to the least wanted; each round only when the last fell short."""
        for round_ in range(POLICY_ROUNDS):
            count = max(n, min(n * 4**round_, DRAWS_PER_ROUND))
            yield draw(self.rng, count, 1.0)
        for temperature in TEMPERATURES:
            yield draw(self.rng, DRAWS_PER_ROUND, temperature)
        if self._listed is None:
            self._listed = self.decisions.enumerate(LISTED)
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

    def _take(self, rows: Tokens, n: int, found: list[tuple[int, ...]]) -> None:
        """Moves unseen feasible rows to `found` until it holds `n`."""
        unknown = [row for row in dict.fromkeys(map(tuple, rows.tolist())) if row not in self._known]
        for row in self._only_feasible(unknown):
            if len(found) == n:
                return
            if self._is_new(row):
                found.append(row)

    def _only_feasible(self, rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        if self._feasible is None or not rows:
            return rows
        mask = np.asarray(self._feasible(np.array(rows, dtype=np.int64)))
        if mask.shape != (len(rows),):
            raise ControllerError(
                f"feasible must return one truth value per candidate, shape ({len(rows)},), "
                f"but got shape {mask.shape}"
            )
        return [row for row, is_feasible in zip(rows, mask.tolist(), strict=True) if is_feasible]

    def _is_new(self, tokens: tuple[int, ...]) -> bool:
        """Returns whether the candidate is seen for the first time, and marks it."""
        self._known.add(tokens)
        digest = self._digest(tokens)
        if digest in self._seen:
            return False
        self._seen.add(digest)
        self._seen_in_order += digest
        return True

    def _digest(self, tokens: tuple[int, ...]) -> bytes:
        key = tokens if self._key is None else self._key(tokens)
        if not isinstance(key, str | bytes | int | tuple):
            raise ControllerError(
                f"key must return a str, bytes, int or tuple, but got {type(key).__name__} for tokens "
                f"{tokens}: only those look the same in every process"
            )
        return hashlib.blake2b(repr(key).encode(), digest_size=_DIGEST_BYTES).digest()


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
