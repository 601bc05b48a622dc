"""The contract of `controllers.Controller` as checks; run them on your controller.

    import pytest
    from controllers.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_controller_keeps_the_contract(check):
        check(lambda cardinalities, conditions, seed: MyController(cardinalities, conditions, seed=seed))

`check_learning` checks that it beats random search.
"""

from __future__ import annotations

from collections.abc import Callable

from controllers.testing.copy_check import check_copy
from controllers.testing.learning import check_learning
from controllers.testing.proposals import (
    a_small_space_is_searched_to_the_last_candidate,
    bad_decisions_are_refused,
    nothing_is_proposed_twice,
    proposals_fit_the_decisions,
    the_number_asked_for_is_given,
    the_same_seed_gives_the_same_proposals,
    what_is_reported_is_well_formed,
)
from controllers.testing.recommendations import (
    asking_for_recommendations_changes_nothing,
    nothing_is_recommended_before_a_reward,
    only_candidates_that_completed_are_recommended,
    recommendations_are_best_first_without_repeats,
    recommendations_outlive_a_saved_state,
    repeats_of_a_candidate_count_together,
)
from controllers.testing.results import (
    a_lost_trial_teaches_nothing,
    bad_results_are_refused_and_leave_no_trace,
    candidates_of_others_are_learned_from_and_not_proposed,
    infeasible_candidates_do_not_stop_a_search,
    proposals_rebuilt_from_a_journal_count_the_same,
    results_may_come_in_any_order_late_or_never,
)
from controllers.testing.states import (
    a_saved_state_continues_exactly,
    a_state_is_a_snapshot_of_arrays_and_json,
    a_state_of_another_space_is_refused,
    ten_thousand_results_are_taken_and_the_state_grows_with_their_number,
)
from controllers.testing.tools import Make

CHECKS: tuple[Callable[[Make], None], ...] = (
    proposals_fit_the_decisions,
    nothing_is_proposed_twice,
    a_small_space_is_searched_to_the_last_candidate,
    the_number_asked_for_is_given,
    the_same_seed_gives_the_same_proposals,
    a_saved_state_continues_exactly,
    a_state_is_a_snapshot_of_arrays_and_json,
    a_state_of_another_space_is_refused,
    ten_thousand_results_are_taken_and_the_state_grows_with_their_number,
    results_may_come_in_any_order_late_or_never,
    proposals_rebuilt_from_a_journal_count_the_same,
    candidates_of_others_are_learned_from_and_not_proposed,
    infeasible_candidates_do_not_stop_a_search,
    a_lost_trial_teaches_nothing,
    bad_results_are_refused_and_leave_no_trace,
    bad_decisions_are_refused,
    what_is_reported_is_well_formed,
    nothing_is_recommended_before_a_reward,
    only_candidates_that_completed_are_recommended,
    recommendations_are_best_first_without_repeats,
    repeats_of_a_candidate_count_together,
    recommendations_outlive_a_saved_state,
    asking_for_recommendations_changes_nothing,
)
"""Every check of the contract, for a test runner that names each."""


def check_controller(make: Make) -> None:
    """Checks the whole contract.

    Args:
        make: Makes a fresh controller; called many times.

    Raises:
        AssertionError: The contract is broken; the message says where and how.
    """
    for check in CHECKS:
        check(make)


__all__ = ["CHECKS", "Make", "check_controller", "check_copy", "check_learning"]
