"""NSGA-II: evolution towards every best trade of accuracy for cost at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controllers.algorithm import Algorithm
from controllers.contract import (
    Candidate,
    Conditions,
    ControllerError,
    Floats,
    State,
    Tokens,
    require_count,
)
from controllers.mutation import changes_at, mutate, recombine
from controllers.pareto import Ints, crowding, fronts, is_dominated
from controllers.problem import Problem
from controllers.results import Told


class NSGA2(Algorithm):
    """Evolution in which the least dominated survive, and of equal ones those with the most room.

    Objectives are the accuracy, to be raised, and every column of the problem's `costs` and of what outcomes
    come with as `Outcome.costs`, to be lowered. The accuracy is `Outcome.accuracy` where it is told and the
    reward elsewhere; results of a candidate that come again are averaged. Without costs the reward is the
    only objective.

    The first `population` results come from uniform draws. From then on a candidate has two parents, each
    the better of two members drawn at random: the one in the lower front, or of the same front the one with
    more room. Each decision is taken from one of them, and then one decision is changed. Results join the
    population as they come and the worst leave it, so that results may come in any order, late or never; fed
    back a whole population at a time they make the generations of the paper. Candidates that are infeasible
    never join. A lucky measurement keeps its place until the candidate is measured again.

    Written here since the NSGA-II of pymoo and of Optuna breed in generations, and keep them in a pickle or
    in the storage of a study: neither continues exactly, between any two results, from plain arrays.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        population: Members, at least 2.
        crossover: Share of candidates with two parents, in [0, 1]; the others have one.

    Raises:
        ControllerError: An argument is wrong.

    Source: Deb et al., IEEE TEC 2002, where the population is 100, for 25,000 evaluations, and the crossover
    0.9. Members that come one at a time: Durillo et al., EMO 2009.
    """

    def __init__(
        self,
        problem: Problem | Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        population: int = 20,
        crossover: float = 0.9,
    ) -> None:
        self._size = require_count("population", population, least=2)
        if not 0 <= crossover <= 1:
            raise ControllerError(
                f"0 <= crossover <= 1 must hold, but got crossover={crossover}", field="crossover"
            )
        self._crossover = crossover
        self._population = np.zeros(0, dtype=np.int64)  # rows of the results' candidates, the best first
        problem = Problem.of(problem, conditions)
        settings: State = {
            "has_costs": problem.costs is not None,
            "population": self._size,
            "crossover": crossover,
        }
        if problem.measured_costs:
            settings["measured_costs"] = problem.measured_costs
        super().__init__("NSGA2", problem, None, seed=seed, settings=settings)

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        is_young = len(self._results) < self._size or not len(self._population)
        if is_young or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        # Members are in order, so that of two the one nearer the front wins.
        winners = rng.integers(len(self._population), size=(2, n, 2)).min(axis=2)
        one, other = self._results.candidates[self._population[winners]]
        has_two = rng.random((n, 1)) < self._crossover
        children = np.where(has_two, recombine(self._decisions, rng, one, other), one)
        return mutate(self._decisions, rng, children, changes_at(temperature))

    def _learn(self, told: Sequence[Told]) -> None:
        """Lets candidates into the population, and as many of the worst out of it as are too many."""
        newcomers = self._results.numbers[len(self._results) - len(told) :]
        pool = dict.fromkeys([*self._population.tolist(), *newcomers.tolist()])
        numbers, objectives = self._completed(np.array(list(pool), dtype=np.int64))
        front = fronts(objectives)
        room = np.zeros(len(front))
        for number in np.unique(front):
            room[front == number] = crowding(objectives[front == number])
        self._population = numbers[np.lexsort((-room, front))[: self._size]]

    def front(self) -> list[Candidate]:
        """Returns the candidates of all results that no other dominates, in the order of the first cost.

        Without `costs` they are those with the best mean reward. Candidates that were infeasible are left
        out.
        """
        numbers, objectives = self._completed(np.arange(len(self._results.candidates)))
        is_front = ~is_dominated(objectives)
        order = objectives[is_front, min(1, objectives.shape[1] - 1)].argsort(kind="stable")
        return [tuple(row) for row in self._results.candidates[numbers[is_front][order]].tolist()]

    def _own_state(self) -> State:
        return {"population": self._population.copy()}

    def _load_own_state(self, state: State) -> None:
        self._population = np.array(state["population"], dtype=np.int64)

    def diagnostics(self) -> dict[str, float]:
        """Returns the sizes of the population and of the front of all results, once there is one."""
        if not len(self._population):
            return {}
        return {"population": float(len(self._population)), "front": float(len(self.front()))}

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the share of each option in the population; None while it is empty."""
        members = self._results.candidates[self._population]
        return self._decisions.shares(members) if len(members) else None

    def _completed(self, numbers: Ints) -> tuple[Ints, Floats]:
        """Those candidates that were never infeasible, `(n,)`, and their objectives, `(n, objectives)`."""
        values = self._results.rewards
        if self._problem.costs is not None or self._problem.measured_costs:
            accuracies = self._results.accuracies
            values = np.where(np.isnan(accuracies), values, accuracies)
        means = self._results.means(values)
        numbers = numbers[~np.isnan(means[numbers])]
        costs = self._problem.cost_table(self._results.candidates[numbers])
        measured = [self._results.means(column)[numbers] for column in self._results.measured_costs.T]
        return numbers, np.column_stack([-means[numbers], costs, *measured])
