"""The first candidates: what is known before any result decides which they are."""

from __future__ import annotations

import numpy as np
import pytest

from controllers import ControllerError, Dyna, Outcome, Problem, Proposal, state_to_json
from controllers.decisions import Decisions
from controllers.results import Results
from controllers.start import Start

CARDINALITIES = (3,) * 8
REFERENCE = (2, 2, 1, 0, 1, 2, 0, 1)


def costs(tokens):
    return 1.0 + tokens.sum(axis=1)


def prior(tokens):
    return np.log(costs(tokens))


def below(limit):
    """A reward that falls off a cliff where the cost is above a limit."""
    return lambda accuracies, table: np.where(table <= limit, accuracies, accuracies - 1.0)


def problem_with(limit, **facts):
    return Problem(CARDINALITIES, costs=costs, reward=below(limit), prior=prior, **facts)


def worse_where_larger(tokens):
    accuracy = 1 - sum(tokens) / 30
    return Outcome(accuracy, accuracy=accuracy)


def first(controller, count):
    return [proposal.tokens for proposal in controller.propose(count)]


def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def mean_distance(candidates):
    pairs = [distance(a, b) for number, a in enumerate(candidates) for b in candidates[:number]]
    return np.mean(pairs)


def test_first_candidates_are_farther_apart_than_random_ones():
    ours = np.mean([mean_distance(first(Dyna(CARDINALITIES, seed=seed), 6)) for seed in range(5)])
    rng, decisions = np.random.default_rng(0), Decisions(CARDINALITIES)
    random = np.mean([mean_distance(decisions.sample(rng, 6).tolist()) for _ in range(50)])
    assert ours > random + 0.5


def test_the_reference_comes_first_and_others_around_it():
    found = first(Dyna(problem_with(100, reference=REFERENCE), seed=0), 5)
    assert found[0] == REFERENCE
    assert max(distance(REFERENCE, other) for other in found) <= 4


def test_a_reference_above_the_limit_is_not_proposed_but_its_kin_below():
    limit = sum(REFERENCE)
    found = first(Dyna(problem_with(limit, reference=REFERENCE), seed=0), 5)
    assert REFERENCE not in found
    assert all(costs(np.array([tokens]))[0] <= limit for tokens in found)
    assert all(distance(REFERENCE, tokens) <= 4 for tokens in found)


def test_a_reference_far_above_the_limit_is_forgotten():
    found = first(Dyna(problem_with(6, reference=(2,) * 8), seed=0), 5)
    assert all(sum(tokens) < 6 for tokens in found)


@pytest.mark.parametrize("seed", range(3))
def test_a_reference_that_is_known_or_not_feasible_is_not_proposed(seed):
    controller = Dyna(problem_with(100, reference=REFERENCE), seed=seed)
    controller.feedback([(Proposal(REFERENCE), Outcome(0.7, accuracy=0.7))])
    assert REFERENCE not in first(controller, 6)
    allowed = problem_with(100, reference=REFERENCE, feasible=lambda rows: (rows != REFERENCE).any(axis=1))
    assert REFERENCE not in first(Dyna(allowed, seed=seed), 6)


def test_nothing_is_chosen_by_a_prior_that_the_accuracies_contradict():
    problem = Problem(CARDINALITIES, costs=costs, reward=lambda accuracies, _: accuracies, prior=prior)
    results = Results(Decisions(CARDINALITIES))
    rng = np.random.default_rng(0)
    known = Decisions(CARDINALITIES).sample(rng, 40)
    results.take([(Proposal(row), worse_where_larger(row)) for row in map(tuple, known.tolist())])
    chosen = Start(problem).draw(rng, results, known[:0])
    assert costs(chosen).mean() < costs(known).mean() - 1


def test_accuracies_of_another_unit_do_no_harm():
    problem = Problem(CARDINALITIES, costs=costs, reward=lambda accuracies, _: accuracies, prior=prior)
    controller = Dyna(problem, seed=0)
    for _ in range(8):
        (proposal,) = controller.propose()
        value = -1000.0 + 10 * sum(proposal.tokens)
        controller.feedback([(proposal, Outcome(value, accuracy=value))])
    assert sum(controller.recommend()[0]) > 10


def test_a_reward_that_is_no_number_counts_as_the_worst():
    def reward(accuracies, table):
        return np.where(table <= 9, accuracies, np.nan)

    found = first(Dyna(Problem(CARDINALITIES, costs=costs, reward=reward, prior=prior), seed=1), 5)
    assert all(costs(np.array([tokens]))[0] <= 9 for tokens in found)


def test_where_nothing_drawn_is_feasible_the_few_that_are_are_found():
    problem = Problem((2,) * 10, feasible=lambda rows: rows.sum(axis=1) == 10)
    assert first(Dyna(problem, seed=0), 3) == [(1,) * 10]


@pytest.mark.parametrize("wrong", [lambda rows: rows, lambda rows: np.full(len(rows), np.nan), lambda _: 1.0])
def test_a_prior_that_gives_no_number_for_each_candidate_is_refused(wrong):
    problem = Problem(CARDINALITIES, costs=costs, reward=below(5), prior=wrong)
    with pytest.raises(ControllerError) as error:
        Dyna(problem).propose()
    assert error.value.field == "prior"


@pytest.mark.parametrize("reference", [(0,), (3,) * 8, ("a",) * 8])
def test_a_reference_that_is_no_candidate_is_refused(reference):
    with pytest.raises(ControllerError) as error:
        Problem(CARDINALITIES, reference=reference)
    assert error.value.field == "reference"


def test_a_reference_is_kept_in_canonical_form():
    assert Problem((2, 3), [(), [(0, [1])]], reference=(0, 2)).reference == (0, 0)


@pytest.mark.parametrize("saved_after", [0, 2, 5])
def test_a_saved_state_continues_exactly_in_the_middle_of_the_first_candidates(saved_after):
    def told(controller, trials):
        found = []
        for _ in range(trials):
            (proposal,) = controller.propose()
            found.append(proposal.tokens)
            value = 0.5 + 0.02 * sum(proposal.tokens[:4])
            controller.feedback([(proposal, Outcome(value, accuracy=value))])
        return found

    problem = problem_with(9, reference=REFERENCE)
    whole, again = Dyna(problem, seed=3), Dyna(problem, seed=8)
    told(whole, saved_after)
    again.load_state_dict(whole.state_dict())
    assert told(again, 8) == told(whole, 8)
    assert state_to_json(again.state_dict()) == state_to_json(whole.state_dict())


def test_a_state_that_names_how_many_results_came_first_is_loaded():
    old = Dyna(CARDINALITIES, seed=0).state_dict()
    old["made"]["first"] = 10
    assert first(loaded(old), 3) == first(Dyna(CARDINALITIES, seed=0), 3)


def loaded(state):
    controller = Dyna(CARDINALITIES, seed=5)
    controller.load_state_dict(state)
    return controller
