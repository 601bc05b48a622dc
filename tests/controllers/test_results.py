from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers import ControllerError, Outcome, Proposal, state_from_json, state_to_json
from controllers.decisions import Decisions
from controllers.results import Results

CARDINALITIES = (2, 3)
FAILED = Outcome(reward=9.0, accuracy=0.9, status="infeasible")

outcomes = st.one_of(
    st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]),
    st.builds(Outcome, st.sampled_from([0.0, 0.5]), accuracy=st.sampled_from([0.1, 0.75])),
    st.just(FAILED),
)
told = st.lists(st.tuples(st.tuples(st.integers(0, 1), st.integers(0, 2)), outcomes), max_size=30)


def taken(pairs, conditions=None):
    results = Results(Decisions(CARDINALITIES, conditions))
    results.take([(Proposal(tokens), outcome) for tokens, outcome in pairs])
    return results


def reward_of(outcome):
    if isinstance(outcome, Outcome):
        return outcome.reward if outcome.is_feasible else math.nan
    return outcome


def means_by_definition(pairs):
    means = {}
    for tokens, _ in pairs:
        rewards = [reward_of(outcome) for other, outcome in pairs if other == tokens]
        means[tokens] = sum(rewards) / len(rewards)
    return means


@given(told)
def test_columns_hold_the_results_in_their_order(pairs):
    results = taken(pairs)
    assert len(results) == len(pairs)
    assert results.tokens.tolist() == [list(tokens) for tokens, _ in pairs]
    assert results.tokens.shape == (len(pairs), 2)
    np.testing.assert_array_equal(results.rewards, [reward_of(outcome) for _, outcome in pairs])
    accuracies = [o.accuracy if isinstance(o, Outcome) and o.is_feasible else math.nan for _, o in pairs]
    np.testing.assert_array_equal(results.accuracies, accuracies)
    for column in (results.tokens, results.rewards, results.accuracies):
        assert column.dtype == (np.int64 if column.ndim == 2 else np.float64)


@given(told)
def test_means_are_those_of_each_candidate(pairs):
    results, expected = taken(pairs), means_by_definition(pairs)
    assert results.candidates.tolist() == [list(tokens) for tokens in expected]
    assert results.candidates[results.numbers].tolist() == results.tokens.tolist()
    np.testing.assert_allclose(results.means(results.rewards), list(expected.values()))
    for tokens in expected:
        rewards = [reward_of(outcome) for other, outcome in pairs if other == tokens]
        np.testing.assert_array_equal(results.rewards_of(tokens), rewards)


@given(told, st.integers(1, 8))
def test_the_best_have_the_best_means_and_were_never_infeasible(pairs, n):
    expected = {c: mean for c, mean in means_by_definition(pairs).items() if not math.isnan(mean)}
    best = taken(pairs).best(n)
    assert len(best) == len(set(best)) == min(n, len(expected))
    found = [expected[candidate] for candidate in best]
    assert found == pytest.approx(sorted(expected.values(), reverse=True)[:n])


def test_of_equal_means_the_earlier_is_the_better():
    assert taken([((1, 2), 0.5), ((0, 0), 0.5), ((1, 0), 0.5)]).best(2) == [(1, 2), (0, 0)]


def test_forms_of_one_candidate_are_one():
    results = taken([((0, 2), 1.0), ((0, 0), 0.0), ((1, 1), 0.6)], ((), ((0, (1,)),)))
    assert results.candidates.tolist() == [[0, 0], [1, 1]]
    assert results.best(2) == [(1, 1), (0, 0)]


@given(told, st.integers(0, 40))
def test_the_latest_carry_the_worst_reward_where_they_were_infeasible(pairs, n):
    results = taken(pairs)
    rewards = [reward_of(outcome) for _, outcome in pairs]
    worst = min((reward for reward in rewards if not math.isnan(reward)), default=math.inf)
    tokens, latest = results.latest(n)
    kept = pairs[max(0, len(pairs) - n) :]
    assert results.worst == worst
    assert tokens.tolist() == [list(tokens) for tokens, _ in kept]
    assert latest.tolist() == [worst if math.isnan(r) else r for r in rewards[len(pairs) - len(kept) :]]


def test_columns_cannot_be_written_to_and_stay_as_they_were():
    results = taken([((1, 2), 0.5)])
    columns = (results.tokens, results.rewards, results.accuracies, results.numbers)
    before = [column.tolist() for column in columns]
    for column in columns:
        with pytest.raises(ValueError, match="read-only"):
            column[...] = 0
    for number in range(40):
        results.take([(Proposal((0, number % 3)), 0.25)])
    np.testing.assert_equal([column.tolist() for column in columns], before)
    assert results.tokens[:2].tolist() == [[1, 2], [0, 0]]
    assert results.rewards.sum() == 0.5 + 40 * 0.25


@pytest.mark.parametrize("bad", [((1, 2), math.nan), ((1, 3), 0.5), ((1,), 0.5)])
def test_one_bad_result_keeps_all_of_them_out(bad):
    results = taken([((1, 2), 0.5)])
    with pytest.raises(ControllerError):
        results.take([(Proposal(tokens), reward) for tokens, reward in (((0, 0), 0.1), bad)])
    assert len(results) == 1
    assert results.worst == 0.5


def test_none_or_fewer_cannot_be_asked_for():
    for n in (0, -2):
        with pytest.raises(ControllerError) as error:
            taken([((1, 2), 0.5)]).best(n)
        assert error.value.field == "n"


@given(told, told)
def test_a_state_continues_exactly_whatever_was_there_before(pairs, before):
    old, new = taken(pairs), taken(before)
    text = state_to_json(old.state_dict())
    new.load_state_dict(state_from_json(text))
    assert state_to_json(new.state_dict()) == text
    assert new.worst == old.worst
    for results in (old, new):
        results.take([(Proposal((1, 1)), 0.3), (Proposal((0, 2)), FAILED)])
    assert new.best(6) == old.best(6)
    assert new.means(new.rewards).tobytes() == old.means(old.rewards).tobytes()


@pytest.mark.parametrize(("cardinality", "size"), [(256, 1), (257, 8)])
def test_a_token_takes_a_byte_where_that_is_enough(cardinality, size):
    results = Results(Decisions((cardinality, 2)))
    results.take([(Proposal((cardinality - 1, 1)), 0.5)])
    state = results.state_dict()
    assert state["tokens"].itemsize == size
    new = Results(Decisions((cardinality, 2)))
    new.load_state_dict(state)
    assert new.best(1) == [(cardinality - 1, 1)]
