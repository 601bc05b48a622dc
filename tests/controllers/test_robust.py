"""The scale of values among which some collapsed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.robust import Ranks, Scale


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=40))
def test_squashed_values_keep_their_order_and_are_expanded_again(values):
    values = np.array(values)
    scale = Scale(middle=0.5, spread=0.4)
    squashed = scale.squash(values)
    assert (np.diff(squashed[np.argsort(values)]) >= 0).all()
    np.testing.assert_allclose(scale.expand(squashed), values, atol=1e-9)
    np.testing.assert_array_equal(squashed[values >= 0.5], values[values >= 0.5])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_values_that_collapsed_are_told_from_the_others(share):
    rng = np.random.default_rng(0)
    values = 0.7 + 0.02 * rng.normal(size=200)
    collapsed = rng.random(200) < share
    values[collapsed] = 0.01
    np.testing.assert_array_equal(Scale.of(values).has_collapsed(values), collapsed)


def test_the_first_draws_are_no_outliers_once_a_search_sees_good_candidates_only():
    rng = np.random.default_rng(1)
    values = np.concatenate([0.6 + 0.02 * rng.normal(size=15), 0.68 + 0.001 * rng.normal(size=300)])
    assert not Scale.of(values).has_collapsed(values).any()


def test_where_most_values_are_equal_nothing_is_changed():
    values = np.array([0.5] * 20 + [0.1])
    scale = Scale.of(values)
    np.testing.assert_array_equal(scale.squash(values), values)
    assert not scale.has_collapsed(values).any()


@given(st.lists(st.integers(-30, 30), min_size=3, max_size=40))
def test_ranked_values_keep_their_order_and_are_expanded_again(values):
    values = np.array(values) / 10
    ranks = Ranks.of(values)
    others = np.append(values, [values.max() + 0.3, np.median(values)])
    scores = ranks.squash(others)
    assert (np.diff(scores[np.argsort(others)]) >= 0).all()
    np.testing.assert_allclose(ranks.expand(scores), others, atol=1e-9)


def test_the_rank_of_a_value_does_not_depend_on_how_low_the_others_are():
    values = np.linspace(0.6, 0.7, 20)
    deep = np.where(np.arange(20) < 8, values - 50.0, values)
    np.testing.assert_array_equal(Ranks.of(values).squash(values), Ranks.of(deep).squash(deep))
    assert np.isnan(Ranks.of(deep).squash(np.array([np.nan]))).all()
