from __future__ import annotations

import numpy as np
import pytest

from controllers import ControllerError, Problem, Proposal, state_from_json, state_to_json
from controllers.candidates import DRAWS_PER_ROUND, UNIFORM_ROUNDS, Candidates

LARGE = [4] * 12


def all_proposals(controller, limit=1000):
    found = []
    for _ in range(limit):
        proposals = controller.propose(3)
        if not proposals:
            return found
        found += [p.tokens for p in proposals]
    raise AssertionError("the controller never ends")


def test_candidates_with_equal_keys_are_one_candidate(controller_class):
    # The order of the tokens does not matter: 10 multisets of 3 out of 3 options.
    controller = controller_class(Problem([3, 3, 3], key=lambda tokens: str(sorted(tokens))))
    found = all_proposals(controller)
    assert len(found) == 10
    assert len({tuple(sorted(tokens)) for tokens in found}) == 10


def test_a_foreign_candidate_blocks_every_candidate_with_its_key(controller_class):
    controller = controller_class(Problem([3, 3], key=lambda tokens: tuple(sorted(tokens))))
    controller.feedback([(Proposal(tokens=(0, 2)), 0.5)])
    assert not {(0, 2), (2, 0)} & set(all_proposals(controller))


def test_a_loaded_state_remembers_keys_without_asking_for_them(controller_class):
    asked = []

    def key(tokens):
        asked.append(tokens)
        return str(sorted(tokens))

    old = controller_class(Problem([3, 3, 3], key=key))
    first = [p.tokens for p in old.propose(4)]
    state = state_from_json(state_to_json(old.state_dict()))
    new = controller_class(Problem([3, 3, 3], key=key))
    asked.clear()
    new.load_state_dict(state)
    assert asked == []
    found = first + all_proposals(new)
    assert len(found) == len({tuple(sorted(tokens)) for tokens in found}) == 10


def test_only_feasible_candidates_are_proposed_and_all_of_them(controller_class):
    controller = controller_class(Problem([4, 4, 4], feasible=lambda tokens: tokens.sum(axis=1) == 5))
    found = all_proposals(controller)
    assert {sum(tokens) for tokens in found} == {5}
    assert len(found) == len(set(found)) == 12


def test_one_feasible_candidate_among_thousands_is_found(controller_class):
    controller = controller_class(Problem([4] * 7, feasible=lambda tokens: (tokens == 3).all(axis=1)))
    assert all_proposals(controller) == [(3,) * 7]


def leftovers(seed):
    """What is handed out one by one when the policy can draw a single candidate only."""
    candidates = Candidates(Problem([3, 3]), seed)

    def draw(rng, n, temperature):  # noqa: ARG001
        return np.zeros((n, 2), dtype=np.int64)

    found = []
    while proposals := candidates.propose(1, draw, lambda tokens: np.zeros(len(tokens))):
        found += [p.tokens for p in proposals]
    return found


def test_a_small_space_is_exhausted_even_when_the_policy_has_stopped_looking():
    assert sorted(leftovers(0)) == [(a, b) for a in range(3) for b in range(3)]


def test_what_is_left_of_a_small_space_comes_in_random_order():
    assert len({tuple(leftovers(seed)) for seed in range(5)}) == 5


def test_nothing_feasible_means_nothing_proposed_after_a_bounded_number_of_tries(controller_class):
    tried = []

    def feasible(tokens):
        tried.append(len(tokens))
        return np.zeros(len(tokens), dtype=bool)

    assert controller_class(Problem(LARGE, feasible=feasible)).propose(2) == []
    assert UNIFORM_ROUNDS * DRAWS_PER_ROUND < sum(tried) < 2 * UNIFORM_ROUNDS * DRAWS_PER_ROUND


def test_a_policy_that_has_decided_still_finds_candidates_it_has_not_proposed(make_independent):
    controller = make_independent(LARGE, None, 0)
    for _ in range(400):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, -float(sum(proposal.tokens)))])
    modes = np.array([p.max() for p in controller.probabilities()])
    assert modes.mean() > 0.8, "the test needs a policy that has decided"
    assert len(controller.propose(50)) == 50


def test_a_search_resumed_near_the_end_of_its_space_continues_exactly(controller_class):
    def make():
        return controller_class(Problem([3, 3, 3], feasible=lambda tokens: tokens[:, 0] > 0), seed=4)

    old = make()
    for _ in range(15):
        old.feedback([(p, float(sum(p.tokens))) for p in old.propose()])
    new = make()
    new.load_state_dict(state_from_json(state_to_json(old.state_dict())))
    assert all_proposals(old) == all_proposals(new)


def test_a_large_number_asked_for_is_drawn_from_the_policy_itself(make_independent):
    controller = make_independent([2] * 30, None, 0)
    for _ in range(40):
        controller.feedback([(p, float(p.tokens[0])) for p in controller.propose(5)])
    p = controller.probabilities()[0][1]
    assert p > 0.8
    share = np.mean([proposal.tokens[0] for proposal in controller.propose(3000)])
    assert abs(share - p) < 0.05


def test_a_state_takes_eight_bytes_per_candidate_seen(controller_class):
    controller = controller_class(LARGE)
    controller.propose(500)
    seen = _find(controller.state_dict(), "seen")
    assert seen.nbytes == 8 * 500


def _find(state, name):
    for key, value in state.items():
        if key == name:
            return value
        found = _find(value, name) if isinstance(value, dict) else None
        if found is not None:
            return found
    return None


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_must_be_an_integer_of_at_least_zero(controller_class, seed):
    with pytest.raises(ControllerError) as error:
        controller_class([2, 2], seed=seed)
    assert error.value.field == "seed"
