"""What a metric says of a short training: its noise, how it ranks, and whether that is worth its seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from nas.evaluation.additive import predicted_order
from nas.evaluation.proxy_variants import LONG, RECIPE, SHARED
from nas.statistics import deviation_interval
from search_spaces import SearchSpace

Floats = npt.NDArray[np.float64]
AgainstParams = Literal["better", "not distinguishable", "worse", "unknown"]

RESAMPLES = 2_000
"""Of the candidates, with replacement, for the intervals."""

BUDGET_TRIALS = 100
"""A search is imagined that may take as long as so many trials by the recipe."""

LEAST_USABLE = 5
"""With fewer candidates that were measured in both variants no correlation is stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantQuality:
    """How one variant of the training does.

    Attributes:
        name: `recipe`, `long`, or the shares of a smaller one.
        trainings: How many were tried.
        failed: How many of them gave no value.
        mean: Of the metric, over candidates.
        seconds: Mean wall time of a training with its evaluation, in the worker.
        noise: Standard deviation of one training's metric from seed to seed, pooled over candidates.
        spread: Standard deviation between candidates' metrics, noise taken off.
        tau: Kendall's tau-b of one training and the longer schedule's mean, mean over seeds; of the longer
            schedule itself that between its own seeds, which is the ceiling.
        gain: How many spreads of the long metric the best of so many random candidates is expected to lie
            above the mean, as many as can be measured in the time of 100 trials by the recipe, less the time
            that a supernet's own training took.
        above_params: Its tau minus that of the number of parameters.
    """

    name: str
    trainings: int
    failed: int
    mean: float | None = None
    seconds: float | None = None
    noise: Estimate | None = None
    spread: float | None = None
    tau: Estimate | None = None
    gain: float | None = None
    above_params: Estimate | None = None

    @property
    def against_params(self) -> AgainstParams:
        """Whether it ranks better than the number of parameters, by the interval of the difference."""
        if self.above_params is None:
            return "unknown"
        if self.above_params.low > 0:
            return "better"
        return "worse" if self.above_params.high < 0 else "not distinguishable"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerQuality:
    """How a cost that is known without training ranks candidates: the larger, the better."""

    name: str
    tau: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """What a supernet's time buys otherwise: trainings by the recipe, and a predictor fitted to them.

    Attributes:
        seconds: Time of the supernet's training, where that was.
        trainings: Trainings by the recipe that take as long, here.
        fitted: Trainings that the predictor was fitted to, each time without the two that it compares.
        tau: Its tau with the longer schedule's mean, mean over seeds.
    """

    seconds: float
    trainings: float
    fitted: int
    tau: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one variant.

    Attributes:
        values: Of the metric, `(candidates, seeds)`, more being better, NaN where a training failed.
        seconds: `(candidates, seeds)`, NaN where there was none.
    """

    values: Floats
    seconds: Floats

    @property
    def means(self) -> Floats:
        """Mean of the values of each candidate, NaN where all its trainings failed."""
        return _row_means(self.values)


@dataclass(frozen=True, slots=True)
class _Tau:
    """Mean tau over seeds: of the sample, and of every resample of its candidates, `(resamples,)`."""

    value: float
    resampled: Floats

    def minus(self, other: _Tau) -> _Tau:
        return _Tau(self.value - other.value, self.resampled - other.resampled)

    @property
    def estimate(self) -> Estimate | None:
        known = self.resampled[np.isfinite(self.resampled)]  # a resample may hold ties alone
        if not math.isfinite(self.value) or not known.size:
            return None
        low, high = np.percentile(known, [2.5, 97.5])
        return Estimate(value=self.value, low=float(low), high=float(high))


def judge(
    measured: Mapping[str, Measured],
    known: Mapping[str, Sequence[float]],
    *,
    supernet_seconds: float = 0.0,
    seed: int = 0,
) -> tuple[tuple[VariantQuality, ...], tuple[RankerQuality, ...]]:
    """Judges every variant by the longer schedule, and costs that are known without training beside them.

    Intervals resample the candidates (percentile bootstrap), the same for all so that differences have one
    too; that of the noise is the chi-square one.

    Args:
        measured: What was measured, by the name of the variant, `long` among them.
        known: Costs of every candidate by name, `params` among them.
        supernet_seconds: What the training of a supernet took, if there is one among them.
        seed: Of the resampling.
    """
    truth = measured[LONG].means
    weights = _resampled(np.random.default_rng(seed), len(truth))
    rankers = {
        name: _taus(np.asarray(costs, dtype=np.float64)[:, None], truth, weights)
        for name, costs in known.items()
    }
    taus = {
        name: _own_taus(each.values, weights) if name == LONG else _taus(each.values, truth, weights)
        for name, each in measured.items()
    }
    whole = _mean(measured[RECIPE].seconds) if RECIPE in measured else None
    variants = tuple(
        _variant(
            name,
            each,
            taus[name],
            params=rankers["params"],
            recipe_seconds=whole,
            seconds_before=supernet_seconds if name == SHARED else 0.0,
        )
        for name, each in measured.items()
    )
    return variants, tuple(RankerQuality(name=name, tau=tau.estimate) for name, tau in rankers.items())


def judge_rival(
    space: SearchSpace,
    tokens: Sequence[Sequence[int]],
    measured: Mapping[str, Measured],
    *,
    supernet_seconds: float,
    seed: int = 0,
) -> Rival | None:
    """Judges the predictor that a supernet's time would buy; None where the recipe's time is not known.

    It is fitted to the recipe's trainings of the sample, one of each candidate, at most as many as the time
    buys: where it buys more than the sample has, the predictor would do better than is found.

    Args:
        space: Where the candidates come from.
        tokens: The candidates.
        measured: As `judge` takes it.
        supernet_seconds: What the training of the supernet took.
        seed: Of the resampling.
    """
    one = _mean(measured[RECIPE].seconds)
    if not one:
        return None
    trainings = supernet_seconds / one
    most = min(int(trainings), len(tokens) - 2)
    truth, rows = measured[LONG].means, np.asarray(tokens, np.int64)
    weights = _resampled(np.random.default_rng(seed), len(truth))
    orders = [
        predicted_order(space.cardinalities, rows, column, most=most, seed=seed)
        for column in measured[RECIPE].values.T
    ]
    usable = np.isfinite(truth)
    every = [_weighted_tau_of(order, _order(truth), usable, weights) for order in orders]
    values = np.stack(every).mean(axis=0)
    tau = _Tau(float(values[0]), values[1:])
    return Rival(seconds=supernet_seconds, trainings=trainings, fitted=most, tau=tau.estimate)


def _variant(
    name: str,
    measured: Measured,
    tau: _Tau,
    *,
    params: _Tau,
    recipe_seconds: float | None,
    seconds_before: float,
) -> VariantQuality:
    noise, seconds = pooled_noise(measured.values), _mean(measured.seconds)
    gain = None
    if name != LONG and recipe_seconds and seconds and math.isfinite(tau.value):
        gain = _gain(tau.value, (BUDGET_TRIALS * recipe_seconds - seconds_before) / seconds)
    return VariantQuality(
        name=name,
        trainings=measured.values.size,
        failed=int(np.isnan(measured.values).sum()),
        mean=_mean(measured.means),
        seconds=seconds,
        noise=noise,
        spread=_spread(measured.values, noise),
        tau=tau.estimate,
        gain=gain,
        above_params=None if name == LONG else tau.minus(params).estimate,
    )


def tau_between(one: Sequence[float], other: Sequence[float], *, seed: int = 0) -> Estimate | None:
    """Kendall's tau-b of two lists with its interval, places resampled; None of too few places.

    Args:
        one: A list.
        other: Another of the same length.
        seed: Of the resampling.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    weights = _resampled(np.random.default_rng(seed), len(first))
    return _taus(first[:, None], second, weights).estimate


def pooled_noise(values: Floats) -> Estimate | None:
    """Standard deviation between the columns of each row, pooled; None where no row has two."""
    counts = (~np.isnan(values)).sum(axis=1)
    freedom = int(np.maximum(counts - 1, 0).sum())
    if not freedom:
        return None
    squares = float(np.nansum((values - _row_means(values)[:, None]) ** 2))
    value = math.sqrt(squares / freedom)
    low, high = deviation_interval(value, freedom)
    return Estimate(value=value, low=low, high=high)


def _spread(values: Floats, noise: Estimate | None) -> float | None:
    """Deviation of the candidates' true values: what is seen of their means, less what noise adds."""
    means = _row_means(values)
    counts = (~np.isnan(values)).sum(axis=1)
    if (counts > 0).sum() < 2:
        return None
    added = 0.0 if noise is None else noise.value**2 * float((1 / counts[counts > 0]).mean())
    return math.sqrt(max(float(np.nanvar(means, ddof=1)) - added, 0.0))


def _gain(tau: float, candidates: float) -> float:
    """Expected place of the best of so many random candidates, in spreads of the long metric.

    Source: Greiner, 1909, for the correlation of normal values from Kendall's tau.
    """
    return math.sin(math.pi / 2 * tau) * best_of_normals(candidates)


def best_of_normals(count: float) -> float:
    """Expected largest of so many standard normal values; the count may be a fraction.

    Source: Blom, Statistical Estimates and Transformed Beta-Variables, 1958.
    """
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


def _resampled(rng: np.random.Generator, count: int) -> Floats:
    """How often each candidate is in a resample, `(1 + resamples, candidates)`; the first is the sample."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.concatenate([np.ones((1, count)), drawn]).astype(np.float64)


def _taus(columns: Floats, truth: Floats, weights: Floats) -> _Tau:
    """Mean over the columns of tau-b with the truth."""
    return _mean_tau([(column, truth) for column in columns.T], weights)


def _own_taus(columns: Floats, weights: Floats) -> _Tau:
    """The same between all pairs of columns."""
    return _mean_tau(list(combinations(columns.T, 2)), weights)


def _mean_tau(pairs: Sequence[tuple[Floats, Floats]], weights: Floats) -> _Tau:
    if not pairs:
        return _Tau(math.nan, np.full(len(weights) - 1, math.nan))
    every = np.stack([_weighted_tau(one, other, weights) for one, other in pairs]).mean(axis=0)
    return _Tau(float(every[0]), every[1:])


def _weighted_tau(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Kendall's tau-b where candidate i counts as weights[:, i] equal ones, `(resamples,)`.

    All resamples at once: scipy's takes a list at a time, some seconds for a check.
    """
    return _weighted_tau_of(_order(one), _order(other), np.isfinite(one) & np.isfinite(other), weights)


def _order(values: Floats) -> Floats:
    """Which of each two values is the larger (candidates, candidates): 1, -1 or 0."""
    return np.asarray(np.sign(np.subtract.outer(values, values)), dtype=np.float64)


def _weighted_tau_of(one: Floats, other: Floats, usable: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """The same of two orders (candidates, candidates), by the candidates that can be used."""
    if usable.sum() < LEAST_USABLE:
        return np.full(len(weights), math.nan)
    first, second, chosen = one[np.ix_(usable, usable)], other[np.ix_(usable, usable)], weights[:, usable]
    agreed, untied_first, untied_second = (
        np.einsum("bi,ij,bj->b", chosen, matrix, chosen, optimize=True)
        for matrix in (first * second, np.abs(first), np.abs(second))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agreed / np.sqrt(untied_first * untied_second), dtype=np.float64)


def _row_means(values: Floats) -> Floats:
    counts = (~np.isnan(values)).sum(axis=1)
    sums = np.nansum(values, axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
