"""A latency device as a resource of the cluster: measured apart, one at a time, and survived when it dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import pairwise

import pytest

import nas
from nas.errors import ExecutorError
from nas.evaluators import Probed
from nas.execution.ray_executor import RayExecutor
from nas.objective import Constraint, Objective
from nas.trial import Cause, Evaluation, InfeasibleError, Job, Metric, Status

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


class Trainer:
    """Says which process it runs in."""

    fingerprint = "trainer"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        accuracy = 0.1 + 0.01 * candidate.job.trial
        metrics = (
            Metric(name="accuracy", value=accuracy, unit="fraction"),
            Metric(name="trainer_process", value=float(os.getpid()), unit="count"),
        )
        return Evaluation(metrics=metrics, weights=lambda: b"w")


class Device:
    """Notes when each measurement begins and ends, in a folder; may die, hang or refuse."""

    device = "cpu"

    def __init__(
        self, folder, *, fingerprint="device", nap=0.0, dies_once=False, breaks_once=False, refuses=False
    ):
        self.folder = folder
        self.fingerprint = fingerprint
        self.nap = nap
        self.dies_once = dies_once
        self.breaks_once = breaks_once
        self.refuses = refuses

    def prepare(self):
        (self.folder / f"prepared-{os.getpid()}").touch()

    def measure(self, network):
        began = time.time()
        marker = self.folder / "died"
        if self.dies_once and not marker.exists():
            marker.touch()
            time.sleep(1.5)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.breaks_once and not marker.exists():
            marker.touch()
            raise RuntimeError("CUDA error: unspecified launch failure")
        if self.refuses:
            raise InfeasibleError(Cause.OUT_OF_MEMORY, "the device has too little memory")
        time.sleep(self.nap)
        (self.folder / f"span-{began}").write_text(f"{began} {time.time()}")
        return (
            Metric(name="latency_ms", value=float(network.resolution), unit="ms", environment="the device"),
            Metric(name="device_process", value=float(os.getpid()), unit="count"),
        )


def make(workers=2, **options):
    return RayExecutor(workers, modules=[sys.modules[__name__]], **{"probe_resource": "phone", **options})


def run_jobs(executor, space, evaluator, count, *, seconds=60):
    executor.start(space, evaluator)
    jobs = [Job(trial=n, attempt=1, tokens=(0,) * len(space.cardinalities), seed=n) for n in range(count)]
    results, waiting, until = [], list(jobs), time.monotonic() + seconds
    while len(results) < count and time.monotonic() < until:
        while waiting and len(jobs) - len(waiting) - len(results) < executor.slots:
            executor.submit(waiting.pop(0))
        results += executor.wait(1.0)
    return sorted(results, key=lambda result: result.job.trial)


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def test_the_probe_measures_in_a_process_of_its_own_one_candidate_at_a_time(tmp_path, small_space):
    executor = make()
    try:
        results = run_jobs(executor, small_space, Probed(Trainer(), Device(tmp_path, nap=0.1)), 6)
    finally:
        executor.close()
    assert [result.status for result in results] == [Status.COMPLETED] * 6
    assert {values(result)["latency_ms"] for result in results} == {small_space.template.resolution}
    probers = {values(result)["device_process"] for result in results}
    assert len(probers) == 1
    assert not probers & {values(result)["trainer_process"] for result in results}
    spans = sorted(tuple(map(float, path.read_text().split())) for path in tmp_path.glob("span-*"))
    assert len(spans) == 6
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    assert len(list(tmp_path.glob("prepared-*"))) == 1


def test_without_a_resource_the_worker_measures_after_the_training(tmp_path, small_space):
    executor = make(1, probe_resource=None)
    try:
        (result,) = run_jobs(executor, small_space, Probed(Trainer(), Device(tmp_path)), 1)
    finally:
        executor.close()
    assert values(result)["device_process"] == values(result)["trainer_process"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "words"),
    [("dies_once", "the process died"), ("breaks_once", "CUDA error: unspecified launch failure")],
)
def test_a_device_that_dies_loses_the_attempt_and_is_replaced(tmp_path, small_space, trouble, words):
    study = nas.search(
        small_space,
        evaluator=Probed(Trainer(), Device(tmp_path, **{trouble: True})),
        objective=Objective(constraints=(Constraint(metric="latency_ms", upper=1000),)),
        controller="random",
        executor=make(2),
        trials=3,
        out=tmp_path / "study",
    )
    assert [trial.status for trial in study.trials] == [Status.COMPLETED] * 3
    assert sorted(trial.attempts for trial in study.trials) == [1, 1, 2]  # one waited to be measured
    lost = [message for _, kind, message in study.events if kind == "attempt_lost"]
    assert "measuring on phone: " in lost[0]
    assert words in lost[0]
    assert len(list(tmp_path.glob("prepared-*"))) == 2


def test_a_candidate_that_the_device_refuses_is_infeasible(tmp_path, small_space):
    executor = make(1)
    try:
        (result,) = run_jobs(executor, small_space, Probed(Trainer(), Device(tmp_path, refuses=True)), 1)
    finally:
        executor.close()
    assert (result.status, result.cause) == (Status.INFEASIBLE, Cause.OUT_OF_MEMORY)
    assert "measuring on phone: the device has too little memory" in result.message
    assert not result.has_weights


@pytest.mark.slow
def test_a_measurement_that_hangs_is_given_up_with_its_process(tmp_path, small_space):
    executor = make(1, trial_timeout_seconds=1.0)
    try:
        (result,) = run_jobs(executor, small_space, Probed(Trainer(), Device(tmp_path, nap=600)), 1)
        assert (result.status, result.cause) == (Status.INFEASIBLE, Cause.TIMEOUT)
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("prepared-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(list(tmp_path.glob("prepared-*"))) == 2
    finally:
        executor.close()


def test_a_cluster_without_the_resource_is_refused_and_says_what_it_offers(small_space, tmp_path):
    executor = make(1, probe_resource="tablet")
    with pytest.raises(ExecutorError, match=r"'tablet' \(offered: phone\).*--resources"):
        executor.start(small_space, Probed(Trainer(), Device(tmp_path)))


@pytest.mark.slow
def test_a_gpu_for_the_probe_is_counted_beside_those_of_the_workers(small_space, tmp_path):
    crowded = make(2, gpus_per_worker=1, probe_gpus=1)
    with pytest.raises(ExecutorError, match="beside 1 for measuring latency"):
        crowded.start(small_space, Probed(Trainer(), Device(tmp_path)))
    shared = make(2, gpus_per_worker=0.5, probe_gpus=1)
    try:
        results = run_jobs(shared, small_space, Probed(Trainer(), Device(tmp_path)), 2)
    finally:
        shared.close()
    assert [result.status for result in results] == [Status.COMPLETED] * 2


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda-graph", "onnx-cuda"])
def test_latency_is_not_measured_on_a_gpu_that_others_train_on(small_space, tmp_path, device):
    probe = Device(tmp_path)
    probe.device = device
    with pytest.raises(ExecutorError, match="never be measured on a GPU that is training, but 4 workers"):
        make(4, gpus_per_worker=0.25, probe_resource=None).start(small_space, Probed(Trainer(), probe))


def test_a_probed_evaluator_is_another_evaluator_than_either_part(tmp_path):
    probed = Probed(Trainer(), Device(tmp_path))
    assert probed.fingerprint != Probed(Trainer(), Device(tmp_path, fingerprint="other")).fingerprint
    assert probed.fingerprint != Trainer().fingerprint
