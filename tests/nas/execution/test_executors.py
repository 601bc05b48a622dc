"""The contract of executors, over every one of them, and what a worker makes of an evaluator's mistakes."""

import os
import sys
import threading
import time

import pytest

from nas.errors import DataError, ExecutorError
from nas.execution.inline_executor import InlineExecutor
from nas.execution.ray_executor import RayExecutor
from nas.execution.worker import Worker
from nas.trial import Cause, Evaluation, InfeasibleError, Job, Metric, Status

MAKERS = [
    pytest.param(InlineExecutor, id="inline"),
    pytest.param(lambda: RayExecutor(2, modules=[sys.modules[__name__]]), id="ray", marks=pytest.mark.ray),
]


class Moody:
    """Does what the job's seed says."""

    fingerprint = "moody"

    def prepare(self):
        self.is_prepared = True

    def evaluate(self, candidate):
        assert self.is_prepared
        number, mood = candidate.job.trial, candidate.job.seed
        if mood == 1:
            raise InfeasibleError(Cause.DIVERGED, "the loss is nan")
        if mood == 2:
            raise MemoryError("12 GB")
        if mood == 3:
            raise RuntimeError("a mistake of the user's")
        accuracy = float("nan") if mood == 4 else 0.5
        metrics = (Metric(name="accuracy", value=accuracy, unit="fraction"),) if mood != 5 else ()
        if mood == 6:
            metrics += (Metric(name="latency_ms", value=float("inf"), unit="ms"),)
        if mood == 7:
            raise OutOfMemoryError("CUDA out of memory")
        if mood == 8:
            raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")
        if mood == 9:
            raise RuntimeError("CUDA error: unspecified launch failure")
        weights = (lambda: f"weights {number}".encode()) if number % 2 == 0 else None
        return Evaluation(metrics=metrics, weights=weights)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class Unprepared:
    fingerprint = "unprepared"

    def prepare(self):
        raise RuntimeError("no data here")

    def evaluate(self, candidate):
        raise AssertionError(candidate)


class WithoutData(Unprepared):
    def prepare(self):
        raise DataError("the folder is empty")


def make_job(space, trial, seed=0):
    tokens = tuple(trial % count for count in space.cardinalities)
    return Job(trial=trial, attempt=1, tokens=tokens, seed=seed)


def run_all(executor, jobs):
    """Runs jobs on all slots; returns results and weights by trial."""
    waiting, running, results, weights = list(jobs), set(), {}, {}
    while waiting or running:
        while waiting and len(running) < executor.slots:
            job = waiting.pop(0)
            executor.submit(job)
            running.add(job.trial)
        for result in executor.wait(10.0):
            running.remove(result.job.trial)
            results[result.job.trial] = result
            weights[result.job.trial] = executor.weights(result.job)
    return results, weights


@pytest.fixture(scope="module", params=MAKERS)
def executor(request, small_space, local_ray):  # noqa: ARG001
    made = request.param()
    made.start(small_space, Moody())
    yield made
    made.close()


def test_every_job_is_answered_once_with_its_measurements(executor, small_space):
    jobs = [make_job(small_space, number) for number in range(7)]
    results, _ = run_all(executor, jobs)
    assert [results[job.trial].job for job in jobs] == jobs
    for result in results.values():
        assert result.status is Status.COMPLETED
        assert [metric.name for metric in result.metrics] == ["accuracy"]
        assert result.seconds > 0
        assert "process" in result.node


def test_weights_are_those_of_the_job_returned_and_none_where_there_are_none(executor, small_space):
    results, weights = run_all(executor, [make_job(small_space, number) for number in range(5)])
    assert weights == {0: b"weights 0", 1: None, 2: b"weights 2", 3: None, 4: b"weights 4"}
    assert [results[number].has_weights for number in range(5)] == [True, False, True, False, True]
    assert executor.weights(make_job(small_space, 99)) is None


MOODS = {
    1: (Cause.DIVERGED, "the loss is nan"),
    2: (Cause.OUT_OF_MEMORY, "12 GB"),
    3: (Cause.ERROR, "RuntimeError: a mistake of the user's"),
    4: (Cause.DIVERGED, "accuracy=nan"),
    5: (Cause.ERROR, "must return at least one metric"),
    6: (Cause.ERROR, "latency_ms=inf"),
    7: (Cause.OUT_OF_MEMORY, "CUDA out of memory"),
    8: (Cause.OUT_OF_MEMORY, "CUDA error: out of memory"),
}


@pytest.mark.parametrize("mood", MOODS)
def test_whatever_the_evaluator_does_wrong_makes_the_candidate_infeasible(executor, small_space, mood):
    results, weights = run_all(executor, [make_job(small_space, 0, seed=mood)])
    cause, message = MOODS[mood]
    assert results[0].status is Status.INFEASIBLE
    assert results[0].cause is cause
    assert message in results[0].message
    assert results[0].log
    assert weights == {0: None}


def test_a_gpu_that_fails_loses_the_attempt_and_says_nothing_of_the_candidate(executor, small_space):
    results, _ = run_all(executor, [make_job(small_space, 0, seed=9)])
    assert (results[0].status, results[0].cause) == (Status.LOST, Cause.WORKER_DIED)
    assert "unspecified launch failure" in results[0].message
    assert "in evaluate" in results[0].log
    results, _ = run_all(executor, [make_job(small_space, 1)])
    assert results[1].status is Status.COMPLETED


def test_a_traceback_names_the_users_own_line(executor, small_space):
    results, _ = run_all(executor, [make_job(small_space, 0, seed=3)])
    assert "in evaluate" in results[0].log
    assert 'raise RuntimeError("a mistake of the user\'s")' in results[0].log


def test_waiting_without_jobs_returns_at_once(executor):
    assert executor.wait(60.0) == []


def test_more_jobs_than_slots_are_refused(executor, small_space):
    jobs = [make_job(small_space, number) for number in range(executor.slots)]
    for job in jobs:
        executor.submit(job)
    with pytest.raises(ExecutorError, match=r"at a time|at the same time"):
        executor.submit(make_job(small_space, 99))
    left = len(jobs)
    while left:
        left -= len(executor.wait(10.0))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.usefixtures("local_ray")
def test_an_evaluator_that_cannot_be_prepared_is_said_at_the_start(make, small_space):
    made = make()
    with pytest.raises(ExecutorError, match="could not be prepared: RuntimeError: no data here"):
        made.start(small_space, Unprepared())
    made.close()
    made.close()


def test_a_mistake_of_ours_passes_through_as_it_is(small_space):
    with pytest.raises(DataError, match="the folder is empty"):
        InlineExecutor().start(small_space, WithoutData())


def test_a_signal_is_not_taken_for_a_mistake_of_the_evaluator(small_space):
    class Interrupted(Moody):
        def evaluate(self, candidate):  # noqa: ARG002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Worker(small_space, Interrupted()).run(make_job(small_space, 0))


def test_a_worker_says_where_it_is(small_space):
    assert f"process {os.getpid()}" in Worker(small_space, Moody()).node


class Waiting:
    """Says where it is, and goes on once somebody has heard it."""

    fingerprint = "waiting"

    def __init__(self, heard):
        self.heard = heard

    def prepare(self):
        pass

    def evaluate(self, candidate):
        candidate.progress(f"halfway with trial {candidate.job.trial}")
        until = time.monotonic() + 60
        while not (self.heard / str(candidate.job.trial)).exists() and time.monotonic() < until:
            time.sleep(0.05)
        is_heard = (self.heard / str(candidate.job.trial)).exists()
        is_main = threading.current_thread() is threading.main_thread()
        metrics = (
            Metric(name="accuracy", value=float(is_heard), unit="fraction"),
            Metric(name="is_main_thread", value=float(is_main), unit="count"),
        )
        return Evaluation(metrics=metrics)


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_job_says_is_heard_while_it_runs(make, small_space, local_ray, tmp_path):  # noqa: ARG001
    told = []

    def tell(progress):
        told.append(progress)
        if progress.text.startswith("halfway"):
            (tmp_path / str(progress.trial)).touch()

    executor = make()
    executor.watch(tell)
    jobs = [make_job(small_space, number) for number in range(3)]
    waiting, results = list(jobs), []
    try:
        executor.start(small_space, Waiting(tmp_path))
        running = 0
        while waiting or running:
            while waiting and running < executor.slots:
                executor.submit(waiting.pop())
                running += 1
            ended = executor.wait(0.5)
            running -= len(ended)
            results += ended
    finally:
        executor.close()
    metrics = [{metric.name: metric.value for metric in result.metrics} for result in results]
    assert metrics == [{"accuracy": 1.0, "is_main_thread": 1.0}] * 3
    for number in range(3):
        texts = [progress.text for progress in told if progress.trial == number]
        assert texts == ["begins", f"halfway with trial {number}"]
    assert told[0].trial is None
