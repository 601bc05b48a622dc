"""Checks of what a controller recommends."""

from __future__ import annotations

from functools import partial

from controllers.contract import Outcome, Proposal
from controllers.decisions import Decisions
from controllers.testing.tools import (
    CONDITIONAL,
    PLAIN,
    SPACES,
    Make,
    refuses,
    require,
    reward_of,
    same,
    search,
    through_json,
    through_npz,
)


def nothing_is_recommended_before_a_reward(make: Make) -> None:
    """Without a completed result there is none to recommend, with the first there is one."""
    for cardinalities, conditions in SPACES:
        controller = make(cardinalities, conditions, 12)
        *failed, last = controller.propose(4)
        for results in ([], [(p, Outcome(status="infeasible")) for p in failed]):
            controller.feedback(results)
            got = controller.recommend(5)
            require(got == [], f"nothing may be recommended before the first reward, but got {got}")
        controller.feedback([(last, -3.0)])
        got = controller.recommend(5)
        require(got == [last.tokens], f"{last.tokens} alone has a reward, but recommended was {got}")


def only_candidates_that_completed_are_recommended(make: Make) -> None:
    """Wherever they were chosen, in canonical form, and none that was infeasible at any time."""
    for cardinalities, conditions in SPACES:
        controller = make(cardinalities, conditions, 12)
        completed = set()
        for number, proposal in enumerate(controller.propose(24)):
            is_feasible = number % 3 > 0
            result = Outcome(reward_of(proposal.tokens)) if is_feasible else Outcome(status="infeasible")
            controller.feedback([(proposal, result)])
            completed |= {proposal.tokens} if is_feasible else set()
        spoiled = min(completed)
        controller.feedback([(Proposal(spoiled), 5.0), (Proposal(spoiled), Outcome(status="infeasible"))])
        foreign = tuple(c - 1 for c in cardinalities)  # not canonical where there are conditions
        controller.feedback([(Proposal(foreign), 0.5)])
        completed.add(Decisions(cardinalities, conditions).check(foreign))
        got = controller.recommend(100)
        require(
            all(type(candidate) is tuple and all(type(t) is int for t in candidate) for candidate in got),
            f"recommendations must be tuples of plain ints, but got {got}",
        )
        wrong = sorted(set(got) - (completed - {spoiled}))
        require(not wrong, f"only candidates that completed may be recommended, but got {wrong[:3]} too")


def recommendations_are_best_first_without_repeats(make: Make) -> None:
    """At most n, each once, the same whatever n is; in the order of rewards that lie far apart."""
    for cardinalities, conditions in SPACES:
        controller = make(cardinalities, conditions, 13)
        controller.feedback([(p, reward_of(p.tokens)) for p in list(search(controller, 20))[:5]])
        longest = controller.recommend(100)
        require(len(set(longest)) == len(longest), f"each may be recommended once, but got {longest}")
        for n in (1, 2, 7):
            got = controller.recommend(n)
            require(
                got == longest[:n], f"recommend({n}) must be the first {n} of {longest[:9]}, but got {got}"
            )
        for n in (0, -1):
            refuses(partial(controller.recommend, n), f"recommend({n})")
    controller = make(*PLAIN, 13)
    apart = [(0, 0, 0, 0, 0, 0), (1, 1, 2, 0, 2, 2), (2, 0, 3, 0, 1, 4)]
    for reward, tokens in ((0.5, apart[1]), (0.0, apart[2]), (1.0, apart[0])):
        controller.feedback([(Proposal(tokens), reward)] * 4)
    got = controller.recommend(3)
    require(got == apart, f"rewards 1, 0.5 and 0 must be recommended as {apart}, but got {got}")


def repeats_of_a_candidate_count_together(make: Make) -> None:
    """One lucky result among bad ones is not recommended ahead of a candidate that is good every time."""
    lucky, steady = Proposal((0, 0, 0, 0, 0, 0)), Proposal((2, 1, 3, 0, 2, 4))
    for order in ((lucky, steady), (steady, lucky)):
        controller = make(*PLAIN, 14)
        for proposal in order:
            rewards = [1.0] + [0.0] * 7 if proposal is lucky else [0.8] * 8
            for reward in rewards:
                controller.feedback([(proposal, reward)])
        got = controller.recommend(1)
        require(
            got == [steady.tokens],
            f"a mean of 0.8 over 8 results must be recommended over one 1.0 and seven 0.0, but got {got}",
        )


def recommendations_outlive_a_saved_state(make: Make) -> None:
    """A fresh controller with a saved state recommends what the old one does."""
    for (cardinalities, conditions), through in ((PLAIN, through_json), (CONDITIONAL, through_npz)):
        old = make(cardinalities, conditions, 15)
        proposals = list(search(old, 23))
        old.feedback([(proposals[0], 0.9), (proposals[1], Outcome(status="infeasible"))])
        new = make(cardinalities, conditions, 15)
        new.load_state_dict(through(old.state_dict()))
        ours, theirs = old.recommend(9), new.recommend(9)
        require(ours == theirs, f"a loaded controller must recommend {ours}, but got {theirs}")


def asking_for_recommendations_changes_nothing(make: Make) -> None:
    """A search in which recommendations are asked for after every trial is the same as one without."""
    asked, unasked = (make(*CONDITIONAL, 16) for _ in range(2))
    for trial in range(24):
        ours, theirs = asked.propose(1), unasked.propose(1)
        require(same(ours, theirs), f"asking must change nothing, but proposal {trial} differs")
        for controller, proposals in ((asked, ours), (unasked, theirs)):
            controller.feedback([(p, reward_of(p.tokens)) for p in proposals])
        asked.recommend(3)
