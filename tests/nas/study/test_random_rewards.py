import math

import numpy as np
import pytest

from nas.benchmarks.digits import load_digits_bench
from nas.execution.inline_executor import InlineExecutor
from nas.short_form import search
from nas.study.insight import explain
from nas.study.study import open_study
from nas.trial import Cause, InfeasibleError


@pytest.fixture(scope="module")
def benchmark():
    return load_digits_bench()


def insight_of(benchmark, out, objective=None, evaluator=None):
    search(
        benchmark.space,
        evaluator=evaluator or benchmark.evaluator(),
        objective=objective,
        controller="random",
        trials=60,
        executor=InlineExecutor(),
        out=out,
    )
    return explain(open_study(out, space=benchmark.space))


def test_simulated_rewards_are_spread_as_those_of_a_table_of_all_candidates(benchmark, tmp_path):
    rewards = insight_of(benchmark, tmp_path / "s").random.draw(1_000, seed=1)
    true = benchmark.mean_accuracies
    assert len(rewards) == 1_000
    assert abs(rewards.mean() - true.mean()) < 0.01
    assert 0.7 < rewards.std() / math.hypot(true.std(), benchmark.noise) < 1.3


def test_the_same_seed_draws_the_same_rewards(benchmark, tmp_path):
    random = insight_of(benchmark, tmp_path / "s").random
    assert np.array_equal(random.draw(50, seed=2), random.draw(50, seed=2))
    assert not np.array_equal(random.draw(50, seed=2), random.draw(50, seed=3))


def test_candidates_that_fail_have_no_reward_and_those_above_a_limit_are_not_drawn(benchmark, tmp_path):
    table = benchmark.lookup()

    class Fails:
        fingerprint = "fails"

        def prepare(self):
            pass

        def evaluate(self, candidate):
            if candidate.job.tokens[0] == 1:
                raise InfeasibleError(Cause.DIVERGED, "nan")
            from nas.trial import Evaluation, Metric

            value = table[candidate.job.tokens]
            return Evaluation(metrics=(Metric(name="accuracy", value=value, unit="fraction"),))

    random = insight_of(benchmark, tmp_path / "s", "accuracy, macs <= 100k", Fails()).random
    rewards = random.draw(200, seed=0)
    assert 0.3 < np.isnan(rewards).mean() < 0.7
    rows = random._feasible(np.random.default_rng(0), 200)
    assert benchmark.space.costs(rows)["macs"].max() <= 100_000
