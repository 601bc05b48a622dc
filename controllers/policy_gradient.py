"""What policy-gradient algorithms share: results in batches, advantages on one scale, and settings."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controllers.algorithm import Algorithm
from controllers.contract import ControllerError, Floats, State, Tokens, require_count
from controllers.policies import Policy, PolicyName, make_policy
from controllers.problem import Problem
from controllers.results import Results, Told

BATCH, ENTROPY_COEF = 5, 0.1
"""Of a search of hundreds of evaluations."""

LONG = 1_000
"""Planned evaluations from which on a search counts as a long one."""

LONG_BATCH, LONG_ENTROPY_COEF = 8, 0.4
"""Of a long search: results for each step of the policy; the entropy's weight falls linearly to 0."""

LONG_LEARNING_RATES: dict[PolicyName, float] = {"independent": 0.2, "lstm": 0.01}
"""Adam's step sizes in a search of `LONG` evaluations; they fall with the root of their number."""

LATEST = 256
"""Results among which a reward has its rank in a long search."""


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


class RankAdvantages:
    """Advantages by the rank of a reward among the latest, so that only the order of rewards counts.

    With `share` the share of the latest rewards that are above it (half of those that equal it count), the
    advantage is `-log(share)`, standardised over the latest: the best of 256 results weighs as much as the
    worse half together. So the policy moves to what its best draws have in common, not to what is good on
    average, and a reward far below the others, beyond a hard limit say, counts no more than the next worst.

    Attributes:
        baseline: Mean of the latest rewards; NaN before the first.
        deviation: Their standard deviation; NaN before the first.

    Source: ranks in place of rewards, and more weight for the best: Wierstra et al., Natural Evolution
    Strategies, JMLR 15, 2014, section 3.1; a policy gradient of the best draws only: Petersen et al., ICLR
    2021. The logarithm is ours.
    """

    def __init__(self) -> None:
        self.baseline = math.nan
        self.deviation = math.nan

    def of(self, latest: Floats, n: int) -> Floats:
        """Returns the advantages `(n,)` of the last `n` of the latest rewards."""
        ordered = np.sort(latest)
        below = np.searchsorted(ordered, latest, "left") + np.searchsorted(ordered, latest, "right")
        scores: Floats = -np.log(1 - below / (2 * len(latest)))
        self.baseline, self.deviation = float(latest.mean()), float(latest.std())
        if ordered[0] == ordered[-1]:
            return np.zeros(n)
        advantages: Floats = (scores[-n:] - scores.mean()) / scores.std()
        return advantages


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Results to learn from at once.

    Attributes:
        tokens: `(n, decisions)`, canonical.
        log_prob: `(n,)`, as it was when the candidates were drawn.
        advantages: `(n,)`; infeasible candidates count as the worst reward so far.
        entropy_coef: Weight of each decision's entropy beside them.
    """

    tokens: Tokens
    log_prob: Floats
    advantages: Floats
    entropy_coef: float


class PolicyGradient:
    """A policy, and results that wait until there are enough for an update.

    A search that is planned for at least `LONG` evaluations has settings of its own: advantages by rank, and
    an entropy bonus that falls to 0 by the last of them. A saved state continues as it was begun, whatever
    is planned now.

    Args:
        problem: What is searched, with the evaluations that are planned.
        policy: "independent" or "lstm".
        seed: Of the policy's initial weights.
        learning_rate: Step size of the policy; None leaves it to the length of the search.
        batch: Results per update, at least 1; None likewise.
        steps: Steps of the policy per update.
        baseline_keep: Share of the baseline that an update keeps, in [0, 1), where advantages are no ranks.
        entropy_coef: Weight of the entropy; None likewise, and then it falls in a long search.

    Attributes:
        policy: What is trained.
        advantages: How rewards become advantages.

    Raises:
        ControllerError: An argument is wrong.
    """

    policy: Policy
    advantages: Advantages | RankAdvantages

    def __init__(
        self,
        problem: Problem,
        *,
        policy: PolicyName,
        seed: int,
        learning_rate: float | None,
        batch: int | None,
        baseline_keep: float,
        entropy_coef: float | None,
        steps: int = 1,
    ) -> None:
        self._steps = steps
        self._given_batch = None if batch is None else require_count("batch", batch)
        self._given_entropy_coef = entropy_coef
        self._baseline_keep = baseline_keep
        self._log_prob: list[float] = []  # of the latest results, which wait for an update

        def make(default: float | None) -> Policy:
            rate = default if learning_rate is None else learning_rate
            return make_policy(policy, problem.decisions, learning_rate=rate, seed=seed)

        self._make_policy = make
        self._long_rate = LONG_LEARNING_RATES.get(policy, math.nan)  # such a policy is refused below
        self._plan(problem.evaluations)

    @property
    def settings(self) -> State:
        """What a state must be made alike with, as JSON values."""
        return {
            "batch": BATCH if self._given_batch is None else self._given_batch,
            "baseline_keep": self._baseline_keep,
            "entropy_coef": ENTROPY_COEF if self._given_entropy_coef is None else self._given_entropy_coef,
        }

    def _plan(self, evaluations: int | None) -> None:
        """Starts anew, with the settings for so many evaluations."""
        self._evaluations = evaluations if evaluations is not None and evaluations >= LONG else None
        running = Advantages(self._baseline_keep)  # also where it is not used: it checks its argument
        if self._evaluations is None:
            self._batch, self.advantages = self._given_batch or BATCH, running
            self.policy = self._make_policy(None)
        else:
            self._batch, self.advantages = self._given_batch or LONG_BATCH * self._steps, RankAdvantages()
            self.policy = self._make_policy(self._long_rate * math.sqrt(LONG / self._evaluations))

    def _entropy_coef(self, results: int) -> float:
        """The entropy's weight after so many results."""
        if self._given_entropy_coef is not None:
            return self._given_entropy_coef
        if self._evaluations is None:
            return ENTROPY_COEF
        return LONG_ENTROPY_COEF * max(0.0, 1 - results / self._evaluations)

    def batches(self, told: Sequence[Told], results: Results) -> Iterator[Batch]:
        """Adds results to those that wait and yields full batches, the oldest results first.

        While every result so far is infeasible there is no reward to compare with, and all of them wait.
        """
        self._log_prob += self._log_probs(told)
        waiting = len(self._log_prob)
        if waiting < self._batch or math.isinf(results.worst):
            return
        tokens, rewards = results.latest(waiting + LATEST)
        first = len(rewards) - waiting
        for start in range(first, len(rewards) - self._batch + 1, self._batch):
            end = start + self._batch
            yield Batch(
                tokens=tokens[start:end],
                log_prob=np.array(self._log_prob[: self._batch]),
                advantages=self._advantages_of(rewards[:end]),
                entropy_coef=self._entropy_coef(len(results) - len(rewards) + end),
            )
            del self._log_prob[: self._batch]

    def _log_probs(self, told: Sequence[Told]) -> list[float]:
        """Log-probabilities as they were told; where they were not, those under the policy of today."""
        found = [proposal.log_prob for proposal, *_ in told]
        missing = [place for place, value in enumerate(found) if math.isnan(value)]
        if missing:
            now = self.policy.log_prob(np.array([told[place][1] for place in missing], dtype=np.int64))
            for place, value in zip(missing, now.tolist(), strict=True):
                found[place] = value
        return found

    def _advantages_of(self, rewards: Floats) -> Floats:
        """Advantages of the last batch of the rewards so far."""
        if isinstance(self.advantages, RankAdvantages):
            return self.advantages.of(rewards[-max(LATEST, self._batch) :], self._batch)
        return self.advantages.of(rewards[-self._batch :])

    def state_dict(self) -> State:
        """Returns the policy, the log-probabilities of the results that wait, and the running means."""
        state: State = {
            "policy": self.policy.state_dict(),
            "log_prob": np.array(self._log_prob, dtype=np.float64),
        }
        if isinstance(self.advantages, RankAdvantages):
            return {**state, "evaluations": self._evaluations}
        return {**state, "advantages": self.advantages.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state, as it was begun."""
        self._plan(state.get("evaluations"))
        self.policy.load_state_dict(state["policy"])
        self._log_prob = np.asarray(state["log_prob"]).tolist()
        if isinstance(self.advantages, Advantages):
            self.advantages.load_state_dict(state["advantages"])


class PolicyGradientAlgorithm(Algorithm):
    """Proposes what a policy draws, and updates it by batches of results.

    Args:
        name: Of the algorithm.
        problem: What is searched.
        gradient: The policy, and the results that wait for an update.
        seed: Of the draws.
        settings: What a state must be made alike with, as JSON values.
    """

    def __init__(
        self, name: str, problem: Problem, gradient: PolicyGradient, *, seed: int, settings: State
    ) -> None:
        super().__init__(name, problem, None, seed=seed, settings=settings)
        self._gradient = gradient
        self._diagnostics: dict[str, float] = {}

    @abstractmethod
    def _update(self, batch: Batch) -> None:
        """Moves the policy by a batch, and keeps diagnostics of it."""

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        return self._gradient.policy.sample(rng, n, temperature)

    def _log_prob(self, tokens: Tokens) -> Floats:
        return self._gradient.policy.log_prob(tokens)

    def _learn(self, told: Sequence[Told]) -> None:
        for batch in self._gradient.batches(told, self._results):
            self._update(batch)

    def _own_state(self) -> State:
        return {**self._gradient.state_dict(), "diagnostics": dict(self._diagnostics)}

    def _load_own_state(self, state: State) -> None:
        self._gradient.load_state_dict(state)
        self._diagnostics = dict(state["diagnostics"])

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the probability of each option, for the LSTM along its mode."""
        return self._gradient.policy.probabilities()
