"""Which candidate to measure again before one is chosen, and when that is worth more than a new one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from controllers.contract import Candidate, Floats
from controllers.results import Results

COMPARED = 16
"""Candidates that are compared, the best by estimate."""

LEAST_CHANCE = 0.1
"""A candidate is in question while it is better than the first with at least this probability."""

REPEATS = 2.0
"""Measurements of each, in units of those that would halve its variance."""

MOST_SHARE = 0.1
"""Share of all trials that measure again at most."""

AHEAD = (1, 2, 4, 8)
"""Measurements of one candidate that are looked ahead: one may change no choice where several do."""

PRIOR_REPEATS = 2.0
"""An estimate of the noise that is made without repeats counts as much as so many of them."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_ERFC = np.frompyfunc(math.erfc, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """What is believed of the rewards of candidates: a normal distribution of all of them together.

    Attributes:
        candidates: The best by estimate first.
        means: Their expected rewards, `(n,)`.
        covariance: How these may be off, together, `(n, n)`.
        noise: Standard deviation of one measurement of each reward, `(n,)`.
    """

    candidates: tuple[Candidate, ...]
    means: Floats
    covariance: Floats
    noise: Floats


@runtime_checkable
class HasBeliefs(Protocol):
    """A controller that says how far its estimates may be off."""

    def beliefs(self, n: int = COMPARED) -> Beliefs:
        """Returns what is believed of the rewards of the `n` candidates that it would recommend."""
        ...


def next_final(
    beliefs: Beliefs, *, left: int, total: int, under_way: Sequence[Candidate] = ()
) -> Candidate | None:
    """The candidate to measure again; None while a new candidate is to be tried.

    The last trials measure again as soon as no more of them are left than that takes: for each candidate that
    may be the best `REPEATS` times its noise variance over its variance, and at most `MOST_SHARE` of all
    trials. So there are none where measurements have no noise, few where the best stands out, and more where
    several are alike. The candidate is the one whose measurement is worth most: see `gains`.

    Args:
        beliefs: Of the best candidates.
        left: Trials that are left, this one included.
        total: Trials in all.
        under_way: Candidates that are being measured again, each as often as it is.
    """
    beliefs = _measured(beliefs, under_way)
    if len(beliefs.candidates) < 2 or left > min(_needed(beliefs), most_finals(total)):
        return None
    best, gain = 0, -1.0
    for ahead in AHEAD:
        if ahead > left:
            break
        found = gains(beliefs, ahead) / ahead
        if found.max() > gain:
            best, gain = int(found.argmax()), float(found.max())
    return beliefs.candidates[best]


def most_finals(total: int) -> int:
    """Trials of so many in all that measure again at most; before the last of these no beliefs are needed."""
    return int(MOST_SHARE * total)


def gains(beliefs: Beliefs, times: int) -> Floats:
    """By how much the choice is expected to gain if a candidate is measured so many times more, `(n,)`.

    Source: the knowledge gradient with correlated beliefs, Frazier et al., INFORMS Journal on Computing 21,
    2009; of several measurements at once, Frazier and Powell, Decision Analysis 7, 2010.
    """
    variance = np.diag(beliefs.covariance) + beliefs.noise**2 / times
    moves = beliefs.covariance / np.sqrt(np.maximum(variance, 1e-300))  # of all means, if one is measured
    means = beliefs.means[:, None] + _NODES[:, None, None] * moves
    gained: Floats = _WEIGHTS @ means.max(axis=1) - beliefs.means.max()
    return gained


def _measured(beliefs: Beliefs, under_way: Sequence[Candidate]) -> Beliefs:
    """The beliefs once these are measured, if each result is the expected one."""
    covariance = beliefs.covariance
    for candidate in under_way:
        if candidate in beliefs.candidates:
            row = beliefs.candidates.index(candidate)
            variance = covariance[row, row] + beliefs.noise[row] ** 2
            covariance = covariance - np.outer(covariance[row], covariance[row]) / max(variance, 1e-300)
    return replace(beliefs, covariance=covariance)


def _needed(beliefs: Beliefs) -> int:
    """Measurements that it takes to tell apart what may be the best."""
    means, covariance = beliefs.means, beliefs.covariance
    first = int(means.argmax())
    variance = np.diag(covariance)
    apart = np.maximum(variance + variance[first] - 2 * covariance[first], 1e-300)
    chance = 0.5 * np.asarray(_ERFC((means[first] - means) / np.sqrt(2 * apart)), dtype=np.float64)
    in_question = chance >= LEAST_CHANCE
    in_question[first] = True
    if in_question.sum() < 2:
        return 0
    noise, known = beliefs.noise[in_question] ** 2, np.maximum(variance[in_question], 1e-300)
    return round(REPEATS * float(np.minimum(noise / known, 1e6).sum()))


def noise_of(results: Results, estimated: float) -> float:
    """Standard deviation of one measured reward, from candidates that were measured more than once.

    Args:
        results: Everything that is known.
        estimated: The deviation, estimated without repeats.

    Returns:
        Both together; 0 where at least two repeats gave exactly what was measured first.
    """
    rewards, numbers = results.rewards, results.numbers
    means = results.means(rewards)[numbers]
    completed = ~np.isnan(means)
    repeats = int(completed.sum()) - len(np.unique(numbers[completed]))
    squares = float(((rewards - means)[completed] ** 2).sum())
    scale = float(np.abs(rewards[completed]).max(initial=0.0))
    if repeats >= PRIOR_REPEATS and math.sqrt(squares) <= 1e-12 * scale:
        return 0.0
    return math.sqrt((PRIOR_REPEATS * estimated**2 + squares) / (PRIOR_REPEATS + repeats))


def observed_beliefs(results: Results, n: int) -> Beliefs:
    """Beliefs of the `n` best candidates by their own measurements alone, for one who has no model.

    The rewards of the better half of candidates are taken for draws of one normal distribution. Until some
    were measured again, half of their variance is taken for noise.
    """
    candidates = tuple(results.best(n)) if len(results) else ()
    if not candidates:
        return Beliefs(candidates=(), means=np.zeros(0), covariance=np.zeros((0, 0)), noise=np.zeros(0))
    means = results.means(results.rewards)
    better = np.sort(means[~np.isnan(means)])
    better = better[len(better) // 2 :]
    variance = float(better.var())
    noise = noise_of(results, math.sqrt(variance / 2))
    own = max(variance - noise**2, 0.1 * variance)
    found = [results.rewards_of(candidate) for candidate in candidates]
    share = np.array([own / (own + noise**2 / len(rewards)) if own else 1.0 for rewards in found])
    middle = float(better.mean())
    return Beliefs(
        candidates=candidates,
        means=middle + share * (np.array([rewards.mean() for rewards in found]) - middle),
        covariance=np.diag(own * (1 - share)),
        noise=np.full(len(candidates), noise),
    )
