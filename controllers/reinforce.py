"""REINFORCE with settings that need few evaluations: small batches, normalised advantages, no repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.algorithm import Algorithm
from controllers.contract import Conditions, Floats, State, Tokens
from controllers.policies import PolicyName
from controllers.policy_gradient import Batch, PolicyGradient
from controllers.problem import Problem
from controllers.results import Told


class Reinforce(Algorithm):
    """REINFORCE with a moving baseline.

    After every `batch` results it takes one Adam step up the gradient of
    `mean(advantage * log_prob) + entropy_coef * sum over decisions of entropy`, where the advantage is the
    reward minus a moving average of rewards, divided by the running root mean square of that difference: so
    the scale and offset of rewards do not matter, and the entropy bonus means the same everywhere. Late
    results count as if drawn from the policy of today.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        policy: "independent" logits per decision, or an autoregressive "lstm" (loads torch).
        learning_rate: Adam's; None means 0.2 for independent logits and 0.01 for the LSTM.
        batch: Results per update.
        baseline_keep: Share of the baseline and of the advantages' mean square that an update keeps.
        entropy_coef: Weight of each decision's entropy in nats beside advantages of unit size.

    Raises:
        ControllerError: An argument is wrong.

    Source: Williams, Machine Learning 8, 1992. NASNet (Zoph et al., CVPR 2018, A.2) keeps 0.95 of its
    baseline and takes steps of 0.00035, for searches of thousands of networks.
    """

    def __init__(
        self,
        problem: Problem | Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        policy: PolicyName = "independent",
        learning_rate: float | None = None,
        batch: int = 5,
        baseline_keep: float = 0.9,
        entropy_coef: float = 0.1,
    ) -> None:
        settings = {
            "policy": policy,
            "learning_rate": learning_rate,
            "batch": batch,
            "baseline_keep": baseline_keep,
            "entropy_coef": entropy_coef,
        }
        super().__init__("Reinforce", problem, conditions, seed=seed, settings=settings)
        self._gradient = PolicyGradient(
            self._decisions,
            policy=policy,
            seed=seed,
            learning_rate=learning_rate,
            batch=batch,
            baseline_keep=baseline_keep,
        )
        self._policy = self._gradient.policy
        self._entropy_coef = entropy_coef
        self._diagnostics: dict[str, float] = {}

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        return self._policy.sample(rng, n, temperature)

    def _log_prob(self, tokens: Tokens) -> Floats:
        return self._policy.log_prob(tokens)

    def _learn(self, told: Sequence[Told]) -> None:
        for batch in self._gradient.batches(told, self._results):
            self._update(batch)

    def _update(self, batch: Batch) -> None:
        log_prob = self._policy.log_prob(batch.tokens)
        entropy = self._policy.entropy(batch.tokens)
        self._policy.step(batch.tokens, batch.advantages / len(batch.advantages), self._entropy_coef)
        log_ratio = self._policy.log_prob(batch.tokens) - log_prob
        self._diagnostics = {
            "baseline": self._gradient.advantages.baseline,
            "deviation": self._gradient.advantages.deviation,
            "entropy": entropy,
            "loss": float(-(batch.advantages * log_prob).mean()),
            "approx_kl": float((np.expm1(log_ratio) - log_ratio).mean()),
        }

    def _own_state(self) -> State:
        return {**self._gradient.state_dict(), "diagnostics": dict(self._diagnostics)}

    def _load_own_state(self, state: State) -> None:
        self._gradient.load_state_dict(state)
        self._diagnostics = dict(state["diagnostics"])

    def diagnostics(self) -> dict[str, float]:
        """Returns numbers about the last update, empty before the first.

        `baseline` and `deviation` are in units of the reward; `entropy` is the mean of a decision in nats;
        `loss` is the policy's, without the entropy bonus; `approx_kl` is how far the update moved the policy
        on its batch. There is no explained variance: a constant baseline explains none within a batch.
        """
        return dict(self._diagnostics)

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the probability of each option, for the LSTM along its mode."""
        return self._policy.probabilities()
