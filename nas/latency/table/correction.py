"""The way from a sum over blocks to the latency of a whole network: a fit with few, non-negative terms.

A block measured alone finds its input and weights in the caches and pays for its own call; within a
network it does neither, so sums need correcting.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from nas.errors import LatencyError
from nas.statistics import kendall_tau

Array = npt.NDArray[np.float64]

FEATURES = ("networks", "sum_ms", "blocks", "weights", "maps")
"""What a network's latency is fitted on: columns of the arrays here.

1; the sum over its blocks in milliseconds; the number of its blocks; millions of parameters; millions of
values that its convolutions and linear layers put out.
"""

FORMS: tuple[tuple[str, ...], ...] = (
    ("sum_ms",),
    ("networks", "sum_ms"),
    ("sum_ms", "blocks"),
    ("sum_ms", "weights"),
    ("sum_ms", "maps"),
    ("networks", "sum_ms", "weights"),
    ("networks", "sum_ms", "maps"),
    ("sum_ms", "weights", "maps"),
)
"""Terms that are tried; the one whose predictions of networks left out are best is kept."""

LEAST_NETWORKS = 4
"""Networks below which nothing is fitted, and the plain sum is the prediction."""

GOOD_TAU, ROUGH_TAU = 0.9, 0.75
LEAST_JUDGED = 8
"""Networks below which no verdict is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Latency of a network from sums over its blocks; every coefficient is at least 0.

    `latency_ms = per_network_ms + per_ms * sum_ms + per_block_ms * blocks + per_weight_ms * weights
    + per_map_ms * maps`, with the quantities of `FEATURES`. Without a fit it is the plain sum.

    Attributes:
        per_network_ms: What every network pays.
        per_ms: Factor of the sum of block latencies.
        per_block_ms: What every block pays.
        per_weight_ms: What a million parameters pay, read from memory anew.
        per_map_ms: What a million values of feature maps pay, written and read through memory.
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
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise LatencyError(f"`{name} >= 0` must hold in a correction, but got {value!r}")

    @property
    def coefficients(self) -> Array:
        """The coefficients in the order of `FEATURES`."""
        return np.array(
            [self.per_network_ms, self.per_ms, self.per_block_ms, self.per_weight_ms, self.per_map_ms]
        )

    @property
    def text(self) -> str:
        """The formula in words, without the terms that are 0."""
        words = [f"{self.per_ms:.3g} x the sum of its blocks"] * bool(self.per_ms)
        words += [f"{self.per_network_ms:.3g} ms"] * bool(self.per_network_ms)
        words += [f"{self.per_block_ms:.3g} ms a block"] * bool(self.per_block_ms)
        words += [f"{self.per_weight_ms:.3g} ms a million parameters"] * bool(self.per_weight_ms)
        words += [f"{self.per_map_ms:.3g} ms a million values of feature maps"] * bool(self.per_map_ms)
        return " + ".join(words) if words else "0 ms"


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

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return abs(self.predicted_ms - self.latency_ms) / self.latency_ms

    @property
    def repeat_error(self) -> float | None:
        """How far the two halves of the session disagree about it, as a share of their mean."""
        if self.halves_ms is None:
            return None
        first, second = self.halves_ms
        return abs(first - second) / ((first + second) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How well predictions hold on networks that were measured whole and left out of the fit in turn.

    Attributes:
        networks: They, in the order drawn.
    """

    networks: tuple[CheckedNetwork, ...]

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
        return _tau([one.predicted_ms for one in self.networks], [one.latency_ms for one in self.networks])

    @property
    def repeat_error(self) -> float | None:
        """How far two halves of the session disagree, mean over the networks; None where not known."""
        errors = [one.repeat_error for one in self.networks if one.repeat_error is not None]
        return float(np.mean(errors)) if len(errors) == self.n else None

    @property
    def repeat_tau(self) -> float | None:
        """Kendall's tau-b between the two halves; None where it is not known."""
        halves = [one.halves_ms for one in self.networks if one.halves_ms is not None]
        return _tau(*zip(*halves, strict=True)) if len(halves) == self.n else None

    @property
    def ratio(self) -> float | None:
        """Error over repeat error: near 1, a prediction is as good as measuring again; None if unknown."""
        return self.mape / self.repeat_error if self.repeat_error else None

    @property
    def is_good_to_rank(self) -> bool:
        """Whether the predictions put networks in the order that measuring does: tau of 0.9 on 8 or more."""
        return self.n >= LEAST_JUDGED and self.tau is not None and self.tau >= GOOD_TAU

    @property
    def text(self) -> str:
        """The errors in one line, to stand beside every prediction."""
        tau = "" if self.tau is None else f", Kendall tau {self.tau:.2f}"
        words = f"MAPE {100 * self.mape:.1f} %{tau} on {self.n} networks left out of the fit in turn"
        if self.repeat_error is None:
            return words
        return f"{words}; two halves of the session differ by {100 * self.repeat_error:.1f} %"

    @property
    def verdict(self) -> str:
        """Whether the predictions are good enough to rank by, in words."""
        if self.n < LEAST_JUDGED or self.tau is None:
            return f"{self.n} networks are too few to say whether predictions are good enough to rank by"
        if self.is_good_to_rank:
            return "good enough to rank by; measure the finalists all the same"
        if self.repeat_tau is not None and self.repeat_tau < GOOD_TAU:
            return (
                f"not good enough to rank by, but neither is the session: its two halves agree with tau "
                f"{self.repeat_tau:.2f}; measure again on a quiet machine, with more rounds"
            )
        if self.tau >= ROUGH_TAU:
            return "good for a coarse order only: measure networks whose predictions are close"
        return "not good enough to rank by: measure networks instead"


def predict(coefficients: Array, features: Array) -> Array:
    """Latencies (networks,) in milliseconds for features (networks, 5)."""
    latencies: Array = features @ coefficients
    return latencies


def fit_correction(features: Array, measured_ms: Array) -> Correction:
    """Fits the form whose predictions of networks left out are best; the plain sum below 4 networks.

    Args:
        features: Columns of `FEATURES` (networks, 5).
        measured_ms: Latencies of the whole networks (networks,).
    """
    found = _fit(features, measured_ms)
    if found is None:
        return Correction()
    per_network, per_ms, per_block, per_weight, per_map = (float(value) for value in found)
    return Correction(
        per_network_ms=per_network,
        per_ms=per_ms,
        per_block_ms=per_block,
        per_weight_ms=per_weight,
        per_map_ms=per_map,
        networks=len(measured_ms),
    )


def predict_left_out(features: Array, measured_ms: Array) -> Array:
    """Predicts each network (networks,) by a fit that did not see it, neither for its form nor its terms."""
    predicted = np.zeros(len(measured_ms))
    for place in range(len(measured_ms)):
        kept = np.arange(len(measured_ms)) != place
        found = _fit(features[kept], measured_ms[kept])
        coefficients = Correction().coefficients if found is None else found
        predicted[place] = predict(coefficients, features[place])
    return predicted


def non_negative_least_squares(columns: Array, target: Array) -> Array:
    """Coefficients >= 0 (columns,) with the least sum of squares, for a few columns.

    The best fit is an ordinary one on some of the columns, so all choices of columns are tried.
    """
    best, least = np.zeros(columns.shape[1]), float(target @ target)
    for size in range(1, columns.shape[1] + 1):
        for chosen in itertools.combinations(range(columns.shape[1]), size):
            found, *_ = np.linalg.lstsq(columns[:, chosen], target, rcond=None)
            residual = columns[:, chosen] @ found - target
            if (found >= 0).all() and residual @ residual < least - 1e-12:
                least = float(residual @ residual)
                best = np.zeros(columns.shape[1])
                best[list(chosen)] = found
    return best


def _fit(features: Array, measured_ms: Array) -> Array | None:
    """Coefficients of the best form; None for too few networks."""
    if len(measured_ms) < LEAST_NETWORKS:
        return None
    forms = [form for form in FORMS if len(form) + 2 <= len(measured_ms)]
    errors = [_left_out_error(form, features, measured_ms) for form in forms]
    # A longer form must earn its terms: of errors that are equal but for rounding, the first form wins.
    least = min(errors) * (1 + 1e-9)
    form = next(form for form, error in zip(forms, errors, strict=True) if error <= least)
    return _fit_form(form, features, measured_ms)


def _left_out_error(form: tuple[str, ...], features: Array, measured_ms: Array) -> float:
    errors = []
    for place in range(len(measured_ms)):
        kept = np.arange(len(measured_ms)) != place
        coefficients = _fit_form(form, features[kept], measured_ms[kept])
        errors.append(abs(predict(coefficients, features[place]) / measured_ms[place] - 1))
    return float(np.mean(errors))


def _fit_form(form: tuple[str, ...], features: Array, measured_ms: Array) -> Array:
    """Coefficients of all features, 0 for those not in the form; least squares of relative errors."""
    places = [FEATURES.index(name) for name in form]
    coefficients = np.zeros(len(FEATURES))
    scaled = features[:, places] / measured_ms[:, None]
    coefficients[places] = non_negative_least_squares(scaled, np.ones(len(measured_ms)))
    return coefficients


def _tau(first: object, second: object) -> float | None:
    one, other = np.asarray(first, float), np.asarray(second, float)
    if len(one) < 2:
        return None
    tau = kendall_tau(one, other)
    return None if np.isnan(tau) else tau
