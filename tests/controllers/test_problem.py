"""The problem of a search: what is checked when it is made and when its callables answer."""

from __future__ import annotations

import numpy as np
import pytest

from controllers import ControllerError, Problem, RandomSearch
from controllers.testing.tools import same

CONDITIONS = ((), ((0, (1,)),))
ROWS = np.array([[0, 0], [1, 2]])


def test_cardinalities_and_conditions_are_kept_as_tuples():
    problem = Problem([2, 3], [(), [(0, [1])]])
    assert problem.cardinalities == (2, 3)
    assert problem.conditions == CONDITIONS
    assert problem == Problem((2, 3), CONDITIONS)
    assert len(problem.decisions) == 2


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("cardinalities", {"cardinalities": ()}),
        ("cardinalities", {"cardinalities": (2, 0)}),
        ("conditions", {"cardinalities": (2, 2), "conditions": ((),)}),
        ("evaluations", {"cardinalities": (2, 2), "evaluations": 0}),
        ("evaluations", {"cardinalities": (2, 2), "evaluations": 1e4}),
        *((name, {"cardinalities": (2, 2), name: 3}) for name in ("key", "feasible", "costs", "reward")),
    ],
)
def test_what_is_wrong_is_refused_by_field_when_it_is_made(field, arguments):
    with pytest.raises(ControllerError) as error:
        Problem(**arguments)
    assert error.value.field == field


def test_cardinalities_stand_for_a_problem(controller_class):
    given = controller_class([2, 3], CONDITIONS, seed=1)
    made = controller_class(Problem([2, 3], CONDITIONS), seed=1)
    assert same(given.propose(3), made.propose(3))


def test_conditions_beside_a_problem_are_refused(controller_class):
    with pytest.raises(ControllerError) as error:
        controller_class(Problem([2, 3]), CONDITIONS)
    assert error.value.field == "conditions"


def test_without_callables_all_are_feasible_and_nothing_costs():
    problem = Problem([2, 3])
    assert problem.are_feasible(ROWS).tolist() == [True, True]
    assert problem.cost_table(ROWS).shape == (2, 0)


def test_costs_become_a_table():
    assert Problem([2, 3], costs=lambda rows: rows.sum(axis=1)).cost_table(ROWS).tolist() == [[0], [3]]
    assert Problem([2, 3], costs=lambda rows: rows * 2).cost_table(ROWS).tolist() == [[0, 0], [2, 4]]


def test_candidates_with_equal_keys_have_equal_digests():
    problem = Problem([3, 3], key=lambda tokens: str(sorted(tokens)))
    assert problem.digest((0, 2)) == problem.digest((2, 0)) != problem.digest((1, 1))
    assert len(problem.digest((0, 2))) == 8


@pytest.mark.parametrize("key", [object(), None, 1.5, [1]])
def test_a_key_that_may_differ_between_processes_is_refused(controller_class, key):
    with pytest.raises(ControllerError) as error:
        controller_class(Problem([3, 3], key=lambda _: key)).propose()
    assert error.value.field == "key"


@pytest.mark.parametrize("mask", [True, [True], [[True, True]]])
def test_the_feasibility_of_every_candidate_must_be_given(mask):
    with pytest.raises(ControllerError) as error:
        Problem([2, 3], feasible=lambda _: mask).are_feasible(ROWS)
    assert error.value.field == "feasible"


def test_a_wrong_mask_stops_a_search(controller_class):
    with pytest.raises(ControllerError) as error:
        controller_class(Problem([4] * 12, feasible=lambda _: True)).propose(2)
    assert error.value.field == "feasible"


@pytest.mark.parametrize("costs", [1.0, [1.0], [np.nan, 1.0], [np.inf, 1.0], np.ones((2, 1, 1))])
def test_costs_that_are_not_finite_or_of_another_shape_are_refused(costs):
    with pytest.raises(ControllerError) as error:
        Problem([2, 3], costs=lambda _: np.array(costs)).cost_table(ROWS)
    assert error.value.field == "costs"


def test_a_problem_serves_several_controllers():
    problem = Problem([2, 3], CONDITIONS)
    assert RandomSearch(problem, seed=1).propose(3) == RandomSearch(problem, seed=1).propose(3)
