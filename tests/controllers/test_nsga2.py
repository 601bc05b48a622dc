"""NSGA-II: who survives, who breeds, and what the front is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import NSGA2, ControllerError, Outcome, Problem, Proposal, RandomSearch
from controllers.pareto import hypervolume
from controllers.testing.learning import ChainObjective
from controllers.testing.tools import distance

FAILED = Outcome(status="infeasible")
CARDINALITIES = (4, 4, 4)


def price(rows):
    return rows.sum(axis=1).astype(np.float64)


def two_prices(rows):
    return np.stack([rows[:, 0], rows[:, 1:].max(axis=1)], axis=1).astype(np.float64)


def members(controller):
    return set(map(tuple, controller._results.candidates[controller._population].tolist()))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    told=st.lists(st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.just(FAILED)), min_size=1, max_size=30),
    costs=st.sampled_from([price, two_prices]),
)
def test_the_front_is_what_no_other_dominates_in_the_order_of_the_first_cost(seed, told, costs):
    controller = NSGA2(Problem(CARDINALITIES, costs=costs), seed=seed, population=5)
    found = {}
    for result in told:
        (proposal,) = controller.propose()
        controller.feedback([(proposal, result)])
        if result is not FAILED:
            columns = np.atleast_1d(costs(np.array([proposal.tokens]))[0]).tolist()
            found[proposal.tokens] = (-result, *columns)
    expected = {
        tokens
        for tokens, point in found.items()
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in found.values()
        )
    }
    front = controller.front()
    assert len(front) == len(set(front))
    assert set(front) == expected
    first_costs = [found[tokens][1] for tokens in front]
    assert first_costs == sorted(first_costs)


def test_the_front_uses_accuracy_where_it_is_given_and_recommendations_use_reward():
    controller = NSGA2(Problem(CARDINALITIES, costs=price))
    cheap, costly, poor = (Proposal((0, 0, t)) for t in (0, 3, 2))
    controller.feedback(
        [
            (costly, Outcome(0.1, accuracy=0.9)),
            (cheap, Outcome(0.7, accuracy=0.6)),
            (poor, Outcome(0.8, accuracy=0.5)),
        ]
    )
    assert controller.front() == [cheap.tokens, costly.tokens]
    assert controller.recommend(3) == [poor.tokens, cheap.tokens, costly.tokens]
    controller.feedback([(Proposal((0, 0, 1)), 0.65)])  # no accuracy told: the reward stands in
    assert controller.front() == [cheap.tokens, (0, 0, 1), costly.tokens]


def test_repeats_move_a_candidate_off_the_front_and_a_failure_takes_it_away():
    controller = NSGA2(Problem(CARDINALITIES, costs=price))
    cheap, costly = Proposal((0, 0, 0)), Proposal((3, 0, 0))
    controller.feedback([(cheap, 0.5), (costly, 0.9)])
    assert controller.front() == [cheap.tokens, costly.tokens]
    controller.feedback([(costly, 0.0)])
    assert controller.front() == [cheap.tokens]
    controller.feedback([(cheap, FAILED)])
    assert controller.front() == [costly.tokens]
    assert members(controller) == {costly.tokens}


def test_without_costs_the_front_is_the_best_by_reward():
    controller = NSGA2(CARDINALITIES)
    assert controller.front() == []
    results = [((0, 0, 1), 0.5), ((0, 2, 0), 0.75), ((3, 0, 0), 0.75)]
    controller.feedback([(Proposal(t), Outcome(r, accuracy=1 - r)) for t, r in results])
    assert controller.front() == [(0, 2, 0), (3, 0, 0)]


def test_the_dominated_leave_first_and_then_those_with_the_least_room():
    controller = NSGA2(Problem((40, 40), costs=lambda rows: rows[:, 0].astype(np.float64)), population=4)
    corner = [((0, 0), 0.0), ((30, 0), 30.0)]
    crowded = [((10, 0), 10.0), ((19, 0), 19.0), ((20, 0), 20.0)]
    controller.feedback([(Proposal(t), a) for t, a in (*corner, *crowded)])
    assert members(controller) == {(0, 0), (30, 0), (10, 0), (20, 0)}
    controller.feedback([(Proposal((10, 1)), 5.0)])  # dominated by (10, 0)
    assert members(controller) == {(0, 0), (30, 0), (10, 0), (20, 0)}
    controller.feedback([(Proposal((10, 2)), 11.0)])  # dominates it
    assert members(controller) == {(0, 0), (30, 0), (10, 2), (20, 0)}


def test_the_first_candidates_are_uniform_draws_and_then_come_children_of_members():
    controller = NSGA2(Problem((4,) * 10, costs=price), population=6, crossover=0.0)
    first = controller.propose(6)
    controller.feedback([(p, float(sum(p.tokens))) for p in first])  # none dominates another
    for child in controller.propose(20):
        assert min(distance(child.tokens, parent.tokens) for parent in first) == 1


def test_children_of_two_parents_take_every_decision_but_one_after_them():
    controller = NSGA2(Problem((5,) * 10, costs=price), population=2, crossover=1.0)
    one, other = Proposal((0,) * 10), Proposal((4,) * 10)
    controller.feedback([(one, 0.0), (other, 1.0)])
    children = [child.tokens for child in controller.propose(30)]
    assert max(sum(token not in (0, 4) for token in child) for child in children) <= 1
    assert max(min(distance(child, p.tokens) for p in (one, other)) for child in children) > 2


def test_the_lower_front_breeds_more():
    controller = NSGA2(Problem((4,) * 12, costs=price), population=2, crossover=0.0)
    good, poor = Proposal((0,) * 12), Proposal((3,) * 12)
    controller.feedback([(poor, 0.1), (good, 0.9)])
    children = [child.tokens for child in controller.propose(36)]
    near_good = sum(distance(child, good.tokens) <= 1 for child in children)
    assert 20 <= near_good <= 33  # three quarters of the tournaments


def test_what_could_not_be_trained_is_never_a_parent():
    controller = NSGA2((4,) * 10, population=5, crossover=0.0)
    (good, *bad) = controller.propose(8)
    controller.feedback([(good, -7.0), *((p, FAILED) for p in bad)])
    assert members(controller) == {good.tokens}
    assert all(distance(child.tokens, good.tokens) == 1 for child in controller.propose(10))


def test_a_space_in_which_nothing_could_be_trained_is_drawn_from_uniformly():
    controller = NSGA2((4,) * 10, population=2)
    controller.feedback([(p, FAILED) for p in controller.propose(5)])
    assert len(controller.propose(5)) == 5
    assert controller.diagnostics() == {}
    assert controller.probabilities() is None
    assert controller.front() == []


def test_sizes_of_population_and_front_are_reported():
    controller = NSGA2(Problem(CARDINALITIES, costs=price), population=3)
    controller.feedback([(Proposal((0, 0, t)), float(t)) for t in range(4)])
    assert controller.diagnostics() == {"population": 3.0, "front": 4.0}
    assert [float(p.sum()) for p in controller.probabilities()] == [1.0, 1.0, 1.0]


def test_measured_costs_are_objectives_too():
    controller = NSGA2(Problem(CARDINALITIES, measured_costs=1))
    slow, fast, poor = (Proposal((0, 0, t)) for t in range(3))
    controller.feedback(
        [
            (slow, Outcome(0.9, costs=(5.0,))),
            (fast, Outcome(0.7, costs=(2.0,))),
            (poor, Outcome(0.6, costs=(3.0,))),
        ]
    )
    assert controller.front() == [fast.tokens, slow.tokens]


def test_costs_that_cannot_be_used_are_refused():
    controller = NSGA2(Problem(CARDINALITIES, costs=lambda rows: np.full(len(rows), math.nan)))
    with pytest.raises(ControllerError) as error:
        controller.feedback([(Proposal((0, 0, 0)), 0.5)])
    assert error.value.field == "costs"


@pytest.mark.parametrize(
    ("field", "value"), [("population", 1), ("crossover", 1.5), ("crossover", -0.1), ("crossover", math.nan)]
)
def test_settings_out_of_range_are_refused_by_field(field, value):
    with pytest.raises(ControllerError) as error:
        NSGA2(CARDINALITIES, **{field: value})
    assert error.value.field == field


def test_a_state_with_costs_is_refused_without_them():
    state = NSGA2(Problem(CARDINALITIES, costs=price)).state_dict()
    with pytest.raises(ControllerError) as error:
        NSGA2(CARDINALITIES).load_state_dict(state)
    assert error.value.field == "has_costs"


class TwoObjectives:
    """An accuracy and a cost, each a chain objective with mean 0: accuracies up to 1, costs down to -1."""

    def __init__(self, seed):
        self._accuracy, self._saving = ChainObjective(seed=seed), ChainObjective(seed=seed + 1000)
        self.cardinalities = self._accuracy.cardinalities

    def accuracies(self, rows):
        return np.array([self._accuracy(tuple(row)) for row in rows.tolist()])

    def costs(self, rows):
        return -np.array([self._saving(tuple(row)) for row in rows.tolist()])


def area(controller, objective, evaluations):
    """Hypervolume of all candidates evaluated, over the mean of all candidates in both objectives."""
    tokens = []
    for _ in range(evaluations):
        (proposal,) = controller.propose()
        tokens.append(proposal.tokens)
        accuracy = float(objective.accuracies(np.array([proposal.tokens]))[0])
        controller.feedback([(proposal, accuracy)])
    rows = np.array(tokens)
    points = np.column_stack([-objective.accuracies(rows), objective.costs(rows)])
    return hypervolume(points, np.zeros(2))


def test_its_front_covers_far_more_than_that_of_random_search():
    found = {"nsga2": [], "random": []}
    for seed in range(3):
        objective = TwoObjectives(seed)
        nsga2 = NSGA2(Problem(objective.cardinalities, costs=objective.costs), seed=seed, population=30)
        found["nsga2"].append(area(nsga2, objective, 300))
        found["random"].append(area(RandomSearch(objective.cardinalities, seed=seed), objective, 300))
    pairs = list(zip(found["nsga2"], found["random"], strict=True))
    assert all(ours > theirs for ours, theirs in pairs), pairs
    assert np.mean(found["nsga2"]) > 1.5 * np.mean(found["random"]), pairs


def test_results_of_a_generation_may_come_in_any_order():
    def survivors(order):
        controller = NSGA2(Problem((4,) * 8, costs=two_prices), seed=1, population=6)
        proposals = controller.propose(12)
        rewards = [float(sum(p.tokens) % 7) for p in proposals]
        controller.feedback([(proposals[i], rewards[i]) for i in order])
        return members(controller)

    orders = itertools.islice(itertools.permutations(range(12)), 0, 5000, 997)
    assert len({frozenset(survivors(order)) for order in orders}) == 1
