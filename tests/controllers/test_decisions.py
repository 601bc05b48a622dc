from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers import ControllerError
from controllers.decisions import Decisions


@st.composite
def decisions(draw):
    cardinalities = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    conditions = []
    for decision in range(len(cardinalities)):
        alternatives = []
        for parent in draw(st.sets(st.integers(0, decision - 1), max_size=2)) if decision else ():
            options = draw(st.sets(st.integers(0, cardinalities[parent] - 1), min_size=1))
            alternatives.append((parent, tuple(sorted(options))))
        conditions.append(tuple(alternatives))
    return Decisions(cardinalities, conditions)


def active_by_definition(space, tokens):
    active = []
    for alternatives in space.conditions:
        holds = [active[parent] and tokens[parent] in options for parent, options in alternatives]
        active.append(not alternatives or any(holds))
    return active


def every_row(space):
    return np.array(list(itertools.product(*map(range, space.cardinalities))))


@given(decisions())
def test_a_decision_is_active_when_any_condition_holds_at_an_active_parent(space):
    rows = every_row(space)
    expected = [active_by_definition(space, row) for row in rows.tolist()]
    np.testing.assert_array_equal(space.active(rows), expected)


@given(decisions())
def test_the_canonical_form_changes_inactive_decisions_only_and_only_once(space):
    rows = every_row(space)
    canonical = space.canonical(rows)
    active = space.active(rows)
    np.testing.assert_array_equal(canonical, np.where(active, rows, 0))
    np.testing.assert_array_equal(space.canonical(canonical), canonical)
    np.testing.assert_array_equal(space.active(canonical), active)


@given(decisions())
def test_enumeration_lists_each_canonical_candidate_once(space):
    expected = sorted({tuple(row) for row in space.canonical(every_row(space)).tolist()})
    assert sorted(map(tuple, space.enumerate(10_000).tolist())) == expected
    assert space.enumerate(len(expected)) is not None
    assert space.enumerate(len(expected) - 1) is None


@given(decisions(), st.integers(0, 100))
def test_samples_are_canonical_and_in_range(space, seed):
    rows = space.sample(np.random.default_rng(seed), 50)
    assert all(space.check(row) == tuple(row) for row in rows.tolist())


def test_sampling_follows_the_given_probabilities():
    space = Decisions([3, 2])
    p = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    rows = space.sample(np.random.default_rng(0), 20_000, p)
    shares = [np.bincount(rows[:, d], minlength=3) / len(rows) for d in range(2)]
    np.testing.assert_allclose(shares, p, atol=0.015)


def test_sampling_without_probabilities_is_uniform_over_the_options():
    rows = Decisions([3, 2]).sample(np.random.default_rng(0), 20_000)
    np.testing.assert_allclose(np.bincount(rows[:, 0]) / len(rows), 1 / 3, atol=0.015)
    np.testing.assert_allclose(np.bincount(rows[:, 1]) / len(rows), 1 / 2, atol=0.015)


@pytest.mark.parametrize(
    ("cardinalities", "conditions", "field"),
    [
        ([], None, "cardinalities"),
        ([2, 0], None, "cardinalities"),
        ([2.5], None, "cardinalities"),
        ([2, 2], [()], "conditions"),
        ([2, 2], [[(1, (0,))], ()], "conditions"),
        ([2, 2], [(), [(0, (2,))]], "conditions"),
        ([2, 2], [(), [(0, ())]], "conditions"),
        ([2, 2], [(), [(0, (0.5,))]], "conditions"),
    ],
)
def test_decisions_that_are_wrong_are_refused_by_field(cardinalities, conditions, field):
    with pytest.raises(ControllerError) as error:
        Decisions(cardinalities, conditions)
    assert error.value.field == field


@pytest.mark.parametrize("tokens", [(0,), (0, 0, 0), (0, 3), (-1, 0), (0, 1.0)])
def test_tokens_that_do_not_fit_are_refused(tokens):
    with pytest.raises(ControllerError) as error:
        Decisions([2, 3]).check(tokens)
    assert error.value.field == "tokens"


def test_numpy_integers_pass_for_tokens_and_come_back_plain():
    tokens = Decisions([2, 3]).check(np.array([1, 2]))
    assert tokens == (1, 2)
    assert all(type(token) is int for token in tokens)


def test_the_fingerprint_tells_conditions_apart():
    assert Decisions([2, 2]).fingerprint == Decisions((2, 2), [(), ()]).fingerprint
    assert Decisions([2, 2]).fingerprint != Decisions([2, 2], [(), [(0, (1,))]]).fingerprint
