"""Proximal policy optimisation: several clipped epochs over each batch of results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.advantages import Advantages
from controllers.contract import (
    Candidate,
    Conditions,
    ControllerError,
    Costs,
    Feasible,
    Feedback,
    Floats,
    Key,
    Proposal,
    Reward,
    State,
)
from controllers.policy import PolicyName
from controllers.policy_search import Batch, PolicySearch
from controllers.state import check_made_alike


class PPO:
    """Proximal policy optimisation of a one-step problem: one candidate, one reward.

    Advantages are made as in `Reinforce`. Every batch is gone through `epochs` times, a whole batch per Adam
    step; a candidate stops pushing once its probability has moved by more than `clip_coef` in the direction
    its advantage asks for. Probabilities are compared with those stored when the candidate was drawn
    (`Proposal.log_prob`), so late results are weighed for what they are.

    Args:
        cardinalities: Number of options of each decision.
        conditions: For each decision the `(parent, options)` of which any makes it active; None: always.
        seed: The same seed and the same results give the same proposals.
        key: Identity of a candidate, for not proposing one twice; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        costs: Accepted so that all controllers are made alike; a policy gradient learns from rewards alone.
        reward: Likewise.
        policy: "independent" logits per decision, or an autoregressive "lstm" (loads torch).
        learning_rate: Adam's; None means 0.2 for independent logits and 0.01 for the LSTM.
        batch: Results per update.
        epochs: Steps per update.
        clip_coef: Change of a candidate's probability, as a share of it, at which it stops pushing.
        baseline_keep: Share of the baseline and of the advantages' mean square that an update keeps.
        entropy_coef: Weight of each decision's entropy in nats beside advantages of unit size.

    Raises:
        ControllerError: An argument breaks its law.

    Source: Schulman et al., arXiv 1707.06347, equation 7. MnasNet (Tan et al., CVPR 2019, section 4.2) trains
    its controller so, without giving settings; NASNet (A.2) takes steps of 0.00035 for thousands of networks.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        key: Key | None = None,
        feasible: Feasible | None = None,
        costs: Costs | None = None,  # noqa: ARG002  # see the docstring
        reward: Reward | None = None,  # noqa: ARG002
        policy: PolicyName = "independent",
        learning_rate: float | None = None,
        batch: int = 5,
        epochs: int = 3,
        clip_coef: float = 0.3,
        baseline_keep: float = 0.9,
        entropy_coef: float = 0.1,
    ) -> None:
        if epochs < 1:
            raise ControllerError(f"epochs >= 1 must hold, but got epochs={epochs}")
        if clip_coef <= 0:
            raise ControllerError(f"clip_coef > 0 must hold, but got clip_coef={clip_coef}")
        self._search = PolicySearch(
            cardinalities,
            conditions,
            seed=seed,
            key=key,
            feasible=feasible,
            policy=policy,
            learning_rate=learning_rate,
            batch=batch,
        )
        self._epochs = epochs
        self._clip_coef = clip_coef
        self._entropy_coef = entropy_coef
        self._advantages = Advantages(baseline_keep)
        self._diagnostics: dict[str, float] = {}
        self._made: State = {
            "controller": "PPO",
            "decisions": self._search.decisions.fingerprint,
            "policy": policy,
            "learning_rate": learning_rate,
            "batch": batch,
            "epochs": epochs,
            "clip_coef": clip_coef,
            "baseline_keep": baseline_keep,
            "entropy_coef": entropy_coef,
        }

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, fewer or none only when no others can be found."""
        return self._search.propose(n)

    def feedback(self, results: Feedback) -> None:
        """Takes results and updates the policy once per full batch.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        self._search.take(results)
        for batch in self._search.batches():
            self._update(batch)

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the up to `n` candidates with the best mean reward, best first.

        Raises:
            ControllerError: `n` is below 1.
        """
        return self._search.results.best(n)

    def _update(self, batch: Batch) -> None:
        advantages = self._advantages.of(batch.rewards)
        entropy = self._search.policy.entropy(batch.tokens)
        losses, clipped = zip(*(self._epoch(batch, advantages) for _ in range(self._epochs)), strict=True)
        log_ratio = self._search.policy.log_prob(batch.tokens) - batch.log_prob
        self._diagnostics = {
            "baseline": self._advantages.baseline,
            "deviation": self._advantages.deviation,
            "entropy": entropy,
            "loss": losses[-1],
            "clip_fraction": sum(clipped) / self._epochs,
            "approx_kl": float((np.expm1(log_ratio) - log_ratio).mean()),
        }

    def _epoch(self, batch: Batch, advantages: Floats) -> tuple[float, float]:
        """Takes one step and returns the clipped loss before it and the share of clipped candidates."""
        ratio = np.exp(self._search.policy.log_prob(batch.tokens) - batch.log_prob)
        bounded = np.clip(ratio, 1 - self._clip_coef, 1 + self._clip_coef)
        is_pushing = ratio * advantages <= bounded * advantages
        weights = np.where(is_pushing, ratio * advantages, 0.0) / len(advantages)
        self._search.policy.step(batch.tokens, weights, self._entropy_coef)
        loss = -float(np.minimum(ratio * advantages, bounded * advantages).mean())
        return loss, float((np.abs(ratio - 1) > self._clip_coef).mean())

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly."""
        return {
            "made": dict(self._made),
            "search": self._search.state_dict(),
            "advantages": self._advantages.state_dict(),
            "diagnostics": dict(self._diagnostics),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues where the state was taken.

        Raises:
            ControllerError: The state is of a controller made otherwise.
        """
        check_made_alike(state, self._made)
        self._search.load_state_dict(state["search"])
        self._advantages.load_state_dict(state["advantages"])
        self._diagnostics = dict(state["diagnostics"])

    def diagnostics(self) -> dict[str, float]:
        """Returns numbers about the last update, empty before the first.

        `baseline` and `deviation` are in units of the reward; `entropy` is the mean of a decision in nats;
        `loss` is the clipped policy loss of the last epoch, without the entropy bonus; `clip_fraction` is the
        share of candidates outside the clip range, over all epochs; `approx_kl` is measured after the last
        epoch against the policies that drew the batch. There is no explained variance: a constant baseline
        explains none within a batch.
        """
        return dict(self._diagnostics)

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the probability of each option, for the LSTM along its mode."""
        return self._search.policy.probabilities()
