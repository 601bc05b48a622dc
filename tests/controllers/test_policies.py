from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import ControllerError
from controllers.decisions import Decisions
from controllers.lstm_policy import LSTMPolicy
from controllers.policies import Adam, IndependentPolicy, make_policy
from controllers.testing.tools import CONDITIONAL, PLAIN

POLICIES = ["independent", "lstm"]


def trained(name, space, seed=0, steps=8):
    """A policy that is no longer uniform, and its decisions."""
    decisions = Decisions(*space)
    policy = make_policy(name, decisions, learning_rate=None, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        tokens = policy.sample(rng, 4)
        policy.step(tokens, rng.normal(size=4), 0.0)
    return policy, decisions


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("space", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
def test_probabilities_of_all_candidates_sum_to_one(name, space):
    policy, decisions = trained(name, space)
    everything = decisions.enumerate(10_000)
    assert np.exp(policy.log_prob(everything)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", POLICIES)
def test_candidates_are_drawn_as_often_as_their_log_probability_says(name):
    policy, decisions = trained(name, ((3, 2, 2), ((), ((0, (1, 2)),), ())))
    everything = decisions.enumerate(100)
    drawn = policy.sample(np.random.default_rng(1), 20_000)
    shares = [(drawn == row).all(axis=1).mean() for row in everything]
    np.testing.assert_allclose(shares, np.exp(policy.log_prob(everything)), atol=0.015)


@pytest.mark.parametrize("name", POLICIES)
def test_an_infinite_temperature_draws_uniformly(name):
    policy, _ = trained(name, ((3, 2), None))
    drawn = policy.sample(np.random.default_rng(1), 20_000, math.inf)
    for column, cardinality in zip(drawn.T, (3, 2), strict=True):
        np.testing.assert_allclose(np.bincount(column) / len(drawn), 1 / cardinality, atol=0.015)


@pytest.mark.parametrize("name", POLICIES)
def test_a_step_makes_good_candidates_likelier_and_bad_ones_rarer(name):
    policy, _ = trained(name, PLAIN)
    tokens = np.array([[0, 0, 0, 0, 0, 0], [2, 1, 3, 0, 2, 4]])
    before = policy.log_prob(tokens)
    policy.step(tokens, np.array([1.0, -1.0]), 0.0)
    after = policy.log_prob(tokens)
    assert after[0] > before[0]
    assert after[1] < before[1]


@pytest.mark.parametrize("name", POLICIES)
def test_the_entropy_bonus_alone_flattens_the_policy(name):
    policy, _ = trained(name, PLAIN, steps=40)
    tokens = policy.sample(np.random.default_rng(0), 8)
    before = policy.entropy(tokens)
    for _ in range(5):
        policy.step(tokens, np.zeros(8), 1.0)
    assert policy.entropy(tokens) > before


@pytest.mark.parametrize("name", POLICIES)
def test_inactive_decisions_count_in_neither_log_probability_nor_entropy(name):
    # The second decision exists only beside option 1 of the first.
    policy, _ = trained(name, ((2, 3), ((), ((0, (1,)),))))
    without = np.array([[0, 0]])
    p_first = policy.probabilities()[0]
    assert policy.log_prob(without)[0] == pytest.approx(math.log(p_first[0]), abs=1e-6)
    assert policy.entropy(without) == pytest.approx(-(p_first * np.log(p_first)).sum(), abs=1e-6)


def test_an_inactive_decision_gets_no_gradient():
    policy = IndependentPolicy(Decisions([2, 3], [(), [(0, (1,))]]), learning_rate=0.1)
    gradient = policy.gradient(np.array([[0, 0], [0, 0]]), np.array([1.0, 2.0]), 0.5)
    assert np.abs(gradient[0]).sum() > 0
    np.testing.assert_array_equal(gradient[1], 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 2), st.sampled_from([PLAIN, CONDITIONAL]))
def test_the_gradient_by_hand_is_the_gradient_of_autograd(seed, entropy_coef, space):
    policy, decisions = trained("independent", space, seed)
    rng = np.random.default_rng(seed)
    tokens, weights = policy.sample(rng, 5), rng.normal(size=5)
    logits = torch.tensor(policy.state_dict()["arrays"][0], requires_grad=True)
    objective = torch.zeros((), dtype=torch.float64)
    for row, active, weight in zip(tokens, decisions.active(tokens), weights, strict=True):
        for d in np.flatnonzero(active):
            log_p = torch.log_softmax(logits[d, : decisions.cardinalities[d]], 0)
            objective = objective + weight * log_p[row[d]]
            objective = objective - entropy_coef / len(tokens) * (log_p.exp() * log_p).sum()
    objective.backward()
    np.testing.assert_allclose(policy.gradient(tokens, weights, entropy_coef), logits.grad, atol=1e-12)


def test_adam_takes_the_steps_of_torch():
    rng = np.random.default_rng(0)
    ours, parameter = np.zeros(7), torch.zeros(7, dtype=torch.float64, requires_grad=True)
    adam, theirs = Adam((7,), 0.2), torch.optim.Adam([parameter], lr=0.2, maximize=True)
    for _ in range(20):
        gradient = rng.normal(size=7)
        ours += adam.step(gradient)
        parameter.grad = torch.tensor(gradient)
        theirs.step()
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-9)


def test_the_lstm_draws_by_the_same_distribution_that_it_is_trained_on():
    policy, decisions = trained("lstm", PLAIN)
    modes = np.array([[int(p.argmax()) for p in policy.probabilities()]])
    by_step = sum(math.log(p.max()) for p in policy.probabilities())
    assert policy.log_prob(modes)[0] == pytest.approx(by_step, abs=1e-4)
    assert len(modes[0]) == len(decisions)


def test_the_lstm_lets_later_decisions_depend_on_earlier_ones():
    policy = LSTMPolicy(Decisions([2, 2]), learning_rate=0.02, seed=0)
    everything = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    for _ in range(60):  # only equal tokens are good: no independent policy can say so
        policy.step(everything, np.array([1.0, -1.0, -1.0, 1.0]) / 4, 0.1)
    p = np.exp(policy.log_prob(everything))
    assert p[0] + p[3] > 0.9
    assert min(p[0], p[3]) > 0.2


def test_the_lstm_is_the_published_one():
    policy = LSTMPolicy(Decisions([3, 2]), learning_rate=0.01, seed=0)
    network = policy._network
    assert (network.lstm.num_layers, network.lstm.hidden_size) == (1, 100)
    assert all(parameter.abs().max() <= 0.1 for parameter in network.parameters())


def test_the_lstm_leaves_torch_as_it_found_it():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    policy, _ = trained("lstm", PLAIN, steps=1)
    policy.probabilities()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("policy", {"name": "transformer", "learning_rate": None}),
        ("learning_rate", {"name": "independent", "learning_rate": 0.0}),
        ("learning_rate", {"name": "independent", "learning_rate": math.nan}),
    ],
)
def test_a_policy_that_cannot_be_made_is_refused_by_field(field, arguments):
    with pytest.raises(ControllerError) as error:
        make_policy(decisions=Decisions([2]), seed=0, **arguments)
    assert error.value.field == field
