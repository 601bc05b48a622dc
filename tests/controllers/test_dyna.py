"""The default controller: what it proposes and recommends beyond the contract."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from controllers import ControllerError, Default, Dyna, Outcome, Problem, Proposal, state_to_json
from controllers.decisions import Decisions
from controllers.pending import MOST_PENDING
from controllers.testing.learning import ChainObjective, check_learning

CARDINALITIES = (3,) * 8


def told(controller, reward, trials):
    for _ in range(trials):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, reward(proposal.tokens))])
    return controller


def test_it_is_the_default():
    assert Default is Dyna


def test_it_leaves_random_search_far_behind():
    check_learning(lambda c, k, seed: Dyna(c, k, seed=seed), margin=0.7, evaluations=70, seeds=range(3))


def test_the_recommended_candidate_is_better_than_the_luckiest_one():
    """Sixty-four noisy results of seven effects say more of each candidate than its own result does."""
    recommended, luckiest = [], []
    for seed in range(24):
        objective, rng = ChainObjective((2,) * 6, seed=seed, interaction=0.0), np.random.default_rng(seed)
        controller = Dyna(objective.cardinalities, seed=seed)
        candidates = map(tuple, rng.permutation(list(itertools.product(range(2), repeat=6))).tolist())
        results = [(Proposal(tokens), objective(tokens) + 0.6 * rng.normal()) for tokens in candidates]
        for start in range(0, len(results), 8):
            controller.feedback(results[start : start + 8])
        recommended.append(1 - objective(controller.recommend()[0]))
        luckiest.append(1 - objective(max(results, key=lambda result: result[1])[0].tokens))
    assert np.mean(recommended) < 0.7 * np.mean(luckiest)


@pytest.mark.slow
@pytest.mark.parametrize("collapsing", [0.0, 0.1])
def test_the_recommended_candidate_is_not_worse_than_the_best_observed_one(collapsing):
    losses = []
    for seed in range(16):
        objective, rng = ChainObjective(seed=seed), np.random.default_rng(seed)
        controller, observed = Dyna(objective.cardinalities, seed=seed), {}
        for _ in range(60):
            (proposal,) = controller.propose()
            reward = objective(proposal.tokens) + 0.2 * rng.normal()
            observed[proposal.tokens] = -20.0 if rng.random() < collapsing else reward
            controller.feedback([(proposal, observed[proposal.tokens])])
        best = max(observed, key=observed.__getitem__)
        losses.append(objective(best) - objective(controller.recommend()[0]))
    assert np.mean(losses) <= 2 * np.std(losses) / np.sqrt(len(losses))


def test_it_leaves_random_search_far_behind_where_one_candidate_in_ten_fails():
    check_learning(
        lambda c, k, seed: Dyna(c, k, seed=seed), margin=0.6, evaluations=70, seeds=range(3), failing=0.1
    )


def test_results_measured_again_settle_which_of_two_is_better():
    controller = told(Dyna(CARDINALITIES, seed=0), ChainObjective(CARDINALITIES, seed=1), 30)
    first, second = controller.recommend(2)
    for _ in range(12):
        controller.feedback([(Proposal(first), 0.2), (Proposal(second), 0.9)])
    assert controller.recommend(1) == [second]


def test_known_costs_keep_it_below_a_cliff():
    def costs(tokens):
        return tokens.sum(axis=1).astype(float)

    def reward(accuracy, costs):
        return np.where(costs <= 8, accuracy, accuracy - 3.0)

    def evaluate(tokens):
        accuracy = 0.05 * sum(tokens) + 0.01 * tokens[0]
        cost = costs(np.array([tokens]))
        return Outcome(float(reward(np.array([accuracy]), cost)[0]), accuracy=accuracy)

    controller = told(Dyna(Problem(CARDINALITIES, costs=costs, reward=reward), seed=0), evaluate, 25)
    assert controller.diagnostics()["learns_accuracy"] == 1.0
    (best,) = controller.recommend()
    assert sum(best) == 8
    assert all(sum(p.tokens) <= 8 for p in controller.propose(5))


def test_what_is_not_feasible_is_not_proposed_and_not_climbed_through():
    def feasible(tokens):
        return tokens.sum(axis=1) % 2 == 0

    problem = Problem(CARDINALITIES, feasible=feasible)
    controller = told(Dyna(problem, seed=0), lambda tokens: float(tokens[0] + tokens[1]), 40)
    assert sum(controller.recommend()[0]) % 2 == 0
    assert all(sum(p.tokens) % 2 == 0 for p in controller.propose(10))
    assert controller.recommend()[0][:2] == (2, 2)


def test_side_by_side_it_spreads_out():
    objective = ChainObjective(CARDINALITIES, seed=2)
    controller = told(Dyna(CARDINALITIES, seed=0), objective, 30)
    found = [p.tokens for p in controller.propose(16)]
    assert len(set(found)) == 16
    distances = [sum(a != b for a, b in zip(found[0], other, strict=True)) for other in found[1:]]
    assert max(distances) > 1


def test_results_that_never_come_are_forgotten():
    controller = Dyna((3,) * 12, seed=0)
    controller.propose(MOST_PENDING + 30)
    assert len(controller.state_dict()["pending"]) == MOST_PENDING


def test_a_lost_trial_is_under_way_no_longer():
    controller = told(Dyna(CARDINALITIES, seed=0), ChainObjective(CARDINALITIES, seed=1), 12)
    first, second = controller.propose(2)
    controller.feedback([(first, Outcome(status="lost"))])
    assert controller.state_dict()["pending"].tolist() == [list(second.tokens)]


def test_asking_for_a_recommendation_changes_nothing():
    one, other = Dyna(CARDINALITIES, seed=3), Dyna(CARDINALITIES, seed=3)
    objective = ChainObjective(CARDINALITIES, seed=0)
    for _ in range(25):
        told(one, objective, 1)
        other.recommend(3) if other.state_dict()["results"]["rewards"].size else None
        told(other, objective, 1)
    assert state_to_json(one.state_dict()) == state_to_json(other.state_dict())


def test_the_policy_comes_to_prefer_what_is_good():
    controller = told(Dyna(CARDINALITIES, seed=0), lambda tokens: float(tokens[2] == 1), 40)
    probabilities = controller.probabilities()
    assert probabilities[2][1] > 0.8
    assert controller.diagnostics()["entropy"] < np.log(3)


def test_all_candidates_infeasible_leaves_it_drawing():
    controller = told(Dyna(CARDINALITIES, seed=0), lambda _: Outcome(status="infeasible"), 25)
    assert controller.recommend() == []
    assert controller.diagnostics() == {}


def test_conditional_decisions_are_learnt():
    space = ((3, 4, 4), ((), ((0, (1,)),), ((0, (2,)),)))
    values = {(1, 3, 0): 1.0}
    controller = told(
        Dyna(*space, seed=0, first=4), lambda t: values.get(t, 0.1 * (t[0] == 1) + 0.05 * t[1]), 7
    )
    assert Decisions(*space).check(controller.recommend()[0]) == controller.recommend()[0]


@pytest.mark.parametrize("noise", [-0.1, np.inf, np.nan])
def test_a_noise_that_is_no_deviation_is_refused(noise):
    with pytest.raises(ControllerError, match="noise >= 0") as error:
        Problem(CARDINALITIES, noise=noise)
    assert error.value.field == "noise"


@pytest.mark.parametrize(("field", "value"), [("first", 1), ("first", -3)])
def test_settings_out_of_range_are_refused_by_field(field, value):
    with pytest.raises(ControllerError) as error:
        Dyna(CARDINALITIES, **{field: value})
    assert error.value.field == field


def noisily(seed, *, noise, trials=30, deviation=0.02):
    """A controller that was told noisy accuracies."""
    rng = np.random.default_rng(seed)
    controller = Dyna(Problem(CARDINALITIES, noise=noise), seed=seed)
    for _ in range(trials):
        (proposal,) = controller.propose()
        accuracy = 0.5 + 0.05 * sum(proposal.tokens[:3]) + deviation * rng.normal()
        controller.feedback([(proposal, Outcome(accuracy, accuracy=accuracy))])
    return controller


def test_known_noise_is_what_is_reported():
    assert noisily(0, noise=0.03).diagnostics()["noise"] == pytest.approx(0.03)
    assert noisily(0, noise=None).diagnostics()["noise"] != pytest.approx(0.03)


def test_with_known_noise_a_saved_state_continues_exactly():
    whole, first = noisily(3, noise=0.02, trials=25), noisily(3, noise=0.02, trials=25)
    again = Dyna(Problem(CARDINALITIES, noise=0.02), seed=9)
    again.load_state_dict(first.state_dict())
    assert [p.tokens for p in again.propose(5)] == [p.tokens for p in whole.propose(5)]
    assert again.recommend(5) == whole.recommend(5)


def test_a_state_of_another_noise_is_refused_and_an_old_one_is_that_of_none():
    for saved, made in ((0.02, None), (None, 0.02)):
        state = Dyna(Problem(CARDINALITIES, noise=saved)).state_dict()
        with pytest.raises(ControllerError) as error:
            Dyna(Problem(CARDINALITIES, noise=made)).load_state_dict(state)
        assert error.value.field == "noise"
    assert "noise" not in Dyna(CARDINALITIES).state_dict()["made"]


def test_a_noise_of_zero_is_accepted():
    assert len(noisily(0, noise=0.0, deviation=0.0).recommend(3)) == 3


def test_a_large_known_noise_recommends_by_the_neighbours_and_not_by_the_luckiest():
    found = {
        noise: np.mean([sum(noisily(s, noise=noise, deviation=0.1).recommend()[0][:3]) for s in range(6)])
        for noise in (0.0, 0.1)
    }
    assert found[0.1] > found[0.0]
