"""Which blocks are measured, and whether the truth comes out."""

from collections import Counter
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.errors import LatencyError
from nas.latency.table.building import (
    choose_blocks,
    estimate_seconds,
    measure_table,
    plan_table,
    table_of_session,
)
from search_spaces import MBConv, Network, SearchSpace, Stage, choice, efficientnet, find_blocks, mnasnet
from search_spaces.ops import op_label
from search_spaces.primitives import Linear

from .synthetic import (
    SETTINGS,
    Device,
    block_truth_ms,
    network_truth_ms,
    session_of,
    small_space,
    table_of,
)


def kinds(blocks):
    made = [(block.stage, block.part.made_of) for block in blocks]
    return Counter((stage, op_label(of.op) if isinstance(of, Stage) else stage) for stage, of in made)


def test_all_blocks_are_measured_where_there_are_few():
    plan = plan_table(efficientnet(), check=3)
    assert plan.blocks == plan.found.blocks
    assert len(plan.blocks) == 170


def test_a_sample_of_blocks_has_every_op_of_every_stage():
    blocks = find_blocks(mnasnet()).blocks
    chosen = choose_blocks(blocks, 300, seed=0)
    assert len(chosen) == len(set(chosen)) == 300
    assert set(kinds(chosen)) == set(kinds(blocks))
    assert max(kinds(chosen).values()) - min(kinds(chosen).values()) <= 1 + max(kinds(blocks).values()) // 4
    assert [blocks.index(block) for block in chosen] == sorted(blocks.index(block) for block in chosen)


def test_a_sample_of_blocks_follows_from_its_seed():
    blocks = find_blocks(mnasnet()).blocks
    assert choose_blocks(blocks, 250, seed=1) == choose_blocks(blocks, 250, seed=1)
    assert choose_blocks(blocks, 250, seed=1) != choose_blocks(blocks, 250, seed=2)


def test_networks_to_check_are_different_and_follow_from_the_seed():
    space = small_space()
    first, again, other = (plan_table(space, check=10, seed=seed).networks for seed in (1, 1, 2))
    assert len({network.digest for network in first}) == 10
    assert first == again
    assert first != other


def test_a_space_of_few_networks_is_checked_on_all_of_them():
    template: Network = small_space().reference
    space = SearchSpace(
        Network(
            stem=template.stem,
            stages=(Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8),),
            head=template.head,
            resolution=16,
            num_classes=4,
        )
    )
    assert len(plan_table(space, check=10).networks) == 2


def test_too_small_a_sample_of_blocks_is_refused():
    with pytest.raises(LatencyError, match="62 blocks, and at least 40") as error:
        plan_table(small_space(), most_blocks=20)
    assert error.value.field == "most_blocks"


def test_the_latencies_of_a_session_are_those_of_the_table():
    plan = plan_table(small_space(), check=4)
    measured = session_of(plan)
    table = table_of_session(plan, measured, SETTINGS)
    assert [block.key for block in table.blocks] == [block.key for block in plan.found.blocks]
    for block in table.blocks:
        timing = measured.session.timings[block.key]
        assert (block.latency_ms, block.q1_ms, block.q3_ms) == (timing.median_ms, timing.q1_ms, timing.q3_ms)
        assert block.n == 6
        assert not block.is_estimated
    assert table.estimator is None
    assert table.session == measured.record
    assert [one.digest for one in table.check.networks] == [network.digest for network in plan.networks]
    assert table.check.networks[0].halves_ms == measured.session.timings[plan.networks[0].digest].halves_ms


def test_predictions_find_the_hidden_truth_in_a_drifting_noisy_session():
    table = table_of(noise=0.02, check=24)
    space = small_space()
    tokens = space.sample_many(np.random.default_rng(9), 60)
    truth = np.array([network_truth_ms(space.decode(row)) for row in tokens.tolist()])
    predicted = table.predict_many(space, tokens)
    scale = np.median(predicted / truth)  # a session is stated at its own median speed
    assert np.abs(predicted / truth / scale - 1).mean() < 0.02
    assert kendalltau(predicted, truth).statistic > 0.95
    assert table.check.mape < 0.03
    assert table.check.is_good_to_rank


def test_the_correction_finds_what_networks_pay_beyond_their_blocks():
    correction = table_of(noise=0.0, check=24).correction
    assert correction.per_ms == pytest.approx(1.2, rel=0.05)
    assert correction.per_weight_ms > 0
    assert correction.networks == 24


def test_the_time_of_a_session_is_estimated_from_a_call_of_each_pass():
    device = Device(noise=0.0)
    plan = plan_table(small_space(), check=4)
    passes = [device.workload(block_truth_ms(block)) for block in plan.blocks]
    passes += [device.workload(network_truth_ms(network)) for network in plan.networks]
    guess = estimate_seconds(passes, 10, clock=device.clock)
    session = Device(noise=0.0).measure(plan, rounds=10)
    assert 0.5 < guess / session.seconds < 2


def test_a_block_that_cannot_run_is_named():
    plan = plan_table(small_space(), check=0)
    head = plan.blocks[-1]
    broken = replace(head, part=replace(head.part, node=Linear(features=3)))
    with pytest.raises(LatencyError, match=r"block of head: head, \d+ channels to 4 values"):
        measure_table(replace(plan, blocks=(broken,)), SETTINGS, rounds=1)


def test_a_session_says_what_it_does_as_it_goes():
    said, rounds = [], count(1)
    plan = plan_table(small_space(), check=2)
    few = replace(
        plan, found=replace(plan.found, blocks=plan.blocks[:3]), blocks=plan.blocks[:3], networks=()
    )
    with pytest.raises(LatencyError, match="is not in the latency table"):
        measure_table(few, SETTINGS, rounds=2, say=said.append, on_round=lambda *_: next(rounds))
    assert said[0] == "preparing 3 blocks and 0 networks on cpu, batch 1, threads 1, float32"
    assert said[1].startswith("measuring in 2 rounds, about ")
    assert next(rounds) == 3
