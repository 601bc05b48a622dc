"""Estimates the latency of blocks that were not measured from those that were: a fit in log space.

It knows layers and shapes only, so it holds for a user's own ops too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nas.errors import LatencyError
from search_spaces.blocks import Block, leaves_of
from search_spaces.lowering import Part
from search_spaces.primitives import Convolution, Pool

Array = npt.NDArray[np.float64]

LEAST_BLOCKS = 40
"""Measured blocks below which nothing is estimated from them."""

FOLDS = 10
PENALTY = 1.0
"""Of the squared weights. From 0.1 to 3 the error on blocks left out hardly changes."""

BEYOND = 2.0
"""How far beyond the measured latencies an estimate may lie: a factor of e to this."""

QUANTITIES = 11
"""Values in the description of a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEstimator:
    """Latency of a block from its layers: the exponential of a quadratic polynomial of its description.

    Attributes:
        weights: Of the standardised terms.
        means: Of the terms.
        scales: Standard deviations of the terms.
        log_mean: Mean of the logarithms of the latencies.
        log_range: Least and greatest logarithm that an estimate may have.
        blocks: Measured blocks it was fitted on.
        error: Mean relative error on measured blocks left out of the fit, a tenth of them at a time.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    log_mean: float
    log_range: tuple[float, float]
    blocks: int
    error: float

    def __post_init__(self) -> None:
        size = QUANTITIES * (QUANTITIES + 3) // 2
        for name, values in (("weights", self.weights), ("means", self.means), ("scales", self.scales)):
            if len(values) != size or not all(math.isfinite(value) for value in values):
                raise LatencyError(
                    f"an estimator needs {size} finite {name}, but got {len(values)}", field=name
                )

    @property
    def text(self) -> str:
        """Where estimates come from and how far off they are."""
        return (
            f"estimated from {self.blocks} measured blocks, mean error {100 * self.error:.1f} % on blocks "
            "left out of the fit"
        )

    def estimate(self, block: Block) -> float:
        """Latency in milliseconds."""
        terms = (_terms(block.part) - np.array(self.means)) / np.array(self.scales)
        low, high = self.log_range
        return math.exp(min(high, max(low, float(terms @ np.array(self.weights)) + self.log_mean)))


def fit_estimator(blocks: Sequence[Block], latencies_ms: Sequence[float], *, seed: int = 0) -> BlockEstimator:
    """Fits on measured blocks by ridge regression.

    Args:
        blocks: What was measured.
        latencies_ms: Its latencies.
        seed: Of the folds that the error is found on.

    Raises:
        LatencyError: They are too few.
    """
    if len(blocks) < LEAST_BLOCKS:
        raise LatencyError(
            f"at least {LEAST_BLOCKS} measured blocks are needed to estimate others, but there are "
            f"{len(blocks)}: raise --most-blocks",
            field="most_blocks",
        )
    fold = np.random.default_rng(seed).permutation(len(blocks)) % FOLDS
    latencies = np.asarray(latencies_ms, np.float64)
    left_out = np.zeros(len(blocks))
    for number in range(FOLDS):
        kept = [block for block, place in zip(blocks, fold, strict=True) if place != number]
        part = _fit(kept, latencies[fold != number])
        for place in np.flatnonzero(fold == number).tolist():
            left_out[place] = part.estimate(blocks[place])
    return replace(_fit(blocks, latencies), error=float(np.mean(np.abs(left_out / latencies - 1))))


def _fit(blocks: Sequence[Block], latencies: Array) -> BlockEstimator:
    """Ridge regression of logarithms on standardised terms; its error is not known yet."""
    terms, logs = np.stack([_terms(block.part) for block in blocks]), np.log(latencies)
    means, scales = terms.mean(0), terms.std(0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    scaled, log_mean = (terms - means) / scales, float(logs.mean())
    gram = scaled.T @ scaled + PENALTY * np.eye(terms.shape[1])
    return BlockEstimator(
        weights=tuple(np.linalg.solve(gram, scaled.T @ (logs - log_mean)).tolist()),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        log_mean=log_mean,
        log_range=(float(logs.min()) - BEYOND, float(logs.max()) + BEYOND),
        blocks=len(blocks),
        error=math.nan,
    )


@lru_cache(maxsize=16_384)
def _terms(part: Part) -> Array:
    """The description of a block, with all squares and products of two."""
    described = np.array(_describe(part))
    rows, columns = np.triu_indices(len(described))
    return np.concatenate([described, described[rows] * described[columns]])


def _describe(part: Part) -> tuple[float, ...]:
    """Logarithms of its work and sizes, its largest kernel, and how often it pools a map to one pixel."""
    layers = dense = grouped = gates = 0
    kernel_size, last_side = 1, part.in_shape.height
    for leaf, shape, layer in leaves_of(part.node, part.in_shape):
        layers += 1
        if isinstance(leaf, Convolution) and leaf.groups > 1:
            grouped += layer.macs
        else:
            dense += layer.macs
        if isinstance(leaf, Convolution | Pool):
            kernel_size = max(kernel_size, leaf.kernel_size)
        gates += shape.height == 1 and last_side > 1
        last_side = shape.height
    tally = part.tally
    sizes = (layers, dense / 1e6, grouped / 1e6, tally.traffic / 1e6, tally.params / 1e6)
    shapes = (
        part.in_shape.elements / 1e6,
        tally.out.elements / 1e6,
        part.in_shape.channels,
        part.in_shape.height,
    )
    return (*(math.log(value + 1e-3) for value in (*sizes, *shapes)), float(kernel_size), float(gates))
