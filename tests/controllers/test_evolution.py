"""Aging evolution: who is a parent, and who leaves."""

from __future__ import annotations

import pytest

from controllers import ControllerError, Outcome, Proposal, RegularizedEvolution
from controllers.testing.tools import distance


def test_evolution_begins_with_uniform_draws_and_continues_from_the_winners():
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


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("population", {"population": 1, "sample": 1}),
        ("sample", {"population": 5, "sample": 6}),
        ("sample", {"sample": 0}),
        ("population", {"population": 2.5}),
    ],
)
def test_settings_out_of_range_are_refused_by_field(field, settings):
    with pytest.raises(ControllerError) as error:
        RegularizedEvolution((2, 2), **settings)
    assert error.value.field == field
