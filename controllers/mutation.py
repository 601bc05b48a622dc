"""Changes to candidates: mutation, recombination of two parents, and all neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from controllers.contract import Tokens
from controllers.decisions import Decisions


def mutate(decisions: Decisions, rng: np.random.Generator, parents: Tokens, changes: int = 1) -> Tokens:
    """Changes some active decisions of each parent to another option, drawn uniformly.

    A decision that becomes active by that is drawn uniformly.

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
    """Takes each decision from one parent or the other, from either with equal chance where both have it.

    A decision that is active in one of them only is taken from that one, so that everything that is active in
    a child comes from a parent.

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
    takes_other = in_other & (~in_one | (rng.random(one.shape) < 0.5))
    return decisions.canonical(np.where(takes_other, other, one))


def changes_at(temperature: float) -> int:
    """Returns how many decisions to change: more when nearer candidates have all been seen."""
    return max(1, round(temperature))


def neighbours(
    decisions: Decisions, tokens: Tokens, rng: np.random.Generator, most: int
) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """Changes one decision of each candidate, to each other option; decisions that become active take 0.

    Args:
        decisions: What the tokens mean.
        tokens: Canonical tokens `(n, decisions)`.
        rng: Draws which changes are made, where there are more than `most`.
        most: Neighbours that are returned at most.

    Returns:
        Canonical tokens `(changes, decisions)`, and which of the candidates each is a neighbour of,
        `(changes,)`. There are `n` changes for each option of each decision but one.
    """
    cardinalities = np.array(decisions.cardinalities)
    decision = np.repeat(np.arange(len(decisions)), cardinalities - 1)
    step = np.arange(len(decision)) - np.searchsorted(decision, decision) + 1
    count = len(tokens) * len(decision)
    made = np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))
    change, parent = np.divmod(made, max(len(tokens), 1))
    others, at = tokens[parent], (np.arange(len(made)), decision[change])
    others[at] = (others[at] + step[change]) % cardinalities[decision[change]]
    return decisions.canonical(others), parent
