from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import RandomSearch
from controllers.testing.learning import ChainObjective, check_learning


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 2))
def test_the_best_candidate_of_the_objective_has_reward_one(seed, interaction):
    objective = ChainObjective((3, 2, 4, 1, 3), seed=seed, interaction=interaction)
    rewards = [objective(tokens) for tokens in itertools.product(*map(range, objective.cardinalities))]
    assert max(rewards) == pytest.approx(1)
    assert np.mean(rewards) == pytest.approx(0, abs=1e-9)


def test_independent_policies_leave_random_search_far_behind(make_independent):
    check_learning(make_independent, margin=0.5)


def test_learners_leave_random_search_behind_where_one_candidate_in_ten_fails(make_independent):
    check_learning(make_independent, margin=0.4, failing=0.1)


def test_mutating_searches_leave_random_search_behind_where_one_candidate_in_ten_fails(make_mutating):
    check_learning(make_mutating, margin=0.4, failing=0.1)


def test_mutating_searches_leave_random_search_far_behind(make_mutating):
    check_learning(make_mutating, margin=0.5)


def test_lstm_policies_learn_a_small_problem(make_lstm):
    objective = ChainObjective((3,) * 8, seed=0)
    controller = make_lstm(objective.cardinalities, None, 0)
    rewards = []
    for _ in range(32):
        proposals = controller.propose(5)
        rewards += [objective(proposal.tokens) for proposal in proposals]
        controller.feedback(list(zip(proposals, rewards[-5:], strict=True)))
    assert np.mean(rewards[-40:]) > np.mean(rewards[:40]) + 0.2


@pytest.mark.slow
def test_lstm_policies_leave_random_search_far_behind(make_lstm):
    check_learning(make_lstm, margin=0.4, seeds=range(3))


def test_random_search_does_not_beat_random_search():
    with pytest.raises(AssertionError, match=r"mean regret must be at most 0\.90 of random search's"):
        check_learning(lambda c, k, seed: RandomSearch(c, k, seed=seed + 50), margin=0.1)


@pytest.fixture(scope="module")
def macro():
    """Reward of every network of NAS-Bench-Macro: accuracy times (macs / 40M) to the -0.07."""
    folder = os.environ.get("MNAS_DATA")
    path = Path(folder or ".") / "nas-bench-macro_cifar10.json"
    if not folder or not path.is_file():
        pytest.skip("needs nas-bench-macro_cifar10.json in the folder that MNAS_DATA names")
    table = json.loads(path.read_text())
    return {
        tuple(map(int, key)): row["mean_acc"] / 100 * (row["flops"] / 40e6) ** -0.07
        for key, row in table.items()
    }


def test_learners_beat_random_search_on_nas_bench_macro(make_independent, macro):
    def mean_rank(make):
        """Mean share of all networks that are better than the best found in 200 evaluations."""
        ordered = np.sort(list(macro.values()))
        shares = []
        for seed in range(8):
            controller = make((3,) * 8, None, seed)
            best = -np.inf
            for _ in range(200):
                (proposal,) = controller.propose()
                best = max(best, macro[proposal.tokens])
                controller.feedback([(proposal, macro[proposal.tokens])])
            shares.append(1 - np.searchsorted(ordered, best, side="right") / len(ordered))
        return np.mean(shares)

    random = mean_rank(lambda c, k, seed: RandomSearch(c, k, seed=seed))
    assert mean_rank(make_independent) < 0.5 * random
