"""Policies: distributions over candidates trained by Adam, and the one with independent logits."""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeAlias

import numpy as np

from controllers.contract import ControllerError, Floats, State, Tokens
from controllers.decisions import Decisions

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


class Adam:
    """Adam on one array.

    Args:
        shape: Shape of the parameters.
        learning_rate: Step size.
        beta1: Share of the mean of gradients that a step keeps.

    Source: Kingma and Ba, Adam, ICLR 2015, algorithm 1, with its default settings.
    """

    BETA2, EPSILON = 0.999, 1e-8

    def __init__(self, shape: tuple[int, ...], learning_rate: float, beta1: float = 0.9) -> None:
        self.learning_rate = learning_rate
        self.beta1 = beta1
        self.steps = 0
        self.mean = np.zeros(shape)
        self.square = np.zeros(shape)

    def step(self, gradient: Floats) -> Floats:
        """Returns what to add to the parameters to climb along `gradient`."""
        self.steps += 1
        self.mean += (1 - self.beta1) * (gradient - self.mean)
        self.square += (1 - self.BETA2) * (gradient**2 - self.square)
        mean: Floats = self.mean / (1 - self.beta1**self.steps)
        square = self.square / (1 - self.BETA2**self.steps)
        step: Floats = self.learning_rate * mean / (np.sqrt(square) + self.EPSILON)
        return step


class IndependentPolicy:
    """Every active decision is drawn by itself from the softmax of its own logits.

    Logits start at 0, so the first candidates are uniform over the options. Arrays are padded to the largest
    cardinality; a padded option has probability 0.

    Args:
        decisions: What there is to decide.
        learning_rate: Step size of Adam; may be changed between steps.
        beta1: Adam's: the share of the mean of gradients that a step keeps.
    """

    def __init__(self, decisions: Decisions, *, learning_rate: float, beta1: float = 0.9) -> None:
        self._decisions = decisions
        self._logits = np.zeros((len(decisions), decisions.width))
        self._adam = Adam(self._logits.shape, learning_rate, beta1)
        self._rows = np.arange(len(decisions))

    @property
    def learning_rate(self) -> float:
        """Step size of Adam."""
        return self._adam.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._adam.learning_rate = value

    def sample(self, rng: np.random.Generator, n: int, temperature: float = 1.0) -> Tokens:
        """Draws canonical tokens `(n, decisions)`; logits are divided by the temperature, inf is uniform."""
        return self._decisions.sample(rng, n, np.exp(self._log_softmax(temperature)))

    def log_prob(self, tokens: Tokens) -> Floats:
        """Returns the log-probabilities `(n,)` of canonical tokens."""
        chosen = self._log_softmax()[self._rows, tokens]
        result: Floats = np.where(self._decisions.active(tokens), chosen, 0.0).sum(axis=1)
        return result

    def entropy(self, tokens: Tokens) -> float:
        """Returns the mean entropy in nats of a decision, over those active in the candidates."""
        share = self._decisions.active(tokens).mean(axis=0)
        return float(share @ _entropies(self._log_softmax()) / share.sum())

    def step(self, tokens: Tokens, weights: Floats, entropy_coef: float) -> None:
        """Takes one Adam step; see `Policy.step`."""
        self._logits += self._adam.step(self.gradient(tokens, weights, entropy_coef))

    def gradient(self, tokens: Tokens, weights: Floats, entropy_coef: float) -> Floats:
        """Returns the gradient of the objective of `step` by the logits, `(decisions, width)`.

        With p the softmax of the logits: of a log-probability it is `onehot - p`, of an entropy H
        `-p * (log p + H)`.
        """
        log_p = self._log_softmax()
        p = np.exp(log_p)
        active = self._decisions.active(tokens)
        weighted = np.where(active, weights[:, None], 0.0)
        gradient: Floats = -weighted.sum(axis=0)[:, None] * p
        np.add.at(gradient, (np.broadcast_to(self._rows, tokens.shape), tokens), weighted)
        surprise = np.where(self._decisions.options, log_p, 0.0) + _entropies(log_p)[:, None]
        gradient -= entropy_coef * active.mean(axis=0)[:, None] * p * surprise
        return gradient

    def probabilities(self) -> list[Floats]:
        """Returns for each decision the probability of each option."""
        p = np.exp(self._log_softmax())
        return [row[:count].copy() for row, count in zip(p, self._decisions.cardinalities, strict=True)]

    def state_dict(self) -> State:
        """Returns logits and Adam's moments, `(3, decisions, width)`, and its steps."""
        return {
            "arrays": np.stack([self._logits, self._adam.mean, self._adam.square]),
            "steps": self._adam.steps,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self._logits, self._adam.mean, self._adam.square = np.array(state["arrays"], dtype=np.float64)
        self._adam.steps = int(state["steps"])

    def _log_softmax(self, temperature: float = 1.0) -> Floats:
        logits = np.where(self._decisions.options, self._logits / temperature, -math.inf)
        logits = logits - logits.max(axis=1, keepdims=True)
        result: Floats = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return result


def _entropies(log_p: Floats) -> Floats:
    """Returns the entropy in nats of each row; options of probability 0 add nothing."""
    p = np.exp(log_p)
    result: Floats = -np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0).sum(axis=1)
    return result


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
        raise ControllerError(
            f"policy must be one of {sorted(LEARNING_RATES)}, but got {name!r}", field="policy"
        )
    rate = LEARNING_RATES[name] if learning_rate is None else learning_rate
    if not 0 < rate < float("inf"):
        raise ControllerError(f"learning_rate must be positive, but got {rate!r}", field="learning_rate")
    if name == "independent":
        return IndependentPolicy(decisions, learning_rate=rate)
    from controllers.lstm_policy import LSTMPolicy  # loads torch

    return LSTMPolicy(decisions, learning_rate=rate, seed=seed)
