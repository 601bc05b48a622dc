"""Checks of a controller's saved states."""

from __future__ import annotations

import numpy as np

from controllers.contract import Outcome, Proposal
from controllers.state import state_to_json
from controllers.testing.tools import (
    CONDITIONAL,
    PLAIN,
    TINY,
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

MANY, ROUND = 10_000, 500
"""Results of a long search, and how many of them are told at once."""


def a_saved_state_continues_exactly(make: Make) -> None:
    """A fresh controller with a saved state, through JSON or npz, continues as the old one does."""
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
            f"a loaded controller must continue as the saved one, but after {trials} trials it does not",
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


def ten_thousand_results_are_taken_and_the_state_grows_with_their_number(make: Make) -> None:
    """After many results a controller still proposes and recommends; twice as many take twice the space."""
    cardinalities, rng = (4,) * 10, np.random.default_rng(14)
    controller = make(cardinalities, None, 14)
    sizes, told = [len(state_to_json(controller.state_dict()))], set()
    for count in range(MANY // ROUND):
        rows = list(map(tuple, rng.integers(0, 4, (ROUND - 1, len(cardinalities))).tolist()))
        results = [*controller.propose(1), *(Proposal(tokens=row) for row in rows)]
        told |= {proposal.tokens for proposal in results}
        controller.feedback([(proposal, reward_of(proposal.tokens)) for proposal in results])
        if count + 1 in (MANY // ROUND // 2, MANY // ROUND):
            sizes.append(len(state_to_json(controller.state_dict())))
    require(
        sizes[2] - sizes[0] <= 2.2 * (sizes[1] - sizes[0]) + 1000,
        f"a state must grow at most with the number of results, but as JSON it has {sizes[0]} characters "
        f"at first, {sizes[1]} after {MANY // 2} results and {sizes[2]} after {MANY}",
    )
    new = [proposal.tokens for proposal in controller.propose(1)]
    require(bool(new) and new[0] not in told, f"after {MANY} results a new one must follow, but got {new}")
    best = controller.recommend(1)
    require(bool(best) and best[0] in told, f"one of {MANY} candidates must be recommended, but got {best}")
