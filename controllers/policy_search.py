"""Owns what every policy-gradient controller does alike: proposals from a policy, and results into batches.

Does not own the update; an algorithm takes the batches and tells the policy where to go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controllers.candidates import Candidates
from controllers.contract import (
    Conditions,
    ControllerError,
    Feasible,
    Feedback,
    Floats,
    Key,
    Proposal,
    State,
    Tokens,
    as_outcome,
)
from controllers.policy import PolicyName, make_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Results to learn from at once.

    Attributes:
        tokens: `(n, decisions)`, canonical.
        log_prob: `(n,)`, as it was when the candidates were drawn.
        rewards: `(n,)`, finite; infeasible candidates carry the worst reward seen so far.
    """

    tokens: Tokens
    log_prob: Floats
    rewards: Floats


class PolicySearch:
    """A policy, the candidates drawn from it, and results that wait until there are enough for a step.

    Args:
        cardinalities: Number of options of each decision.
        conditions: When each decision is active; None means always.
        seed: Of draws and initial weights.
        key: Identity of a candidate; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        policy: "independent" or "lstm".
        learning_rate: Step size of the policy; None means its own.
        batch: Results per update, at least 1.

    Raises:
        ControllerError: An argument breaks its law.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        conditions: Conditions | None,
        *,
        seed: int,
        key: Key | None,
        feasible: Feasible | None,
        policy: PolicyName,
        learning_rate: float | None,
        batch: int,
    ) -> None:
        if batch < 1:
            raise ControllerError(f"batch >= 1 must hold, but got batch={batch}")
        self.candidates = Candidates(cardinalities, conditions, seed=seed, key=key, feasible=feasible)
        self.decisions = self.candidates.decisions
        self.policy = make_policy(policy, self.decisions, learning_rate=learning_rate, seed=seed)
        self._batch = batch
        self._worst = math.inf
        self._tokens: list[tuple[int, ...]] = []
        self._log_prob: list[float] = []
        self._rewards: list[float] = []  # NaN where infeasible: the worst is looked up when it is needed

    def propose(self, n: int) -> list[Proposal]:
        """Returns up to `n` unseen candidates drawn from the policy."""
        return self.candidates.propose(n, self.policy.sample, self.policy.log_prob)

    def take(self, results: Feedback) -> None:
        """Puts results in the queue.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        checked = [(p, self.decisions.check(p.tokens), as_outcome(p, result)) for p, result in results]
        for proposal, tokens, outcome in checked:
            self.candidates.note(tokens)
            log_prob = proposal.log_prob
            if math.isnan(log_prob):
                log_prob = float(self.policy.log_prob(np.array([tokens], dtype=np.int64))[0])
            self._tokens.append(tokens)
            self._log_prob.append(log_prob)
            self._rewards.append(outcome.reward if outcome.is_feasible else math.nan)
            if outcome.is_feasible:
                self._worst = min(self._worst, outcome.reward)

    def batches(self) -> Iterator[Batch]:
        """Yields full batches from the queue, oldest results first.

        While every result so far is infeasible there is no reward to compare with, and all of them wait.
        """
        while len(self._rewards) >= self._batch and self._worst < math.inf:
            rewards = np.array(self._rewards[: self._batch])
            yield Batch(
                tokens=np.array(self._tokens[: self._batch], dtype=np.int64),
                log_prob=np.array(self._log_prob[: self._batch]),
                rewards=np.where(np.isnan(rewards), self._worst, rewards),
            )
            for queue in (self._tokens, self._log_prob, self._rewards):
                del queue[: self._batch]

    def state_dict(self) -> State:
        """Returns candidates, policy, and the results that wait."""
        return {
            "candidates": self.candidates.state_dict(),
            "policy": self.policy.state_dict(),
            "worst": None if self._worst == math.inf else self._worst,
            "tokens": np.array(self._tokens, dtype=np.int64).reshape(-1, len(self.decisions)),
            "log_prob": np.array(self._log_prob, dtype=np.float64),
            "rewards": np.array(self._rewards, dtype=np.float64),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self.candidates.load_state_dict(state["candidates"])
        self.policy.load_state_dict(state["policy"])
        self._worst = math.inf if state["worst"] is None else float(state["worst"])
        self._tokens = [tuple(row) for row in np.asarray(state["tokens"]).tolist()]
        self._log_prob = np.asarray(state["log_prob"]).tolist()
        self._rewards = np.asarray(state["rewards"]).tolist()
