"""Estimates of rewards from results: what candidates would earn, and by how much one may beat the best."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from controllers.contract import Costs, Floats, Reward, State, Tokens
from controllers.decisions import Decisions
from controllers.finals import Beliefs, noise_of
from controllers.followed import Flags, Followed
from controllers.gaussian_process import GaussianProcess
from controllers.kernel import Near, Prior
from controllers.results import Results
from controllers.robust import Ranks, Scale

FIRST_STEPS, LATER_STEPS = 30, 10
"""Adam steps of the hyperparameters at the first fit, and at each later one, which starts from the last."""

REFIT_SHARE, LONGEST_UNFITTED = 0.1, 50
"""The hyperparameters are fitted again after so many more results: a share, at least 3, and at most 50."""

MOST_RESULTS = 400
"""Results that are looked at, as time grows with their cube: those most like the best, and others."""

CLOSER_LOOKS = 50_000_000
"""Candidates times the square of results for which deviations are worked out in a call."""

MOST_FITTED = 250
"""Of them, how many the hyperparameters are fitted to."""

LIKE_THE_BEST = 0.8
"""Share of them that are taken for being like the best; the others are spread over all results."""

Rows: TypeAlias = npt.NDArray[np.int64]

CHANCE_PRIOR = Prior(trend=-2.0, amplitude=-1.0, noise=-0.7, additive=-2.0, deviation=1.0)
"""Of what decides whether a candidate completes: chance more than a rule, until results say otherwise."""

LEAST_CHANCE = 0.02
"""The probability of completing that any candidate is given at least."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_ERFC = np.frompyfunc(math.erfc, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well each result is predicted from all others.

    Attributes:
        error: Root mean square difference of predicted and observed rewards.
        ratio: Root mean square of that difference over the deviation that was predicted; 1 where the
            predictor knows how far it may be off, more where it is too sure of itself.
        rank_correlation: Spearman's, of predicted and observed rewards; 0 where either does not vary.
        density: Mean logarithm of the probability density of the observed rewards; with rewards alone, of
            the better half of them.
    """

    error: float
    ratio: float
    rank_correlation: float
    density: float


class Predictor:
    """A Gaussian process of the accuracy or of the reward, whichever predicts the rewards of results better.

    Where costs are known and the reward follows from accuracy and costs, only the accuracy has to be learnt.
    But where accuracy is traded for cost at one rate everywhere, as by a soft objective, the reward is the
    flatter function of the two and needs fewer results. Each fit chooses the one that predicts each result's
    reward from all others better.

    A candidate that failed, or whose accuracy collapsed, says nothing about the others' rewards. Another
    Gaussian process learns which candidates complete, and an expected improvement counts with that
    probability. Values in the lower half count by their logarithm: see `Scale`. Where there is nothing but
    rewards, these may have a cliff, as above a limit on a cost: a low one is no failure then, and a process
    of their ranks is fitted beside that of the rewards; the one that predicts the better half better is used.

    Args:
        decisions: What the tokens mean.
        costs: Exact costs of candidates, or None.
        reward: Reward from accuracies and costs, or None; needs `costs`.
        noise: Standard deviation of one measurement of the accuracy, known from measuring beforehand; None
            estimates it from the results.

    Source: of the probability times the improvement, Gardner et al., ICML 2014; of a regression on 0 and 1
    in place of a classification, Rasmussen and Williams, 2006, section 6.5.
    """

    def __init__(
        self, decisions: Decisions, costs: Costs | None, reward: Reward | None, *, noise: float | None = None
    ) -> None:
        self._decisions = decisions
        self._known_noise = noise
        self._costs, self._reward = costs, reward
        targets = ["reward", "ranks" if costs is None or reward is None else "accuracy"]
        self._followed = {target: Followed(GaussianProcess(decisions)) for target in targets}
        self._completing = Followed(GaussianProcess(decisions, CHANCE_PRIOR))
        self._has_failures = False
        self._worst = 0.0
        self._scale: Scale | Ranks = Scale(middle=0.0, spread=0.0)
        self._target = "reward"
        self._next_fit = 0
        self._told = 0  # results that it is conditioned on
        self._calibration: Calibration | None = None

    @property
    def target(self) -> str:
        """What is learnt at present: "reward", "accuracy", or "ranks" of rewards."""
        return self._target

    @property
    def calibration(self) -> Calibration | None:
        """As of the last fit; None before the first."""
        return self._calibration

    @property
    def noise(self) -> float:
        """Standard deviation of one measurement of what is learnt, known or estimated from the results."""
        return self._process.noise

    def fit(self, results: Results) -> None:
        """Fits again where enough results have come since the last fit; needs a completed one."""
        if len(results) < self._next_fit:
            return
        steps = LATER_STEPS if self._next_fit else FIRST_STEPS
        self._next_fit = len(results) + min(max(3, int(REFIT_SHARE * len(results))), LONGEST_UNFITTED)
        self._told = 0
        sound = _are_sound(results)
        found: dict[str, tuple[Calibration, Scale | Ranks]] = {}
        for target, followed in self._followed.items():
            if target == "accuracy" and not results.has_accuracies:
                continue
            values, noise = self._values(results, target, sound), self._noise_of(target, results)
            self._fit(followed, results, np.flatnonzero(sound), values, steps, noise)
            rows = followed.rows
            found[target] = self._calibrate(target, results.tokens[rows], results.rewards[rows]), self._scale
        self._target = max(found, key=lambda target: found[target][0].density)
        self._calibration, self._scale = found[self._target]
        if not sound.all():
            every = np.arange(len(results))
            self._fit(self._completing, results, every, sound.astype(np.float64), steps, None)

    def condition(self, results: Results) -> None:
        """Takes in results, and counts candidates under way no longer."""
        self._process.forget_imagined()
        if self._told != len(results):
            self._told = len(results)
            self._follow(results)

    def imagine(self, pending: Tokens, rng: np.random.Generator) -> None:
        """Counts candidates under way `(n, decisions)` with results that it draws from what it expects."""
        self._process.imagine(pending, rng)

    def widened(self, results: Results, most: int) -> Predictor:
        """The same predictor conditioned on up to so many results, while this one stays as it is."""
        self.condition(results)
        if len(results) <= MOST_RESULTS:
            return self
        sound = _are_sound(results)
        wide = copy.copy(self)
        values = wide._values(results, self._target, sound)
        process = GaussianProcess(self._decisions)
        process.load_state_dict(self._process.state_dict())
        followed = Followed(process)
        rows = self._looked_at(results, np.flatnonzero(sound), process, most)
        followed.begin(results.tokens, rows, values, self._noise_of(self._target, results))
        wide._followed = {self._target: followed}
        return wide

    def estimate(self, tokens: Tokens) -> Floats:
        """Returns the expected reward of each candidate, `(n,)`."""
        mean = self._process.mean(tokens)
        return self._rewards(self._target, mean, self._costs_of(tokens))

    def expected(self, tokens: Tokens) -> Floats:
        """Returns expected rewards of candidates, `(n,)`, where a failure counts as the worst reward."""
        chance = self.chance(tokens)
        return chance * self.estimate(tokens) + (1 - chance) * self._worst

    def ranked(self, results: Results) -> tuple[Rows, float]:
        """Numbers of the candidates that completed, best first, and the expected reward of the first.

        Those that it was conditioned on come first, by expected rewards; then the others, by observed ones.
        """
        means = results.means(results.rewards)
        rows = self._followed[self._target].rows
        numbers = results.numbers[rows]
        values = self._process.at_measured()[: len(numbers)]
        expected = self._rewards(self._target, values, self._costs_of(results.tokens[rows]))
        has_completed = ~np.isnan(means[numbers])  # each time, as it must to be recommended
        numbers, expected = numbers[has_completed], expected[has_completed]
        order = np.argsort(-expected, kind="stable")
        others = np.flatnonzero(~np.isnan(means))
        others = others[np.argsort(-means[others], kind="stable")]
        ranked = np.concatenate([numbers[order], others])
        _, first = np.unique(ranked, return_index=True)
        return ranked[np.sort(first)], float(expected[order[0]]) if len(order) else math.nan

    def left_out(self, results: Results) -> tuple[Rows, Floats]:
        """Results that it was conditioned on, by their places, and what it expects of each from the others.

        Returns:
            Places among the results `(n,)`, and rewards `(n,)`.
        """
        rows = self._followed[self._target].rows
        mean, _ = self._process.left_out()
        return rows, self._rewards(self._target, mean, self._costs_of(results.tokens[rows]))

    def beliefs(self, results: Results, tokens: Tokens) -> Beliefs:
        """What is believed of the rewards of some candidates `(n, decisions)`, best first."""
        process = self._process
        costs, values = self._costs_of(tokens), process.mean(tokens)
        step = max(process.measurement_noise, 1e-9)
        above, below = (self._rewards(self._target, values + sign * step, costs) for sign in (1.0, -1.0))
        slope = (above - below) / (2 * step)
        noise = process.measurement_noise
        if self._known_noise is None:
            own = np.abs(slope).mean()
            noise = noise_of(results, noise * own) / own if own else noise
        return Beliefs(
            candidates=tuple(map(tuple, tokens.tolist())),
            means=self._rewards(self._target, values, costs),
            covariance=process.covariance(tokens) * np.outer(slope, slope),
            noise=np.abs(slope) * noise,
        )

    def chance(self, tokens: Tokens, *, near: Near | None = None) -> Floats:
        """Returns the probability that each candidate completes, `(n,)`; 1 where none has failed yet."""
        if not self._has_failures:
            return np.ones(len(tokens))
        return np.clip(self._completing.process.mean(tokens, near=near), LEAST_CHANCE, 1.0)

    def improvement(self, tokens: Tokens, best: float, *, near: Near | None = None) -> Floats:
        """Returns by how much each candidate is expected to exceed a reward, `(n,)`; nowhere negative.

        Where there are many results, only those with the best expected values are looked at closer, and the
        others count as no improvement: the time of a deviation grows with the square of the results.

        Args:
            tokens: Canonical candidates `(n, decisions)`.
            best: The reward.
            near: Candidates from which these differ in few decisions.

        Source: Mockus, 1975; the expectation over the accuracy by Gauss-Hermite quadrature.
        """
        process = self._process
        result: Floats = np.zeros(len(tokens))
        most = max(1, CLOSER_LOOKS // max(1, process.size) ** 2)
        mean, deviation = process.predict(tokens, near=near, closer=most)
        closer = np.flatnonzero(deviation > 0)
        mean, deviation = mean[closer], deviation[closer]
        if self._target != "accuracy":
            result[closer] = _expected_excess(mean, deviation, float(self._scale.squash(np.array([best]))[0]))
        else:
            values = mean + _NODES[:, None] * deviation
            costs = np.concatenate([self._costs_of(tokens[closer])] * len(_NODES))
            rewards = self._rewards(self._target, values.ravel(), costs)
            result[closer] = _WEIGHTS @ np.maximum(rewards.reshape(values.shape) - best, 0.0)
        if self._has_failures:
            result[closer] *= self.chance(tokens[closer], near=None if near is None else near.of(closer))
        return result

    def state_dict(self) -> State:
        """Returns hyperparameters and the plan of fits; results are given again."""
        calibration = self._calibration
        return {
            "processes": {target: followed.state_dict() for target, followed in self._followed.items()},
            "completing": self._completing.state_dict(),
            "target": self._target,
            "next_fit": self._next_fit,
            "calibration": None
            if calibration is None
            else [calibration.error, calibration.ratio, calibration.rank_correlation, calibration.density],
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state; an empty one says to fit anew."""
        self._next_fit = self._told = 0
        self._calibration = None
        if not state:
            return
        for target, followed in self._followed.items():
            followed.load_state_dict(state["processes"][target])
        self._completing.load_state_dict(state["completing"])
        self._target = state["target"]
        self._next_fit = int(state["next_fit"])
        names = ("error", "ratio", "rank_correlation", "density")
        saved = state["calibration"]
        self._calibration = None if saved is None else Calibration(**dict(zip(names, saved, strict=True)))

    @property
    def _process(self) -> GaussianProcess:
        return self._followed[self._target].process

    def _costs_of(self, tokens: Tokens) -> Floats:
        """Costs of candidates as the problem gives them; nothing where it knows none."""
        return np.zeros((len(tokens), 0)) if self._costs is None else np.asarray(self._costs(tokens))

    def _rewards(self, target: str, values: Floats, costs: Floats) -> Floats:
        """The rewards that go with values of a target, as the process has them, and with costs."""
        values = self._scale.expand(values)
        if target != "accuracy" or self._reward is None:
            return values
        return np.asarray(self._reward(values, costs), dtype=np.float64)

    def _noise_of(self, target: str, results: Results) -> float | None:
        """The known deviation of one measurement of a target; None where it is unknown.

        The reward's is the accuracy's times how steeply the reward follows the accuracy, the median over the
        results: one for all, though a cost term makes the rewards of expensive candidates less noisy.
        """
        noise = self._known_noise
        if noise is None or target == "accuracy":
            return noise
        rewards, accuracies = results.rewards, results.accuracies
        told = ~np.isnan(rewards) & ~np.isnan(accuracies)
        if not told.any():
            return None
        if self._reward is None or self._costs is None:
            return noise if np.array_equal(rewards[told], accuracies[told]) else None
        costs, step = self._costs(results.tokens[told]), max(noise, 1e-6)
        above, below = (
            np.asarray(self._reward(accuracies[told] + sign * step, costs), dtype=np.float64)
            for sign in (1.0, -1.0)
        )
        return noise * float(np.median(np.abs(above - below))) / (2 * step)

    def _fit(
        self,
        followed: Followed,
        results: Results,
        rows: Rows,
        values: Floats,
        steps: int,
        noise: float | None,
    ) -> None:
        """Fits a process to some of the results, and conditions it on more of them."""
        tokens, process = results.tokens, followed.process
        some = self._looked_at(results, rows, process, MOST_FITTED)
        process.fit(tokens[some], values[some], steps=steps, noise=noise)
        followed.begin(tokens, self._looked_at(results, rows, process, MOST_RESULTS), values, noise)

    def _follow(self, results: Results) -> None:
        sound, tokens = _are_sound(results), results.tokens
        values = self._values(results, self._target, sound)
        noise = self._noise_of(self._target, results)
        self._followed[self._target].follow(tokens, sound, values, noise)
        self._worst = results.worst
        self._has_failures = not sound.all()
        if self._has_failures:
            self._completing.follow(tokens, np.ones_like(sound), sound.astype(np.float64), None)

    def _values(self, results: Results, target: str, sound: Flags) -> Floats:
        """What is learnt of each result, `(n,)`, and sets its scale; of no use of one that is not sound."""
        values = results.accuracies if target == "accuracy" else results.rewards
        self._scale = (Ranks if target == "ranks" else Scale).of(values[sound])
        return self._scale.squash(values)

    def _looked_at(self, results: Results, rows: Rows, process: GaussianProcess, most: int) -> Rows:
        """So many of the rows: those most like the best, and others spread over all.

        They are chosen by their candidates and not by their rewards, which would favour lucky results.
        """
        if len(rows) <= most:
            return rows
        best = np.array(results.best(1), dtype=np.int64)
        return most_like(rows, process.similarity(results.tokens[rows], best)[:, 0], most)

    def _calibrate(self, target: str, tokens: Tokens, rewards: Floats) -> Calibration:
        mean, deviation = self._followed[target].process.left_out()
        costs = self._costs_of(tokens)
        expected = self._rewards(target, mean, costs)
        above = self._rewards(target, mean + deviation, costs)
        below = self._rewards(target, mean - deviation, costs)
        spread = np.maximum(np.abs(above - below) / 2, 1e-12)
        errors = expected - rewards
        densities = -0.5 * (errors / spread) ** 2 - np.log(spread)
        if "ranks" in self._followed:  # what lies beyond a cliff need not be predicted well
            densities = densities[rewards >= np.median(rewards)]
        return Calibration(
            error=float(np.sqrt((errors**2).mean())),
            ratio=float(np.sqrt(((errors / spread) ** 2).mean())),
            rank_correlation=_rank_correlation(expected, rewards),
            density=float(densities.mean()),
        )


def most_like(rows: Rows, likeness: Floats, most: int) -> Rows:
    """So many of more rows: those of the greatest likeness `(rows,)`, and others spread over all."""
    order = np.argsort(-likeness, kind="stable")
    near = int(LIKE_THE_BEST * most)
    others = np.sort(order[near:])
    spread = others[np.linspace(0, len(others) - 1, most - near).astype(np.int64)]
    chosen: Rows = rows[np.sort(np.concatenate([order[:near], spread]))]
    return chosen


def _are_sound(results: Results) -> Flags:
    """Which results completed with an accuracy that did not collapse, `(n,)`."""
    if not results.has_accuracies:
        return np.asarray(~np.isnan(results.rewards), dtype=np.bool_)
    sound = ~np.isnan(results.accuracies)
    sound[sound] = ~Scale.of(results.accuracies[sound]).has_collapsed(results.accuracies[sound])
    return sound


def _expected_excess(mean: Floats, deviation: Floats, best: float) -> Floats:
    """How much of a normal distribution lies above a value, on average, `(n,)`."""
    z = (mean - best) / deviation
    above = 0.5 * np.asarray(_ERFC(-z / math.sqrt(2.0)), dtype=np.float64)
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    excess: Floats = np.maximum(deviation * (z * above + density), 0.0)
    return excess


def _rank_correlation(one: Floats, other: Floats) -> float:
    ranks = [values.argsort(kind="stable").argsort(kind="stable") for values in (one, other)]
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.asarray(np.corrcoef(ranks))[0, 1])
