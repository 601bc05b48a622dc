"""Landscapes made by rule: a table like those of cell benchmarks, and a tree of conditional decisions.

Used by `arena_problems.py`. Each seed makes another landscape, so that settings are chosen on some and
reported on others.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from controllers.decisions import Decisions
from nas.benchmarks.surrogate import Floats, Predict, Tokens

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Edges of a cell of four nodes, one decision each, as in NAS-Bench-201 (Dong and Yang, ICLR 2020)."""

OPS = ("none", "skip", "pool", "conv1x1", "conv3x3")
"""Options of each edge."""

CELL_NOISE, TREE_NOISE = 0.002, 0.003
"""Standard deviation of one training, as accuracies of those benchmarks vary by seed near their best."""

STAGES = 5
"""Stages of the tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A space as the arena needs it: numbers alone.

    Attributes:
        cardinalities: Options of each decision.
        conditions: When each is active, or None.
        names: Of the decisions.
        macs: Multiply-adds of candidates.
    """

    cardinalities: tuple[int, ...]
    conditions: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...] | None
    names: tuple[str, ...]
    macs: Predict

    @property
    def decisions(self) -> tuple[SimpleNamespace, ...]:
        """The decisions, each with its `name`."""
        return tuple(SimpleNamespace(name=name) for name in self.names)

    def costs(self, tokens: Tokens) -> SimpleNamespace:
        """Costs of candidates, of which there are the `macs`."""
        return SimpleNamespace(macs=self.macs(tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """What the arena needs of a benchmark.

    Attributes:
        space: Where is searched.
        accuracy: True accuracies of candidates.
        noise: Standard deviation of one training.
        source: What it is.
        is_exhaustive: Whether `tokens` are all candidates.
        tokens: All candidates, or none.
    """

    space: Space
    accuracy: Predict
    noise: float
    source: str
    is_exhaustive: bool
    tokens: Tokens


def make_landscape(kind: str, seed: int) -> Landscape:
    """The cell or the tree of a seed."""
    space, accuracy = (cell if kind == "cell" else tree)(seed)
    every = Decisions(space.cardinalities, space.conditions).enumerate(20_000)
    return Landscape(
        space=space,
        accuracy=accuracy,
        noise=CELL_NOISE if kind == "cell" else TREE_NOISE,
        source=f"made by rule, benchmarks/arena_landscapes.py, {kind} {seed}",
        is_exhaustive=every is not None,
        tokens=np.zeros((0, len(space.cardinalities)), dtype=np.int64) if every is None else every,
    )


def cell(seed: int) -> tuple[Space, Predict]:
    """A cell of six edges with five operations: most are fair, some fail to connect, and few are best.

    The input's signal goes along all paths; an operation multiplies it by what it is worth on that edge. Then
    there is an effect of each pair of edges. A cell that lets nothing through stays at chance, as in the
    tables of trained cells.
    """
    rng = np.random.default_rng([seed, 201])
    worth = np.array([0.0, 0.45, 0.4, 0.8, 1.0]) * np.exp(0.15 * rng.normal(size=(len(EDGES), len(OPS))))
    pairs = 0.05 * rng.normal(size=(len(EDGES), len(OPS), len(EDGES), len(OPS)))
    cost = np.array([0.0, 0.0, 0.0, 2.0, 16.0]) * 1e6

    def accuracy(tokens: Tokens) -> Floats:
        signal = np.zeros((len(tokens), 4))
        signal[:, 0] = 1.0
        for edge, (start, end) in enumerate(EDGES):
            signal[:, end] += signal[:, start] * worth[edge, tokens[:, edge]]
        convolutions = (tokens >= 3).sum(axis=1)
        interaction = np.zeros(len(tokens))
        for one in range(len(EDGES)):
            for other in range(one):
                interaction += pairs[one, tokens[:, one], other, tokens[:, other]]
        quality = np.log1p(signal[:, 3]) + 0.25 * np.sqrt(convolutions) + interaction
        fair = 0.10 + 0.85 / (1 + np.exp(-2.2 * (quality + 0.35)))
        return np.where(signal[:, 3] > 1e-9, fair, 0.10)

    def macs(tokens: Tokens) -> Floats:
        return 8e6 + cost[tokens].sum(axis=1)

    return Space(
        cardinalities=(5,) * 6, conditions=None, names=tuple(f"edge{a}{b}" for a, b in EDGES), macs=macs
    ), accuracy


def tree(seed: int) -> tuple[Space, Predict]:
    """Five stages, each of one of three blocks; layers, expansion, kernel or groups follow from the block.

    Identity has nothing more to decide; a convolution has kernel and layers; an inverted bottleneck has
    expansion, kernel, squeeze-excite and layers.
    """
    rng = np.random.default_rng([seed, 7])
    cardinalities: list[int] = []
    conditions: list[tuple[tuple[int, tuple[int, ...]], ...]] = []
    names: list[str] = []
    for stage in range(STAGES):
        block = len(cardinalities)
        for name, count, blocks in (
            ("block", 3, None),
            ("kernel", 2, (1,)),
            ("layers", 3, (1,)),
            ("expand", 3, (2,)),
            ("kernel2", 2, (2,)),
            ("se", 2, (2,)),
            ("layers2", 5, (2,)),
        ):
            names.append(f"stage{stage}.{name}")
            cardinalities.append(count)
            conditions.append(() if blocks is None else ((block, blocks),))
    decisions = Decisions(cardinalities, conditions)
    own = [np.sort(rng.normal(size=c)) * 0.6 + 0.35 * rng.normal(size=c) for c in cardinalities]
    pairs = {
        (a, b): 0.35 * rng.normal(size=(cardinalities[a], cardinalities[b]))
        for a in range(len(cardinalities))
        for b in range(max(0, a - 8), a)
    }

    def accuracy(tokens: Tokens) -> Floats:
        active = decisions.active(tokens)
        value = np.zeros(len(tokens))
        for d, effects in enumerate(own):
            value += np.where(active[:, d], effects[tokens[:, d]], 0.0)
        for (a, b), effects in pairs.items():
            value += np.where(active[:, a] & active[:, b], effects[tokens[:, a], tokens[:, b]], 0.0)
        return 0.30 + 0.55 / (1 + np.exp(-0.35 * value))

    def macs(tokens: Tokens) -> Floats:
        active = decisions.active(tokens)
        total = np.full(len(tokens), 20e6)
        for stage in range(STAGES):
            block, kernel, layers, expand, kernel2, _, layers2 = (tokens[:, 7 * stage + i] for i in range(7))
            convolution = 4e6 * (1 + kernel) * (1 + layers)
            bottleneck = 2e6 * (1 + layers2) * (1 + 2 * expand) * (1 + 0.3 * kernel2)
            total += np.where(block == 1, convolution, np.where(block == 2, bottleneck, 0.0))
        return total + 0.0 * active.sum(axis=1)

    return (
        Space(
            cardinalities=tuple(cardinalities), conditions=tuple(conditions), names=tuple(names), macs=macs
        ),
        accuracy,
    )
