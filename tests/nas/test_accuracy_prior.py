"""What is expected of networks before any training, and what a controller is told of it."""

import numpy as np
import pytest

from controllers import Outcome
from nas import Objective
from nas.accuracy_prior import EFFECTS, accuracy_prior, log_sizes
from nas.benchmarks import load_digits_bench
from nas.catalogue import Catalogue
from nas.controller import ControllerOptions, problem_of
from search_spaces import efficientnet, nas_bench_macro


def test_more_is_expected_of_larger_networks():
    space = nas_bench_macro()
    small, large = accuracy_prior(space)(np.array([[0] * 8, [2] * 8]))
    assert small < large


def test_it_is_linear_in_the_logarithms_of_sizes():
    space, tokens = nas_bench_macro(), np.array([[1] * 8, [0, 1, 2, 0, 1, 2, 0, 1]])
    costs = space.costs(tokens)
    expected = EFFECTS[0] * np.log(costs.macs) + EFFECTS[1] * np.log(costs.params)
    assert accuracy_prior(space)(tokens) == pytest.approx(expected)
    assert log_sizes(space, tokens).shape == (2, 2)


def test_it_orders_the_digits_networks_as_their_accuracies_do():
    bench = load_digits_bench()
    correlation = np.corrcoef(accuracy_prior(bench.space)(bench.tokens), bench.mean_accuracies)[0, 1]
    assert correlation > 0.6


def test_a_search_begins_with_the_reference_of_its_space():
    space = efficientnet()
    for objective in (Objective(), Objective.soft("macs", 300e6)):
        controller = ControllerOptions().make(Catalogue(space), objective, seed=0)
        assert controller.propose()[0].tokens == space.encode(space.reference)


def test_a_search_with_a_hard_target_begins_where_it_may_be_met_near_the_reference():
    space = efficientnet()
    reference = np.array(space.encode(space.reference))
    controller = ControllerOptions().make(Catalogue(space), Objective.hard("macs", 300e6), seed=0)
    found = np.array([proposal.tokens for proposal in controller.propose(4)])
    assert (space.costs(found).macs <= 330e6).all()
    assert ((found != reference).sum(axis=1) <= len(reference) // 2).all()


@pytest.mark.parametrize(
    ("goal", "has_prior"), [("accuracy", True), ("min rmse", True), ("min latency_ms", False)]
)
def test_a_goal_that_is_a_time_or_a_size_has_no_prior(goal, has_prior):
    problem = problem_of(Catalogue(nas_bench_macro()), Objective.parse(goal))
    assert (problem.prior is not None) == has_prior
    assert problem.reference is None


def test_an_error_that_is_minimised_can_be_searched():
    space = nas_bench_macro()
    controller = ControllerOptions().make(Catalogue(space), Objective.parse("min rmse"), seed=0)
    for _ in range(9):
        (proposal,) = controller.propose()
        told = -100.0 + 3 * sum(proposal.tokens)
        controller.feedback([(proposal, Outcome(told, accuracy=told))])
    assert sum(controller.recommend()[0]) > 8
