"""Mutation, recombination and neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.decisions import Decisions
from controllers.mutation import changes_at, mutate, neighbours, recombine
from controllers.testing.tools import CONDITIONAL, PLAIN


@pytest.mark.parametrize("space", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
@given(seed=st.integers(0, 10_000))
def test_a_mutation_changes_one_active_decision_and_decides_what_becomes_active(space, seed):
    decisions, rng = Decisions(*space), np.random.default_rng(seed)
    parents = decisions.sample(rng, 20)
    children = mutate(decisions, rng, parents)
    assert np.array_equal(children, decisions.canonical(children))
    both = decisions.active(parents) & decisions.active(children)
    changed = (parents != children) & both
    assert (changed.sum(axis=1) == 1).all()


def test_mutations_reach_every_other_option_alike():
    decisions, rng = Decisions((3, 2, 1)), np.random.default_rng(0)
    children = mutate(decisions, rng, np.tile([1, 0, 0], (4000, 1)))
    found, counts = np.unique(children, axis=0, return_counts=True)
    assert found.tolist() == [[0, 0, 0], [1, 1, 0], [2, 0, 0]]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_several_changes_change_as_many_decisions_as_there_are():
    decisions, rng = Decisions((4,) * 6), np.random.default_rng(0)
    parents = decisions.sample(rng, 50)
    for changes, expected in ((2, 2), (5, 5), (9, 6)):
        assert ((mutate(decisions, rng, parents, changes) != parents).sum(axis=1) == expected).all()


@pytest.mark.parametrize("space", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
@given(seed=st.integers(0, 10_000))
def test_a_child_takes_each_decision_after_a_parent_that_has_made_it(space, seed):
    decisions, rng = Decisions(*space), np.random.default_rng(seed)
    one, other = decisions.sample(rng, 20), decisions.sample(rng, 20)
    children = recombine(decisions, rng, one, other)
    assert np.array_equal(children, decisions.canonical(children))
    in_one, in_other = decisions.active(one), decisions.active(other)
    is_inherited = (in_one & (children == one)) | (in_other & (children == other))
    assert is_inherited[decisions.active(children)].all()


def test_a_child_takes_after_both_parents_alike():
    decisions, rng = Decisions((2,) * 4), np.random.default_rng(0)
    one, other = np.zeros((4000, 4), dtype=np.int64), np.ones((4000, 4), dtype=np.int64)
    children = recombine(decisions, rng, one, other)
    assert children.mean(axis=0) == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef(children.T)[np.triu_indices(4, 1)] == pytest.approx(0, abs=0.06)


def test_a_decision_that_is_active_in_one_parent_only_is_taken_after_that_one():
    decisions, rng = Decisions((2, 2, 5), ((), (), ((0, (1,)),))), np.random.default_rng(0)
    children = recombine(decisions, rng, np.tile([1, 0, 3], (200, 1)), np.tile([0, 1, 0], (200, 1)))
    found = {tuple(row) for row in children.tolist()}
    assert found == {(0, 0, 0), (0, 1, 0), (1, 0, 3), (1, 1, 3)}


def test_neighbours_differ_in_one_decision_and_are_all_there():
    rng = np.random.default_rng(0)
    decisions = Decisions((2, 3), ((), ((0, (1,)),)))
    found, parent_of = neighbours(decisions, np.array([[1, 2]]), rng, most=99)
    assert sorted(found.tolist()) == [[0, 0], [1, 0], [1, 1]]
    assert parent_of.tolist() == [0, 0, 0]
    found, _ = neighbours(Decisions((3, 2, 4)), np.zeros((5, 3), dtype=np.int64), rng, most=99)
    assert len(found) == 5 * (2 + 1 + 3)


def test_of_many_neighbours_some_are_drawn_each_once():
    decisions, rng = Decisions((4,) * 9), np.random.default_rng(0)
    tokens = decisions.sample(rng, 5)
    found, parent_of = neighbours(decisions, tokens, rng, most=60)
    assert ((found != tokens[parent_of]).sum(axis=1) == 1).all()
    assert len({(int(parent), *row) for parent, row in zip(parent_of, found.tolist(), strict=True)}) == 60


@pytest.mark.parametrize(("temperature", "changes"), [(0.4, 1), (1.0, 1), (2.0, 2), (8.0, 8)])
def test_more_decisions_change_at_a_higher_temperature(temperature, changes):
    assert changes_at(temperature) == changes
