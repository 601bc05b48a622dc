"""A Gaussian process that follows results as they come, without computing everything anew."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats, State, Tokens
from controllers.gaussian_process import GaussianProcess
from controllers.kernel import Ints

Flags: TypeAlias = npt.NDArray[np.bool_]


class Followed:
    """Which results a Gaussian process is conditioned on: some at a fit, and those that came since.

    Between fits it takes in each result in the time of a square. It starts over where a result that it has
    no longer counts. A loaded state repeats these steps, so that it continues to the last bit.

    Args:
        process: The process.

    Attributes:
        process: The process.
        rows: Numbers of the results that it is conditioned on.
    """

    def __init__(self, process: GaussianProcess) -> None:
        self.process = process
        self.rows: Ints = np.zeros(0, dtype=np.int64)
        self._anchor: Ints | None = None  # those that it was conditioned on at once
        self._until = 0  # results that there were then

    def begin(self, tokens: Tokens, rows: Ints, values: Floats, noise: float | None) -> None:
        """Conditions it on some results.

        Args:
            tokens: Candidates of all results, `(n, decisions)`.
            rows: Numbers of those it looks at, in order.
            values: What was measured in all results, `(n,)`.
            noise: Standard deviation of one measurement where it is known.
        """
        self.process.condition(tokens[rows], values[rows], noise=noise)
        self.rows = self._anchor = rows
        self._until = len(tokens)

    def follow(self, tokens: Tokens, counts: Flags, values: Floats, noise: float | None) -> None:
        """Takes in what came since, and leaves out what no longer counts.

        Args:
            tokens: Candidates of all results, `(n, decisions)`.
            counts: Which results count, `(n,)`.
            values: What was measured in all results, `(n,)`.
            noise: As for `begin`.
        """
        if self._anchor is None:
            self.begin(tokens, np.flatnonzero(counts), values, noise)
            return
        if self.process.size == 0:
            self.process.restore(tokens[self._anchor], values[self._anchor])
            self.rows = self._anchor
        came = np.arange(self._until, len(tokens))
        wanted = np.concatenate([self._anchor, came])
        wanted = wanted[counts[wanted]]
        n = len(self.rows)
        if not np.array_equal(wanted[:n], self.rows):
            self.begin(tokens, wanted, values, noise)
            return
        self.process.extend(tokens[wanted[n:]], values[wanted])
        self.rows = wanted

    def state_dict(self) -> State:
        """Returns the process's state and what it was conditioned on at once."""
        state: State = {"process": self.process.state_dict(), "until": self._until}
        return state if self._anchor is None else {**state, "anchor": self._anchor.copy()}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state; the results are given with the next call of `follow`."""
        self.process.load_state_dict(state["process"])
        self._anchor = np.array(state["anchor"], dtype=np.int64) if "anchor" in state else None
        self._until = int(state["until"])
        self.rows = np.zeros(0, dtype=np.int64)
