"""Which networks a step of a supernet's training goes through: uniform, fair or sandwich."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from nas.errors import SupernetError
from search_spaces import SearchSpace, SpaceError

Tokens = tuple[int, ...]

Sampling = Literal["uniform", "fair", "sandwich"]
SAMPLINGS: tuple[Sampling, ...] = ("uniform", "fair", "sandwich")

STRATA = 8
"""Intervals of multiply-adds, equally wide, that random networks are drawn from in turn."""

A_STRATUM = 64
"""Networks that are drawn of each."""

TRIED = 1_000
"""Random networks with which the search for the largest and the smallest begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The networks of one step.

    Attributes:
        tokens: The networks, one after another.
        teaches: Whether the first one learns from labels, with dropout and stochastic depth, and the others
            from it alone; else all learn from labels.
    """

    tokens: tuple[Tokens, ...]
    teaches: bool = False


class Sampler(Protocol):
    """Draws networks. A step's do not depend on those before it, so that a training can be continued."""

    def at(self, step: int) -> Paths:
        """The networks of a step, counted from 0."""
        ...


def make_sampler(name: Sampling, space: SearchSpace, *, seed: int, random_paths: int = 2) -> Sampler:
    """Makes a sampler by its name.

    Args:
        name: `uniform`, `fair` or `sandwich`.
        space: The networks.
        seed: Of all draws.
        random_paths: Random networks a step, of `sandwich`.

    Raises:
        SupernetError: There is no such name.
    """
    if name == "uniform":
        return Uniform(space, seed)
    if name == "fair":
        return Fair(space, seed)
    if name == "sandwich":
        return Sandwich(space, seed, random_paths)
    raise SupernetError(
        f"`sampling` must be one of {', '.join(SAMPLINGS)}, but got {name!r}: uniform is one network a step",
        field="sampling",
    )


class Uniform:
    """One random network a step, each decision uniform over its options.

    Source: Guo et al., ECCV 2020 (single path one-shot), section 3.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    def at(self, step: int) -> Paths:
        """See `Sampler`."""
        rng = _rng(self._seed, step)
        for _ in range(TRIED):
            tokens = self._space.sample(rng)
            if _can_be_built(self._space, tokens):
                return Paths(tokens=(tokens,))
        raise SupernetError(f"none of {TRIED:,} random networks of the space can be built", field="space")


class Fair:
    """As many networks a step as the largest decision has options, every option equally often.

    Each decision goes through its options in random orders, one after another. An option of a decision that
    is not active counts too, and networks that cannot be built are left out. Gradients of a step's networks
    are averaged, and the weights updated once.

    Source: Chu et al., ICCV 2021 (FairNAS), section 3.3, whose layers all have as many options.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._count = max(space.cardinalities)

    def at(self, step: int) -> Paths:
        """See `Sampler`."""
        places = range(step * self._count, (step + 1) * self._count)
        drawn = (self._space.canonical(self._row(place)) for place in places)
        return Paths(tokens=tuple(tokens for tokens in drawn if _can_be_built(self._space, tokens)))

    def _row(self, place: int) -> list[int]:
        """The options at a place of the endless series of networks."""
        row = []
        for decision, count in enumerate(self._space.cardinalities):
            order = _rng(self._seed, place // count, decision).permutation(count)
            row.append(int(order[place % count]))
        return row


class Sandwich:
    """The largest network, the smallest, and random ones of all sizes; the largest teaches the others.

    Random ones are drawn from equal intervals of multiply-adds in turn, so that the ends, which random
    networks rarely reach, are trained as often as the middle.

    Source: Yu and Huang, ICCV 2019 (the rule); Yu et al., ECCV 2020 (BigNAS: the largest teaches, and it
        alone has dropout); Wang et al., CVPR 2021 (AttentiveNAS: drawn by multiply-adds).
    """

    def __init__(self, space: SearchSpace, seed: int, random_paths: int = 2) -> None:
        if random_paths < 0:
            raise SupernetError(
                f"`random_paths >= 0` must hold, but got random_paths={random_paths}", field="random_paths"
            )
        self._seed = seed
        self._random = random_paths
        self.smallest, self.largest = extreme_networks(space, seed=seed)
        self._strata = strata(space, seed=seed)

    def at(self, step: int) -> Paths:
        """See `Sampler`."""
        rng = _rng(self._seed, step)
        drawn = []
        for place in range(step * self._random, (step + 1) * self._random):
            stratum = self._strata[place % len(self._strata)]
            drawn.append(stratum[int(rng.integers(len(stratum)))])
        return Paths(tokens=(self.largest, self.smallest, *drawn), teaches=True)


@lru_cache(maxsize=8)
def extreme_networks(space: SearchSpace, *, seed: int = 0) -> tuple[Tokens, Tokens]:
    """The networks with the fewest and with the most multiply-adds.

    Found from the extremes of random networks by changing one decision at a time, as long as that helps:
    exact where no decision makes another's smaller option the dearer one.

    Raises:
        SpaceError: No network can be built.
    """
    drawn = space.sample_many(np.random.default_rng((seed, 1)), TRIED)
    macs = _macs(space, drawn)
    ends = [drawn[np.nanargmin(macs)], drawn[np.nanargmax(macs)]]
    return _climb(space, ends[0], -1), _climb(space, ends[1], 1)


def _climb(space: SearchSpace, tokens: npt.NDArray[np.int64], sign: int) -> Tokens:
    best = float(sign * _macs(space, tokens[None])[0])
    while True:
        rows = np.repeat(tokens[None], sum(space.cardinalities), axis=0)
        place = 0
        for decision, count in enumerate(space.cardinalities):
            rows[place : place + count, decision] = np.arange(count)
            place += count
        values = sign * _macs(space, rows)
        found = int(np.nanargmax(values))
        if not values[found] > best:
            return space.canonical(tokens.tolist())
        tokens, best = rows[found], float(values[found])


def _can_be_built(space: SearchSpace, tokens: Tokens) -> bool:
    return bool(np.isfinite(_macs(space, np.array([tokens])))[0])


def _macs(space: SearchSpace, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Multiply-adds of candidates; NaN for those that cannot be built."""
    try:
        return np.asarray(space.costs(rows).macs, np.float64)
    except SpaceError:
        if len(rows) == 1:
            return np.array([np.nan])
        return np.concatenate([_macs(space, rows[i : i + 1]) for i in range(len(rows))])


def strata(space: SearchSpace, *, seed: int) -> tuple[Sequence[Tokens], ...]:
    """Random networks by intervals of multiply-adds, equally wide, from the least to the most.

    An interval in which no network is found is left out.

    Args:
        space: The networks.
        seed: Of the draws.
    """
    smallest, largest = extreme_networks(space, seed=seed)
    least, most = _macs(space, np.array([smallest, largest]))
    edges = np.linspace(least, most, STRATA + 1)
    found: list[Sequence[Tokens]] = []
    for number, (low, high) in enumerate(pairwise(edges)):
        rng = np.random.default_rng((seed, 2, number))
        try:
            rows = space.sample_within(rng, A_STRATUM, macs=(float(low), float(high)))
        except SpaceError:
            continue
        found.append([tuple(row) for row in rows.tolist()])
    return tuple(found)


def _rng(seed: int, *place: int) -> np.random.Generator:
    return np.random.default_rng((seed, *place))
