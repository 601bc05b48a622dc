"""Estimates of rewards from results: what candidates would earn, and by how much one may beat the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controllers.contract import Costs, Floats, Reward, State, Tokens
from controllers.decisions import Decisions
from controllers.gaussian_process import GaussianProcess
from controllers.results import Results

FIRST_STEPS, LATER_STEPS = 30, 10
"""Adam steps of the hyperparameters at the first fit, and at each later one, which starts from the last."""

REFIT_SHARE = 0.1
"""The hyperparameters are fitted again when there are so many more results, and at least 3."""

MOST_RESULTS = 400
"""Results that are looked at, as time grows with their cube: those most like the best, and others."""

CLOSER_LOOKS = 50_000_000
"""Candidates times the square of results for which deviations are worked out in a call."""

LIKE_THE_BEST = 0.8
"""Share of them that are taken for being like the best; the others are spread over all results."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well each result is predicted from all others.

    Attributes:
        error: Root mean square difference of predicted and observed rewards.
        ratio: Root mean square of that difference over the deviation that was predicted; 1 where the
            predictor knows how far it may be off, more where it is too sure of itself.
        rank_correlation: Spearman's, of predicted and observed rewards; 0 where either does not vary.
        density: Mean logarithm of the probability density of the observed rewards.
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

    Args:
        decisions: What the tokens mean.
        costs: Exact costs of candidates, or None.
        reward: Reward from accuracies and costs, or None; needs `costs`.
        noise: Standard deviation of one measurement of the accuracy, known from measuring beforehand; None
            estimates it from the results.
    """

    def __init__(
        self, decisions: Decisions, costs: Costs | None, reward: Reward | None, *, noise: float | None = None
    ) -> None:
        self._decisions = decisions
        self._known_noise = noise
        self._costs, self._reward = costs, reward
        self._processes = {"reward": GaussianProcess(decisions)}
        if costs is not None and reward is not None:
            self._processes["accuracy"] = GaussianProcess(decisions)
        self._target = "reward"
        self._next_fit = 0
        self._calibration: Calibration | None = None

    @property
    def target(self) -> str:
        """What is learnt at present, "reward" or "accuracy"."""
        return self._target

    @property
    def calibration(self) -> Calibration | None:
        """As of the last fit; None before the first."""
        return self._calibration

    @property
    def noise(self) -> float:
        """Standard deviation of one measurement of what is learnt, known or estimated from the results."""
        return self._processes[self._target].noise

    def fit(self, results: Results) -> None:
        """Fits again where enough results have come since the last fit; needs a completed one."""
        if len(results) < self._next_fit:
            return
        steps = LATER_STEPS if self._next_fit else FIRST_STEPS
        self._next_fit = len(results) + max(3, int(REFIT_SHARE * len(results)))
        found: dict[str, Calibration] = {}
        for target in self._processes:
            if target == "accuracy" and not results.has_accuracies:
                continue
            rows, values = self._chosen(results, target, MOST_RESULTS)
            noise = self._noise_of(target, results)
            self._processes[target].fit(results.tokens[rows], values, steps=steps, noise=noise)
            self._processes[target].condition(results.tokens[rows], values, noise=noise)
            found[target] = self._calibrate(target, results.tokens[rows], _filled(results.rewards)[rows])
        self._target = max(found, key=lambda target: found[target].density)
        self._calibration = found[self._target]

    def condition(self, results: Results, pending: Tokens, *, most: int = MOST_RESULTS) -> None:
        """Takes in results, and candidates under way `(n, decisions)` as if they did what is expected.

        Args:
            results: Everything that is known.
            pending: Candidates under way `(n, decisions)`.
            most: How many results are looked at.

        Source: for those under way, the Kriging believer of Ginsbourger et al., 2010.
        """
        process = self._processes[self._target]
        rows, values = self._chosen(results, self._target, most)
        tokens = results.tokens[rows]
        noise = self._noise_of(self._target, results)
        process.condition(tokens, values, noise=noise)
        if len(pending):
            believed = process.mean(pending)
            process.condition(
                np.concatenate([tokens, pending]), np.concatenate([values, believed]), noise=noise
            )

    def estimate(self, tokens: Tokens) -> Floats:
        """Returns the expected reward of each candidate, `(n,)`."""
        return self._rewards(self._target, self._processes[self._target].mean(tokens), tokens)

    def improvement(self, tokens: Tokens, best: float) -> Floats:
        """Returns by how much each candidate is expected to exceed a reward, `(n,)`; nowhere negative.

        Where there are many results, only those with the best expected rewards are looked at closer, and the
        others count as no improvement: the time of a deviation grows with the square of the results.

        Source: Mockus, 1975; the expectation over the accuracy by Gauss-Hermite quadrature.
        """
        process = self._processes[self._target]
        result: Floats = np.zeros(len(tokens))
        most = max(1, CLOSER_LOOKS // max(1, process.size) ** 2)
        closer = np.arange(len(tokens))
        if len(tokens) > most:
            closer = np.argsort(-self.estimate(tokens), kind="stable")[:most]
        mean, deviation = process.predict(tokens[closer])
        values = mean + _NODES[:, None] * deviation
        rewards = self._rewards(self._target, values.ravel(), np.tile(tokens[closer], (len(_NODES), 1)))
        result[closer] = _WEIGHTS @ np.maximum(rewards.reshape(values.shape) - best, 0.0)
        return result

    def state_dict(self) -> State:
        """Returns hyperparameters and the plan of fits; results are given again."""
        calibration = self._calibration
        return {
            "processes": {target: process.state_dict() for target, process in self._processes.items()},
            "target": self._target,
            "next_fit": self._next_fit,
            "calibration": None
            if calibration is None
            else [calibration.error, calibration.ratio, calibration.rank_correlation, calibration.density],
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        for target, process in self._processes.items():
            process.load_state_dict(state["processes"][target])
        self._target = state["target"]
        self._next_fit = int(state["next_fit"])
        names = ("error", "ratio", "rank_correlation", "density")
        saved = state["calibration"]
        self._calibration = None if saved is None else Calibration(**dict(zip(names, saved, strict=True)))

    def _rewards(self, target: str, values: Floats, tokens: Tokens) -> Floats:
        """The rewards that go with values of a target."""
        if target == "reward" or self._reward is None or self._costs is None:
            return values
        return np.asarray(self._reward(values, self._costs(tokens)), dtype=np.float64)

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

    def _chosen(self, results: Results, target: str, most: int) -> tuple[npt.NDArray[np.int64], Floats]:
        """Which results are looked at, and their values.

        They are chosen by their candidates and not by their rewards, which would favour lucky results.
        """
        values = _filled(results.accuracies if target == "accuracy" else results.rewards)
        tokens, count = results.tokens, len(results)
        if count <= most:
            return np.arange(count), values
        best = np.array(results.best(1), dtype=np.int64)
        order = np.argsort(-self._processes[target].similarity(best, tokens)[0], kind="stable")
        near = int(LIKE_THE_BEST * most)
        others = np.sort(order[near:])
        spread = others[np.linspace(0, len(others) - 1, most - near).astype(np.int64)]
        rows = np.sort(np.concatenate([order[:near], spread]))
        return rows, values[rows]

    def _calibrate(self, target: str, tokens: Tokens, rewards: Floats) -> Calibration:
        mean, deviation = self._processes[target].left_out()
        expected = self._rewards(target, mean, tokens)
        above = self._rewards(target, mean + deviation, tokens)
        below = self._rewards(target, mean - deviation, tokens)
        spread = np.maximum(np.abs(above - below) / 2, 1e-12)
        errors = expected - rewards
        return Calibration(
            error=float(np.sqrt((errors**2).mean())),
            ratio=float(np.sqrt(((errors / spread) ** 2).mean())),
            rank_correlation=_rank_correlation(expected, rewards),
            density=float((-0.5 * (errors / spread) ** 2 - np.log(spread)).mean()),
        )


def _filled(values: Floats) -> Floats:
    """Infeasible candidates count as the worst that was seen."""
    missing = np.isnan(values)
    return np.where(missing, np.nanmin(values), values) if missing.any() else values


def _rank_correlation(one: Floats, other: Floats) -> float:
    ranks = [values.argsort(kind="stable").argsort(kind="stable") for values in (one, other)]
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.asarray(np.corrcoef(ranks))[0, 1])
