"""The candidates that proxies are judged on: random ones, spread over the space's multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nas.errors import SpaceArgumentError
from search_spaces import SearchSpace, SpaceError, cost

FEWEST, FEW = 5, 10
"""Candidates below which a rank correlation says nothing, and below which it says little."""

POOL = 64
"""Random candidates for each one that is chosen, from which the quantiles of multiply-adds are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of the sample.

    Attributes:
        tokens: One option index per decision.
        digest: Identity of the network.
        macs: Its multiply-adds.
        params: Its parameters.
    """

    tokens: tuple[int, ...]
    digest: str
    macs: int
    params: int


def sample_candidates(
    space: SearchSpace, count: int, *, seed: int = 0, limits: Mapping[str, float] | None = None
) -> tuple[Candidate, ...]:
    """Draws one candidate from each of `count` equally full strata of multiply-adds, the cheapest first.

    Args:
        space: Where they come from.
        count: How many.
        seed: Decides which.
        limits: Most `macs`, `params` or `activations`.

    Raises:
        SpaceArgumentError: Fewer than 5 are asked for, or the space has not as many within the limits.
    """
    if count < FEWEST:
        raise SpaceArgumentError(
            f"at least {FEWEST} candidates are needed for rankings to be compared, but got {count}: take 16",
            field="candidates",
        )
    rng = np.random.default_rng([seed, 0x57A7])
    try:
        rows = (
            space.sample_within(rng, POOL * count, **{name: (0.0, most) for name, most in limits.items()})
            if limits
            else space.sample_many(rng, POOL * count)
        )
    except SpaceError as error:
        raise SpaceArgumentError(
            f"no candidates can be drawn within the limits: {error}", field="limits"
        ) from error
    macs = np.asarray(space.costs(rows)["macs"])
    pool: dict[str, tuple[int, ...]] = {}
    for row in rows[np.argsort(macs, kind="stable")]:
        tokens = tuple(int(token) for token in row)
        pool.setdefault(space.decode(tokens).digest, tokens)
    if len(pool) < count:
        raise SpaceArgumentError(
            f"the space {space.name!r} must have {count} candidates to compare, but {len(pool)} were found: "
            "ask for fewer with --candidates, or relax the limits",
            field="candidates",
        )
    ordered = list(pool.items())
    edges = np.linspace(0, len(ordered), count + 1).astype(int)
    chosen = [ordered[int(rng.integers(low, high))] for low, high in pairwise(edges)]
    return tuple(_priced(space, digest, tokens) for digest, tokens in chosen)


def _priced(space: SearchSpace, digest: str, tokens: tuple[int, ...]) -> Candidate:
    price = cost(space.decode(tokens))
    return Candidate(tokens=tokens, digest=digest, macs=price.macs, params=price.params)
