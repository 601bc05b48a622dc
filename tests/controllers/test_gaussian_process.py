"""The Gaussian process: its gradient, its predictions and what it says of results left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.decisions import Decisions
from controllers.gaussian_process import GaussianProcess
from controllers.kernel import Kernel, Prior
from controllers.testing.tools import CONDITIONAL, PLAIN


def sample(space, n, seed=0):
    decisions = Decisions(*space)
    rng = np.random.default_rng(seed)
    tokens = decisions.sample(rng, n)
    return decisions, tokens, rng.normal(size=n) + tokens[:, 0]


def log_posterior(process, tokens, values, parameters):
    """Written out anew: the density of the values and of the parameters, constants apart."""
    process.load_state_dict({"parameters": parameters})
    targets = (values - values.mean()) / values.std()
    covariance = process._kernel.covariance(process._kernel.rows(tokens))
    fit = targets @ np.linalg.solve(covariance, targets) + np.linalg.slogdet(covariance)[1]
    prior = ((parameters - process._kernel._prior_mean) / process._kernel._prior_deviation) ** 2
    return -0.5 * (fit + prior.sum())


@pytest.mark.parametrize("space", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_gradient_is_that_of_the_posterior_density(space, seed):
    decisions, tokens, values = sample(space, 30, seed)
    process = GaussianProcess(decisions)
    start = process.state_dict()["parameters"] + 0.3 * np.random.default_rng(seed).normal(size=10)
    process.load_state_dict({"parameters": start})
    targets = (values - values.mean()) / values.std()
    gradient = process._kernel._gradient(process._kernel._features(process._kernel.rows(tokens)), targets)
    steps = 1e-5 * np.eye(len(start))
    numeric = [
        (
            log_posterior(process, tokens, values, start + step)
            - log_posterior(process, tokens, values, start - step)
        )
        / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)


def test_what_was_measured_without_noise_is_predicted_with_certainty():
    decisions, tokens, values = sample(PLAIN, 25)
    tokens, first = np.unique(tokens, axis=0, return_index=True)
    process = GaussianProcess(decisions)
    parameters = process.state_dict()["parameters"]
    parameters[2] = -20.0  # the logarithm of the noise
    process.load_state_dict({"parameters": parameters})
    process.condition(tokens, values[first])
    mean, deviation = process.predict(tokens)
    np.testing.assert_allclose(mean, values[first], atol=1e-2)
    assert deviation.max() < 0.01 * values.std()
    others = decisions.sample(np.random.default_rng(9), 50)
    assert process.predict(others)[1].max() > 0.3 * values.std()
    np.testing.assert_allclose(process.mean(others), process.predict(others)[0])


def test_a_result_left_out_is_predicted_as_by_a_process_without_it():
    decisions, tokens, values = sample(CONDITIONAL, 20)
    values = values - values.mean()
    values = values / values.std()
    process = GaussianProcess(decisions)
    process.condition(tokens, values)
    mean, deviation = process.left_out()
    for number in (0, 7, 19):
        others = np.arange(20) != number
        covariance = process._kernel.covariance(process._kernel.rows(tokens))
        weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, number])
        assert mean[number] == pytest.approx(weights @ values[others])
        variance = covariance[number, number] - weights @ covariance[others, number]
        assert deviation[number] == pytest.approx(variance**0.5)


def test_a_decision_that_matters_gets_weight_and_one_that_does_not_loses_it():
    decisions = Decisions((3,) * 6)
    tokens = decisions.sample(np.random.default_rng(0), 120)
    values = np.sin(2.0 * tokens[:, 1]) * (tokens[:, 4] == 2) + 0.01 * np.random.default_rng(1).normal(
        size=120
    )
    process = GaussianProcess(decisions)
    process.fit(tokens, values, steps=60)
    weights = process.weights
    assert weights[[1, 4]].min() > 3 * weights[[0, 2, 3, 5]].max()


def test_a_candidate_measured_often_is_believed_against_its_neighbours():
    """What is its own is told from noise by measuring again, and by nothing else."""
    decisions = Decisions((3,) * 4)
    tokens = decisions.sample(np.random.default_rng(0), 80)
    odd = np.array([[1, 1, 1, 1]])
    others = tokens[(tokens != odd).any(axis=1)]
    rng = np.random.default_rng(1)
    values = 0.1 * others[:, 0] + 0.05 * rng.normal(size=len(others))

    def expected(times):
        process = GaussianProcess(decisions)
        measured = 0.1 - 0.15 + 0.05 * rng.normal(size=times)
        process.fit(others, values, steps=40)
        process.condition(
            np.concatenate([others, np.repeat(odd, times, 0)]), np.concatenate([values, measured])
        )
        return float(process.mean(odd)[0])

    assert abs(expected(20) + 0.05) < 0.03 < abs(expected(1) + 0.05)


def test_the_noise_is_found_in_units_of_the_values():
    decisions, tokens, _ = sample(((4,) * 8, None), 300)
    rng = np.random.default_rng(3)
    values = 70 + 2.0 * tokens[:, :4].sum(axis=1) + 0.5 * rng.normal(size=300)
    process = GaussianProcess(decisions)
    process.fit(tokens, values, steps=80)
    process.condition(tokens, values)
    assert process.noise == pytest.approx(0.5, rel=0.25)


def test_what_is_not_active_makes_no_difference():
    decisions = Decisions((2, 3), ((), ((0, (1,)),)))
    process = GaussianProcess(decisions)
    inactive, active = np.array([[0, 0]]), np.array([[1, 0], [1, 2]])
    same, other = process.similarity(inactive, np.array([[0, 0]])), process.similarity(inactive, active)
    assert same[0, 0] > other.max()
    assert other[0, 0] == pytest.approx(other[0, 1])


def test_values_that_are_all_alike_are_expected_everywhere():
    decisions, tokens, _ = sample(PLAIN, 12)
    process = GaussianProcess(decisions)
    values = np.full(12, 0.7)
    process.fit(tokens, values, steps=5)
    process.condition(tokens, values)
    np.testing.assert_allclose(process.mean(tokens), 0.7)


def test_a_known_noise_is_held_whatever_the_values_look_like():
    decisions = Decisions((4,) * 5)
    rng = np.random.default_rng(0)
    tokens = decisions.sample(rng, 40)
    values = 0.5 + 0.03 * tokens[:, 0] + 0.002 * rng.normal(size=40)
    process = GaussianProcess(decisions)
    process.fit(tokens, values, steps=30, noise=0.05)
    process.condition(tokens, values, noise=0.05)
    assert process.noise == pytest.approx(0.05)
    process.condition(tokens, values)
    assert process.noise < 0.02


def test_the_gradient_with_known_noise_is_that_of_the_posterior_density():
    decisions = Decisions((3, 2, 4))
    rng = np.random.default_rng(1)
    kernel = Kernel(decisions, Prior())
    kernel.known_variance = 0.3
    rows = kernel.rows(np.repeat(decisions.sample(rng, 8), 2, axis=0))
    targets = rng.normal(size=16)

    def density(parameters):
        kernel.parameters = parameters
        covariance = kernel.covariance(rows)
        fit = -0.5 * targets @ np.linalg.solve(covariance, targets) - 0.5 * np.linalg.slogdet(covariance)[1]
        return fit - 0.5 * (((parameters - kernel._prior_mean) / kernel._prior_deviation) ** 2).sum()

    start = kernel._prior_mean + 0.1 * rng.normal(size=7)
    steps = 1e-5 * np.eye(7)
    numeric = np.array([(density(start + step) - density(start - step)) / 2e-5 for step in steps])
    kernel.parameters = start
    np.testing.assert_allclose(
        kernel._gradient(kernel._features(rows), targets), numeric, rtol=1e-4, atol=1e-5
    )


def test_more_known_noise_pulls_estimates_further_from_what_was_measured():
    decisions = Decisions((4,) * 5)
    tokens = decisions.sample(np.random.default_rng(0), 30)
    values = np.random.default_rng(1).normal(size=30)
    distances = []
    for noise in (0.01, 0.3, 3.0):
        process = GaussianProcess(decisions)
        process.condition(tokens, values, noise=noise)
        distances.append(np.abs(process.mean(tokens) - values).mean())
    assert distances[0] < distances[1] < distances[2]


def test_measurements_taken_in_one_by_one_give_what_all_at_once_give():
    decisions, tokens, values = sample(CONDITIONAL, 60)
    at_once, one_by_one = GaussianProcess(decisions), GaussianProcess(decisions)
    at_once.condition(tokens, values, noise=0.3)
    one_by_one.condition(tokens[:40], values[:40], noise=0.3)
    one_by_one.imagine(tokens[50:], np.random.default_rng(1))
    one_by_one.extend(tokens[40:45], values[:45])
    one_by_one.extend(tokens[45:], values)
    at_once.load_state_dict(one_by_one.state_dict())  # the units are those of the first forty
    at_once.restore(tokens, values)
    others = decisions.sample(np.random.default_rng(9), 50)
    np.testing.assert_allclose(one_by_one.predict(others), at_once.predict(others), rtol=1e-8)


def test_many_exact_values_taken_in_one_by_one_do_not_add_up_rounding():
    decisions, rng = Decisions((4, 6) * 8), np.random.default_rng(0)
    tokens = np.repeat(decisions.sample(rng, 1), 520, axis=0)
    for row in tokens:  # alike, as those of a search that has found the best
        row[rng.integers(0, 16, 2)] = rng.integers(0, 4, 2)
    values = tokens.sum(axis=1) / 1000.0
    process = GaussianProcess(decisions)
    parameters = process.state_dict()["parameters"]
    parameters[:4] = np.log([130.0, 0.15, 2e-7, 0.3])  # as fitted to values without noise
    process.load_state_dict({"parameters": parameters})
    process.condition(tokens[:300], values[:300])
    for count in range(301, 501):
        process.extend(tokens[count - 1 : count], values[:count])
    expected, deviation = process.predict(tokens[500:])
    np.testing.assert_allclose(expected, values[500:], atol=1e-3)
    assert np.isfinite(deviation).all()


def test_what_is_imagined_is_drawn_from_what_is_predicted():
    decisions, tokens, values = sample(PLAIN, 40)
    process, rng = GaussianProcess(decisions), np.random.default_rng(0)
    process.condition(tokens[:30], values[:30])
    mean, deviation = process.predict(tokens)
    means = []
    for _ in range(400):
        process.imagine(tokens[30:], rng)
        means.append(process.mean(tokens))
    assert process.size == 40
    assert (process.predict(tokens)[1] <= deviation + 1e-9).all()
    assert (process.predict(tokens[30:])[1] < 0.9 * deviation[30:]).all()
    np.testing.assert_array_less(np.abs(np.mean(means, axis=0) - mean), 0.25 * deviation)
    # What is imagined moves the expectation by what its deviation shrinks.
    spread = np.std(means, axis=0)[30:]
    np.testing.assert_allclose(
        spread, np.sqrt(deviation**2 - process.predict(tokens)[1] ** 2)[30:], rtol=0.15
    )
    process.forget_imagined()
    np.testing.assert_array_equal(process.predict(tokens), (mean, deviation))


def test_candidates_vary_together_as_a_measurement_of_one_changes_the_other():
    decisions, tokens, values = sample(PLAIN, 25)
    process = GaussianProcess(decisions)
    process.condition(tokens, values)
    some = np.unique(decisions.sample(np.random.default_rng(9), 6), axis=0)
    covariance = process.covariance(some)
    mean, deviation = process.predict(some)
    np.testing.assert_allclose(np.diag(covariance), deviation**2, rtol=1e-6)
    before, scale = process.mean(some), values.std()
    measured = mean[0] + scale
    process.condition(np.concatenate([tokens, some[:1]]), np.append(values, measured))
    # The scale of the values is another with one more of them; the noise is a share of it.
    share = covariance[0] / (covariance[0, 0] + 0.7 * np.exp(-4.0) * scale**2)
    np.testing.assert_allclose(process.mean(some) - before, share * (measured - before[0]), atol=0.02 * scale)
