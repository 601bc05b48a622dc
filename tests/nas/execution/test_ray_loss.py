"""Ray that cannot start, or dies: what is said of it, and how a search goes on."""

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import nas
from nas.errors import ExecutorError
from nas.execution.ray_cluster import start_here
from nas.execution.ray_executor import RayExecutor
from nas.execution.ray_watch import RayWatch
from nas.trial import Job

ROOT = Path(__file__).resolve().parents[3]


class Starting:
    """A module like Ray whose starts fail as told; each leaves a process behind."""

    _private = SimpleNamespace(ray_constants=SimpleNamespace(ENABLE_RAY_CLUSTER=True))

    def __init__(self, *failures):
        self.failures = list(failures)
        self.left = []
        self.options = None

    def init(self, **options):
        self.options = options
        if self.failures:
            self.left.append(subprocess.Popen(["sleep", "60"]))
            raise self.failures.pop(0)


def test_ray_that_starts_at_the_second_try_is_started_and_the_first_try_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    ray, naps = Starting(RuntimeError("The current node timed out during startup.")), []
    start_here(ray, sleep=naps.append, num_cpus=3)
    assert ray.options["num_cpus"] == 3
    assert len(naps) == 1
    assert len(ray.left) == 1
    assert not [child for child in psutil.Process().children() if child.name() == "sleep"]


def test_ray_that_does_not_start_twice_is_said_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    ray = Starting(*(RuntimeError("it timed out\nand more") for _ in range(3)))
    with pytest.raises(ExecutorError, match=r"in 2 tries: it timed out\. .*--executor inline") as error:
        start_here(ray, sleep=lambda _: None)
    assert error.value.field == "executor"
    assert len(ray.left) == 2


def test_a_folder_that_ray_cannot_use_is_said_without_a_try(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("RAY_TMPDIR", str(file))
    ray = Starting()
    with pytest.raises(
        ExecutorError, match=r"its folder .*file cannot be used: .*Not a directory.* RAY_TMPDIR"
    ):
        start_here(ray)
    assert ray.options is None


def test_a_full_folder_is_said_without_a_try(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    usage = namedtuple("usage", "total used free")(10 << 20, 9 << 20, 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ExecutorError, match=r"1\.0 MiB are free, and it needs 32"):
        start_here(Starting())


def test_a_path_that_is_too_long_for_ray_is_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    ray = Starting(OSError(errno.ENAMETOOLONG, "AF_UNIX path length cannot exceed 107 bytes"))
    with pytest.raises(ExecutorError, match="a short path"):
        start_here(ray)
    ray.left[0].kill()
    ray.left[0].wait()


class Clock:
    """Stands where it is put."""

    now = 0.0

    def __call__(self):
        return self.now


def losses(watch, clock, *moments):
    """What the watch says at each moment."""
    said = []
    for clock.now in moments:
        said.append(watch.loss())
    return said


def test_a_process_of_ray_that_takes_no_calls_for_a_while_is_dead():
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = RayWatch({"its head": server.getsockname()}, patience_seconds=3.0, clock=clock)
        assert losses(watch, clock, 1.0, 2.0, 10.0) == ["", "", ""]
    assert losses(watch, clock, 600.0, 602.0, 603.5) == ["", "", "its head"]


def test_a_process_of_ray_that_answers_again_in_time_is_alive():
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    watch = RayWatch({"its head": address}, patience_seconds=3.0, clock=clock)
    assert losses(watch, clock, 2.0) == [""]
    with socket.create_server(address):
        assert losses(watch, clock, 3.5, 5.5) == ["", ""]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("on_loss", "words"),
    [
        ("stop", "repeat the command to continue, or let --on-ray-loss restart"),
        ("restart", "connected this process"),
    ],
)
def test_ray_that_dies_ends_a_search_with_what_happened_and_how_to_continue(
    small_space,
    on_loss,
    words,
):
    executor = RayExecutor(1, on_ray_loss=on_loss)
    try:
        executor.start(small_space, nas.TableEvaluator(lambda _: 0.5, seconds=30.0, name="slow"))
        executor.submit(Job(trial=0, attempt=1, tokens=(0,) * len(small_space.cardinalities), seed=0))
        with socket.create_server(("127.0.0.1", 0)) as server:
            gone = server.getsockname()
        executor._session._watch = RayWatch({"the head of Ray": gone}, patience_seconds=0.0)
        with pytest.raises(ExecutorError, match=f"the head of Ray died: it was killed.*{words}") as error:
            executor.wait(60.0)
        assert error.value.field == "on_ray_loss"
        executor._session._watch = None  # this Ray is alive: its worker has to be ended
    finally:
        executor.close()


def test_what_to_do_when_ray_dies_is_one_of_two_words():
    with pytest.raises(ExecutorError, match="stop or restart") as error:
        RayExecutor(1, on_ray_loss="retry")
    assert error.value.field == "on_ray_loss"


DRIVER = """
import importlib.util, sys
import psutil
import nas
from nas.execution.ray_executor import RayExecutor

spec = importlib.util.spec_from_file_location("spaces", sys.argv[1])
spaces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spaces)


class Injuring:
    def on_start(self, start):
        pass

    def on_trial(self, report):
        INJURY

    def on_event(self, kind, message):
        print(kind, message, flush=True)

    def on_progress(self, progress):
        pass

    def on_end(self, end):
        print("ended:", end.ending, flush=True)


evaluator = nas.TableEvaluator(lambda _: 0.5, seconds=float(sys.argv[4]), name="slow")
SETUP
nas.search(spaces.make_space(), evaluator=evaluator, controller="random", executor=executor,
           trials=int(sys.argv[3]), out=sys.argv[2], reporters=[Injuring()])
"""

RAYLET = """family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        for connection in [one for process in family for one in process.net_connections("tcp")]:
            if connection.status == psutil.CONN_LISTEN:
                print("listens", connection.laddr.ip, flush=True)
        if report.number == 0:
            [raylet] = [one for one in psutil.Process().children(recursive=True) if one.name() == "raylet"]
            raylet.kill()"""
ONE_MACHINE = "executor = RayExecutor(1, on_ray_loss='restart')"

NODE = """if report.number == 3:
            cluster.remove_node(second, allow_graceful=False)"""
TWO_NODES = """
from ray.cluster_utils import Cluster
quick = {f"health_check_{name}": value for name, value in (
    ("initial_delay_ms", 0), ("period_ms", 300), ("failure_threshold", 3))}
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False, "_system_config": quick})
second = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
executor = RayExecutor(4, address=cluster.address)
"""


def injured(out, setup, injury, trials, seconds):
    """Runs a search in a process of its own with Ray, injures it, and returns what it says and its study."""
    driver = DRIVER.replace("SETUP", setup).replace("INJURY", injury)
    spaces = Path(__file__).parents[1] / "conftest.py"
    done = subprocess.run(
        [sys.executable, "-c", driver, str(spaces), str(out), str(trials), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), nas.open_study(out)


@pytest.mark.slow
def test_a_search_goes_on_after_ray_itself_was_killed(tmp_path):
    said, study = injured(tmp_path, ONE_MACHINE, RAYLET, 3, 2.5)
    assert len(study.completed) == 3
    assert "ended: trials" in said
    assert "Ray is started or joined again" in next(line for line in said if line.startswith("ray_restarted"))
    assert max(trial.attempts for trial in study.trials) == 2
    addresses = {line.split()[1].removeprefix("::ffff:") for line in said if line.startswith("listens")}
    assert addresses == {"127.0.0.1"}  # whoever reaches a port of Ray can run code


@pytest.mark.slow
def test_a_search_goes_on_after_a_node_was_killed(tmp_path):
    said, study = injured(tmp_path, TWO_NODES, NODE, 16, 0.3)
    assert len(study.completed) == 16
    assert "ended: trials" in said
    assert max(trial.attempts for trial in study.trials) == 2
    assert sum(trial.attempts for trial in study.trials) <= 16 + 2
