"""Estimating the latency of blocks that were not measured, from those that were: a fit in log space.

It knows layers and shapes only, so it holds for ops of a person's own too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nas.errors import LatencyError
from search_spaces.blocks import Block, leaves_of
from search_spaces.lowering import Part
from search_spaces.primitives import Convolution

Array = npt.NDArray[np.float64]

LEAST_BLOCKS = 40
"""Measured blocks below which nothing is estimated from them."""

FOLDS = 10
PENALTIES = (0.03, 0.3, 3.0, 30.0)
BEYOND = 2.0
"""How far beyond the measured latencies an estimate may lie: a factor of e to this."""

DESCRIPTION = (
    "layers",
    "dense_macs",
    "grouped_macs",
    "traffic",
    "params",
    "in_values",
    "out_values",
    "channels",
    "side",
    "kernel_size",
    "gates",
)
"""What an estimate goes by, all but the last two as logarithms, with all squares and products of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEstimator:
    """Latency of a block from its layers: the exponential of a quadratic polynomial of `DESCRIPTION`.

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
        size = len(DESCRIPTION) * (len(DESCRIPTION) + 3) // 2
        for name in ("weights", "means", "scales"):
            values = getattr(self, name)
            if len(values) != size or not all(math.isfinite(value) for value in values):
                raise LatencyError(
                    f"an estimator needs {size} finite {name}, but got {len(values)}: measure the table again"
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
    """Fits on measured blocks; the penalty is the one with the least error on blocks left out.

    Args:
        blocks: What was measured.
        latencies_ms: Its latencies.
        seed: Of the folds.

    Raises:
        LatencyError: They are too few.
    """
    if len(blocks) < LEAST_BLOCKS:
        raise LatencyError(
            f"at least {LEAST_BLOCKS} measured blocks are needed to estimate others, but there are "
            f"{len(blocks)}: raise --most-blocks"
        )
    terms = np.stack([_terms(block.part) for block in blocks])
    logs = np.log(np.asarray(latencies_ms, np.float64))
    fold = np.random.default_rng(seed).permutation(len(logs)) % FOLDS
    errors = [_left_out_error(terms, logs, fold, penalty) for penalty in PENALTIES]
    weights, means, scales, log_mean = _fit(terms, logs, PENALTIES[int(np.argmin(errors))])
    return BlockEstimator(
        weights=tuple(weights.tolist()),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        log_mean=log_mean,
        log_range=_range(logs),
        blocks=len(blocks),
        error=min(errors),
    )


def _left_out_error(terms: Array, logs: Array, fold: npt.NDArray[np.int64], penalty: float) -> float:
    predicted = np.zeros(len(logs))
    for number in range(FOLDS):
        out = fold == number
        weights, means, scales, log_mean = _fit(terms[~out], logs[~out], penalty)
        predicted[out] = np.clip((terms[out] - means) / scales @ weights + log_mean, *_range(logs[~out]))
    return float(np.mean(np.abs(np.exp(predicted - logs) - 1)))


def _fit(terms: Array, logs: Array, penalty: float) -> tuple[Array, Array, Array, float]:
    """Ridge regression on standardised terms."""
    means, scales = terms.mean(0), terms.std(0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    scaled, log_mean = (terms - means) / scales, float(logs.mean())
    gram = scaled.T @ scaled + penalty * np.eye(terms.shape[1])
    return np.linalg.solve(gram, scaled.T @ (logs - log_mean)), means, scales, log_mean


def _range(logs: Array) -> tuple[float, float]:
    return float(logs.min()) - BEYOND, float(logs.max()) + BEYOND


@lru_cache(maxsize=16_384)
def _terms(part: Part) -> Array:
    """The description of a block, with all squares and products of two."""
    described = np.array(_describe(part))
    rows, columns = np.triu_indices(len(described))
    return np.concatenate([described, described[rows] * described[columns]])


def _describe(part: Part) -> tuple[float, ...]:
    """The values of `DESCRIPTION`."""
    layers = dense = grouped = gates = 0
    kernel_size, last_side = 1, part.in_shape.height
    for leaf, shape, layer in leaves_of(part.node, part.in_shape):
        layers += 1
        if isinstance(leaf, Convolution) and leaf.groups > 1:
            grouped += layer.macs
        else:
            dense += layer.macs
        kernel_size = max(kernel_size, getattr(leaf, "kernel_size", 1))
        gates += shape.height == 1 and last_side > 1  # a map that was pooled to a single pixel
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
