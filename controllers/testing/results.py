"""Checks of how a controller takes results."""

from __future__ import annotations

import json
import math
from functools import partial

from controllers.contract import Outcome, Proposal, diagnostics_of
from controllers.state import state_to_json
from controllers.testing.tools import (
    CONDITIONAL,
    PLAIN,
    SPACES,
    TINY_CONDITIONAL,
    Make,
    refuses,
    require,
    reward_of,
    same,
    search,
)


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
            bool(controller.propose(1)), "a controller must continue when results are missing, but it stopped"
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
        f"a candidate that was evaluated elsewhere must not be proposed, but got {found}",
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


def a_lost_trial_teaches_nothing(make: Make) -> None:
    """It changes nothing but that its candidate is under way no longer, however often it is told."""
    lost, stranger = Outcome(status="lost"), Proposal((1, 1, 2, 0, 2, 1))
    told, untold = (make(*PLAIN, 17) for _ in range(2))
    for trial in range(24):
        ours, theirs = told.propose(1), untold.propose(1)
        require(same(ours, theirs), f"a lost candidate must teach nothing, but proposal {trial} differs")
        for controller, proposals in ((told, ours), (untold, theirs)):
            controller.feedback([(p, reward_of(p.tokens)) for p in proposals])
        told.feedback([(stranger, lost)])
    once, twice = (make(*PLAIN, 18) for _ in range(2))
    for controller, times in ((once, 1), (twice, 2)):
        list(search(controller, 15))
        waiting = controller.propose(3)
        before = controller.recommend(20)
        controller.feedback([(p, lost) for p in waiting] * times)
        got = controller.recommend(20)
        require(
            got == before, f"a lost trial must leave recommendations as they were, {before}, but got {got}"
        )
        again = {p.tokens for p in search(controller, 20)} & {p.tokens for p in waiting}
        require(not again, f"a lost proposal must not be proposed again, but got {again}")
        controller.feedback([(waiting[0], 9.0)] * 8)
        got = controller.recommend(1)
        require(got == [waiting[0].tokens], f"a result after all must count as any other, but got {got}")
    require(same(once.propose(3), twice.propose(3)), "to be lost twice must be as once, but proposals differ")


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
