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
        candidates = self._decisions.check_all([proposal.tokens for proposal, _ in results])
        checked = [
            (proposal, candidate, as_outcome(proposal, result))
            for candidate, (proposal, result) in zip(candidates, results, strict=True)
        ]
        for proposal, _, outcome in checked:
            if self._width and outcome.is_feasible and len(outcome.costs) != self._width:
                raise ControllerError(
                    f"an outcome must come with {self._width} measured costs, but that of proposal "
                    f"{proposal.number} with tokens {proposal.tokens} has {len(outcome.costs)}",
                    field="costs",
                )
        told = [one for one in checked if not one[2].is_lost]
        found = [outcome if outcome.is_feasible else None for *_, outcome in told]
        self._add(
            [candidate for _, candidate, _ in told],
            [math.nan if one is None else one.reward for one in found],
            [math.nan if one is None or one.accuracy is None else one.accuracy for one in found],
            [(math.nan,) * self._width if one is None else one.costs[: self._width] for one in found],
        )
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
        tokens, rewards, accuracies = (np.asarray(state[n]) for n in ("tokens", "rewards", "accuracies"))
        costs = np.asarray(state["costs"]) if self._width else np.zeros((len(tokens), 0))
        self._add(list(map(tuple, tokens.tolist())), rewards.tolist(), accuracies.tolist(), costs.tolist())

    def _add(
        self,
        candidates: Sequence[Candidate],
        rewards: Sequence[float],
        accuracies: Sequence[float],
        costs: Sequence[Sequence[float]],
    ) -> None:
        """Adds results: NaN for what is infeasible, and for an accuracy that was not told."""
        numbers, first = [], []
        for place, candidate in enumerate(candidates, start=len(self)):
            if candidate not in self._number_of:
                self._number_of[candidate] = len(self._number_of)
                first.append(place)
            numbers.append(self._number_of[candidate])
        self._first.add(first)
        self._numbers.add(numbers)
        self._tokens.add(candidates)
        self._rewards.add(rewards)
        self._accuracies.add(accuracies)
        self._costs.add(costs)
        self.worst = min(self.worst, *rewards, math.inf)  # NaN is not less than any


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

    def add(self, rows: Sequence[float | Sequence[float]]) -> None:
        """Adds rows; where there is no room left, it is made for twice as many."""
        added = np.array(rows, dtype=self._buffer.dtype).reshape(len(rows), *self._buffer.shape[1:])
        until = self._length + len(added)
        if until > len(self._buffer):
            room = np.empty((max(16, 2 * until), *self._buffer.shape[1:]), dtype=self._buffer.dtype)
            room[: self._length] = self._buffer[: self._length]
            self._buffer = room
        self._buffer[self._length : until] = added
        self._length = until
