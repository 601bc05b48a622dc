"""`PolicySampler`: networks drawn by a policy that REINFORCE trains while the weights are trained (TuNAS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controllers.decisions import Decisions
from controllers.policies import IndependentPolicy
from controllers.policy_gradient import RunningMean
from nas.catalogue import Catalogue
from nas.errors import ObjectiveError
from nas.objective import Objective
from nas.values import is_number
from nas.weight_sharing.paths import Paths, Tokens

DELAY = 0.25
"""Share of the training before which the policy stays uniform: weights that know nothing rank nothing."""

GROWTH = 10.0
"""What the policy's rate grows to, as a multiple of the first, exponentially."""

KEEP = 0.95
"""Share of the baseline that a step keeps."""

MOST_TRIED = 100
"""Draws of a step until one keeps the limits."""

TOTAL_RATE = 400.0
"""Sum of the policy's rates over a training: TuNAS takes so much in 28,000 steps of 4,096 images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """The policy at one moment.

    Attributes:
        step: Steps of the training before it.
        reward: Moving mean of rewards; None before the first.
        entropy: Mean entropy of a decision, nats.
        probabilities: Of each option of each decision.
    """

    step: int
    reward: float | None
    entropy: float
    probabilities: Sequence[Sequence[float]]


class PolicySampler:
    """One network a step, drawn from a policy; see `nas.weight_sharing.paths.Sampler`.

    After the weights have learnt from a batch of training images, the same network is measured on images of
    the search split, and its reward moves the policy. In the first quarter the policy is left uniform. There
    too, with a probability that falls from 1 to 0, decisions on sizes take their largest option, so that
    large slices are trained before small ones are preferred.

    Args:
        catalogue: Of the space, with its known costs.
        objective: What the policy maximises: one goal, whose costs are known without training.
        steps: Steps of the training.
        seed: Of all draws.

    Attributes:
        records: The policy at each evaluation.

    Raises:
        ObjectiveError: It has several goals, or a cost that must be measured.

    Source: Bender et al., CVPR 2020 (TuNAS) and its code: rate 0 for a quarter, then growing tenfold; Adam
        without momentum; baseline 0.95; no entropy bonus. TuNAS averages all options of an op in its warm-up,
        kernel sizes among them, at the price of running them all; here numbers are at their largest, and of
        other options one is drawn.
    """

    def __init__(self, catalogue: Catalogue, objective: Objective, *, steps: int, seed: int) -> None:
        check_objective(objective)
        self._catalogue = catalogue
        self._objective = objective
        self._steps = steps
        self._seed = seed
        space = catalogue.space
        self._decisions = Decisions(space.cardinalities, space.conditions)
        # The mean of a rate that grows exponentially by a factor g is (g - 1) / ln g times the first.
        mean = (GROWTH - 1) / np.log(GROWTH)
        self._first_rate = TOTAL_RATE / (mean * (1 - DELAY) * max(1, steps))
        self._policy = IndependentPolicy(self._decisions, learning_rate=self._first_rate, beta1=0.0)
        self._baseline = RunningMean(KEEP)
        self._largest = tuple(_largest(decision.options) for decision in space.decisions)
        self.records: list[PolicyRecord] = []

    def at(self, step: int) -> Paths:
        """See `Sampler`; a network depends on the policy, and so on the steps before."""
        rng = np.random.default_rng((self._seed, 3, step))
        within = self._objective.known_limits
        for _ in range(MOST_TRIED):
            tokens = self._policy.sample(rng, 1)
            warm = 1 - step / (DELAY * self._steps)
            if warm > 0:
                for decision, largest in enumerate(self._largest):
                    if largest is not None and rng.random() < warm:
                        tokens[0, decision] = largest
                tokens = self._decisions.canonical(tokens)
            if warm > 0 or self._catalogue.are_within(tokens, within)[0]:
                break
        return Paths(tokens=(tuple(int(token) for token in tokens[0]),))

    def learn(self, step: int, tokens: Tokens, value: float) -> None:
        """Moves the policy by the reward of a network.

        Args:
            step: The step, counted from 0.
            tokens: The network.
            value: Its metric on images of the search split.
        """
        share = (step / max(1, self._steps) - DELAY) / (1 - DELAY)
        if share < 0:
            return
        reward = self._objective.reward(value, self._catalogue.describe(tokens).costs)
        before = self._baseline.value
        self._baseline.add(reward)
        if before is None:
            return
        self._policy.learning_rate = self._first_rate * GROWTH**share
        self._policy.step(np.array([tokens]), np.array([reward - before]), 0.0)

    def record(self, step: int) -> None:
        """Keeps the policy as it is."""
        probabilities = self._policy.probabilities()
        row = np.array([self.most_probable()])
        self.records.append(
            PolicyRecord(
                step=step,
                reward=self._baseline.value,
                entropy=self._policy.entropy(row),
                probabilities=tuple(tuple(map(float, one)) for one in probabilities),
            )
        )

    def most_probable(self) -> Tokens:
        """The network with each decision at its most probable option."""
        options = [int(one.argmax()) for one in self._policy.probabilities()]
        return tuple(self._catalogue.space.canonical(options))

    def draws(self, count: int) -> tuple[Tokens, ...]:
        """Different networks that the policy draws, the most probable first; fewer where it knows no more."""
        rng = np.random.default_rng((self._seed, 4))
        found = {self.most_probable(): None}
        for row in self._policy.sample(rng, 20 * count).tolist():
            found.setdefault(tuple(row))
        rows = np.array(list(found))
        kept = rows[self._catalogue.are_within(rows, self._objective.known_limits)]
        return tuple(tuple(row) for row in kept[:count].tolist())

    def numbers(self) -> dict[str, Any]:
        """Everything that changes, as JSON values."""
        state = self._policy.state_dict()
        return {
            "arrays": np.asarray(state["arrays"]).tolist(),
            "steps": state["steps"],
            "baseline": self._baseline.state_dict(),
            "records": [
                [one.step, one.reward, one.entropy, [list(row) for row in one.probabilities]]
                for one in self.records
            ],
        }

    def load(self, numbers: Mapping[str, Any]) -> None:
        """Continues from what `numbers` gave."""
        self._policy.load_state_dict({"arrays": np.array(numbers["arrays"]), "steps": numbers["steps"]})
        self._baseline.load_state_dict(numbers["baseline"])
        self.records = [
            PolicyRecord(step=step, reward=reward, entropy=entropy, probabilities=rows)
            for step, reward, entropy, rows in numbers["records"]
        ]


def check_objective(objective: Objective) -> None:
    """Checks that a policy can be trained for an objective at every step.

    Raises:
        ObjectiveError: It has several goals, or needs what only a training or a device can measure.
    """
    if objective.is_front:
        raise ObjectiveError(
            f"a policy looks for one network, but {objective.describe()!r} has several goals: combine them, "
            "such as accuracy - 0.1 * |macs / 30M - 1|",
            field="objective",
        )
    measured = [name for name in objective.measured_metrics if name != objective.goal.metric]
    if measured:
        raise ObjectiveError(
            f"a search in shared weights knows costs of networks only, but the objective needs "
            f"{measured[0]}: use macs, params, or predicted_latency_ms with a latency table",
            field="objective",
        )


def _largest(options: Sequence[object]) -> int | None:
    """The option with the largest number, where all are numbers."""
    numbers = [float(option) for option in options if isinstance(option, int | float) and is_number(option)]
    return int(np.argmax(numbers)) if len(numbers) == len(options) else None
