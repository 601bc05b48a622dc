"""NSGA-II: evolution towards every best trade of accuracy for cost at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controllers.candidates import Candidates
from controllers.contract import (
    Candidate,
    Conditions,
    ControllerError,
    Costs,
    Feasible,
    Feedback,
    Floats,
    Key,
    Proposal,
    Reward,
    State,
    Tokens,
)
from controllers.mutation import changes_at, mutate, recombine, without_policy
from controllers.pareto import Ints, crowding, fronts, is_dominated
from controllers.results import Results
from controllers.state import check_made_alike


class NSGA2:
    """Evolution in which the least dominated survive, and of those alike the ones with the most room.

    Objectives are the accuracy, to be raised, and every column of `costs`, to be lowered. The accuracy is
    `Outcome.accuracy` where it is told and the reward elsewhere; results of a candidate that come again are
    averaged. Without `costs` the reward is the only objective, and this is an evolution of the best.

    The first `population` results come from uniform draws. From then on a candidate has two parents, each
    the better of two members drawn at random: the one in the lower front, or of the same front the one with
    more room. For each decision it takes after one of them, and one decision is taken otherwise. Results
    join the population as they come and the worst leave it, so that results may come in any order, late or
    never; fed back a whole population at a time they make the generations of the paper. Candidates that are
    infeasible never join. `Outcome.fidelity` is not looked at: feed back accuracies that can be compared. A
    lucky measurement keeps its place until the candidate is measured again.

    Written here since the NSGA-II of pymoo and of Optuna breed in generations, and keep them in a pickle or
    in the storage of a study: neither continues exactly, between any two results, from plain arrays.

    Args:
        cardinalities: Number of options of each decision.
        conditions: For each decision the `(parent, options)` of which any makes it active; None: always.
        seed: The same seed and the same results give the same proposals.
        key: Identity of a candidate, for not proposing one twice; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        costs: What a candidate costs, in one column or several; None means that only the reward counts.
        reward: Accepted so that all controllers are made alike; objectives are not traded for each other.
        population: Members, at least 2.
        crossover: Share of candidates with two parents, in [0, 1]; the others have one.

    Raises:
        ControllerError: An argument breaks its law.

    Source: Deb et al., IEEE TEC 2002, where the population is 100, for 25,000 evaluations, and the crossover
    0.9. Members that come one at a time: Durillo et al., EMO 2009.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        key: Key | None = None,
        feasible: Feasible | None = None,
        costs: Costs | None = None,
        reward: Reward | None = None,  # noqa: ARG002  # see the docstring
        population: int = 20,
        crossover: float = 0.9,
    ) -> None:
        if population < 2:
            raise ControllerError(f"population >= 2 must hold, but got population={population}")
        if not 0 <= crossover <= 1:
            raise ControllerError(f"0 <= crossover <= 1 must hold, but got crossover={crossover}")
        self._candidates = Candidates(cardinalities, conditions, seed=seed, key=key, feasible=feasible)
        self._decisions = self._candidates.decisions
        self._results = Results(self._decisions)
        self._costs = costs
        self._size, self._crossover = population, crossover
        self._population = np.zeros(0, dtype=np.int64)  # rows of the results' candidates, the best first
        self._made: State = {
            "controller": "NSGA2",
            "decisions": self._decisions.fingerprint,
            "has_costs": costs is not None,
            "population": population,
            "crossover": crossover,
        }

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, fewer or none only when no others can be found."""
        return self._candidates.propose(n, self._draw, without_policy)

    def feedback(self, results: Feedback) -> None:
        """Lets candidates into the population, and as many of the worst out of it as are too many.

        Raises:
            ControllerError: A result is not valid, and none of them is taken; or `costs` returns what it
                must not.
        """
        checked = self._results.take(results)
        for _, tokens, _ in checked:
            self._candidates.note(tokens)
        newcomers = self._results.numbers[len(self._results) - len(checked) :]
        pool = dict.fromkeys([*self._population.tolist(), *newcomers.tolist()])
        self._population = self._fittest(np.array(list(pool), dtype=np.int64))

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the up to `n` candidates with the best mean reward, best first.

        Raises:
            ControllerError: `n` is below 1.
        """
        return self._results.best(n)

    def front(self) -> list[Candidate]:
        """Returns the candidates of all results that no other dominates, in the order of the first cost.

        Without `costs` they are those with the best mean reward. Candidates that were infeasible are left
        out.
        """
        numbers, objectives = self._completed(np.arange(len(self._results.candidates)))
        is_front = ~is_dominated(objectives)
        order = objectives[is_front, min(1, objectives.shape[1] - 1)].argsort(kind="stable")
        return [tuple(row) for row in self._results.candidates[numbers[is_front][order]].tolist()]

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly: results, population and the candidates seen."""
        return {
            "made": dict(self._made),
            "candidates": self._candidates.state_dict(),
            "results": self._results.state_dict(),
            "population": self._population.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues where the state was taken.

        Raises:
            ControllerError: The state is of a controller made otherwise.
        """
        check_made_alike(state, self._made)
        self._candidates.load_state_dict(state["candidates"])
        self._results.load_state_dict(state["results"])
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

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        is_young = len(self._results) < self._size or not len(self._population)
        if is_young or math.isinf(temperature):
            return self._decisions.sample(rng, n)
        # Members stand in order, so that of two the one nearer the front wins.
        winners = rng.integers(len(self._population), size=(2, n, 2)).min(axis=2)
        one, other = self._results.candidates[self._population[winners]]
        has_two = rng.random((n, 1)) < self._crossover
        children = np.where(has_two, recombine(self._decisions, rng, one, other), one)
        return mutate(self._decisions, rng, children, changes_at(temperature))

    def _fittest(self, pool: Ints) -> Ints:
        """The next population: lower fronts first, within a front by room."""
        numbers, objectives = self._completed(pool)
        front = fronts(objectives)
        room = np.zeros(len(front))
        for number in np.unique(front):
            room[front == number] = crowding(objectives[front == number])
        return numbers[np.lexsort((-room, front))[: self._size]]

    def _completed(self, numbers: Ints) -> tuple[Ints, Floats]:
        """Those candidates that were never infeasible, `(n,)`, and their objectives, `(n, objectives)`."""
        values = self._results.rewards
        if self._costs is not None:
            accuracies = self._results.accuracies
            values = np.where(np.isnan(accuracies), values, accuracies)
        means = self._results.means(values)
        numbers = numbers[~np.isnan(means[numbers])]
        costs = self._cost_columns(self._results.candidates[numbers])
        return numbers, np.column_stack([-means[numbers], *costs])

    def _cost_columns(self, tokens: Tokens) -> list[Floats]:
        """One array `(n,)` for each cost; none without candidates."""
        if self._costs is None or not len(tokens):
            return []
        costs = np.asarray(self._costs(tokens), dtype=np.float64)
        n = len(tokens)
        if costs.ndim not in (1, 2) or len(costs) != n or not np.isfinite(costs).all():
            raise ControllerError(
                f"costs must return finite numbers of shape ({n},) or ({n}, costs) for {n} candidates, but "
                f"got shape {costs.shape}, beginning with {costs.ravel()[:3].tolist()}"
            )
        return list(costs.reshape(n, -1).T)
