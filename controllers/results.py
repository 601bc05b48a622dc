"""All results of a controller in order, and the candidates that they are of."""

from __future__ import annotations

import math
from array import array
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from controllers.contract import (
    Candidate,
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

    Attributes:
        worst: The lowest reward so far, infinite before the first.
    """

    def __init__(self, decisions: Decisions) -> None:
        self.worst = math.inf
        self._decisions = decisions
        # Arrays of machine numbers, which numpy copies at once: a state is taken after every trial.
        self._tokens = array("q")
        self._rewards = array("d")  # NaN where infeasible
        self._accuracies = array("d")  # NaN where not told
        self._numbers = array("q")
        self._number_of: dict[Candidate, int] = {}
        self._first = array("q")  # the first result of each candidate

    def __len__(self) -> int:
        return len(self._rewards)

    @property
    def tokens(self) -> Tokens:
        """Candidates of all results, `(n, decisions)`, canonical."""
        return np.array(self._tokens).reshape(-1, len(self._decisions))

    @property
    def rewards(self) -> Floats:
        """Rewards of all results, `(n,)`, NaN where infeasible."""
        return np.array(self._rewards)

    @property
    def accuracies(self) -> Floats:
        """Accuracies of all results, `(n,)`, NaN where infeasible or not told."""
        return np.array(self._accuracies)

    @property
    def candidates(self) -> Tokens:
        """Candidates of all results, each once, `(candidates, decisions)`, in the order of first results."""
        candidates: Tokens = self.tokens[np.array(self._first)]
        return candidates

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Which row of `candidates` each result speaks for, `(n,)`."""
        return np.array(self._numbers)

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
        rewards = np.array(self._rewards[first:])
        tokens = np.array(self._tokens[first * len(self._decisions) :]).reshape(-1, len(self._decisions))
        return tokens, np.where(np.isnan(rewards), self.worst, rewards)

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
        for _, tokens, outcome in checked:
            if outcome.is_lost:
                continue
            accuracy = outcome.accuracy if outcome.is_feasible else None
            reward = outcome.reward if outcome.is_feasible else math.nan
            self._add(tokens, reward, math.nan if accuracy is None else accuracy)
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
            "rewards": self.rewards,
            "accuracies": self.accuracies,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self.worst = math.inf
        for column in (self._tokens, self._rewards, self._accuracies, self._numbers, self._first):
            del column[:]
        self._number_of.clear()
        columns = (np.asarray(state[name]).tolist() for name in ("tokens", "rewards", "accuracies"))
        for tokens, reward, accuracy in zip(*columns, strict=True):
            self._add(tuple(tokens), reward, accuracy)

    def _add(self, tokens: Candidate, reward: float, accuracy: float) -> None:
        if tokens not in self._number_of:
            self._number_of[tokens] = len(self._first)
            self._first.append(len(self))
        self._numbers.append(self._number_of[tokens])
        self._tokens.extend(tokens)
        self._rewards.append(reward)
        self._accuracies.append(accuracy)
        if reward < self.worst:  # NaN is not
            self.worst = reward
