"""REINFORCE with the settings that make it frugal: small batches, normalised advantages, no repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.advantages import Advantages
from controllers.contract import (
    Candidate,
    Conditions,
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


class Reinforce:
    """REINFORCE with a moving baseline.

    After every `batch` results it takes one Adam step up the gradient of
    `mean(advantage * log_prob) + entropy_coef * sum over decisions of entropy`, where the advantage is the
    reward minus a moving average of rewards, divided by the running root mean square of that difference: so
    the scale and offset of rewards do not matter, and the entropy bonus means the same everywhere.

    Results may come late: they count as if drawn from the policy of today. `Outcome.fidelity` is not looked
    at: feed back rewards that can be compared.

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
        baseline_keep: Share of the baseline and of the advantages' mean square that an update keeps.
        entropy_coef: Weight of each decision's entropy in nats beside advantages of unit size.

    Raises:
        ControllerError: An argument breaks its law.

    Source: Williams, Machine Learning 8, 1992. NASNet (Zoph et al., CVPR 2018, A.2) keeps 0.95 of its
    baseline and takes steps of 0.00035, for searches of thousands of networks.
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
        baseline_keep: float = 0.9,
        entropy_coef: float = 0.1,
    ) -> None:
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
        self._entropy_coef = entropy_coef
        self._advantages = Advantages(baseline_keep)
        self._diagnostics: dict[str, float] = {}
        self._made: State = {
            "controller": "Reinforce",
            "decisions": self._search.decisions.fingerprint,
            "policy": policy,
            "learning_rate": learning_rate,
            "batch": batch,
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
        policy = self._search.policy
        advantages = self._advantages.of(batch.rewards)
        log_prob = policy.log_prob(batch.tokens)
        entropy = policy.entropy(batch.tokens)
        policy.step(batch.tokens, advantages / len(advantages), self._entropy_coef)
        log_ratio = policy.log_prob(batch.tokens) - log_prob
        self._diagnostics = {
            "baseline": self._advantages.baseline,
            "deviation": self._advantages.deviation,
            "entropy": entropy,
            "loss": float(-(advantages * log_prob).mean()),
            "approx_kl": float((np.expm1(log_ratio) - log_ratio).mean()),
        }

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
        `loss` is the policy's, without the entropy bonus; `approx_kl` is how far the update moved the policy
        on its batch. There is no explained variance: a constant baseline explains none within a batch.
        """
        return dict(self._diagnostics)

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the probability of each option, for the LSTM along its mode."""
        return self._search.policy.probabilities()
