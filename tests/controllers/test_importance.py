from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import ControllerError
from controllers.decisions import Decisions
from controllers.importance import main_effects, total_effects

PLAIN = Decisions((3, 2, 4, 1, 3))
CONDITIONAL = Decisions((3, 2, 3, 2), ((), ((0, (1, 2)),), ((1, (1,)),), ()))


def additive(tables):
    """A function that adds one number for each decision."""
    return lambda tokens: sum(table[column] for table, column in zip(tables, tokens.T, strict=True))


def raw_candidates(decisions):
    return np.array(list(itertools.product(*map(range, decisions.cardinalities))))


def exact_total_effects(function, decisions):
    """By enumeration: mean over all else of the variance over one decision, as a share of the variance."""
    values = function(decisions.canonical(raw_candidates(decisions))).reshape(decisions.cardinalities)
    return np.array([values.var(axis=d).mean() for d in range(len(decisions))]) / values.var()


def interacting(tokens):
    return (1.0 + tokens[:, 0]) * (2.0 + tokens[:, 1] * tokens[:, 2]) + 0.5 * tokens[:, 3]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=5, max_size=5), st.integers(0, 99)
)
def test_shares_of_an_additive_function_are_those_of_its_parts(numbers, seed):
    tables = [np.array(row[:count]) for row, count in zip(numbers, PLAIN.cardinalities, strict=True)]
    variances = np.array([table.var() for table in tables])
    if variances.sum() < 1e-6:
        return
    effects = total_effects(additive(tables), PLAIN, samples=4096, seed=seed)
    assert effects == pytest.approx(variances / variances.sum(), abs=0.1)
    assert effects[3] == 0


@pytest.mark.parametrize("decisions", [Decisions((3, 2, 3, 2)), CONDITIONAL], ids=["plain", "conditional"])
def test_shares_are_those_of_enumeration_where_decisions_act_together_or_depend(decisions):
    exact = exact_total_effects(interacting, decisions)
    assert total_effects(interacting, decisions, samples=20_000) == pytest.approx(exact, abs=0.03)
    assert exact.sum() > 1


def test_conditional_decision_that_is_never_active_explains_nothing():
    decisions = Decisions((2, 2, 3), ((), ((0, (1,)),), ((1, (1,)),)))

    def function(tokens):
        assert (tokens == decisions.canonical(tokens)).all()
        return tokens[:, 0] + tokens[:, 2] * 0.0

    effects = total_effects(function, decisions)
    assert effects[0] == pytest.approx(1, abs=0.15)
    assert effects[1:].tolist() == [0, 0]


@pytest.mark.parametrize("value", [0.0, 0.1, -3e9])
def test_constant_function_gives_zeros(value):
    def function(tokens):
        return value + 1e-13 * abs(value) * tokens[:, 0]

    assert total_effects(function, PLAIN).tolist() == [0] * 5


def test_candidates_without_a_value_are_left_out():
    def function(tokens):
        return np.where(tokens[:, 1] == 1, np.nan, tokens[:, 0] + 0.0)

    effects = total_effects(function, PLAIN, samples=2048)
    assert effects[0] == pytest.approx(1, abs=0.1)
    assert effects[1:].tolist() == [0] * 4
    assert np.isnan(main_effects(function, PLAIN)[1]).tolist() == [False, True]
    assert total_effects(lambda tokens: np.full(len(tokens), np.nan), PLAIN).tolist() == [0] * 5


def test_means_of_options_differ_as_in_an_additive_function():
    tables = [
        np.array([0.0, 1.0, 5.0]),
        np.array([2.0, -2.0]),
        np.arange(4.0),
        np.zeros(1),
        np.array([1, 0, 1.0]),
    ]
    for means, table in zip(main_effects(additive(tables), PLAIN, samples=16), tables, strict=True):
        assert means - means[0] == pytest.approx(table - table[0])


def test_means_of_options_are_over_the_candidates_in_which_the_decision_is_active():
    listed = raw_candidates(CONDITIONAL)
    active = CONDITIONAL.active(listed)
    found = main_effects(interacting, CONDITIONAL, samples=20_000)
    values = interacting(CONDITIONAL.canonical(listed))
    for decision, means in enumerate(found):
        here = active[:, decision]
        exact = [values[here & (listed[:, decision] == option)].mean() for option in range(len(means))]
        assert means == pytest.approx(exact, rel=0.03)


def test_the_same_seed_gives_the_same_shares_and_the_global_generator_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first, second = (total_effects(interacting, CONDITIONAL, seed=3) for _ in range(2))
    assert (first == second).all()
    assert (first != total_effects(interacting, CONDITIONAL, seed=4)).any()
    assert np.random.get_state()[1].tolist() == before


def test_too_few_samples_are_refused():
    for effects in (total_effects, main_effects):
        with pytest.raises(ControllerError) as error:
            effects(interacting, CONDITIONAL, samples=1)
        assert error.value.field == "samples"
