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
