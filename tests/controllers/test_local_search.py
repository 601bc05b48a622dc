"""Local search: which candidate is the incumbent, and how far it looks."""

from __future__ import annotations

import pytest

from controllers import ControllerError, LocalSearch
from controllers.testing.tools import distance


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


def test_local_search_goes_back_to_a_candidate_after_the_other_had_a_lucky_result():
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
    ("field", "settings"),
    [("first", {"first": 0}), ("first", {"first": 1.5})],
)
def test_settings_out_of_range_are_refused_by_field(field, settings):
    with pytest.raises(ControllerError) as error:
        LocalSearch((2, 2), **settings)
    assert error.value.field == field
