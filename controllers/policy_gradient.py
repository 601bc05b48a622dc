"""What policy-gradient algorithms share: results in batches, and advantages on one scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controllers.contract import ControllerError, Floats, State, Tokens, require_count
from controllers.decisions import Decisions
from controllers.policies import PolicyName, make_policy
from controllers.results import Results, Told


class RunningMean:
    """Exponential moving average, without the bias of its start.

    Each new value counts `1 - keep`, what was there before `keep`.

    Args:
        keep: Share that is kept, in [0, 1).

    Source: Kingma and Ba, Adam, ICLR 2015, section 3, for the correction of the start.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._total = 0.0
        self._weight = 0.0

    @property
    def value(self) -> float | None:
        """The mean, or None before the first value."""
        return self._total / self._weight if self._weight else None

    def add(self, value: float) -> float:
        """Adds a value and returns the mean with it."""
        self._total = self._keep * self._total + (1 - self._keep) * value
        self._weight = self._keep * self._weight + (1 - self._keep)
        return self._total / self._weight

    def state_dict(self) -> State:
        """Returns the two sums."""
        return {"total": self._total, "weight": self._weight}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self._total, self._weight = float(state["total"]), float(state["weight"])


class Advantages:
    """Rewards minus a running mean of earlier ones, over the running root mean square of that difference.

    So learning rates and entropy bonuses mean the same whatever the scale of rewards. The first batch has
    nothing before it and is compared with its own mean.

    Args:
        keep: Share of both running means that a batch keeps, in [0, 1).

    Attributes:
        baseline: What the last batch was compared with, in units of the reward; NaN before the first.
        deviation: What the last batch was divided by; NaN before the first.

    Raises:
        ControllerError: `keep` is out of range.
    """

    def __init__(self, keep: float) -> None:
        if not 0 <= keep < 1:
            raise ControllerError(
                f"0 <= baseline_keep < 1 must hold, but got baseline_keep={keep!r}", field="baseline_keep"
            )
        self._mean = RunningMean(keep)
        self._square = RunningMean(keep)
        self.baseline = math.nan
        self.deviation = math.nan

    def of(self, rewards: Floats) -> Floats:
        """Returns the advantages of a batch, `(batch,)`, and takes its rewards in."""
        mean = float(rewards.mean())
        before = self._mean.value
        self.baseline = mean if before is None else before
        differences = rewards - self.baseline
        self.deviation = math.sqrt(self._square.add(float((differences**2).mean())))
        self._mean.add(mean)
        return differences / self.deviation if self.deviation > 0 else differences

    def state_dict(self) -> State:
        """Returns both running means."""
        return {"mean": self._mean.state_dict(), "square": self._square.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self._mean.load_state_dict(state["mean"])
        self._square.load_state_dict(state["square"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Results to learn from at once.

    Attributes:
        tokens: `(n, decisions)`, canonical.
        log_prob: `(n,)`, as it was when the candidates were drawn.
        advantages: `(n,)`; infeasible candidates count as the worst reward so far.
    """

    tokens: Tokens
    log_prob: Floats
    advantages: Floats


class PolicyGradient:
    """A policy, and results that wait until there are enough for an update.

    Args:
        decisions: What the tokens mean.
        policy: "independent" or "lstm".
        seed: Of the policy's initial weights.
        learning_rate: Step size of the policy; None means its own.
        batch: Results per update, at least 1.
        baseline_keep: Share of the baseline that an update keeps, in [0, 1).

    Attributes:
        policy: What is trained.
        advantages: How rewards become advantages.

    Raises:
        ControllerError: An argument is wrong.
    """

    def __init__(
        self,
        decisions: Decisions,
        *,
        policy: PolicyName,
        seed: int,
        learning_rate: float | None,
        batch: int,
        baseline_keep: float,
    ) -> None:
        self._batch = require_count("batch", batch)
        self.advantages = Advantages(baseline_keep)
        self.policy = make_policy(policy, decisions, learning_rate=learning_rate, seed=seed)
        self._log_prob: list[float] = []  # of the latest results, which wait for an update

    def batches(self, told: Sequence[Told], results: Results) -> Iterator[Batch]:
        """Adds results to those that wait and yields full batches, the oldest results first.

        While every result so far is infeasible there is no reward to compare with, and all of them wait.
        """
        for proposal, candidate, _ in told:
            log_prob = proposal.log_prob
            if math.isnan(log_prob):
                log_prob = float(self.policy.log_prob(np.array([candidate], dtype=np.int64))[0])
            self._log_prob.append(log_prob)
        while len(self._log_prob) >= self._batch and results.worst < math.inf:
            tokens, rewards = results.latest(len(self._log_prob))
            yield Batch(
                tokens=tokens[: self._batch],
                log_prob=np.array(self._log_prob[: self._batch]),
                advantages=self.advantages.of(rewards[: self._batch]),
            )
            del self._log_prob[: self._batch]

    def state_dict(self) -> State:
        """Returns the policy, the log-probabilities of the results that wait, and the running means."""
        return {
            "policy": self.policy.state_dict(),
            "log_prob": np.array(self._log_prob, dtype=np.float64),
            "advantages": self.advantages.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self.policy.load_state_dict(state["policy"])
        self._log_prob = np.asarray(state["log_prob"]).tolist()
        self.advantages.load_state_dict(state["advantages"])
