from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from controllers import ControllerError, Outcome, RandomSearch
from controllers.testing import CHECKS, check_controller, proposals, recommendations, results, states

LONG = (states.ten_thousand_results_are_taken_and_the_state_grows_with_their_number,)


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, marks=pytest.mark.slow) if check in LONG else check for check in CHECKS],
    ids=lambda check: check.__name__,
)
def test_every_controller_keeps_the_contract(make, check):
    check(make)


class Wrapper:
    """Random search that a test bends in one place."""

    def __init__(self, cardinalities, conditions, seed):
        self.inner = RandomSearch(cardinalities, conditions, seed=seed)

    def propose(self, n=1):
        return self.inner.propose(n)

    def feedback(self, results):
        self.inner.feedback(results)

    def recommend(self, n=1):
        return self.inner.recommend(n)

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)

    def diagnostics(self):
        return {}

    def probabilities(self):
        return None


class GivesListsForTokens(Wrapper):
    def propose(self, n=1):
        return [replace(p, tokens=list(p.tokens)) for p in super().propose(n)]


class NumbersFromOne(Wrapper):
    def propose(self, n=1):
        return [replace(p, number=p.number + 1) for p in super().propose(n)]


class ForgetsToBeCanonical(Wrapper):
    def __init__(self, cardinalities, _conditions, seed):
        super().__init__(cardinalities, None, seed)


class Repeats(Wrapper):
    def propose(self, n=1):
        self.first = getattr(self, "first", None) or super().propose(1)
        return [replace(self.first[0], number=number) for number in range(n)]


class GivesUpEarly(Wrapper):
    count = 0

    def propose(self, n=1):
        self.count += 1
        return super().propose(n) if self.count < 4 else []


class GivesTooMany(Wrapper):
    def propose(self, n=1):
        return super().propose(n + 1)


class AcceptsZero(Wrapper):
    def propose(self, n=1):
        return super().propose(n) if n > 0 else []


class UsesTheGlobalGenerator(Wrapper):
    def __init__(self, cardinalities, conditions, _seed):
        super().__init__(cardinalities, conditions, int(np.random.randint(1 << 30)))


class DrawsAnotherSeedEveryTime(Wrapper):
    def __init__(self, cardinalities, conditions, _seed):
        super().__init__(cardinalities, conditions, random.SystemRandom().randrange(1 << 30))


class IgnoresTheSeed(Wrapper):
    def __init__(self, cardinalities, conditions, _seed):
        super().__init__(cardinalities, conditions, 0)


class ForgetsWhatItSaw(Wrapper):
    def load_state_dict(self, state):
        empty = RandomSearch((2,)).state_dict()["candidates"]["seen"]
        super().load_state_dict({**state, "candidates": {**state["candidates"], "seen": empty}})


class ForgetsItsGenerator(Wrapper):
    def state_dict(self):
        state = super().state_dict()
        fresh = RandomSearch((2,)).state_dict()["candidates"]["rng"]
        return {**state, "candidates": {**state["candidates"], "rng": fresh}}


class SavesTuples(Wrapper):
    def state_dict(self):
        return {**super().state_dict(), "more": (1, 2)}


class SavesNumpyScalars(Wrapper):
    def state_dict(self):
        return {**super().state_dict(), "more": np.float64(1)}


class SavesEveryPair(Wrapper):
    def state_dict(self):
        state = super().state_dict()
        return {**state, "pairs": np.zeros(len(state["results"]["rewards"]) ** 2 // 50)}


class SavesALiveArray(Wrapper):
    count = np.zeros(1)

    def propose(self, n=1):
        self.count += 1
        return super().propose(n)

    def state_dict(self):
        return {**super().state_dict(), "count": self.count}


class LoadsAnything(Wrapper):
    def load_state_dict(self, state):
        pass


class CountsOnlyItsOwnObjects(Wrapper):
    def propose(self, n=1):
        self.given = super().propose(n)
        return self.given

    def feedback(self, results):
        super().feedback(results)
        if any(p is given for p, _ in results for given in self.given):
            self.inner.propose(1)


class ProposesWhatOthersHadEvaluated(Wrapper):
    def feedback(self, results):
        super().feedback([(p, result) for p, result in results if p.number >= 0])


class NeedsARewardOfTheInfeasible(Wrapper):
    def feedback(self, results):
        for _, result in results:
            if isinstance(result, Outcome) and result.reward != result.reward:
                raise ControllerError("a reward, please")
        super().feedback(results)


class RefusesTheLost(Wrapper):
    def feedback(self, results):
        if any(getattr(outcome, "is_lost", False) for _, outcome in results):
            raise ControllerError("a lost trial teaches nothing")
        super().feedback(results)


class TakesTheLostForBad(Wrapper):
    def feedback(self, results):
        def known(outcome):
            return Outcome(-1.0) if getattr(outcome, "is_lost", False) else outcome

        super().feedback([(p, known(outcome)) for p, outcome in results])


class StopsWhenResultsAreMissing(Wrapper):
    open = 0

    def propose(self, n=1):
        self.open += n
        return super().propose(n) if self.open <= 12 else []

    def feedback(self, results):
        self.open -= len(results)
        super().feedback(results)


class TakesAnyReward(Wrapper):
    def feedback(self, results):
        super().feedback([(p, 0.0) for p, _ in results])


class TakesTheGoodHalf(Wrapper):
    def feedback(self, results):
        for result in results:
            self.taken = getattr(self, "taken", 0) + 1
            super().feedback([result])

    def state_dict(self):
        return {**super().state_dict(), "taken": getattr(self, "taken", 0)}


class TakesAnyDecisions(Wrapper):
    def __init__(self, cardinalities, _conditions, seed):
        super().__init__([max(c, 1) for c in cardinalities] or [1], None, seed)


class ReportsNaN(Wrapper):
    def diagnostics(self):
        return {"entropy": float("nan")}


class ReportsNoDistribution(Wrapper):
    def probabilities(self):
        return [np.full(c, 1.0) for c in self.inner._decisions.cardinalities]


class RecommendsWhatItProposed(Wrapper):
    def propose(self, n=1):
        self.proposed = getattr(self, "proposed", []) + super().propose(n)
        return self.proposed[-n:]

    def recommend(self, n=1):
        return [p.tokens for p in self.proposed][:n]


class RecommendsNothing(Wrapper):
    def recommend(self, n=1):
        return super().recommend(n)[:0]


class KeepsScores(Wrapper):
    """Recommends by scores of its own, which a test bends in one place."""

    def __init__(self, cardinalities, conditions, seed):
        super().__init__(cardinalities, conditions, seed)
        self.scores = {}

    def feedback(self, results):
        super().feedback(results)
        for p, result in results:
            self.score(p.tokens, result if isinstance(result, Outcome) else Outcome(result))

    def score(self, tokens, outcome):
        if outcome.is_feasible:
            self.scores[tokens] = outcome.reward

    def recommend(self, n=1):
        super().recommend(n)
        return sorted(self.scores, key=self.scores.get, reverse=True)[:n]


class RecommendsTheInfeasible(KeepsScores):
    def score(self, tokens, outcome):
        self.scores[self.inner._decisions.check(tokens)] = outcome.reward if outcome.is_feasible else 0.0


class RecommendsWhatWasInfeasibleOnce(KeepsScores):
    def score(self, tokens, outcome):
        super().score(self.inner._decisions.check(tokens), outcome)


class RecommendsWhatIsNotCanonical(KeepsScores):
    def score(self, tokens, outcome):
        super().score(tokens, outcome)
        if not outcome.is_feasible:
            self.scores.pop(tokens, None)


class RecommendsLists(Wrapper):
    def recommend(self, n=1):
        return [list(candidate) for candidate in super().recommend(n)]


class RecommendsTheWorst(Wrapper):
    def recommend(self, n=1):
        return super().recommend(10_000)[::-1][:n] if n > 0 else super().recommend(n)


class RecommendsTwice(Wrapper):
    def recommend(self, n=1):
        return [c for c in super().recommend(n) for _ in range(2)][:n]


class RecommendsTooMany(Wrapper):
    def recommend(self, n=1):
        return super().recommend(n + 1)


class RecommendsNoneWhenAskedForNone(Wrapper):
    def recommend(self, n=1):
        return super().recommend(n) if n > 0 else []


class RecommendsInAnotherOrderForMore(Wrapper):
    def recommend(self, n=1):
        return super().recommend(n)[::-1]


class RecommendsTheLuckiest(KeepsScores):
    def score(self, tokens, outcome):
        if outcome.is_feasible:
            self.scores[tokens] = max(outcome.reward, self.scores.get(tokens, -np.inf))


class RecommendsTheFirst(KeepsScores):
    def score(self, tokens, outcome):
        if outcome.is_feasible:
            self.scores.setdefault(tokens, outcome.reward)


class ForgetsItsResults(Wrapper):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "results": RandomSearch((2,)).state_dict()["results"]})


class DrawsToRecommend(Wrapper):
    def recommend(self, n=1):
        self.inner._rng.random()
        return super().recommend(n)


BROKEN = [
    (GivesListsForTokens, proposals.proposals_fit_the_decisions),
    (NumbersFromOne, proposals.proposals_fit_the_decisions),
    (ForgetsToBeCanonical, proposals.proposals_fit_the_decisions),
    (Repeats, proposals.nothing_is_proposed_twice),
    (GivesUpEarly, proposals.a_small_space_is_searched_to_the_last_candidate),
    (GivesTooMany, proposals.the_number_asked_for_is_given),
    (AcceptsZero, proposals.the_number_asked_for_is_given),
    (UsesTheGlobalGenerator, proposals.the_same_seed_gives_the_same_proposals),
    (DrawsAnotherSeedEveryTime, proposals.the_same_seed_gives_the_same_proposals),
    (IgnoresTheSeed, proposals.the_same_seed_gives_the_same_proposals),
    (ForgetsWhatItSaw, states.a_saved_state_continues_exactly),
    (ForgetsItsGenerator, states.a_saved_state_continues_exactly),
    (LoadsAnything, states.a_saved_state_continues_exactly),
    (SavesTuples, states.a_state_is_a_snapshot_of_arrays_and_json),
    (SavesNumpyScalars, states.a_state_is_a_snapshot_of_arrays_and_json),
    (SavesEveryPair, states.ten_thousand_results_are_taken_and_the_state_grows_with_their_number),
    (SavesALiveArray, states.a_state_is_a_snapshot_of_arrays_and_json),
    (LoadsAnything, states.a_state_of_another_space_is_refused),
    (StopsWhenResultsAreMissing, results.results_may_come_in_any_order_late_or_never),
    (CountsOnlyItsOwnObjects, results.proposals_rebuilt_from_a_journal_count_the_same),
    (ProposesWhatOthersHadEvaluated, results.candidates_of_others_are_learned_from_and_not_proposed),
    (RefusesTheLost, results.a_lost_trial_teaches_nothing),
    (TakesTheLostForBad, results.a_lost_trial_teaches_nothing),
    (NeedsARewardOfTheInfeasible, results.infeasible_candidates_do_not_stop_a_search),
    (TakesAnyReward, results.bad_results_are_refused_and_leave_no_trace),
    (TakesTheGoodHalf, results.bad_results_are_refused_and_leave_no_trace),
    (TakesAnyDecisions, proposals.bad_decisions_are_refused),
    (ReportsNaN, proposals.what_is_reported_is_well_formed),
    (ReportsNoDistribution, proposals.what_is_reported_is_well_formed),
    (RecommendsWhatItProposed, recommendations.nothing_is_recommended_before_a_reward),
    (RecommendsTheInfeasible, recommendations.nothing_is_recommended_before_a_reward),
    (RecommendsNothing, recommendations.nothing_is_recommended_before_a_reward),
    (RecommendsTheInfeasible, recommendations.only_candidates_that_completed_are_recommended),
    (RecommendsWhatWasInfeasibleOnce, recommendations.only_candidates_that_completed_are_recommended),
    (RecommendsWhatIsNotCanonical, recommendations.only_candidates_that_completed_are_recommended),
    (RecommendsLists, recommendations.only_candidates_that_completed_are_recommended),
    (RecommendsTheWorst, recommendations.recommendations_are_best_first_without_repeats),
    (RecommendsTwice, recommendations.recommendations_are_best_first_without_repeats),
    (RecommendsTooMany, recommendations.recommendations_are_best_first_without_repeats),
    (RecommendsNoneWhenAskedForNone, recommendations.recommendations_are_best_first_without_repeats),
    (
        RecommendsInAnotherOrderForMore,
        recommendations.recommendations_are_best_first_without_repeats,
    ),
    (RecommendsTheLuckiest, recommendations.repeats_of_a_candidate_count_together),
    (RecommendsTheFirst, recommendations.repeats_of_a_candidate_count_together),
    (ForgetsItsResults, recommendations.recommendations_outlive_a_saved_state),
    (DrawsToRecommend, recommendations.asking_for_recommendations_changes_nothing),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN, ids=lambda thing: thing.__name__)
def test_a_controller_that_breaks_the_contract_is_found(broken, check):
    with pytest.raises((AssertionError, ControllerError)):
        check(broken)


def test_every_check_has_a_controller_that_fails_it():
    assert {check for _, check in BROKEN} == set(CHECKS)


def test_the_suite_as_a_whole_refuses_what_one_check_refuses():
    with pytest.raises(AssertionError, match="diagnostics must stay finite"):
        check_controller(ReportsNaN)
