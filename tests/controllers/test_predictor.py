"""The predictor: what it learns, expected improvement, and results under way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controllers import Outcome, Proposal
from controllers.decisions import Decisions
from controllers.predictor import MOST_RESULTS, Predictor
from controllers.results import Results

DECISIONS = Decisions((4,) * 6)


def cost(tokens):
    return 1.0 + tokens.sum(axis=1)


def steep(accuracy, costs):
    """A reward with a cliff: nothing is gained below a cost of 8, all is lost above."""
    return np.where(costs <= 8, accuracy, accuracy - 5.0)


def accuracy_of(tokens):
    return 0.5 + 0.02 * tokens[:, 0] + 0.01 * tokens[:, 3]


def gather(tokens, rewards, accuracies=None):
    results = Results(DECISIONS)
    for number, row in enumerate(tokens.tolist()):
        accuracy = None if accuracies is None else float(accuracies[number])
        results.take([(Proposal(tuple(row)), Outcome(float(rewards[number]), accuracy=accuracy))])
    return results


def fitted(results, costs=None, reward=None):
    predictor = Predictor(DECISIONS, costs, reward)
    predictor.fit(results)
    predictor.condition(results)
    return predictor


@pytest.fixture
def tokens():
    return DECISIONS.sample(np.random.default_rng(0), 60)


def test_accuracy_is_learnt_where_the_reward_has_a_cliff(tokens):
    accuracies = accuracy_of(tokens)
    results = gather(tokens, steep(accuracies, cost(tokens)), accuracies)
    predictor = fitted(results, cost, steep)
    assert predictor.target == "accuracy"
    others = DECISIONS.sample(np.random.default_rng(1), 200)
    truth = steep(accuracy_of(others), cost(others))
    np.testing.assert_allclose(predictor.estimate(others), truth, atol=0.02)


def test_the_reward_is_learnt_where_it_is_the_flatter_function(tokens):
    def soft(accuracy, costs):
        return accuracy - 0.1 * costs

    rewards = 0.5 + 0.02 * tokens[:, 0]  # the accuracy rises with the cost by just what the reward loses
    results = gather(tokens, rewards, rewards + 0.1 * cost(tokens) + 0.3 * np.sin(40 * cost(tokens)))
    assert fitted(results, cost, soft).target == "reward"


def test_the_reward_is_learned_where_an_accuracy_is_missing(tokens):
    results = gather(tokens, steep(accuracy_of(tokens), cost(tokens)))
    assert fitted(results, cost, steep).target == "reward"


def test_expected_improvement_is_that_of_the_normal_distribution(tokens):
    rng = np.random.default_rng(2)
    accuracies = accuracy_of(tokens) + 0.02 * rng.normal(size=60)
    predictor = fitted(gather(tokens, accuracies, accuracies), cost, lambda accuracy, _: accuracy)
    others = DECISIONS.sample(np.random.default_rng(1), 40)
    mean, deviation = predictor._process.predict(others)
    best = float(np.quantile(mean, 0.9))  # above the middle, from where on values count as they are
    assert predictor.target == "reward"
    found = predictor.improvement(others, best)
    for m, s, value in zip(mean, deviation, found, strict=True):
        z = (m - best) / s
        exact = (m - best) * 0.5 * math.erfc(-z / math.sqrt(2)) + s * math.exp(-z * z / 2) / math.sqrt(
            2 * math.pi
        )
        assert value == pytest.approx(exact)
    assert (found >= 0).all()


def test_a_candidate_under_way_is_less_uncertain_until_its_result_comes(tokens):
    results = gather(tokens, accuracy_of(tokens) + 0.02 * np.random.default_rng(2).normal(size=60))
    predictor, process = fitted(results), fitted(results)._process
    others = DECISIONS.sample(np.random.default_rng(5), 200)
    before = predictor._process.predict(others)[1]
    pending = others[[before.argmax()]]
    predictor.imagine(pending, np.random.default_rng(3))
    assert predictor._process.predict(pending)[1][0] < 0.9 * before.max()
    predictor.condition(results)
    np.testing.assert_array_equal(predictor._process.predict(others), process.predict(others))


def failing(tokens, fails, seed=0):
    """Results of which some are infeasible."""
    results = Results(DECISIONS)
    rewards = accuracy_of(tokens) + 0.002 * np.random.default_rng(seed).normal(size=len(tokens))
    for row, reward, is_bad in zip(tokens.tolist(), rewards, fails, strict=True):
        outcome = Outcome(status="infeasible") if is_bad else Outcome(float(reward))
        results.take([(Proposal(tuple(row)), outcome)])
    return results


def test_infeasible_candidates_do_not_change_what_is_expected_of_others(tokens):
    fails = np.random.default_rng(3).random(60) < 0.2
    sound = gather(tokens[~fails], failing(tokens, fails).rewards[~fails])
    others = DECISIONS.sample(np.random.default_rng(1), 50)
    estimates = [fitted(results).estimate(others) for results in (failing(tokens, fails), sound)]
    np.testing.assert_allclose(*estimates)


def test_a_rule_of_two_decisions_behind_failures_is_learnt():
    tokens = DECISIONS.sample(np.random.default_rng(4), 150)

    def fails(rows):
        return (rows[:, 1] == 3) & (rows[:, 4] >= 2)

    predictor = fitted(failing(tokens, fails(tokens)))
    others = DECISIONS.sample(np.random.default_rng(5), 400)
    chances = predictor.chance(others)
    assert chances[fails(others)].mean() < 0.4
    assert chances[~fails(others)].mean() > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_failures_at_random_are_told_from_a_rule(seed):
    tokens = DECISIONS.sample(np.random.default_rng(seed), 100)
    predictor = fitted(failing(tokens, np.random.default_rng([seed, 1]).random(100) < 0.1))
    chances = predictor.chance(DECISIONS.sample(np.random.default_rng(9), 400))
    assert np.quantile(chances, 0.05) > 0.6
    assert chances.mean() == pytest.approx(0.9, abs=0.08)


def test_a_collapsed_result_counts_as_failed_and_not_as_a_reward(tokens):
    rewards = accuracy_of(tokens) + 0.002 * np.random.default_rng(2).normal(size=60)
    collapsed = rewards.copy()
    collapsed[::10] = 0.01
    others = DECISIONS.sample(np.random.default_rng(1), 50)
    with_them, without = (fitted(gather(tokens, found, found)) for found in (collapsed, rewards))
    np.testing.assert_allclose(with_them.estimate(others), without.estimate(others), atol=0.005)
    assert with_them.chance(others).mean() < 0.97
    assert (without.chance(others) == 1.0).all()


@pytest.mark.parametrize("seed", range(4))
def test_ranks_are_learnt_where_bare_rewards_have_a_cliff_and_rewards_where_they_have_none(seed):
    tokens = DECISIONS.sample(np.random.default_rng(seed), 60)
    others = DECISIONS.sample(np.random.default_rng(9), 200)
    rewards = 0.8 + 0.2 * accuracy_of(tokens) + 0.0005 * np.random.default_rng(seed + 5).normal(size=60)
    assert fitted(gather(tokens, rewards)).target == "reward"
    predictor = fitted(gather(tokens, rewards * np.minimum(1.0, 9 / cost(tokens))))
    assert predictor.target == "ranks"
    assert (predictor.chance(others) == 1.0).all()
    truth = (0.8 + 0.2 * accuracy_of(others)) * np.minimum(1.0, 9 / cost(others))
    assert np.corrcoef(predictor.estimate(others), truth)[0, 1] > 0.85


def test_what_is_looked_at_does_not_depend_on_how_it_came_out():
    rng = np.random.default_rng(0)
    tokens = DECISIONS.sample(rng, MOST_RESULTS + 200)
    rewards = accuracy_of(tokens)
    rewards[5] = 2.0  # the best by far, in both
    shuffled = rewards.copy()
    rest = np.delete(np.arange(len(rewards)), 5)
    shuffled[rest] = rng.permutation(rewards[rest])
    rows = []
    for values in (rewards, shuffled):
        results = gather(tokens, values)
        predictor = Predictor(DECISIONS, None, None)
        found = predictor._looked_at(results, np.arange(len(rewards)), predictor._process, MOST_RESULTS)
        assert len(found) == MOST_RESULTS
        rows.append(found)
    np.testing.assert_array_equal(*rows)


def test_calibration_tells_a_rule_from_noise(tokens):
    rule = fitted(gather(tokens, accuracy_of(tokens))).calibration
    noise = fitted(gather(tokens, np.random.default_rng(1).normal(size=60))).calibration
    assert rule.rank_correlation > 0.95 > 0.5 > noise.rank_correlation
    assert 0.6 < noise.ratio < 1.5
    assert rule.error < 0.01 < 0.5 < noise.error


def noisy(noise, results, costs=None, reward=None):
    predictor = Predictor(DECISIONS, costs, reward, noise=noise)
    predictor.fit(results)
    predictor.condition(results)
    return predictor


def test_known_noise_is_that_of_the_accuracy_where_this_is_learnt(tokens):
    accuracies = accuracy_of(tokens)
    predictor = noisy(0.004, gather(tokens, steep(accuracies, cost(tokens)), accuracies), cost, steep)
    assert predictor.target == "accuracy"
    assert predictor.noise == pytest.approx(0.004)


def test_known_noise_is_scaled_by_how_the_reward_follows_the_accuracy(tokens):
    def halved(accuracy, costs):
        return 0.5 * accuracy - 0.05 * costs

    results = gather(tokens, halved(accuracy_of(tokens), cost(tokens)), accuracy_of(tokens))
    predictor = Predictor(DECISIONS, cost, halved, noise=0.004)
    assert predictor._noise_of("reward", results) == pytest.approx(0.002)
    assert predictor._noise_of("accuracy", results) == 0.004


def test_known_noise_of_the_reward_is_the_median_over_the_costs_of_the_results(tokens):
    def product(accuracy, costs):
        return accuracy * costs

    results = gather(tokens, product(accuracy_of(tokens), cost(tokens)), accuracy_of(tokens))
    predictor = Predictor(DECISIONS, cost, product, noise=0.004)
    assert predictor._noise_of("reward", results) == pytest.approx(0.004 * np.median(cost(tokens)))


def test_rewards_that_are_the_accuracies_have_their_noise(tokens):
    accuracies = accuracy_of(tokens)
    assert noisy(0.004, gather(tokens, accuracies, accuracies)).noise == pytest.approx(0.004)


def test_noise_of_rewards_that_follow_from_something_unknown_is_estimated(tokens):
    accuracies = accuracy_of(tokens)
    for results in (gather(tokens, 3 * accuracies, accuracies), gather(tokens, accuracies)):
        assert noisy(0.004, results).noise == noisy(None, results).noise


def test_infeasible_results_do_not_change_the_known_noise(tokens):
    accuracies = accuracy_of(tokens)
    results = gather(tokens, accuracies, accuracies)
    results.take([(Proposal((3,) * 6), Outcome(status="infeasible"))])
    assert noisy(0.004, results).noise == pytest.approx(0.004)


def test_beliefs_in_rewards_are_those_in_accuracies_times_how_steep_the_reward_is(tokens):
    def rewarded(factor):
        def reward(accuracy, costs):
            return np.where(costs <= 8, factor * accuracy, accuracy - 5.0)

        accuracies = accuracy_of(tokens) + 0.01 * np.random.default_rng(3).normal(size=len(tokens))
        results = gather(tokens, reward(accuracies, cost(tokens)), accuracies)
        predictor = noisy(0.01, results, cost, reward)
        predictor.condition(results)
        assert predictor.target == "accuracy"
        return predictor.beliefs(results, tokens[cost(tokens) <= 8][:3])

    one, two = rewarded(1.0), rewarded(2.0)
    np.testing.assert_allclose(two.means, 2 * one.means, rtol=1e-6)
    np.testing.assert_allclose(two.covariance, 4 * one.covariance, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(two.noise, 2 * one.noise, rtol=1e-6)
    assert (one.noise >= 0.01 * (1 - 1e-6)).all()  # more in the lower half, which counts by its logarithm


def test_results_that_are_left_out_are_predicted_from_the_others_alone(tokens):
    values = accuracy_of(tokens)
    lucky = values.copy()
    lucky[0] += 0.05
    results = gather(tokens, lucky)
    predictor = fitted(results)
    rows, expected = predictor.left_out(results)
    first = expected[rows.tolist().index(0)]
    assert abs(first - values[0]) < abs(first - lucky[0])
    ranks = [found.argsort(kind="stable").argsort(kind="stable") for found in (expected, lucky[rows])]
    assert np.corrcoef(ranks)[0, 1] == pytest.approx(predictor.calibration.rank_correlation)
