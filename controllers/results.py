"""All results of a controller in order, and the candidates that they are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from controllers.contract import (
    Candidate,
    ControllerError,
    Feedback,
    Floats,
    Outcome,
    Proposal,
    State,
    Tokens,
    as_outcome,
    require_count,
)
from controllers.decisions import Decisions

Told: TypeAlias = tuple[Proposal, Candidate, Outcome]
"""A result: the proposal as it was given, its candidate in canonical form, and its outcome."""


class Results:
    """Every result a controller was given, in the order in which they came.

    Args:
        decisions: What the tokens mean.
        measured_costs: How many costs a completed outcome comes with; others are not kept.

    Attributes:
        worst: The lowest reward so far, infinite before the first.
    """

    def __init__(self, decisions: Decisions, measured_costs: int = 0) -> None:
        self.worst = math.inf
        self._width = measured_costs
        self._decisions = decisions
        self._empty()

    def _empty(self) -> None:
        self._number_of: dict[Candidate, int] = {}
        self._tokens = _Column(np.zeros((0, len(self._decisions)), dtype=np.int64))
        self._rewards = _Column(np.zeros(0))  # NaN where infeasible
        self._accuracies = _Column(np.zeros(0))  # NaN where not told
        self._costs = _Column(np.zeros((0, self._width)))  # NaN where infeasible
        self._numbers = _Column(np.zeros(0, dtype=np.int64))
        self._first = _Column(np.zeros(0, dtype=np.int64))  # the first result of each candidate

    def __len__(self) -> int:
        return len(self._rewards)

    @property
    def tokens(self) -> Tokens:
        """Candidates of all results, `(n, decisions)`, canonical."""
        return self._tokens.rows

    @property
    def rewards(self) -> Floats:
        """Rewards of all results, `(n,)`, NaN where infeasible."""
        return self._rewards.rows

    @property
    def accuracies(self) -> Floats:
        """Accuracies of all results, `(n,)`, NaN where infeasible or not told."""
        return self._accuracies.rows

    @property
    def measured_costs(self) -> Floats:
        """Costs that results came with, `(n, measured costs)`, NaN where infeasible."""
        return self._costs.rows

    @property
    def candidates(self) -> Tokens:
        """Candidates of all results, each once, `(candidates, decisions)`, in the order of first results."""
        candidates: Tokens = self.tokens[self._first.rows]
        return candidates

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Which row of `candidates` each result speaks for, `(n,)`."""
        return self._numbers.rows

    def means(self, values: Floats) -> Floats:
        """Averages what was found of each candidate.

        Args:
            values: One for each result, `(n,)`, such as `rewards`.

        Returns:
            Mean of the values of each of `candidates`, `(candidates,)`, NaN where one of them is.
        """
        numbers = self.numbers
        means: Floats = np.bincount(numbers, weights=values) / np.bincount(numbers)
        return means

    def rewards_of(self, candidate: Candidate) -> Floats:
        """Rewards of all results of one candidate, `(results,)`, NaN where infeasible."""
        rewards: Floats = self.rewards[self.numbers == self._number_of.get(candidate, -1)]
        return rewards

    def latest(self, n: int) -> tuple[Tokens, Floats]:
        """Candidates `(n, decisions)` and rewards `(n,)` of the last `n` results, or of all there are.

        Infeasible candidates carry the worst reward of all results, which is infinite before the first.
        """
        first = max(0, len(self) - n)
        rewards = self.rewards[first:]
        return self.tokens[first:].copy(), np.where(np.isnan(rewards), self.worst, rewards)

    @property
    def has_accuracies(self) -> bool:
        """Whether every completed result came with its accuracy, and there is one."""
        completed = ~np.isnan(self.rewards)
        return bool(completed.any() and not np.isnan(self.accuracies[completed]).any())

    def take(self, results: Feedback) -> list[Told]:
        """Checks results, keeps those that are not lost, and returns all.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        checked = [(p, self._decisions.check(p.tokens), as_outcome(p, result)) for p, result in results]
        for proposal, _, outcome in checked:
            if self._width and outcome.is_feasible and len(outcome.costs) != self._width:
                raise ControllerError(
                    f"an outcome must come with {self._width} measured costs, but that of proposal "
                    f"{proposal.number} with tokens {proposal.tokens} has {len(outcome.costs)}",
                    field="costs",
                )
        for _, tokens, outcome in checked:
            if outcome.is_lost:
                continue
            accuracy = outcome.accuracy if outcome.is_feasible else None
            reward = outcome.reward if outcome.is_feasible else math.nan
            costs = outcome.costs if outcome.is_feasible else (math.nan,) * self._width
            self._add(tokens, reward, math.nan if accuracy is None else accuracy, costs)
        return checked

    def best(self, n: int) -> list[Candidate]:
        """The `n` candidates with the best mean of their rewards, best first, the earlier where equal.

        A candidate that was infeasible once is none of them.

        Raises:
            ControllerError: `n` is below 1.
        """
        n = require_count("n", n)
        means = self.means(self.rewards)
        order = np.argsort(-means, kind="stable")[: min(n, int((~np.isnan(means)).sum()))]  # NaN is last
        return [tuple(row) for row in self.candidates[order].tolist()]

    def state_dict(self) -> State:
        """Returns results as arrays, tokens in one byte each where that is enough."""
        is_small = self._decisions.width - 1 <= np.iinfo(np.uint8).max
        return {
            "tokens": self.tokens.astype(np.uint8 if is_small else np.int64),
            "rewards": self.rewards.copy(),
            "accuracies": self.accuracies.copy(),
            **({"costs": self.measured_costs.copy()} if self._width else {}),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self.worst = math.inf
        self._empty()
        columns = [np.asarray(state[name]).tolist() for name in ("tokens", "rewards", "accuracies")]
        costs = np.asarray(state["costs"] if self._width else [], dtype=np.float64)
        columns.append(costs.reshape(len(columns[0]), self._width).tolist())
        for tokens, reward, accuracy, measured in zip(*columns, strict=True):
            self._add(tuple(tokens), reward, accuracy, measured)

    def _add(self, tokens: Candidate, reward: float, accuracy: float, costs: Sequence[float]) -> None:
        if tokens not in self._number_of:
            self._number_of[tokens] = len(self._first)
            self._first.append(len(self))
        self._numbers.append(self._number_of[tokens])
        self._tokens.append(tokens)
        self._rewards.append(reward)
        self._accuracies.append(accuracy)
        self._costs.append(costs[: self._width])
        if reward < self.worst:  # NaN is not
            self.worst = reward


class _Column:
    """Rows of an array that are only ever added to, so that what was read of it stays as it is.

    Args:
        rows: The first of them.
    """

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self._buffer, self._length = rows, 0

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> npt.NDArray[Any]:
        """All rows, not to be written to."""
        rows = self._buffer[: self._length]
        rows.flags.writeable = False
        return rows

    def append(self, row: float | Sequence[float]) -> None:
        """Adds a row; there is room for twice as many where there was none left."""
        if self._length == len(self._buffer):
            room = np.empty((max(16, 2 * self._length), *self._buffer.shape[1:]), dtype=self._buffer.dtype)
            room[: self._length] = self._buffer
            self._buffer = room
        self._buffer[self._length] = row
        self._length += 1
