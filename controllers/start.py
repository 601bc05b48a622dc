"""The first candidates: spread over decisions and costs, among those of which the most can be expected."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from controllers.contract import Candidate, Floats, Tokens
from controllers.mutation import mutate
from controllers.problem import Problem
from controllers.results import Results
from controllers.robust import Scale

POOL, MUTANTS = 512, 100
"""Random candidates from which one is chosen, and mutants of the reference for each share of `AROUND`."""

AROUND = (0.15, 0.25, 0.4)
"""Shares of the decisions in which those mutants differ from the reference."""

LEAST_KEPT = 8
"""Candidates from which one is chosen at least, however much is expected of the best."""

ACCURACY, DEVIATION = 0.75, 0.035
"""Of random candidates, before any result. The deviations in the tables of `nas.benchmarks` are 0.027
(NAS-Bench-Macro), 0.033 (Accel-NASBench) and 0.040 (digits)."""

CORRELATION, OFF_BY = 0.7, 0.4
"""Of prior and accuracy, and how far that may be off: of `nas.accuracy_prior` it is 0.83 on Accel-NASBench,
0.51 on NAS-Bench-Macro and 0.72 on digits, each with what was learnt from the two others."""

WORTH = 4
"""Results that `DEVIATION` is worth."""

COST_SHARE = 0.3
"""Squared weight of the rank by costs, in units of the number of decisions."""

_SAMPLE, _SEED = 1000, 0


class Line(NamedTuple):
    """How accuracies follow from the standardised prior.

    Attributes:
        zero: The accuracy where the prior is 0.
        slope: How the accuracy grows with the prior.
        deviation: Of accuracies.
    """

    zero: float
    slope: float
    deviation: float


class Start:
    """Chooses candidates before there are results enough to learn from.

    The reference of the problem comes first, where it may be as good as the best. Every later candidate is
    the one farthest from all before it, in decisions and in the rank of its costs, among those that may be
    as good as the best: mutants of the reference where any of them may be, else random candidates.

    Rewards are expected by the prior of the problem, which a line turns into accuracies; it is fitted to the
    accuracies so far. A candidate may be as good as the best where its expected reward falls short of the
    best expected by no more than two deviations of the accuracy are worth. So a limit on a cost is kept, and
    a prior that says little leaves nearly all. Without a prior, costs or reward all may be as good.

    Args:
        problem: What is searched.

    Source: of the spread, Johnson et al., Journal of Statistical Planning and Inference 26, 1990.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._decisions = problem.decisions

    def draw(self, rng: np.random.Generator, results: Results, pending: Tokens) -> Tokens:
        """Draws candidates, the most wanted first.

        Args:
            rng: Source of randomness.
            results: Of all candidates so far, chosen here or elsewhere.
            pending: Candidates under way `(n, decisions)`.

        Returns:
            Canonical tokens `(m, decisions)`, none of them where nothing that was drawn is feasible.
        """
        known = np.concatenate([results.candidates, pending]) if len(results) else pending
        pool = self._feasible(self._decisions.sample(rng, POOL))
        first, mutants = pool[:0], pool[:0]
        if self._problem.reference is not None:
            first = self._feasible(_one(self._problem.reference))
            mutants = self._feasible(self._mutants(rng, self._problem.reference))
        if not len(pool) + len(mutants):
            return first
        tokens = np.concatenate([pool, mutants])
        is_mutant = np.arange(len(tokens)) >= len(pool)
        line = self._line(results)
        if line is not None:
            rewards = self._rewards(tokens, line)
            least = rewards.max() - self._gap(tokens[rewards.argmax()], line)
            first = first[self._rewards(first, line) >= least]
            count = max(LEAST_KEPT, int((rewards >= least).sum()))
            kept = np.argsort(-rewards, kind="stable")[:count]
            tokens, is_mutant = tokens[kept], is_mutant[kept]
        if is_mutant.any():
            tokens = tokens[is_mutant]
        return np.concatenate([first, tokens[np.argsort(-self._distances(tokens, known), kind="stable")]])

    def _feasible(self, tokens: Tokens) -> Tokens:
        return tokens[self._problem.are_feasible(tokens)]

    def _mutants(self, rng: np.random.Generator, reference: Candidate) -> Tokens:
        parents = np.repeat(_one(reference), MUTANTS, axis=0)
        changes = (max(1, round(share * len(self._decisions))) for share in AROUND)
        return np.concatenate([mutate(self._decisions, rng, parents, count) for count in changes])

    @cached_property
    def _scale(self) -> tuple[float, float]:
        """Mean and deviation of the prior over random candidates."""
        values = self._problem.guesses(
            self._feasible(self._decisions.sample(np.random.default_rng(_SEED), _SAMPLE))
        )
        return (float(values.mean()), max(float(values.std()), 1e-12)) if len(values) else (0.0, 1.0)

    def _scores(self, tokens: Tokens) -> Floats:
        mean, deviation = self._scale
        scores: Floats = (self._problem.guesses(tokens) - mean) / deviation
        return scores

    def _line(self, results: Results) -> Line | None:
        """How accuracies follow from the prior; None where that is unknown.

        The slope has a normal prior; the deviation of the accuracies is that of the results and of `WORTH`
        imagined ones.
        """
        problem = self._problem
        if problem.prior is None or problem.costs is None or problem.reward is None:
            return None
        if np.isnan(results.rewards).all():
            return Line(ACCURACY, CORRELATION * DEVIATION, DEVIATION)
        if not results.has_accuracies:
            return None
        completed = np.flatnonzero(~np.isnan(results.accuracies))
        values = results.accuracies[completed]
        is_sound = ~Scale.of(values).has_collapsed(values)
        values, scores = values[is_sound], self._scores(results.tokens[completed[is_sound]])
        squares = WORTH * DEVIATION**2 + ((values - values.mean()) ** 2).sum()
        deviation = float(np.sqrt(squares / (WORTH + len(values))))
        # Ridge regression towards the expected slope: how far the accuracies are off, over how far that is.
        weight = (1 - CORRELATION**2) / OFF_BY**2
        centred = scores - scores.mean()
        slope = (centred @ values + weight * CORRELATION * deviation) / (centred @ centred + weight)
        return Line(float(values.mean() - slope * scores.mean()), float(slope), deviation)

    def _rewards(self, tokens: Tokens, line: Line, above: float = 0.0) -> Floats:
        """Expected rewards `(n,)`, or those of accuracies above; the worst where one cannot be said."""
        problem = self._problem
        assert problem.reward is not None, "there is no line without it"
        assert problem.costs is not None, "nor without them"
        accuracies = line.zero + line.slope * self._scores(tokens) + above
        rewards = np.asarray(problem.reward(accuracies, problem.costs(tokens)), dtype=np.float64)
        return np.nan_to_num(rewards, nan=-np.inf)

    def _gap(self, candidate: Tokens, line: Line) -> float:
        """How much two deviations of the accuracy are worth in a candidate's reward."""
        rewards = [self._rewards(candidate[None], line, above)[0] for above in (0.0, 2 * line.deviation)]
        return abs(float(rewards[1] - rewards[0])) if np.isfinite(rewards).all() else 0.0

    def _distances(self, tokens: Tokens, known: Tokens) -> Floats:
        """How far each candidate is from the nearest known one; before the first, how near to the middle."""
        places = self._places(np.concatenate([tokens, known]))
        ours, theirs = places[: len(tokens)], places[len(tokens) :]
        if not len(theirs):
            return np.asarray(-((ours - ours.mean(axis=0)) ** 2).sum(axis=1))
        squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1) - 2 * ours @ theirs.T
        return np.asarray(squares.min(axis=1))

    def _places(self, tokens: Tokens) -> Floats:
        """Candidates as points, `(n, coordinates)`: for decisions as far apart as for `GaussianProcess`."""
        active = self._decisions.active(tokens)
        cardinalities = np.array(self._decisions.cardinalities)
        order = np.where(active & (cardinalities > 1), tokens / np.maximum(cardinalities - 1, 1) - 0.5, 0.0)
        options = (tokens[:, :, None] == np.arange(self._decisions.width)) & active[:, :, None]
        costs = np.zeros((len(tokens), 0))
        if self._problem.costs is not None:
            costs = np.asarray(self._problem.costs(tokens), dtype=np.float64).reshape(len(tokens), -1)
        ranks = costs.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable") / len(tokens)
        weight = np.sqrt(COST_SHARE * len(cardinalities) / max(1, costs.shape[1]))
        parts = [np.sqrt(0.5) * order, 0.5 * options.reshape(len(tokens), -1), weight * ranks]
        return np.concatenate(parts, axis=1)


def _one(candidate: Candidate) -> npt.NDArray[np.int64]:
    return np.array([candidate], dtype=np.int64)
