"""From sums over blocks to the latency of a whole network: a fit with non-negative terms, and its error.

A block measured alone finds its input and weights in the caches and pays for its own call; within a
network it does neither, so sums need correcting.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from nas.errors import LatencyError
from nas.latency.session import half_difference, order_agreement
from search_spaces.costs import Tally

Array = npt.NDArray[np.float64]

LEAST_NETWORKS = 4
"""Networks below which nothing is fitted, and the plain sum is the prediction."""

GOOD_TAU, ROUGH_TAU = 0.9, 0.75
LEAST_JUDGED = 8
"""Networks below which nothing is said about ranking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Latency of a network from sums over its blocks; every coefficient is at least 0.

    `latency_ms = per_network_ms + per_ms * sum_ms + per_block_ms * blocks + per_weight_ms * weights
    + per_map_ms * maps`. Without a fit it is the plain sum.

    Attributes:
        per_network_ms: What every network pays.
        per_ms: Factor of the sum of block latencies.
        per_block_ms: What every block pays.
        per_weight_ms: What a million parameters pay, which are read from memory again.
        per_map_ms: What a million values put out by convolutions and linear layers pay.
        networks: Networks it was fitted on; 0 where it was not fitted.
    """

    per_network_ms: float = 0.0
    per_ms: float = 1.0
    per_block_ms: float = 0.0
    per_weight_ms: float = 0.0
    per_map_ms: float = 0.0
    networks: int = 0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise LatencyError(f"`{name} >= 0` must hold in a correction, but got {value!r}", field=name)

    @property
    def coefficients(self) -> Array:
        """The coefficients of 1, the sum over the blocks, their number, million parameters and values."""
        return np.array(
            [self.per_network_ms, self.per_ms, self.per_block_ms, self.per_weight_ms, self.per_map_ms]
        )

    def block_ms(self, alone_ms: float, tally: Tally) -> float:
        """What a block adds to the latency of a network.

        Args:
            alone_ms: Its latency alone.
            tally: What it costs.
        """
        return (
            self.per_ms * alone_ms
            + self.per_block_ms
            + self.per_weight_ms * tally.params / 1e6
            + self.per_map_ms * tally.activations / 1e6
        )

    @property
    def text(self) -> str:
        """The formula in words, without the terms that are 0."""
        terms = (
            (self.per_ms, "x the sum of its blocks"),
            (self.per_network_ms, "ms"),
            (self.per_block_ms, "ms a block"),
            (self.per_weight_ms, "ms a million parameters"),
            (self.per_map_ms, "ms a million values of feature maps"),
        )
        return " + ".join(f"{value:.3g} {words}" for value, words in terms if value) or "0 ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedNetwork:
    """A random network of the space that was measured whole, beside the blocks.

    Attributes:
        digest: Its identity.
        macs: Its multiply-adds.
        latency_ms: Measured.
        halves_ms: Medians of the even and the odd rounds; None where only one number is known.
        predicted_ms: Predicted by a fit that did not see it.
    """

    digest: str
    macs: int
    latency_ms: float
    halves_ms: tuple[float, float] | None
    predicted_ms: float

    def __post_init__(self) -> None:
        values = (self.latency_ms, *(self.halves_ms or ()))
        if not all(0 < value < float("inf") for value in values):
            raise LatencyError(
                f"`latency_ms > 0` must hold for network {self.digest}, but got {values}", field="latency_ms"
            )

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return abs(self.predicted_ms - self.latency_ms) / self.latency_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How well predictions hold on networks that were measured whole and left out of the fit in turn.

    Attributes:
        networks: They, in the order drawn.

    Raises:
        LatencyError: There is none.
    """

    networks: tuple[CheckedNetwork, ...]

    def __post_init__(self) -> None:
        if not self.networks:
            raise LatencyError("a check needs a network, but has none", field="networks")

    @property
    def n(self) -> int:
        """Number of networks."""
        return len(self.networks)

    @property
    def mape(self) -> float:
        """Mean of the relative errors."""
        return float(np.mean([one.error for one in self.networks]))

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b of predicted and measured latencies; None below two networks or where all tie."""
        return order_agreement(
            [one.predicted_ms for one in self.networks], [one.latency_ms for one in self.networks]
        )

    @property
    def repeat_error(self) -> float | None:
        """How far two halves of the session disagree, mean over the networks; None where not known."""
        halves = self._halves()
        return float(np.mean([half_difference(*pair) for pair in halves])) if halves else None

    @property
    def repeat_tau(self) -> float | None:
        """Kendall's tau-b between the two halves; None where it is not known."""
        halves = self._halves()
        return order_agreement(*zip(*halves, strict=True)) if halves else None

    @property
    def is_good_to_rank(self) -> bool:
        """Whether the predictions put networks in the order that measuring does: tau of 0.9 on 8 or more."""
        return self.n >= LEAST_JUDGED and self.tau is not None and self.tau >= GOOD_TAU

    @property
    def text(self) -> str:
        """The errors in one line, to be shown with every prediction."""
        tau = "" if self.tau is None else f", Kendall tau {self.tau:.2f}"
        words = f"MAPE {100 * self.mape:.1f} %{tau} on {self.n} networks left out of the fit in turn"
        if self.repeat_error is None:
            return words
        return f"{words}; two halves of the session differ by {100 * self.repeat_error:.1f} %"

    @property
    def advice(self) -> str:
        """Whether the predictions are good enough to rank by, in words."""
        if self.n < LEAST_JUDGED or self.tau is None:
            return f"{self.n} networks are too few to say whether predictions are good enough to rank by"
        if self.is_good_to_rank:
            return "good enough to rank by; measure the finalists too"
        if self.repeat_tau is not None and self.repeat_tau < GOOD_TAU:
            return (
                f"not good enough to rank by, but neither is the session: its two halves agree with tau "
                f"{self.repeat_tau:.2f}; measure again on a quiet machine, with more rounds"
            )
        if self.tau >= ROUGH_TAU:
            return "good for a coarse order only: measure networks whose predictions are close"
        return "not good enough to rank by: measure networks instead"

    def _halves(self) -> list[tuple[float, float]]:
        """The halves of every network; none where one is not known."""
        halves = [one.halves_ms for one in self.networks if one.halves_ms is not None]
        return halves if len(halves) == self.n else []


def fit_correction(features: Array, measured_ms: Array) -> Correction:
    """Fits the coefficients; the plain sum below 4 networks.

    Args:
        features: What each network has of the quantities of `Correction.coefficients` (networks, 5).
        measured_ms: Latencies of the whole networks (networks,).
    """
    if len(measured_ms) < LEAST_NETWORKS:
        return Correction()
    per_network, per_ms, per_block, per_weight, per_map = fit_relative(features, measured_ms).tolist()
    return Correction(
        per_network_ms=per_network,
        per_ms=per_ms,
        per_block_ms=per_block,
        per_weight_ms=per_weight,
        per_map_ms=per_map,
        networks=len(measured_ms),
    )


def predict_left_out(features: Array, measured_ms: Array) -> Array:
    """Predicts each network (networks,) by a fit that did not see it."""
    predicted = np.zeros(len(measured_ms))
    for place in range(len(measured_ms)):
        kept = np.arange(len(measured_ms)) != place
        predicted[place] = features[place] @ fit_correction(features[kept], measured_ms[kept]).coefficients
    return predicted


def fit_relative(columns: Array, target: Array) -> Array:
    """Coefficients >= 0 (columns,) with the least sum of squared relative errors; targets are above 0."""
    from scipy.optimize import nnls

    scales = np.abs(columns).max(axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    found, _ = nnls(columns / scales / target[:, None], np.ones(len(target)))
    coefficients: Array = found / scales
    return coefficients
