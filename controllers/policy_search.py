"""What every policy-gradient controller does alike: proposals from a policy, and results into batches."""

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
)
from controllers.policy import PolicyName, make_policy
from controllers.results import Results


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
        self.results = Results(self.decisions)
        self._batch = batch
        self._log_prob: list[float] = []  # of the latest results, which wait for a step

    def propose(self, n: int) -> list[Proposal]:
        """Returns up to `n` unseen candidates drawn from the policy."""
        return self.candidates.propose(n, self.policy.sample, self.policy.log_prob)

    def take(self, results: Feedback) -> None:
        """Takes results in; they wait until a batch is full.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        for proposal, tokens, _ in self.results.take(results):
            self.candidates.note(tokens)
            log_prob = proposal.log_prob
            if math.isnan(log_prob):
                log_prob = float(self.policy.log_prob(np.array([tokens], dtype=np.int64))[0])
            self._log_prob.append(log_prob)

    def batches(self) -> Iterator[Batch]:
        """Yields full batches from the queue, oldest results first.

        While every result so far is infeasible there is no reward to compare with, and all of them wait.
        """
        while len(self._log_prob) >= self._batch and self.results.worst < math.inf:
            tokens, rewards = self.results.latest(len(self._log_prob))
            yield Batch(
                tokens=tokens[: self._batch],
                log_prob=np.array(self._log_prob[: self._batch]),
                rewards=rewards[: self._batch],
            )
            del self._log_prob[: self._batch]

    def state_dict(self) -> State:
        """Returns candidates, results, policy, and the log-probabilities of the results that wait."""
        return {
            "candidates": self.candidates.state_dict(),
            "results": self.results.state_dict(),
            "policy": self.policy.state_dict(),
            "log_prob": np.array(self._log_prob, dtype=np.float64),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self.candidates.load_state_dict(state["candidates"])
        self.results.load_state_dict(state["results"])
        self.policy.load_state_dict(state["policy"])
        self._log_prob = np.asarray(state["log_prob"]).tolist()
