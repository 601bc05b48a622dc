"""The seam between a policy-gradient algorithm and the policy it trains."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import numpy as np

from controllers.contract import ControllerError, Floats, State, Tokens
from controllers.decisions import Decisions
from controllers.independent_policy import IndependentPolicy

PolicyName: TypeAlias = Literal["independent", "lstm"]


class Policy(Protocol):
    """A distribution over candidates with an Adam optimiser of its own."""

    def sample(self, rng: np.random.Generator, n: int, temperature: float = 1.0) -> Tokens:
        """Draws canonical tokens `(n, decisions)`; logits are divided by the temperature, inf is uniform."""
        ...

    def log_prob(self, tokens: Tokens) -> Floats:
        """Returns the log-probabilities `(n,)` of canonical tokens; inactive decisions count nothing."""
        ...

    def entropy(self, tokens: Tokens) -> float:
        """Returns the mean entropy in nats of a decision, over those active in the candidates."""
        ...

    def step(self, tokens: Tokens, weights: Floats, entropy_coef: float) -> None:
        """Takes one Adam step up the gradient of an objective.

        The objective is `sum_i weights_i * log_prob(tokens_i)` plus `entropy_coef` times the entropies of the
        active decisions, summed over decisions and averaged over candidates. Which decisions are active is
        taken from the candidates as given.
        """
        ...

    def probabilities(self) -> list[Floats]:
        """Returns for each decision the probability of each option, earlier decisions at their mode."""
        ...

    def state_dict(self) -> State:
        """Returns parameters and optimiser moments as arrays."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        ...


LEARNING_RATES: dict[PolicyName, float] = {"independent": 0.2, "lstm": 0.01}
"""Adam step sizes that learn within hundreds of evaluations rather than NASNet's thousands."""


def make_policy(name: PolicyName, decisions: Decisions, *, learning_rate: float | None, seed: int) -> Policy:
    """Returns a fresh policy; torch is loaded only for the one that needs it.

    Args:
        name: "independent" (one set of logits per decision) or "lstm" (autoregressive).
        decisions: What there is to decide.
        learning_rate: Step size of Adam; None means the policy's own.
        seed: Of the initial weights; independent logits start at 0 whatever it is.

    Raises:
        ControllerError: No such policy, or a learning rate that is not positive.
    """
    if name not in LEARNING_RATES:
        raise ControllerError(f"policy must be one of {sorted(LEARNING_RATES)}, but got {name!r}")
    rate = LEARNING_RATES[name] if learning_rate is None else learning_rate
    if not 0 < rate < float("inf"):
        raise ControllerError(f"learning_rate must be positive, but got {rate!r}")
    if name == "independent":
        return IndependentPolicy(decisions, learning_rate=rate)
    from controllers.lstm_policy import LSTMPolicy  # loads torch

    return LSTMPolicy(decisions, learning_rate=rate, seed=seed)
