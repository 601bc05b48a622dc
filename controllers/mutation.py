"""The steps of evolution and local search: decisions taken otherwise, or after one of two parents."""

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


def recombine(decisions: Decisions, rng: np.random.Generator, one: Tokens, other: Tokens) -> Tokens:
    """Takes each decision after one parent or the other, after both alike where it is active in both.

    A decision that is active in one of them only is taken after that one, so that everything that is active
    in a child was decided by a parent.

    Args:
        decisions: What the tokens mean.
        rng: Source of randomness.
        one: Canonical tokens `(n, decisions)` of one parent each.
        other: Of the other parent each, in the same shape.

    Returns:
        Canonical tokens `(n, decisions)`.

    Source: Syswerda, ICGA 1989, uniform crossover.
    """
    in_one, in_other = decisions.active(one), decisions.active(other)
    is_after_other = in_other & (~in_one | (rng.random(one.shape) < 0.5))
    return decisions.canonical(np.where(is_after_other, other, one))


def changes_at(temperature: float) -> int:
    """Decisions to change when candidates nearer by have all been seen."""
    return max(1, round(temperature))


def without_policy(tokens: Tokens) -> Floats:
    """Log-probabilities `(n,)` of what no policy drew: unknown."""
    return np.full(len(tokens), math.nan)


def neighbours(decisions: Decisions, tokens: Tokens) -> Tokens:
    """Takes each decision of each candidate otherwise, in every way; decisions that become active take 0.

    Args:
        decisions: What the tokens mean.
        tokens: Canonical tokens `(n, decisions)`.

    Returns:
        Canonical tokens `(n * ways, decisions)`, where `ways` is the sum of all cardinalities minus 1.
    """
    found = [tokens[:0]]
    for decision, cardinality in enumerate(decisions.cardinalities):
        for step in range(1, cardinality):
            others = tokens.copy()
            others[:, decision] = (others[:, decision] + step) % cardinality
            found.append(others)
    return decisions.canonical(np.concatenate(found))
