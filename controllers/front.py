"""The controller of fronts: expected hypervolume improvement by estimates of every metric."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controllers.climb import climb
from controllers.contract import Candidate, Conditions, Floats, State, Tokens, require_count
from controllers.estimates import Estimates
from controllers.expected_hypervolume import Steps
from controllers.kernel import Near
from controllers.mutation import changes_at, mutate, recombine
from controllers.pareto import is_dominated
from controllers.pending import Estimating
from controllers.problem import Problem
from controllers.results import Told

DRAWN, MUTATED, RECOMBINED = 100, 100, 100
"""Candidates that a climb begins with: uniform draws, mutations of the front, and children of two of it."""


class Front(Estimating):
    """Finds every best trade of accuracy for costs, by what is expected of candidates.

    Objectives are those of `NSGA2`. The first `first` candidates are drawn uniformly. From then on the next
    candidate is the one that is expected to add most to the hypervolume of the front, found by climbing,
    decision by decision, from candidates of the front, mutations and children of them, and uniform draws.
    The front that it adds to is that of the estimates: a lucky measurement is not chased. Candidates under
    way count with results drawn from what is expected.

    The hypervolume reaches to the worst value and to the largest costs of the space, costs above 0 by their
    logarithm. Without costs the candidate with the largest expected improvement is next.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        first: Results before estimates are used, at least 2.

    Raises:
        ControllerError: An argument is wrong.

    Source: expected hypervolume improvement, Emmerich et al., CEC 2011.
    """

    def __init__(
        self,
        problem: Problem | Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        first: int = 10,
    ) -> None:
        problem = Problem.of(problem, conditions)
        settings: State = {
            "first": first,
            "has_costs": problem.costs is not None,
            "measured_costs": problem.measured_costs,
            "noise": problem.noise,
        }
        super().__init__("Front", problem, seed=seed, settings=settings, first=first)
        self._estimates = Estimates(problem)
        self._largest: Floats | None = None  # of the known costs

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        """Draws the candidates that are expected to add most to the front; uniform ones before `first`."""
        if not self._can_predict or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        self._estimates.condition(self._results)
        self._estimates.imagine(self._pending.rows, rng)
        known = np.concatenate([self._estimates.looked_at(self._results), self._pending.rows])
        values, costs = self._estimates.expected(known)
        parents = known[~is_dominated(np.column_stack([-values, costs]))]
        if temperature != 1.0:
            return mutate(self._decisions, rng, _some(rng, parents, n), changes_at(temperature))
        drawn = self._decisions.sample(rng, DRAWN)
        children = recombine(
            self._decisions, rng, _some(rng, parents, RECOMBINED), _some(rng, parents, RECOMBINED)
        )
        mutants = [
            mutate(self._decisions, rng, _some(rng, parents, MUTATED // 2), changes) for changes in (1, 3)
        ]
        start = np.concatenate([parents, drawn, children, *mutants])
        steps = self._steps(values, costs, start, rng)

        def score(tokens: Tokens, near: Near | None) -> Floats:
            return self._estimates.improvement(tokens, steps, near=near)

        seen = np.concatenate([self._results.candidates, self._pending.rows])
        return climb(self._problem, start, score, rng, but=seen)

    def front(self) -> list[Candidate]:
        """Returns the candidates that no other is expected to dominate, in the order of the first cost.

        They are among those that completed every time; of many results, among those that are looked at.
        Without costs it is the best by its estimate.
        """
        known, values, costs = self._expected()
        rows = np.flatnonzero(~is_dominated(np.column_stack([-values, costs])))
        order = np.lexsort((-values[rows], *costs[rows].T[::-1]))
        return [tuple(row) for row in known[rows[order]].tolist()]

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the candidates with the best estimated rewards among those completed.

        Where it is unknown how the reward follows from accuracy and costs, they are those with the best
        estimated accuracies, or with the best mean rewards where these are something else.

        Raises:
            ControllerError: `n` is below 1.
        """
        n = require_count("n", n)
        reward = self._problem.reward
        told = ~np.isnan(self._results.accuracies)
        is_value = np.array_equal(self._results.accuracies[told], self._results.rewards[told])
        observed = self._results.best(len(self._results) or 1)
        if not self._can_predict or (reward is None and not is_value):
            return observed[:n]
        known, values, _ = self._expected()
        if reward is not None and self._problem.costs is not None and told.any():
            values = np.asarray(reward(values, self._problem.costs(known)), dtype=np.float64)
        best = map(tuple, known[np.argsort(-values, kind="stable")].tolist())
        return list(dict.fromkeys([*best, *observed]))[:n]

    def diagnostics(self) -> dict[str, float]:
        """Returns numbers about the estimates, empty before the first.

        `front` is the number of candidates on the front, `prediction_error` the root mean square error of
        predicting each value from all others, `calibration` that error over the predicted deviation, and
        `noise` the deviation of one measurement of the value, known or estimated.
        """
        if not self._can_predict:
            return {}
        self._estimates.condition(self._results)
        return {"front": float(len(self.front())), **self._estimates.quality()}

    def _learn(self, told: Sequence[Told]) -> None:
        self._pending.remove([tokens for _, tokens, _ in told])
        if told and self._can_predict:
            self._estimates.fit(self._results)

    def _own_state(self) -> State:
        return {"pending": self._pending.rows, "estimates": self._estimates.state_dict()}

    def _load_own_state(self, state: State) -> None:
        self._pending.load(state["pending"])
        self._estimates.load_state_dict(state["estimates"])

    def _expected(self) -> tuple[Tokens, Floats, Floats]:
        """Completed candidates, their values `(n,)` and costs `(n, costs)`; as observed before `first`."""
        if self._can_predict:
            self._estimates.condition(self._results)
            known = self._estimates.looked_at(self._results)
            return known, *self._estimates.expected(known)
        found = self._estimates.observed(self._results)
        means = np.column_stack([self._results.means(column) for column in found.T])
        has_completed = ~np.isnan(means).any(axis=1)
        known, means = self._results.candidates[has_completed], means[has_completed]
        return known, means[:, 0], np.column_stack([self._estimates.known_costs(known), means[:, 1:]])

    def _steps(self, values: Floats, costs: Floats, start: Tokens, rng: np.random.Generator) -> Steps:
        """The front by estimates, up to the reference point."""
        known = self._estimates.known_costs(start)
        if self._largest is None:
            self._largest = self._reach()
        best, worst = costs.min(axis=0), costs.max(axis=0)
        count = known.shape[1]
        best[:count] = np.minimum(best[:count], known.min(axis=0))
        worst[:count] = np.maximum(worst[:count], self._largest)
        return Steps.of(values, costs, least=float(values.min()), best=best, worst=worst, rng=rng)

    def _reach(self) -> Floats:
        """The largest of each known cost in the space, as far as climbing finds it."""
        rng = np.random.default_rng(0)
        start = self._decisions.sample(rng, DRAWN)
        found: list[float] = []
        for one in range(self._estimates.known_costs(start).shape[1]):

            def cost(tokens: Tokens, near: Near | None, one: int = one) -> Floats:  # noqa: ARG001
                return self._estimates.known_costs(tokens)[:, one]

            top = climb(self._problem, start, cost, rng, but=start[:0])[:1]
            found += self._estimates.known_costs(top)[:, one].tolist() or [-math.inf]
        return np.array(found)


def _some(rng: np.random.Generator, rows: Tokens, n: int) -> Tokens:
    chosen: Tokens = rows[rng.integers(0, len(rows), n)]
    return chosen
