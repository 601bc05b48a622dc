"""Estimates of several metrics of a candidate: a Gaussian process of each that is measured, exact costs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats, State, Tokens
from controllers.expected_hypervolume import Steps
from controllers.gaussian_process import GaussianProcess
from controllers.kernel import Near
from controllers.pareto import is_dominated
from controllers.predictor import (
    CHANCE_PRIOR,
    CLOSER_LOOKS,
    FIRST_STEPS,
    LATER_STEPS,
    LEAST_CHANCE,
    MOST_RESULTS,
    REFIT_SHARE,
    most_like,
)
from controllers.problem import Problem
from controllers.results import Results
from controllers.robust import Scale

MOST_LIKE = 32
"""Candidates of the front, spread over it, that results are compared with where there are many."""

SAMPLED = 1024
"""Random candidates by whose costs it is seen which are always above 0."""

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Estimates:
    """What candidates are expected to have of each objective: a value, where more is better, and costs.

    The value is the accuracy, or the reward where no accuracy is told. Costs are those that the problem
    knows, which are exact, and then those that outcomes come with. A cost that is always above 0 counts by
    its logarithm: halving it is worth the same everywhere. What is measured has a Gaussian process each.

    A candidate that failed says nothing about the others; another Gaussian process learns which complete. A
    candidate counts as failed, too, whose value is too low to be told from a failure, though one that costs
    no more did well.

    Args:
        problem: What is searched.
    """

    def __init__(self, problem: Problem) -> None:
        decisions = problem.decisions
        self._problem = problem
        self._processes = [GaussianProcess(decisions) for _ in range(1 + problem.measured_costs)]
        self._completing = GaussianProcess(decisions, CHANCE_PRIOR)
        sample = decisions.sample(np.random.default_rng(0), SAMPLED)
        self._is_positive = _all(problem.cost_table(sample) > 0)
        self._next_fit = 0
        self._has_failures = False
        self._usual = np.zeros(len(self._processes))  # deviation of each metric
        self._told = np.zeros(0)  # the values that were looked at
        self._rows: Rows = np.zeros(0, dtype=np.int64)  # the results that they are of
        self._known: tuple[int, tuple[Tokens, Floats, Flags]] | None = None
        self._conditioned: int | None = None  # on so many results

    def known_costs(self, tokens: Tokens) -> Floats:
        """Exact costs of candidates as they count, `(n, known)`."""
        if not len(tokens):
            return np.zeros((0, len(self._is_positive)))
        return _scaled(self._problem.cost_table(tokens), self._is_positive)

    def observed(self, results: Results) -> Floats:
        """What was found in each result, value and measured costs as they count, `(n, 1 + measured)`."""
        values = np.where(np.isnan(results.accuracies), results.rewards, results.accuracies)
        measured = results.measured_costs
        return np.column_stack([values, _scaled(measured, _all(~(measured <= 0)))])

    def fit(self, results: Results) -> None:
        """Fits again where enough results have come since the last fit; needs a completed one."""
        if len(results) < self._next_fit:
            return
        steps = LATER_STEPS if self._next_fit else FIRST_STEPS
        self._next_fit = len(results) + max(3, int(REFIT_SHARE * len(results)))
        tokens, found, sound = self._view(results)
        rows = self._looked_at(results, sound)
        for process, column in zip(self._processes, found[rows].T, strict=True):
            process.fit(tokens[rows], column, steps=steps, noise=self._noise_of(process))
        if not sound.all():
            rows = self._looked_at(results, np.ones(len(results), dtype=np.bool_))
            self._completing.fit(tokens[rows], sound[rows].astype(np.float64), steps=steps)
        self._conditioned = None

    def condition(self, results: Results) -> None:
        """Takes in results, and forgets what was imagined."""
        if self._conditioned != len(results):
            self._condition(results)
            self._conditioned = len(results)
        for process in self._processes:
            process.forget_imagined()

    def imagine(self, pending: Tokens, rng: np.random.Generator) -> None:
        """Takes in candidates under way `(n, decisions)` with results that it draws."""
        for process in self._processes:
            process.imagine(pending, rng)

    def expected(self, tokens: Tokens) -> tuple[Floats, Floats]:
        """Returns the expected value `(n,)` and costs `(n, costs)` of candidates."""
        value, *measured = (process.mean(tokens) for process in self._processes)
        return value, np.column_stack([self.known_costs(tokens), *measured])

    def improvement(self, tokens: Tokens, steps: Steps, *, near: Near | None = None) -> Floats:
        """Returns how much hypervolume each candidate is expected to add to a front, `(n,)`.

        Where there are many results only the candidates that promise most are looked at closer, and the
        others count as no improvement: the time of a deviation grows with the square of the results.
        """
        result: Floats = np.zeros(len(tokens))
        some, known = np.arange(len(tokens)), self.known_costs(tokens)
        most = max(1, CLOSER_LOOKS // max(1, self._processes[0].size) ** 2)
        if len(tokens) > most:
            means = np.column_stack([process.mean(tokens, near=near) for process in self._processes])
            rough = _improvement(steps, known, means, np.broadcast_to(self._usual, means.shape))
            some = np.sort(np.argsort(-rough, kind="stable")[:most])
            near = None if near is None else near.of(some)
        found = [process.predict(tokens[some], near=near) for process in self._processes]
        means, deviations = (np.column_stack(columns) for columns in zip(*found, strict=True))
        result[some] = _improvement(steps, known[some], means, deviations)
        if self._has_failures:
            chance = self._completing.mean(tokens[some], near=near)
            result[some] *= np.clip(chance, LEAST_CHANCE, 1.0)
        return result

    def looked_at(self, results: Results) -> Tokens:
        """The candidates of the results that it was conditioned on, `(n, decisions)`, each once.

        Those that failed at any time are left out.
        """
        numbers = np.unique(results.numbers[self._rows])
        has_failed = np.isnan(results.means(results.rewards))
        candidates: Tokens = results.candidates[numbers[~has_failed[numbers]]]
        return candidates

    def _view(self, results: Results) -> tuple[Tokens, Floats, Flags]:
        """Candidates, what was found, and which are sound; worked out once for so many results."""
        if self._known is None or self._known[0] != len(results):
            found = self.observed(results)
            self._known = len(results), (results.tokens, found, self._are_sound(results, found))
        return self._known[1]

    def _are_sound(self, results: Results, found: Floats) -> Flags:
        """Which results completed and did not collapse, `(n,)`."""
        sound = np.asarray(~np.isnan(found).any(axis=1), dtype=np.bool_)
        if not sound.any():
            return sound
        rows = np.flatnonzero(sound)
        is_low = Scale.of(found[rows, 0]).has_collapsed(found[rows, 0])
        if is_low.any():
            costs = np.column_stack([self.known_costs(results.tokens[rows]), found[rows, 1:]])
            others = costs[~is_low]
            sound[rows[is_low]] = [not (others <= cost).all(axis=1).any() for cost in costs[is_low]]
        return sound

    def state_dict(self) -> State:
        """Returns hyperparameters and the plan of fits; results are given again."""
        return {
            "processes": [process.state_dict() for process in self._processes],
            "completing": self._completing.state_dict(),
            "next_fit": self._next_fit,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        for process, saved in zip(self._processes, state["processes"], strict=True):
            process.load_state_dict(saved)
        self._completing.load_state_dict(state["completing"])
        self._next_fit = int(state["next_fit"])
        self._conditioned = self._known = None

    def quality(self) -> dict[str, float]:
        """Returns how well each value is predicted from all others, as `Front.diagnostics` names it."""
        expected, deviations = self._processes[0].left_out()
        errors = expected - self._told
        return {
            "prediction_error": float(np.sqrt((errors**2).mean())),
            "calibration": float(np.sqrt(((errors / deviations) ** 2).mean())),
            "noise": self._processes[0].noise,
        }

    def _condition(self, results: Results) -> None:
        tokens, found, sound = self._view(results)
        rows = self._looked_at(results, sound)
        for process, column in zip(self._processes, found[rows].T, strict=True):
            process.condition(tokens[rows], column, noise=self._noise_of(process))
        self._rows, self._told = rows, found[rows, 0]
        self._usual = np.array([np.median(process.left_out()[1]) for process in self._processes])
        self._has_failures = not sound.all()
        if self._has_failures:
            rows = self._looked_at(results, np.ones(len(results), dtype=np.bool_))
            self._completing.condition(tokens[rows], sound[rows].astype(np.float64))

    def _noise_of(self, process: GaussianProcess) -> float | None:
        return self._problem.noise if process is self._processes[0] else None

    def _looked_at(self, results: Results, wanted: Flags) -> Rows:
        """Numbers of so many of the wanted results: those most like the front, and others spread over all.

        They are chosen by their candidates and not by their values, which would favour lucky results.
        """
        rows = np.flatnonzero(wanted)
        if len(rows) <= MOST_RESULTS:
            return rows
        tokens, found, is_sound = self._view(results)
        sound = np.flatnonzero(is_sound)
        points = np.column_stack([-found[sound, 0], found[sound, 1:], self.known_costs(tokens[sound])])
        front = sound[~is_dominated(points)]
        front = front[found[front, 0].argsort(kind="stable")]
        front = front[np.linspace(0, len(front) - 1, min(len(front), MOST_LIKE)).astype(np.int64)]
        likeness = self._processes[0].similarity(tokens[rows], tokens[front]).max(axis=1)
        return most_like(rows, likeness, MOST_RESULTS)


def _improvement(steps: Steps, known: Floats, means: Floats, deviations: Floats) -> Floats:
    """Improvement by exact costs and by means and deviations of what is measured, the value first."""
    costs = np.column_stack([known, means[:, 1:]])
    spreads = np.column_stack([np.zeros_like(known), deviations[:, 1:]])
    return steps.improvement(means[:, 0], deviations[:, 0], costs, spreads)


def _all(holds: Flags) -> Flags:
    """Of which columns it holds everywhere, `(columns,)`."""
    return np.asarray(holds.all(axis=0), dtype=np.bool_)


def _scaled(costs: Floats, are_logs: Flags) -> Floats:
    """Costs `(n, costs)`, of some of them the logarithm."""
    scaled = costs.copy()
    scaled[:, are_logs] = np.log(np.maximum(costs[:, are_logs], np.finfo(np.float64).tiny))
    return scaled
