"""What accuracies say of a proxy: its noise, how it ranks, and whether that is worth its seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from nas.evaluation.proxy_variants import LONG, RECIPE
from nas.statistics import deviation_interval, spearman

Floats = npt.NDArray[np.float64]
TrialOutcome = Literal["better", "not distinguishable", "worse", "unknown"]

RESAMPLES = 2_000
"""Of the candidates, with replacement, for the intervals."""

BUDGET_TRIALS = 100
"""A search is imagined that may take as long as so many trials by the recipe."""

LEAST_USABLE = 5
"""Candidates measured both ways below which no correlation is stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WayQuality:
    """How one way to train does.

    Attributes:
        name: `recipe`, `long`, or the proxy's shares.
        trainings: How many were tried.
        failed: How many of them gave no accuracy.
        accuracy: Mean over candidates.
        seconds: Mean wall time of a training with its evaluation, in the worker.
        noise: Standard deviation of one training's accuracy from seed to seed, pooled over candidates.
        degrees: Degrees of freedom of the noise.
        spread: Standard deviation between candidates' accuracies, noise taken off.
        binomial: Standard deviation of an accuracy by the number of search images alone.
        tau: Kendall's tau-b of one training and the longer schedule's mean, mean over seeds; of the longer
            schedule itself that between its own seeds, which is the ceiling.
        tau_of_means: Kendall's tau-b where the proxy's seeds are averaged too.
        spearman: Spearman's, as `tau`.
        bits_per_100_seconds: Information about the long accuracy in 100 s of training, for normal
            accuracies: `-log2(1 - r^2) / 2` for each training, with r = sin(pi tau / 2).
        gain: How many spreads of the long accuracy the best of so many random candidates is expected to lie
            above the mean, as many as can be trained in the time of 100 trials by the recipe.
        best_share: Share of the resamples of candidates in which its gain is the largest of all proxies.
        above_params: Its tau minus that of the number of parameters.
        against_params: Whether that difference can be told from 0.
    """

    name: str
    trainings: int
    failed: int
    accuracy: float | None = None
    seconds: float | None = None
    noise: Estimate | None = None
    degrees: int = 0
    spread: float | None = None
    binomial: float | None = None
    tau: Estimate | None = None
    tau_of_means: float | None = None
    spearman: Estimate | None = None
    bits_per_100_seconds: float | None = None
    gain: float | None = None
    best_share: float | None = None
    above_params: Estimate | None = None
    against_params: TrialOutcome = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerQuality:
    """How a number known without training ranks by itself: the larger, the better."""

    name: str
    tau: Estimate | None
    spearman: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured in one way.

    Attributes:
        accuracies: `(candidates, seeds)`, NaN where a training failed.
        seconds: `(candidates, seeds)`, NaN where there was none.
    """

    accuracies: Floats
    seconds: Floats


def judge(
    measured: Mapping[str, Measured],
    known: Mapping[str, Sequence[float]],
    *,
    search_images: int,
    seed: int = 0,
) -> tuple[tuple[WayQuality, ...], tuple[RankerQuality, ...]]:
    """Judges every way by the longer schedule, and costs that are known without training beside them.

    Intervals resample the candidates (percentile bootstrap); that of the noise is the chi-square one.

    Args:
        measured: What was measured, by the name of the way, `long` among them.
        known: Costs of every candidate by name, `params` among them.
        search_images: Images that an accuracy was measured on.
        seed: Of the resampling.

    Source: Greiner, 1909, for the correlation of normal values from Kendall's tau.
    """
    truth = _row_means(measured[LONG].accuracies)
    rng = np.random.default_rng(seed)
    weights = _resampled(rng, len(truth))
    rankers = tuple(
        RankerQuality(
            name=name,
            tau=_estimate(*_taus(_column(costs), truth, weights)),
            spearman=_spearman(_column(costs), truth, weights),
        )
        for name, costs in known.items()
    )
    params = _taus(_column(known["params"]), truth, weights)
    taus = {
        name: _own_taus(way.accuracies, weights) if name == LONG else _taus(way.accuracies, truth, weights)
        for name, way in measured.items()
    }
    gains = _gains(taus, measured)
    shares = _best_shares(gains)
    return tuple(
        _way(
            name,
            way,
            truth,
            weights,
            tau=taus[name],
            params=params,
            gain=float(gains[name][0]) if name in gains else None,
            best_share=shares.get(name),
            search_images=search_images,
        )
        for name, way in measured.items()
    ), rankers


def _way(
    name: str,
    way: Measured,
    truth: Floats,
    weights: Floats,
    *,
    tau: tuple[float, Floats],
    params: tuple[float, Floats],
    gain: float | None,
    best_share: float | None,
    search_images: int,
) -> WayQuality:
    means = _row_means(way.accuracies)
    noise, degrees = pooled_noise(way.accuracies)
    estimate, seconds = _estimate(*tau), _mean(way.seconds)
    above = None if name == LONG else _estimate(tau[0] - params[0], tau[1] - params[1])
    accuracy = _mean(means)
    is_whole = name != LONG and estimate is not None
    return WayQuality(
        name=name,
        trainings=way.accuracies.size,
        failed=int(np.isnan(way.accuracies).sum()),
        accuracy=accuracy,
        seconds=seconds,
        noise=noise,
        degrees=degrees,
        spread=_spread(way.accuracies, noise),
        binomial=None if accuracy is None else math.sqrt(max(0.0, accuracy * (1 - accuracy)) / search_images),
        tau=estimate,
        tau_of_means=_finite(_taus(means[:, None], truth, weights[:1])[0]) if is_whole else None,
        spearman=None if name == LONG else _spearman(way.accuracies, truth, weights),
        bits_per_100_seconds=100 * _bits(tau[0]) / seconds if is_whole and seconds else None,
        gain=gain,
        best_share=best_share,
        above_params=above,
        against_params=_outcome(above),
    )


def pooled_noise(accuracies: Floats) -> tuple[Estimate | None, int]:
    """Standard deviation between the columns of each row, pooled, with its degrees of freedom."""
    counts = (~np.isnan(accuracies)).sum(axis=1)
    degrees = int(np.maximum(counts - 1, 0).sum())
    if not degrees:
        return None, 0
    squares = float(np.nansum((accuracies - _row_means(accuracies)[:, None]) ** 2))
    value = math.sqrt(squares / degrees)
    low, high = deviation_interval(value, degrees)
    return Estimate(value=value, low=low, high=high), degrees


def _spread(accuracies: Floats, noise: Estimate | None) -> float | None:
    """Deviation of the candidates' true accuracies: what is seen of their means, less what noise adds."""
    means = _row_means(accuracies)
    counts = (~np.isnan(accuracies)).sum(axis=1)
    if (counts > 0).sum() < 2:
        return None
    added = 0.0 if noise is None else noise.value**2 * float((1 / counts[counts > 0]).mean())
    return math.sqrt(max(float(np.nanvar(means, ddof=1)) - added, 0.0))


def _resampled(rng: np.random.Generator, count: int) -> Floats:
    """How often each candidate is in a resample, `(1 + resamples, candidates)`; the first is the sample."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.concatenate([np.ones((1, count)), drawn]).astype(np.float64)


def _taus(columns: Floats, truth: Floats, weights: Floats) -> tuple[float, Floats]:
    """Mean over the columns of tau-b with the truth: in the sample, and in every resample."""
    every = np.stack([_weighted_tau(column, truth, weights) for column in columns.T])
    return float(every[:, 0].mean()), np.asarray(every[:, 1:].mean(axis=0))


def _own_taus(columns: Floats, weights: Floats) -> tuple[float, Floats]:
    """The same between all pairs of columns."""
    pairs = list(combinations(columns.T, 2))
    if not pairs:
        return math.nan, np.full(len(weights) - 1, math.nan)
    every = np.stack([_weighted_tau(one, other, weights) for one, other in pairs])
    return float(every[:, 0].mean()), np.asarray(every[:, 1:].mean(axis=0))


def _weighted_tau(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Kendall's tau-b where candidate i counts as weights[:, i] equal ones, `(resamples,)`."""
    usable = np.isfinite(one) & np.isfinite(other)
    if usable.sum() < LEAST_USABLE:
        return np.full(len(weights), math.nan)
    first, second = (np.sign(np.subtract.outer(v[usable], v[usable])) for v in (one, other))
    chosen = weights[:, usable]
    agreed, untied_first, untied_second = (
        np.einsum("bi,ij,bj->b", chosen, matrix, chosen, optimize=True)
        for matrix in (first * second, np.abs(first), np.abs(second))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agreed / np.sqrt(untied_first * untied_second), dtype=np.float64)


def _spearman(columns: Floats, truth: Floats, weights: Floats) -> Estimate | None:
    """Mean over the columns of Spearman's correlation with the truth."""
    every = np.full((len(weights), columns.shape[1]), math.nan)
    for place, column in enumerate(columns.T):
        usable = np.isfinite(column) & np.isfinite(truth)
        if usable.sum() < LEAST_USABLE:
            continue
        for row, weight in enumerate(weights[:, usable].astype(int)):
            if (weight > 0).sum() > 1:
                chosen = np.repeat(np.flatnonzero(usable), weight)
                every[row, place] = spearman(column[chosen], truth[chosen])
    means = every.mean(axis=1)
    return _estimate(float(means[0]), means[1:])


def _gains(taus: Mapping[str, tuple[float, Floats]], measured: Mapping[str, Measured]) -> dict[str, Floats]:
    """Gains of the proxies, in the sample and in every resample, `(1 + resamples,)`."""
    whole = _mean(measured[RECIPE].seconds) if RECIPE in measured else None
    found: dict[str, Floats] = {}
    for name, (value, resampled) in taus.items():
        seconds = _mean(measured[name].seconds)
        if name == LONG or not whole or not seconds or not math.isfinite(value):
            continue
        every = np.concatenate([[value], resampled])
        agreement = np.sin(np.pi / 2 * np.nan_to_num(every))
        found[name] = agreement * best_of_normals(BUDGET_TRIALS * whole / seconds)
    return found


def best_of_normals(count: float) -> float:
    """Expected largest of so many standard normal values; the count may be a fraction.

    Source: Blom, Statistical Estimates and Transformed Beta-Variables, 1958.
    """
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


def _best_shares(gains: Mapping[str, Floats]) -> dict[str, float]:
    if not gains:
        return {}
    best = np.argmax(np.stack([gain[1:] for gain in gains.values()]), axis=0)
    return {name: float((best == place).mean()) for place, name in enumerate(gains)}


def _bits(tau: float) -> float:
    """Information that one value gives about another of which it is a normal, correlated measurement."""
    agreement = math.sin(math.pi / 2 * min(max(tau, 0.0), 0.99))
    return abs(0.5 * math.log2(1 - agreement**2))


def _outcome(above: Estimate | None) -> TrialOutcome:
    if above is None:
        return "unknown"
    return "better" if above.low > 0 else "worse" if above.high < 0 else "not distinguishable"


def _estimate(value: float, resampled: Floats) -> Estimate | None:
    known = resampled[np.isfinite(resampled)]
    if not math.isfinite(value) or not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return Estimate(value=value, low=float(low), high=float(high))


def _row_means(values: Floats) -> Floats:
    counts = (~np.isnan(values)).sum(axis=1)
    sums = np.nansum(values, axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)


def _column(values: Sequence[float]) -> Floats:
    return np.asarray(values, dtype=np.float64)[:, None]


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
