"""Checks of a controller's saved states."""

from __future__ import annotations

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
