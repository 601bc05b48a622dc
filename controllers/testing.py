"""The laws of `controllers.Controller` as checks that anybody can run on a controller of their own.

import pytest
from controllers.testing import LAWS

@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_my_controller_keeps_the_law(law):
law(lambda cardinalities, conditions, seed: MyController(cardinalities, conditions, seed=seed))
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from controllers.contract import Conditions, Outcome, Proposal, diagnostics_of, probabilities_of
from controllers.decisions import Decisions
from controllers.law_tools import (
    CONDITIONAL,
    PLAIN,
    SPACES,
    TINY,
    TINY_CONDITIONAL,
    Make,
    check_plain,
    refuses,
    require,
    reward_of,
    same,
    search,
    through_json,
    through_npz,
)
from controllers.recommendation_laws import (
    asking_for_recommendations_changes_nothing,
    nothing_is_recommended_before_a_reward,
    only_candidates_that_completed_are_recommended,
    recommendations_are_best_first_without_repeats,
    recommendations_outlive_a_saved_state,
    repeats_of_a_candidate_count_together,
)
from controllers.state import state_to_json


def check_controller(make: Make) -> None:
    """Checks every law of the contract.

    Args:
        make: Makes a fresh controller; called many times.

    Raises:
        AssertionError: A law is broken; the message says which and by what.
    """
    for law in LAWS:
        law(make)


def proposals_fit_the_decisions(make: Make) -> None:
    """Tokens are ints in range, in canonical form; numbers count from 0; log-probabilities are at most 0."""
    for cardinalities, conditions in SPACES:
        decisions = Decisions(cardinalities, conditions)
        controller = make(cardinalities, conditions, 0)
        for number, proposal in enumerate(search(controller, 40)):
            tokens = proposal.tokens
            require(isinstance(tokens, tuple), f"tokens must be a tuple, but got {tokens!r}")
            require(all(type(t) is int for t in tokens), f"tokens must be plain ints, but got {tokens!r}")
            require(decisions.check(tokens) == tokens, f"inactive decisions must hold 0, but got {tokens!r}")
            require(
                proposal.number == number,
                f"proposals must be numbered from 0 without gaps, but "
                f"got {proposal.number} after {number - 1}",
            )
            require(
                math.isnan(proposal.log_prob) or proposal.log_prob <= 0,
                f"log_prob must be at most 0 or NaN, but got {proposal.log_prob!r}",
            )


def nothing_is_proposed_twice(make: Make) -> None:
    """No candidate comes again while there are others, whatever was fed back."""
    for cardinalities, conditions in SPACES:
        for n in (1, 7):
            seen = [p.tokens for p in search(make(cardinalities, conditions, 1), 56, n)]
            twice = {tokens for tokens in seen if seen.count(tokens) > 1}
            require(not twice, f"no candidate may be proposed twice, but these were: {sorted(twice)[:3]}")


def a_small_space_is_searched_to_the_last_candidate(make: Make) -> None:
    """Every candidate is proposed once; after that `propose` returns an empty list, again and again."""
    for (cardinalities, conditions), n in itertools.product((TINY, TINY_CONDITIONAL), (1, 4, 100)):
        listed = Decisions(cardinalities, conditions).enumerate(100)
        assert listed is not None  # for the type checker: the space has six candidates at most
        controller = make(cardinalities, conditions, 2)
        found = [p.tokens for p in search(controller, 100, n)]
        require(
            sorted(found) == sorted(map(tuple, listed.tolist())),
            f"each of {len(listed)} candidates must be proposed exactly once, but with n={n} got {found}",
        )
        again = [controller.propose(n), controller.propose(1)]
        require(again == [[], []], f"an exhausted controller must propose nothing, but got {again}")


def the_number_asked_for_is_given(make: Make) -> None:
    """`propose(n)` returns n candidates while there are so many; n below 1 is refused."""
    controller = make(*PLAIN, 0)
    for n in (1, 2, 9, 30):
        got = len(controller.propose(n))
        require(got == n, f"propose({n}) must return {n} proposals while there are others, but got {got}")
    for n in (0, -1):
        refuses(partial(controller.propose, n), f"propose({n})")


def the_same_seed_gives_the_same_proposals(make: Make) -> None:
    """Seed and results decide everything: no global generator is read or moved."""
    for cardinalities, conditions in SPACES:
        np.random.seed(1)  # the global generator is what must not matter
        first = list(search(make(cardinalities, conditions, 3), 24))
        np.random.seed(2)
        before = np.random.get_state()[1].tolist()  # type: ignore[index]
        second = list(search(make(cardinalities, conditions, 3), 24))
        after = np.random.get_state()[1].tolist()  # type: ignore[index]
        require(same(first, second), "the same seed must give the same proposals, but two runs differ")
        require(before == after, "numpy's global generator must be left alone, but its state has moved")
    first, second = make(*PLAIN, 3).propose(10), make(*PLAIN, 4).propose(10)
    require(not same(first, second), "another seed must give other proposals, but seeds 3 and 4 agree")


def a_saved_state_continues_exactly(make: Make) -> None:
    """A fresh controller with a saved state, through JSON or npz, goes on as the old one does."""
    cases = (
        (PLAIN, 0, through_json),
        (PLAIN, 23, through_npz),
        (CONDITIONAL, 3, through_npz),
        (CONDITIONAL, 23, through_json),
        (TINY, 3, through_json),
    )
    for (cardinalities, conditions), trials, through in cases:
        old = make(cardinalities, conditions, 5)
        waiting = [*search(old, trials, late=True)][-1:] + old.propose(2)
        old.feedback([(Proposal(tokens=(0,) * len(cardinalities)), Outcome(status="infeasible"))])
        new = make(cardinalities, conditions, 5)
        new.load_state_dict(through(old.state_dict()))
        require(
            state_to_json(new.state_dict()) == state_to_json(old.state_dict()),
            f"a loaded state must be the saved one, but after {trials} trials they differ",
        )
        for controller in (old, new):
            controller.feedback([(p, reward_of(p.tokens)) for p in waiting])
        require(
            same(search(old, 16), search(new, 16)),
            f"a loaded controller must go on exactly as the saved one, but after {trials} trials it does not",
        )


def a_state_is_a_snapshot_of_arrays_and_json(make: Make) -> None:
    """A state holds arrays of numbers, JSON scalars, lists and dicts, and does not change afterwards."""
    controller = make(*CONDITIONAL, 0)
    list(search(controller, 12))
    state = controller.state_dict()
    check_plain(state, "state")
    before = state_to_json(state)
    list(search(controller, 12))
    require(state_to_json(state) == before, "a state must not change after it was taken, but it did")
    fresh = make(*CONDITIONAL, 0)
    fresh.load_state_dict(state)
    list(search(fresh, 12))
    require(state_to_json(state) == before, "a state must not change after it was loaded, but it did")


def a_state_of_another_space_is_refused(make: Make) -> None:
    """Loading the state of a controller with other decisions is an error, not a wrong search."""
    state = make(*PLAIN, 0).state_dict()
    refuses(lambda: make(*CONDITIONAL, 0).load_state_dict(state), "the state of another space")


def results_may_come_in_any_order_late_or_never(make: Make) -> None:
    """Reversed, delayed and missing results leave the controller working and free of repeats."""
    for cardinalities, conditions in SPACES:
        controller = make(cardinalities, conditions, 6)
        proposals = controller.propose(8)
        for _ in range(6):
            back = proposals[::-3]  # reversed, and two thirds of them never come
            proposals = [p for p in proposals if p not in back][-6:] + controller.propose(5)
            controller.feedback([(p, reward_of(p.tokens)) for p in back])
        tokens = [p.tokens for p in proposals]
        require(len(set(tokens)) == len(tokens), f"late results must not lead to repeats, but got {tokens}")
        require(
            bool(controller.propose(1)), "a controller must go on when results are missing, but it stopped"
        )


def proposals_rebuilt_from_a_journal_count_the_same(make: Make) -> None:
    """What a proposal teaches is in its tokens, log_prob and number, not in the object."""
    controllers = [make(*CONDITIONAL, 7) for _ in range(2)]
    for _ in range(15):
        ours, theirs = (controller.propose(1)[0] for controller in controllers)
        written = json.loads(json.dumps([theirs.tokens, theirs.log_prob, theirs.number]))
        rebuilt = Proposal(tokens=tuple(written[0]), log_prob=written[1], number=written[2])
        controllers[0].feedback([(ours, reward_of(ours.tokens))])
        controllers[1].feedback([(rebuilt, Outcome(reward=reward_of(ours.tokens)))])
    require(
        same(controllers[0].propose(5), controllers[1].propose(5)),
        "a proposal rebuilt from tokens, log_prob and number must teach the same, but it does not",
    )


def candidates_of_others_are_learned_from_and_not_proposed(make: Make) -> None:
    """Results for candidates the controller never proposed are welcome, in any form of the same candidate."""
    cardinalities, conditions = TINY_CONDITIONAL
    controller = make(cardinalities, conditions, 8)
    # Both name the candidate (0, 0): the second decision is not active.
    controller.feedback([(Proposal(tokens=(0, 2)), 0.5), (Proposal(tokens=(0, 0)), 0.4)])
    controller.feedback([(Proposal(tokens=(1, 1)), Outcome(status="infeasible"))])
    found = sorted(p.tokens for p in search(controller, 10))
    require(
        found == [(1, 0), (1, 2)],
        f"a candidate somebody else had evaluated must not be proposed, but got {found}",
    )


def infeasible_candidates_do_not_stop_a_search(make: Make) -> None:
    """Infeasible outcomes are taken without a reward, even before any candidate has completed."""
    controller = make(*PLAIN, 9)
    for number in range(40):
        (proposal,) = controller.propose(1)
        is_feasible = number >= 12 and proposal.tokens[0] > 0
        result = Outcome(reward=0.5) if is_feasible else Outcome(status="infeasible")
        controller.feedback([(proposal, result)])
    for name, value in diagnostics_of(controller).items():
        require(math.isfinite(value), f"diagnostics must stay finite, but {name} is {value!r}")


def bad_results_are_refused_and_leave_no_trace(make: Make) -> None:
    """Rewards that are not finite and tokens that do not fit raise ValueError; nothing of the call counts."""
    controller = make(*PLAIN, 10)
    list(search(controller, 6))
    good, bad = controller.propose(2)
    before = state_to_json(controller.state_dict())
    for reward in (math.nan, math.inf, -math.inf):
        refuses(partial(controller.feedback, [(good, 0.5), (bad, reward)]), f"a reward of {reward}")
    short, high = bad.tokens[:-1], (*bad.tokens[:-1], 99)
    for tokens in (short, high):
        results = [(good, 0.5), (Proposal(tokens=tokens), 0.5)]
        refuses(partial(controller.feedback, results), f"tokens {tokens}")
    controller.feedback([])
    require(
        state_to_json(controller.state_dict()) == before,
        "refused and empty feedback must leave the controller as it was, but its state has changed",
    )


def bad_decisions_are_refused(make: Make) -> None:
    """No decisions, a decision without options and a parent after its child raise ValueError."""
    bad: list[tuple[Sequence[int], Conditions | None]] = [
        ((), None),
        ((3, 0), None),
        ((2, 2), ((),)),
        ((2, 2), (((1, (0,)),), ())),
        ((2, 2), ((), ((0, (2,)),))),
    ]
    for cardinalities, conditions in bad:
        refuses(partial(make, cardinalities, conditions, 0), f"{cardinalities}, {conditions}")


def what_is_reported_is_well_formed(make: Make) -> None:
    """Diagnostics are finite floats; probabilities are one distribution per decision, or None."""
    for cardinalities, conditions in SPACES:
        controller = make(cardinalities, conditions, 11)
        for _ in range(3):
            diagnostics, probabilities = diagnostics_of(controller), probabilities_of(controller)
            for name, value in diagnostics.items():
                fits = isinstance(value, float) and math.isfinite(value)
                require(fits, f"diagnostics must be finite floats, but {name} is {value!r}")
            shapes = [p.shape for p in probabilities or ()]
            require(
                probabilities is None or shapes == [(c,) for c in cardinalities],
                f"probabilities must have one entry per option of {cardinalities}, but got shapes {shapes}",
            )
            for p in probabilities or ():
                fits = bool((p >= 0).all()) and abs(p.sum() - 1) < 1e-5
                require(fits, f"probabilities must be at least 0 and sum to 1, but got {p}")
            list(search(controller, 15))


LAWS: tuple[Callable[[Make], None], ...] = (
    proposals_fit_the_decisions,
    nothing_is_proposed_twice,
    a_small_space_is_searched_to_the_last_candidate,
    the_number_asked_for_is_given,
    the_same_seed_gives_the_same_proposals,
    a_saved_state_continues_exactly,
    a_state_is_a_snapshot_of_arrays_and_json,
    a_state_of_another_space_is_refused,
    results_may_come_in_any_order_late_or_never,
    proposals_rebuilt_from_a_journal_count_the_same,
    candidates_of_others_are_learned_from_and_not_proposed,
    infeasible_candidates_do_not_stop_a_search,
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
"""Every law, for a test runner that names each."""
