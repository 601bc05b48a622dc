"""A candidate that ends the search's own process is tried three times; a person who ends it costs no try."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from nas.trial import Cause, Status

ROOT = Path(__file__).resolve().parents[3]

DRIVER = """
import ctypes, importlib.util, os, signal, sys, time
import nas
from nas.trial import Evaluation, Metric

spec = importlib.util.spec_from_file_location("spaces", sys.argv[1])
spaces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spaces)


class Deadly:
    fingerprint = "deadly"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        number = candidate.job.trial
        if number == 2:
            print("begun", signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)
            {
                "exit": lambda: os._exit(7),
                "crash": lambda: ctypes.string_at(0),
                "sleep": lambda: time.sleep(60),
                "live": lambda: None,
            }[sys.argv[3]]()
        return Evaluation(metrics=(Metric(name="accuracy", value=0.5 + number / 100, unit="fraction"),))


class Talking:
    def on_start(self, start):
        pass

    def on_trial(self, report):
        pass

    def on_event(self, kind, message):
        print(kind, message, flush=True)

    def on_progress(self, progress):
        pass

    def on_end(self, end):
        print("ended", end.ending, flush=True)


study = nas.search(
    spaces.make_space(),
    evaluator=Deadly(),
    controller="random",
    executor="inline",
    trials=5,
    out=sys.argv[2],
    deterministic=sys.argv[4] == "deterministic",
    reporters=[Talking()],
)
"""


def start(out, what, schedule="free", before=()):
    spaces = Path(__file__).parents[1] / "conftest.py"
    command = [*before, sys.executable, "-c", DRIVER, str(spaces), str(out), what, schedule]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def output_of(process):
    words, _ = process.communicate(timeout=120)
    return words


@pytest.mark.parametrize(("what", "schedule"), [("exit", "free"), ("crash", "deterministic")])
def test_a_candidate_that_ends_its_process_is_infeasible_after_three_attempts(tmp_path, what, schedule):
    for deaths in range(3):
        words = output_of(start(tmp_path, what, schedule))
        assert "ended trials" not in words
        assert ("process_died trial 2" in words) == (deaths > 0)
        if deaths:
            assert f"{deaths} of at most 3 times" in words
        assert len(nas.open_study(tmp_path).completed) == 2
    words = output_of(start(tmp_path, what, schedule))
    assert "3 of at most 3 times" in words
    assert "begun" not in words
    assert words.splitlines()[-1] == "ended trials"
    study = nas.open_study(tmp_path)
    trial = study.trials[2]
    assert (trial.status, trial.cause, trial.attempts) == (Status.INFEASIBLE, Cause.WORKER_DIED, 3)
    assert "ended 3 times" in trial.message
    assert [t.status for t in study.trials].count(Status.COMPLETED) == 4
    assert study.summary().causes["worker_died"] == 3
    assert [kind for _, kind, _ in study.events] == ["process_died"] * 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_person_who_ends_the_search_costs_no_attempt(tmp_path, number):
    for _ in range(4):
        process = start(tmp_path, "sleep")
        for line in process.stdout:
            if line.startswith("begun"):
                break
        process.send_signal(number)
        assert "ended interrupted" in output_of(process)
    words = output_of(start(tmp_path, "live"))
    assert "process_died" not in words
    study = nas.open_study(tmp_path)
    assert [trial.status for trial in study.trials] == [Status.COMPLETED] * 5
    assert study.trials[2].attempts == 5


def test_a_search_under_nohup_outlives_its_terminal(tmp_path):
    assert "begun True" in output_of(start(tmp_path, "live", before=["nohup"]))


def test_two_deaths_are_forgiven_when_the_third_attempt_completes(tmp_path):
    for _ in range(2):
        output_of(start(tmp_path, "exit"))
    assert "ended trials" in output_of(start(tmp_path, "live"))
    study = nas.open_study(tmp_path)
    assert study.trials[2].status is Status.COMPLETED
    assert study.trials[2].attempts == 3
