"""REINFORCE with settings for few evaluations, and others for many; no candidate is repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.contract import Conditions
from controllers.policies import PolicyName
from controllers.policy_gradient import Batch, PolicyGradient, PolicyGradientAlgorithm
from controllers.problem import Problem


class Reinforce(PolicyGradientAlgorithm):
    """REINFORCE with a moving baseline.

    After every `batch` results it takes one Adam step up the gradient of
    `mean(advantage * log_prob) + entropy_coef * sum over decisions of entropy`, where the advantage is the
    reward minus a moving average of rewards, divided by the running root mean square of that difference: so
    the scale and offset of rewards do not matter, and the entropy bonus means the same everywhere. Late
    results count as if drawn from the policy of today.

    A search whose problem has at least 1,000 `evaluations` planned has other settings: advantages by the rank
    among the latest results (`controllers.policy_gradient.RankAdvantages`), and an entropy bonus that falls
    to 0 by the last of them. Then not even the order of magnitude of a penalty matters, and the policy is
    nearly decided at the end. A saved state goes on as it was begun.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        policy: "independent" logits per decision, or an autoregressive "lstm" (loads torch).
        learning_rate: Adam's; None means 0.2 for independent logits and 0.01 for the LSTM, in a long search
            times the root of 1,000 over its evaluations.
        batch: Results per update; None means 5, and 8 in a long search.
        baseline_keep: Share of the baseline and of the advantages' mean square that an update keeps; a long
            search has no such baseline.
        entropy_coef: Weight of each decision's entropy in nats beside advantages of unit size; None means
            0.1, and in a long search a fall from 0.4 to 0.

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
        batch: int | None = None,
        baseline_keep: float = 0.9,
        entropy_coef: float | None = None,
    ) -> None:
        problem = Problem.of(problem, conditions)
        gradient = PolicyGradient(
            problem,
            policy=policy,
            seed=seed,
            learning_rate=learning_rate,
            batch=batch,
            baseline_keep=baseline_keep,
            entropy_coef=entropy_coef,
        )
        settings = {"policy": policy, "learning_rate": learning_rate, **gradient.settings}
        super().__init__("Reinforce", problem, gradient, seed=seed, settings=settings)

    def _update(self, batch: Batch) -> None:
        log_prob = self._gradient.policy.log_prob(batch.tokens)
        entropy = self._gradient.policy.entropy(batch.tokens)
        self._gradient.policy.step(batch.tokens, batch.advantages / len(batch.advantages), batch.entropy_coef)
        log_ratio = self._gradient.policy.log_prob(batch.tokens) - log_prob
        self._diagnostics = {
            "baseline": self._gradient.advantages.baseline,
            "deviation": self._gradient.advantages.deviation,
            "entropy": entropy,
            "loss": float(-(batch.advantages * log_prob).mean()),
            "approx_kl": float((np.expm1(log_ratio) - log_ratio).mean()),
        }

    def diagnostics(self) -> dict[str, float]:
        """Returns numbers about the last update, empty before the first.

        `baseline` and `deviation` are in units of the reward; `entropy` is the mean of a decision in nats;
        `loss` is the policy's, without the entropy bonus; `approx_kl` is how far the update moved the policy
        on its batch. There is no explained variance: a constant baseline explains none within a batch.
        """
        return dict(self._diagnostics)
