"""Kills real searches with SIGKILL, at random moments, and continues them."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import nas
from nas.study.study_folder import FILE_NAME
from nas.trial import Status

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 40

DRIVER = """
import importlib.util, sys, time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
import nas
from nas.trial import Evaluation, Metric
from nas.execution.worker import Worker

spec = importlib.util.spec_from_file_location("spaces", sys.argv[1])
spaces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spaces)


class Weighed:
    '''Sleeps up to 12 ms, as the candidate says; its weights are its accuracy.'''

    fingerprint = "weighed"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        mark = sum((i + 1) * (t + 1) for i, t in enumerate(candidate.job.tokens)) % 97
        time.sleep((mark % 13) / 1000)
        metric = Metric(name="accuracy", value=mark / 97, unit="fraction")
        return Evaluation(metrics=(metric,), weights=lambda: repr(mark / 97).encode())


class Threads:
    '''Runs jobs in threads of this process.'''

    slots = 3
    is_in_process = False

    def check(self, space, evaluator, probe=None):
        pass

    def watch(self, tell):
        pass

    def start(self, space, evaluator):
        self.pool = ThreadPoolExecutor(self.slots)
        self.make = lambda: Worker(space, evaluator)
        self.futures, self.workers = {}, {}

    def submit(self, job, weights=None):
        worker = self.workers[job] = self.make()
        self.futures[self.pool.submit(worker.run, job, weights)] = job

    def wait(self, timeout_seconds):
        done, _ = wait(self.futures, timeout_seconds, FIRST_COMPLETED)
        return [future.result() for future in done if self.futures.pop(future)]

    def weights(self, job):
        return self.workers[job].weights(job)

    def close(self):
        pass


class Talking:
    def on_start(self, start):
        print("start", flush=True)

    def on_trial(self, report):
        print(report.number, flush=True)

    def on_event(self, kind, message):
        pass

    def on_progress(self, progress):
        pass

    def on_end(self, end):
        print(end.ending, flush=True)


nas.search(
    spaces.make_space(),
    evaluator=Weighed(),
    controller="ppo" if sys.argv[4] == "ppo" else "reinforce",
    executor=Threads(),
    trials=int(sys.argv[3]),
    out=sys.argv[2],
    deterministic=sys.argv[5] == "deterministic",
    reporters=[Talking()],
)
"""

TABLES = {
    "trial": "number, digest, tokens_json, origin, proposal_number, log_prob, repeat, seed, fidelity, "
    "status, cause, message, reward, copied_from, weights_file, feedback_rank, feedback_reward",
    "candidate": "digest, macs, params, activations, network_json",
    "measurement": "trial, metric, value, unit, environment",
    "controller": "proposals, feedbacks, rejected, state_json",
}


def start_driver(out, *, controller="reinforce", schedule="free"):
    spaces = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", DRIVER, str(spaces), str(out), str(TRIALS), controller, schedule]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill_at(driver, trials, seconds):
    """Lets the driver report so many trials, waits, and kills it; says whether it lived until then."""
    for line in driver.stdout:
        if line.startswith("start"):
            trials += 1
        trials -= 1
        if trials <= 0:
            break
    time.sleep(seconds)
    is_alive = driver.poll() is None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    return is_alive


def rows(folder, query):
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        return database.execute(query).fetchall()


def content(folder):
    """All that two equal searches must agree on: everything but times and attempts."""
    return {
        table: sorted(rows(folder, f"SELECT {names} FROM {table}"), key=repr)
        for table, names in TABLES.items()
    }


def finished(folder):
    query = "SELECT number, status, reward, feedback_rank FROM trial WHERE finished_at IS NOT NULL"
    return {number: rest for number, *rest in rows(folder, query)}


def kill_until_done(out, rng, **options):
    """Kills a search again and again, checks after each that nothing finished was lost; returns the kills."""
    kills, before = 0, {}
    for _ in range(6):
        kills += kill_at(start_driver(out, **options), rng.randint(1, 6), rng.random() * 0.02)
        after = finished(out)
        for number, (status, reward, rank) in before.items():
            assert after[number][:2] == [status, reward]
            assert rank is None or after[number][2] == rank
        before = after
    with start_driver(out, **options) as last:
        words = last.communicate()[0].split()
    assert words[0] == "start"
    assert words[-1] == "trials"
    after = finished(out)
    assert {number: after[number][:2] for number in before} == {n: rest[:2] for n, rest in before.items()}
    return kills


@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_killed_at_random_moments_loses_no_finished_trial(tmp_path, seed):
    assert kill_until_done(tmp_path, random.Random(seed)) >= 3
    study = nas.open_study(tmp_path)
    assert [t.number for t in study.trials] == list(range(TRIALS))
    assert all(t.status is Status.COMPLETED for t in study.trials)
    assert any(t.attempts > 1 for t in study.trials)
    ranks = rows(tmp_path, "SELECT feedback_rank FROM trial ORDER BY feedback_rank")
    assert ranks == [(rank,) for rank in range(TRIALS)]
    assert len({t.digest for t in study.trials}) == TRIALS
    kept = {t.weights_file.name for t in study.trials if t.weights_file is not None}
    assert {path.name for path in (tmp_path / "weights").iterdir()} == kept
    for trial in study.trials:
        if trial.weights_file is not None:
            assert trial.weights() == repr(trial.accuracy).encode()


@pytest.mark.parametrize("controller", ["reinforce", "ppo"])
@pytest.mark.slow
def test_a_deterministic_search_killed_and_continued_is_the_search_that_was_not_killed(tmp_path, controller):
    with start_driver(tmp_path / "whole", controller=controller, schedule="deterministic") as driver:
        driver.communicate()
    options = {"controller": controller, "schedule": "deterministic"}
    assert kill_until_done(tmp_path / "killed", random.Random(7), **options) >= 3
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert len(content(tmp_path / "whole")["trial"]) == TRIALS
