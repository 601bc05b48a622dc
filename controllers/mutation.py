"""Owns the step that evolution and local search take: a candidate with some decisions taken otherwise.

Does not own whom it is taken from.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.contract import Floats, Tokens
from controllers.decisions import Decisions


def mutate(decisions: Decisions, rng: np.random.Generator, parents: Tokens, changes: int = 1) -> Tokens:
    """Takes some active decisions of each parent otherwise, the option uniform among the others.

    A decision that becomes active by that is decided uniformly.

    Args:
        decisions: What the tokens mean.
        rng: Source of randomness.
        parents: Canonical tokens `(n, decisions)`.
        changes: Decisions to change in each; fewer where fewer are active and have another option.

    Returns:
        Canonical tokens `(n, decisions)`.
    """
    cardinalities = np.array(decisions.cardinalities)
    active = decisions.active(parents)
    children = np.where(active, parents, (rng.random(parents.shape) * cardinalities).astype(np.int64))
    order = np.where(active & (cardinalities > 1), rng.random(parents.shape), np.inf)
    rank = order.argsort(axis=1).argsort(axis=1)
    is_changed = (rank < changes) & np.isfinite(order)
    step = 1 + (rng.random(parents.shape) * np.maximum(cardinalities - 1, 1)).astype(np.int64)
    return decisions.canonical(np.where(is_changed, (children + step) % cardinalities, children))


def changes_at(temperature: float) -> int:
    """Decisions to change when candidates nearer by have all been seen."""
    return max(1, round(temperature))


def without_policy(tokens: Tokens) -> Floats:
    """Log-probabilities `(n,)` of what no policy drew: unknown."""
    return np.full(len(tokens), math.nan)
