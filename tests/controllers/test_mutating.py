"""Evolution and local search: what they take from whom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers import ControllerError, LocalSearch, Outcome, Proposal, RegularizedEvolution
from controllers.decisions import Decisions
from controllers.law_tools import CONDITIONAL, PLAIN
from controllers.mutation import mutate


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


def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_evolution_begins_with_uniform_draws_and_goes_on_from_the_winners():
    controller = RegularizedEvolution((4,) * 10, population=8, sample=8, seed=0)
    first = controller.propose(8)
    controller.feedback([(p, float(number == 3)) for number, p in enumerate(first)])
    for proposal in controller.propose(12):
        assert distance(proposal.tokens, first[3].tokens) == 1


def test_the_oldest_member_leaves_however_good_it_was():
    controller = RegularizedEvolution((4,) * 10, population=4, sample=4, seed=0)
    best, *others = controller.propose(4)
    controller.feedback([(best, 1.0), *((p, 0.1) for p in others)])
    assert controller.diagnostics()["population_best"] == 1.0
    (newcomer,) = controller.propose()
    controller.feedback([(newcomer, 0.5)])
    assert controller.diagnostics() == {
        "population": 4.0,
        "population_mean": pytest.approx(0.2),
        "population_best": 0.5,
    }
    assert all(distance(p.tokens, newcomer.tokens) == 1 for p in controller.propose(5))


def test_evolution_counts_what_could_not_be_trained_as_the_worst():
    controller = RegularizedEvolution((4,) * 10, population=2, sample=2, seed=0)
    good, bad = controller.propose(2)
    controller.feedback([(good, -5.0), (bad, Outcome(status="infeasible"))])
    assert controller.diagnostics()["population_mean"] == -5.0


def test_the_share_of_each_option_in_the_population_is_its_probability():
    controller = RegularizedEvolution((2, 3), population=4, sample=1)
    assert controller.probabilities() is None
    controller.feedback([(Proposal((0, 2)), 0.1), (Proposal((1, 2)), 0.2)])
    assert [shares.tolist() for shares in controller.probabilities()] == [[0.5, 0.5], [0, 0, 1]]


def test_local_search_looks_at_all_neighbours_before_it_goes_farther():
    controller = LocalSearch((3, 3, 3), first=1, seed=0)
    (start,) = controller.propose()
    controller.feedback([(start, 1.0)])
    neighbours = controller.propose(6)
    assert sorted(distance(p.tokens, start.tokens) for p in neighbours) == [1] * 6
    assert all(distance(p.tokens, start.tokens) == 2 for p in controller.propose(3))


def test_local_search_moves_to_what_is_better_and_to_nothing_else():
    controller = LocalSearch((4,) * 8, first=1, seed=0)
    (start,) = controller.propose()
    controller.feedback([(start, 0.5)])
    worse, better = controller.propose(2)
    controller.feedback([(worse, 0.4), (better, 0.6)])
    assert all(distance(p.tokens, better.tokens) == 1 for p in controller.propose(5))


def test_results_of_the_incumbent_that_come_again_are_averaged():
    controller = LocalSearch((4,) * 8, first=1, seed=0)
    (start,) = controller.propose()
    controller.feedback([(start, 1.0), (start, 0.0)])
    assert controller.diagnostics() == {"incumbent_reward": 0.5, "incumbent_results": 2.0}
    (other,) = controller.propose()
    controller.feedback([(other, 0.6)])
    assert controller.diagnostics() == {"incumbent_reward": 0.6, "incumbent_results": 1.0}


def test_local_search_goes_back_to_a_candidate_whose_rival_was_lucky():
    controller = LocalSearch((4,) * 8, first=1, seed=0)
    good, lucky = controller.propose(2)
    controller.feedback([(good, 0.6), (lucky, 1.0)])
    assert controller.recommend() == [lucky.tokens]
    controller.feedback([(lucky, 0.0)])
    assert controller.recommend(2) == [good.tokens, lucky.tokens]
    assert controller.diagnostics() == {"incumbent_reward": 0.6, "incumbent_results": 1.0}
    (neighbour,) = controller.propose()
    assert distance(neighbour.tokens, good.tokens) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegularizedEvolution((2, 2), population=1, sample=1), "population >= 2"),
        (lambda: RegularizedEvolution((2, 2), population=5, sample=6), "sample=6 and population=5"),
        (lambda: RegularizedEvolution((2, 2), sample=0), "sample=0"),
        (lambda: LocalSearch((2, 2), first=0), "first >= 1 .* first=0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ControllerError, match=message):
        make()
