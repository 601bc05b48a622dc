"""Expected hypervolume improvement, each against its definition by sampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from controllers.expected_hypervolume import POINTS, Steps, excess
from controllers.pareto import hypervolume

VALUES = np.array([0.5, 0.7, 0.8, 0.6])
LEAST = 0.2


def steps_of(costs, worst, seed=0):
    worst = np.array(worst)
    best = np.zeros_like(worst)
    return Steps.of(VALUES, costs, least=LEAST, best=best, worst=worst, rng=np.random.default_rng(seed))


def added(costs, worst, value, cost):
    """Hypervolume that one candidate adds, by definition."""
    points = np.column_stack([-VALUES, costs])
    reference = np.array([-LEAST, *worst])
    one = np.array([[-value, *cost]])
    return hypervolume(np.concatenate([points, one]), reference) - hypervolume(points, reference)


def test_the_excess_is_the_expectation_of_what_lies_above_zero():
    mean, deviation = np.linspace(-3, 3, 61), np.full(61, 0.7)
    z = mean / deviation
    expected = mean * norm.cdf(z) + deviation * norm.pdf(z)
    assert excess(mean, deviation) == pytest.approx(expected, abs=1e-6)
    assert excess(mean, np.zeros(61)).tolist() == np.maximum(mean, 0).tolist()


@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_with_one_cost_it_is_the_mean_of_what_samples_add(spread):
    costs, worst, rng = np.array([[1.0], [2.0], [4.0], [3.0]]), [5.0], np.random.default_rng(1)
    for mean, deviation, cost in ((0.65, 0.1, 1.5), (0.9, 0.02, 4.5), (0.3, 0.2, 0.5), (0.5, 0.1, 6.0)):
        found = steps_of(costs, worst).improvement(
            np.array([mean]), np.array([deviation]), np.array([[cost]]), np.array([[spread]])
        )
        drawn = zip(
            mean + deviation * rng.normal(size=4000), cost + spread * rng.normal(size=4000), strict=True
        )
        expected = [added(costs, worst, value, [one]) for value, one in drawn]
        assert found[0] == pytest.approx(np.mean(expected), abs=4 * np.std(expected) / 60 + 1e-6)


def test_with_two_costs_it_grows_in_proportion_to_what_is_added():
    costs, worst = np.array([[1.0, 2.0], [2.0, 1.0], [4.0, 3.0], [3.0, 0.5]]), [5.0, 4.0]
    candidates = [(0.75, [1.0, 1.0]), (0.65, [1.5, 1.5]), (0.9, [3.0, 3.0]), (0.4, [4.5, 3.5])]
    found = np.zeros(len(candidates))
    for seed in range(40):
        found += steps_of(costs, worst, seed).improvement(
            np.array([value for value, _ in candidates]),
            np.full(len(candidates), 1e-9),
            np.array([cost for _, cost in candidates]),
            np.zeros((len(candidates), 2)),
        )
    volume = found / 40 / POINTS * 20.0  # the box of costs has so much room
    expected = [added(costs, worst, value, cost) for value, cost in candidates]
    assert volume == pytest.approx(expected, rel=0.05, abs=0.01)


def test_without_costs_it_is_the_expected_improvement_over_the_best():
    found = steps_of(np.zeros((4, 0)), []).improvement(
        np.array([0.8, 1.0]), np.array([0.1, 1e-9]), np.zeros((2, 0)), np.zeros((2, 0))
    )
    assert found == pytest.approx([0.1 * norm.pdf(0), 0.2], abs=1e-6)


def test_a_candidate_that_can_add_nothing_has_none():
    found = steps_of(np.array([[1.0], [2.0], [4.0], [3.0]]), [5.0]).improvement(
        np.array([0.6, 0.9]), np.array([1e-9, 0.1]), np.array([[2.5], [5.5]]), np.zeros((2, 1))
    )
    assert found.tolist() == [0.0, 0.0]
