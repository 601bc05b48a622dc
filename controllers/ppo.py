"""Proximal policy optimisation: several clipped epochs over each batch of results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.contract import Conditions, ControllerError, require_count
from controllers.policies import PolicyName
from controllers.policy_gradient import Batch, PolicyGradient, PolicyGradientAlgorithm
from controllers.problem import Problem


class PPO(PolicyGradientAlgorithm):
    """Proximal policy optimisation of a one-step problem: one candidate, one reward.

    Advantages are made as in `Reinforce`, also where a long search is planned. Every batch is gone through
    `epochs` times, a whole batch per Adam step; a candidate stops pushing once its probability has moved by
    more than `clip_coef` in the direction its advantage asks for. Probabilities are compared with those
    stored when the candidate was drawn (`Proposal.log_prob`), so late results are weighed for what they are.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        policy: "independent" logits per decision, or an autoregressive "lstm" (loads torch).
        learning_rate: Adam's; None as in `Reinforce`.
        batch: Results per update; None means 5, and 8 for each of the epochs in a long search.
        epochs: Steps per update.
        clip_coef: Change of a candidate's probability, as a share of it, at which it stops pushing.
        baseline_keep: As in `Reinforce`.
        entropy_coef: Likewise.

    Raises:
        ControllerError: An argument is wrong.

    Source: Schulman et al., arXiv 1707.06347, equation 7. MnasNet (Tan et al., CVPR 2019, section 4.2) trains
    its controller so, without giving settings; NASNet (A.2) takes steps of 0.00035 for thousands of networks.
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
        epochs: int = 3,
        clip_coef: float = 0.3,
        baseline_keep: float = 0.9,
        entropy_coef: float | None = None,
    ) -> None:
        self._epochs = require_count("epochs", epochs)
        if not clip_coef > 0:
            raise ControllerError(
                f"clip_coef > 0 must hold, but got clip_coef={clip_coef}", field="clip_coef"
            )
        problem = Problem.of(problem, conditions)
        gradient = PolicyGradient(
            problem,
            policy=policy,
            seed=seed,
            learning_rate=learning_rate,
            batch=batch,
            baseline_keep=baseline_keep,
            entropy_coef=entropy_coef,
            steps=self._epochs,
        )
        settings = {
            "policy": policy,
            "learning_rate": learning_rate,
            "epochs": epochs,
            "clip_coef": clip_coef,
            **gradient.settings,
        }
        super().__init__("PPO", problem, gradient, seed=seed, settings=settings)
        self._clip_coef = clip_coef

    def _update(self, batch: Batch) -> None:
        entropy = self._gradient.policy.entropy(batch.tokens)
        losses, clipped = zip(*(self._epoch(batch) for _ in range(self._epochs)), strict=True)
        log_ratio = self._gradient.policy.log_prob(batch.tokens) - batch.log_prob
        self._diagnostics = {
            "baseline": self._gradient.advantages.baseline,
            "deviation": self._gradient.advantages.deviation,
            "entropy": entropy,
            "loss": losses[-1],
            "clip_fraction": sum(clipped) / self._epochs,
            "approx_kl": float((np.expm1(log_ratio) - log_ratio).mean()),
        }

    def _epoch(self, batch: Batch) -> tuple[float, float]:
        """Takes one step and returns the clipped loss before it and the share of clipped candidates."""
        ratio = np.exp(self._gradient.policy.log_prob(batch.tokens) - batch.log_prob)
        bounded = np.clip(ratio, 1 - self._clip_coef, 1 + self._clip_coef)
        is_pushing = ratio * batch.advantages <= bounded * batch.advantages
        weights = np.where(is_pushing, ratio * batch.advantages, 0.0) / len(batch.advantages)
        self._gradient.policy.step(batch.tokens, weights, batch.entropy_coef)
        loss = -float(np.minimum(ratio * batch.advantages, bounded * batch.advantages).mean())
        return loss, float((np.abs(ratio - 1) > self._clip_coef).mean())

    def diagnostics(self) -> dict[str, float]:
        """Returns numbers about the last update, empty before the first.

        `baseline` and `deviation` are in units of the reward; `entropy` is the mean of a decision in nats;
        `loss` is the clipped policy loss of the last epoch, without the entropy bonus; `clip_fraction` is the
        share of candidates outside the clip range, over all epochs; `approx_kl` is measured after the last
        epoch against the policies that drew the batch. There is no explained variance: a constant baseline
        explains none within a batch.
        """
        return dict(self._diagnostics)
