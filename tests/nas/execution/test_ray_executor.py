import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import nas
from nas.errors import ExecutorError
from nas.execution.ray_actor import version_problem
from nas.execution.ray_executor import RayExecutor
from nas.trial import Cause, Evaluation, Job, Metric, Status
from nas.version import WORKER_PACKAGES, package_fingerprint, source_fingerprint

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def accuracy(value):
    return Metric(name="accuracy", value=value, unit="fraction")


class Talkative:
    """Leaves the number of its process in a folder, then sleeps as long as the seed's name says."""

    fingerprint = "talkative"

    def __init__(self, folder, naps=(), images=None):
        self.folder = folder
        self.naps = dict(naps)
        self.images = images

    def prepare(self):
        pass

    def evaluate(self, candidate):
        number = candidate.job.trial
        path = self.folder / f"{number}-{candidate.job.attempt}"
        path.write_text(str(os.getpid()))
        time.sleep(self.naps.get(number, 0.0) if candidate.job.attempt == 1 else 0.0)
        metrics = [accuracy(0.5)]
        if self.images is not None:
            metrics += [
                Metric(name="is_writeable", value=float(self.images.flags.writeable), unit="count"),
                Metric(name="total", value=float(self.images.sum()), unit="count"),
            ]
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
        metrics.append(Metric(name="gpus_seen", value=float(len(gpus)), unit="count", environment=gpus))
        return Evaluation(metrics=tuple(metrics), weights=lambda: b"w")


def make(workers=2, **options):
    return RayExecutor(workers, modules=[sys.modules[__name__]], **options)


def job(space, trial, attempt=1):
    return Job(trial=trial, attempt=attempt, tokens=(0,) * len(space.cardinalities), seed=trial)


def wait_for(path, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} did not begin"
        time.sleep(0.02)
    return int(path.read_text())


def drain(executor, count):
    results = []
    while len(results) < count:
        results += executor.wait(60.0)
    return {result.job.trial: result for result in results}


@pytest.fixture
def started(small_space, tmp_path):
    made = []

    def start(naps=(), images=None, **options):
        executor = make(**options)
        made.append(executor)
        executor.start(small_space, Talkative(tmp_path, naps, images))
        return executor

    yield start
    for executor in made:
        executor.close()


def test_a_killed_worker_loses_its_job_and_is_replaced(started, small_space, tmp_path):
    executor = started(naps={0: 60.0})
    executor.submit(job(small_space, 0))
    executor.submit(job(small_space, 1))
    os.kill(wait_for(tmp_path / "0-1"), signal.SIGKILL)
    results = drain(executor, 2)
    assert results[1].status is Status.COMPLETED
    assert (results[0].status, results[0].cause) == (Status.LOST, Cause.WORKER_DIED)
    assert executor.weights(job(small_space, 0)) is None
    for trial in (2, 3):
        executor.submit(job(small_space, trial))
    assert [result.status for result in drain(executor, 2).values()] == [Status.COMPLETED] * 2


def test_a_search_runs_the_trial_of_a_killed_worker_again(small_space, tmp_path):
    evaluator = Talkative(tmp_path, {3: 120.0})

    def kill():
        os.kill(wait_for(tmp_path / "3-1"), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    study = nas.search(
        small_space,
        evaluator=evaluator,
        controller="random",
        executor=make(),
        trials=8,
        out=tmp_path / "study",
    )
    killer.join()
    assert [t.status for t in study.trials] == [Status.COMPLETED] * 8
    assert [t.attempts for t in study.trials] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert study.summary().causes == {"worker_died": 1}
    assert study.best.weights() == b"w"


def test_a_job_that_takes_too_long_is_infeasible_and_its_worker_replaced(started, small_space, tmp_path):
    executor = started(naps={0: 600.0}, trial_timeout_seconds=1.5)
    executor.submit(job(small_space, 0))
    executor.submit(job(small_space, 1))
    results = drain(executor, 2)
    assert (results[0].status, results[0].cause) == (Status.INFEASIBLE, Cause.TIMEOUT)
    assert "1.5 s" in results[0].message
    assert results[1].status is Status.COMPLETED
    executor.submit(job(small_space, 2))
    assert drain(executor, 1)[2].status is Status.COMPLETED
    assert wait_for(tmp_path / "2-1") > 0


def test_a_worker_is_recycled_after_so_many_jobs(started, small_space, tmp_path):
    executor = started(workers=1, recycle_after=2)
    pids = []
    for trial in range(4):
        executor.submit(job(small_space, trial))
        assert drain(executor, 1)[trial].status is Status.COMPLETED
        assert executor.weights(job(small_space, trial)) == b"w"
        pids.append(wait_for(tmp_path / f"{trial}-1"))
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_arrays_of_the_evaluator_are_shared_and_read_only(started, small_space):
    images = np.ones((1000, 1000), dtype=np.uint8)
    executor = started(images=images)
    executor.submit(job(small_space, 0))
    values = {metric.name: metric.value for metric in drain(executor, 1)[0].metrics}
    assert values["is_writeable"] == 0.0
    assert values["total"] == 1e6


def test_workers_without_gpus_see_none(started, small_space):
    executor = started()
    executor.submit(job(small_space, 0))
    seen = next(metric for metric in drain(executor, 1)[0].metrics if metric.name == "gpus_seen")
    assert seen.environment == ""


@pytest.mark.slow
def test_shared_gpus_are_given_out_by_share(started, small_space):
    executor = started(workers=2, gpus_per_worker=0.5, cpus_per_worker=0.5)
    for trial in (0, 1):
        executor.submit(job(small_space, trial))
    for result in drain(executor, 2).values():
        seen = next(metric for metric in result.metrics if metric.name == "gpus_seen")
        assert seen.environment in {"0", "1"}


@pytest.mark.parametrize(("workers", "gpus"), [(3, 1.0), (5, 0.5), (3, 0.6), (2, 2.0)])
def test_more_gpus_than_there_are_is_said_at_the_start(small_space, tmp_path, workers, gpus):
    executor = make(workers, gpus_per_worker=gpus)
    with pytest.raises(ExecutorError, match="but there are 2 GPUs"):
        executor.start(small_space, Talkative(tmp_path))


def test_more_workers_than_fit_are_said_in_time(small_space, tmp_path):
    executor = make(2, cpus_per_worker=3.0, start_timeout_seconds=8.0)
    with pytest.raises(ExecutorError, match="of 2 workers were not up after 8 s"):
        executor.start(small_space, Talkative(tmp_path))


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"gpus_per_worker": 1.5},
        {"gpus_per_worker": -0.1},
        {"cpus_per_worker": -1.0},
        {"trial_timeout_seconds": 0.0},
        {"recycle_after": 0},
    ],
)
def test_a_number_out_of_its_range_is_refused(options):
    with pytest.raises(ExecutorError) as error:
        RayExecutor(**options)
    assert [error.value.field] == list(options)


def test_workers_must_run_the_drivers_version(tmp_path):
    assert version_problem("abc", "abc") == ""
    assert "install the same version on every node" in version_problem("abc", "abd")
    root = tmp_path / "copy"
    for package in WORKER_PACKAGES:
        folder = Path(sys.modules[package].__file__).parent
        shutil.copytree(folder, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert source_fingerprint(root) == package_fingerprint()
    with (root / "nas" / "worker.py").open("a") as file:
        file.write("# changed\n")
    assert source_fingerprint(root) != package_fingerprint()


UNREACHABLE = """
import sys
import nas
from nas.errors import ExecutorError
from nas.execution import ray_cluster
from nas.execution.ray_executor import RayExecutor
from search_spaces import mnasnet
ray_cluster.JOIN_SECONDS = float(sys.argv[2])
try:
    RayExecutor(address=sys.argv[1]).start(mnasnet(resolution=32, num_classes=10), nas.TableEvaluator({}))
except ExecutorError as error:
    print(error)
"""


def start_elsewhere(address, seconds=60):
    """Starts an executor in a process of its own, where Ray does not run yet; returns what it says."""
    root = Path(__file__).resolve().parents[3]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", UNREACHABLE, address, str(seconds)]
    done = subprocess.run(
        command,
        env={**environment, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def test_a_cluster_that_is_not_there_is_said_in_time():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert f"nothing answers at {address}" in start_elsewhere(address)


def test_an_address_that_is_none_is_said():
    assert "an address is auto, host:port or ray://host:port" in start_elsewhere("nowhere")


@pytest.mark.slow
def test_something_else_listening_at_the_address_is_said_in_time():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        said = start_elsewhere(f"127.0.0.1:{other.getsockname()[1]}", seconds=5)
    assert "did not answer within" in said or "cannot be joined" in said


DRIVER = """
import importlib.util, sys
import nas

spec = importlib.util.spec_from_file_location("spaces", sys.argv[1])
spaces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spaces)


class Talking:
    def on_start(self, start):
        pass

    def on_trial(self, report):
        print(report.number, flush=True)

    def on_event(self, kind, message):
        pass

    def on_progress(self, progress):
        pass

    def on_end(self, end):
        print(end.ending, flush=True)


evaluator = nas.TableEvaluator(lambda _: 0.5, seconds=0.3, name="slow")
nas.search(spaces.make_space(), evaluator=evaluator, controller="random", workers=2, trials=int(sys.argv[3]),
           out=sys.argv[2], reporters=[Talking()])
"""


def start_driver(out, trials):
    spaces = Path(__file__).parents[1] / "conftest.py"
    command = [sys.executable, "-c", DRIVER, str(spaces), str(out), str(trials)]
    root = Path(__file__).resolve().parents[3]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONPATH": str(root)},
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_search_on_ray_that_is_ended_or_killed_is_continued(tmp_path, number):
    with start_driver(tmp_path, 60) as driver:
        for line in driver.stdout:
            if line == "4\n":
                break
        # A terminal sends Ctrl-C to all its processes, Ray's too; the others go to the driver alone.
        send = os.killpg if number is signal.SIGINT else os.kill
        send(driver.pid, number)
        rest = driver.stdout.read()
    assert rest.endswith("interrupted\n") is (number is not signal.SIGKILL)
    before = nas.open_study(tmp_path)
    assert 5 <= len(before.completed) < 20
    with start_driver(tmp_path, len(before.trials) + 2) as driver:
        assert driver.communicate()[0].endswith("trials\n")
    study = nas.open_study(tmp_path)
    assert len(study.completed) == len(before.trials) + 2
    for old in before.completed:
        assert study.trials[old.number] == old
    again = [t.number for t in before.trials if t.status is not Status.COMPLETED]
    assert {study.trials[n].attempts for n in again} <= {1, 2}


def test_a_search_goes_on_when_what_carries_its_progress_dies(small_space, tmp_path, local_ray):
    told = []
    executor = make(workers=1)
    executor.watch(told.append)
    executor.start(small_space, Talkative(tmp_path, {0: 3.0}))
    try:
        local_ray.kill(executor._board.actor)
        for number in range(2):
            executor.submit(job(small_space, number))
            results = []
            while not results:
                results = executor.wait(0.5)
            assert results[0].status is Status.COMPLETED
    finally:
        executor.close()
    assert [progress.text for progress in told if progress.trial is not None] == ["begins", "begins"]


class Told:
    """Knows the precision that the driver has found out, if any."""

    fingerprint = "told"
    asked = None

    def resolve_precision(self, device, *, threads):
        self.asked = f"{device} {threads}"

    def prepare(self):
        pass

    def evaluate(self, _):
        metric = Metric(name="asked", value=1.0, unit="count", environment=str(self.asked))
        return Evaluation(metrics=(accuracy(0.5), metric))


@pytest.mark.parametrize(
    ("options", "asked"),
    [({}, "cpu 1"), ({"cpus_per_worker": 2}, "cpu 2"), ({"gpus_per_worker": 0.5}, "None")],
)
def test_the_driver_finds_out_the_precision_of_processors_and_workers_that_of_gpus(
    small_space, options, asked
):
    executor = make(workers=1, **options)
    try:
        executor.start(small_space, Told())
        executor.submit(job(small_space, 0))
        result = drain(executor, 1)[0]
    finally:
        executor.close()
    assert [m.environment for m in result.metrics if m.name == "asked"] == [asked]
