import itertools
import json

import numpy as np
import pytest

from nas.cli.main import main
from nas.evaluation.space_profile import Plan, Share, profile_space
from nas.objective import Constraint, Objective
from nas.report.plan_report import profile_report
from nas.study.trial_rows import option_words
from search_spaces import cost, mnasnet


def test_quartiles_are_those_of_the_same_sample(small_space):
    profile = profile_space(small_space, samples=200, seed=3)
    tokens = small_space.sample_many(np.random.default_rng(3), 200)
    macs = [cost(small_space.decode(row)).macs for row in tokens.tolist()]
    spread = profile.spreads[0]
    assert spread.metric == "macs"
    assert (spread.median, spread.percent_1) == pytest.approx(tuple(np.quantile(macs, [0.5, 0.01])))
    assert (spread.edges[0], spread.edges[-1]) == (min(macs), max(macs))
    assert sum(spread.counts) == 200
    assert (profile.samples, profile.seed, profile.size) == (200, 3, small_space.size)


def test_the_ends_are_those_of_the_whole_space(small_space):
    every = itertools.product(*(range(count) for count in small_space.cardinalities))
    costs = small_space.costs(list(every))
    macs, params, held = profile_space(small_space, samples=20).spreads
    assert macs.is_exact
    assert params.is_exact
    assert not held.is_exact
    assert (macs.minimum, macs.maximum) == (costs.macs.min(), costs.macs.max())
    assert (params.minimum, params.maximum) == (costs.params.min(), costs.params.max())
    assert held.metric == "inference_bytes"


def test_the_histogram_is_drawn_with_the_reference_in_it(capsys):
    assert main(["profile", "--space", "efficientnet", "--samples", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (marked,) = [line for line in lines if line.endswith("reference") and "█" in line]
    low, high = (float(word.removesuffix("M")) for word in marked.split()[:2])
    assert low <= 385.8 <= high


def test_the_share_counts_candidates_at_or_below_the_limit(small_space):
    everything = profile_space(small_space, samples=100)
    limit = everything.spreads[0].median
    objective = Objective.hard("macs", limit, constraints=(Constraint(metric="params", upper=1),))
    target, constraint = profile_space(small_space, objective, samples=100).shares
    assert (target.kind, constraint.kind) == ("target", "constraint")
    assert 0.4 <= target.share <= 0.6
    assert constraint.kept == 0


def test_a_limit_that_only_a_measurement_can_tell_is_said_to_be_one(small_space):
    profile = profile_space(small_space, Objective.hard("latency_ms", 5.0), samples=5)
    assert profile.undecided == ("latency_ms",)
    assert profile.shares == ()


@pytest.mark.parametrize("kept", [0, 1, 50, 99, 100])
def test_the_interval_of_a_share_holds_the_share_and_stays_in_0_to_1(kept):
    share = Share(limit="macs <= 1", kind="target", kept=kept, samples=100)
    low, high = share.interval
    assert 0 <= low <= share.share <= high <= 1
    assert high - low > 0.01


def test_the_wilson_interval_of_ten_in_a_hundred_is_the_published_one():
    low, high = Share(limit="", kind="target", kept=10, samples=100).interval
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)


def test_a_plan_keeps_its_workers_busy():
    plan = Plan(trials=101, workers=4, gpus_per_worker=0.25, seconds_per_trial=36.0, origin="given")
    assert plan.seconds == 26 * 36
    assert plan.worker_hours == pytest.approx(1.01)
    assert plan.gpu_hours == pytest.approx(1.01 / 4)


def test_a_plan_without_seconds_claims_nothing():
    plan = Plan(trials=10, workers=1, gpus_per_worker=0.0, seconds_per_trial=None, origin="unknown")
    assert (plan.seconds, plan.gpu_hours, plan.worker_hours) == (None, None, None)


def test_options_of_one_class_are_named_by_the_fields_that_differ():
    words = option_words(mnasnet().decisions[0].options)
    assert words == ("Conv", "DepthwiseSeparable", "MBConv expand_ratio=3", "MBConv expand_ratio=6")


def test_decisions_of_neighbouring_blocks_are_drawn_as_one_row_and_kept_apart_in_json():
    space = mnasnet(resolution=32)
    profile = profile_space(space, samples=2)
    plan = Plan(trials=1, workers=1, gpus_per_worker=0.0, seconds_per_trial=1.0, origin="given")
    table = profile_report(profile, plan, title="").tables[0]
    assert len(table.rows) == 42
    assert table.drawn is not None
    assert [row["where"] for row in table.drawn if row["what"] == "op"] == ["block1 to block7"]
    assert not any(row["only_if"] for row in table.rows)


def test_profile_prints_the_same_numbers_as_table_and_as_json(capsys):
    command = ["profile", "--space", "efficientnet", "--resolution", "32", "--num-classes", "10"]
    command += ["--target-macs", "30M", "--samples", "50", "--seconds-per-trial", "60", "--trials", "40"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["size"] == 104_485_552_128
    assert "104,485,552,128" in text
    assert data["sample"] == {"n": 50, "seed": 0}
    assert data["plan"][0]["seconds"] == 2400
    assert "40 min 00 s" in text
    assert len(data["decisions"]) == 28
    assert data["limits"][0]["limit"] == "macs <= 30,000,000"


def test_profile_without_a_trial_time_says_how_to_get_one(capsys):
    assert main(["profile", "--space", "small", "--samples", "5"]) == 0
    assert "give --seconds-per-trial, or --data to measure it" in capsys.readouterr().out


def test_profile_of_an_unknown_space_names_the_near_one(capsys):
    assert main(["profile", "--space", "efficientnt"]) == 2
    assert "did you mean efficientnet or" in capsys.readouterr().err
