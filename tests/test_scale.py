"""The simulated cluster of benchmarks/scale.py: the real loop keeps many workers busy, and loses nothing."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import nas
from controllers import RandomSearch
from nas.scheduling import Flow
from nas.trial import Trial
from search_spaces import cost

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from scale import make_space, no_op
from simulated_cluster import BEGIN, ClusterPlan, SimulatedClock, SimulatedCluster, Slow


def simulate(folder, *, controller_seconds=0.0, **plan):
    clock = SimulatedClock()
    cluster = SimulatedCluster(ClusterPlan(**{"workers": 20, "start_seconds": 5.0, **plan}), clock)
    space = make_space()
    controller = Slow(RandomSearch(space.cardinalities, space.conditions), clock, controller_seconds)
    value = nas.Search(space=space, evaluator=no_op(), controller=controller, budget=nas.Budget(trials=200))
    return value.run(folder, executor=cluster, clock=clock), cluster, clock


def test_simulated_workers_are_busy_and_what_they_lose_is_tried_again(tmp_path):
    study, cluster, clock = simulate(tmp_path, failures_per_hour=3.0)
    assert len(study.completed) == 200
    assert sum(trial.attempts > 1 for trial in study.trials) >= 5
    assert cluster.utilisation > 0.98
    assert clock.monotonic() > 200 * 60 / 20 / 3
    assert study.trials[-1].finished_at > BEGIN.isoformat()


def test_a_slow_controller_leaves_simulated_workers_idle(tmp_path):
    _, cluster, clock = simulate(tmp_path, workers=10, controller_seconds=10.0, trial_seconds=20.0)
    assert cluster.utilisation < 0.5
    assert clock.busy_seconds == pytest.approx(2000, rel=0.05)


def test_a_controller_that_proposes_many_at_once_keeps_simulated_workers_busy(tmp_path, monkeypatch):
    plan = {"workers": 60, "start_seconds": 1.0, "controller_seconds": 2.0, "trial_seconds": 40.0}
    _, at_once, _ = simulate(tmp_path / "at-once", **plan)
    monkeypatch.setattr("nas.scheduling.BATCH_FROM", 61)
    _, one_by_one, _ = simulate(tmp_path / "one-by-one", **plan)
    assert at_once.utilisation > 0.7
    assert one_by_one.utilisation < 0.5


def _calls_to_start_one_more(running):
    """Python functions called to find and start a trial while so many others run."""
    space = make_space()
    network = space.decode((0,) * len(space.cardinalities))
    first = Trial(number=0, tokens=(), decode=lambda: network, digest="0", cost=cost(network), seed=0)
    flow = Flow(slots=running + 1)
    for number in range(running + 2):
        flow.add([replace(first, number=number, digest=str(number))])
        if number < running:
            flow.start(flow.next_to_run())
    calls = 0

    def count(frame, event, argument):  # noqa: ARG001
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        flow.start(flow.next_to_run())
        assert flow.next_to_run() is None
    finally:
        sys.setprofile(None)
    return calls


def test_the_next_trial_is_found_in_as_many_steps_whatever_the_number_of_workers():
    assert _calls_to_start_one_more(running=500) == _calls_to_start_one_more(running=5)
