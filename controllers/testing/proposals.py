"""Checks of what a controller proposes and reports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from controllers.contract import Conditions, diagnostics_of, probabilities_of
from controllers.decisions import Decisions
from controllers.testing.tools import (
    PLAIN,
    SPACES,
    TINY,
    TINY_CONDITIONAL,
    Make,
    refuses,
    require,
    same,
    search,
)


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
