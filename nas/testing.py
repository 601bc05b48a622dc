"""Checks the contracts of evaluators and executors, ours or a user's; run these on yours.

    from nas.testing import check_evaluator, check_executor

    def test_my_evaluator_keeps_the_contract():
        check_evaluator(MyEvaluator(), space)

    def test_my_executor_keeps_the_contract():
        check_executor(MyExecutor)

Controllers have `controllers.testing.check_controller`, spaces `search_spaces.testing.check_space`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from nas.contract import check_given
from nas.execution.ray_executor import RayExecutor
from nas.execution.worker import Worker
from nas.protocols import Evaluator, Executor
from nas.trial import (
    Candidate,
    Cause,
    Evaluation,
    InfeasibleError,
    Job,
    Metric,
    Result,
    Status,
    WeightsError,
)
from search_spaces import SearchSpace, small

PATIENCE_SECONDS = 120.0
"""A job that an executor does not answer within so long is taken for lost."""


def check_evaluator(
    evaluator: Evaluator,
    space: SearchSpace,
    *,
    metric: str = "accuracy",
    samples: int = 2,
    seed: int = 0,
) -> None:
    """Checks that an evaluator prepares itself, measures random candidates, and can be sent to workers.

    Args:
        evaluator: The evaluator; it is prepared and used here.
        space: What it evaluates candidates of.
        metric: What the objective maximises or minimises.
        samples: Number of candidates, each evaluated once.
        seed: Seed of the sample and of the trainings.

    Raises:
        AssertionError: A law is broken; the message names it.
        NasError: It lacks a method, cannot be pickled, or cannot be prepared.
    """
    check_given(space, evaluator=evaluator, executor=RayExecutor())
    before = evaluator.fingerprint
    worker = Worker(space, evaluator)
    rng = np.random.default_rng(seed)
    results = []
    for trial in range(samples):
        job = Job(trial=trial, attempt=1, tokens=space.sample(rng), seed=seed + trial)
        results.append(worker.run(job))
        _check_weights(worker, job)
    assert evaluator.fingerprint == before, "preparing and evaluating must not change the fingerprint"
    failed = [result for result in results if result.status is not Status.COMPLETED]
    assert len(failed) < len(results), (
        f"some of {samples} random candidates must complete, but all failed, the first with: "
        f"{failed[0].message}"
    )
    for result in results:
        names = [measured.name for measured in result.metrics]
        is_measured = result.status is not Status.COMPLETED or metric in names
        assert is_measured, f"an evaluator must measure `{metric}`, but gave {', '.join(names)}"


def _check_weights(worker: Worker, job: Job) -> None:
    try:
        weights = worker.weights(job)
    except WeightsError as error:
        raise AssertionError(str(error)) from error
    if weights is not None:
        from safetensors.torch import load

        assert load(weights), "weights must hold a tensor"


class Planned:
    """An evaluator that does what the seed of a job says: measures, gives weights, or fails in some way."""

    fingerprint = "planned"

    def __init__(self) -> None:
        self.is_prepared = False

    def prepare(self) -> None:
        """Remembers that it was called."""
        self.is_prepared = True

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Gives the accuracy `trial / 100`, and weights to even trials."""
        job = candidate.job
        if not self.is_prepared:
            raise RuntimeError("prepare() must be called before evaluate()")
        if job.seed == 1:
            raise InfeasibleError(Cause.DIVERGED, "as planned")
        if job.seed == 2:
            raise RuntimeError("as planned")
        weights = (candidate.weights or b"") + f"weights {job.trial}".encode()
        return Evaluation(
            metrics=(Metric(name="accuracy", value=job.trial / 100, unit="fraction"),),
            weights=(lambda: weights) if job.trial % 2 == 0 else None,
        )


def check_executor(make: Callable[[], Executor]) -> None:
    """Checks that an executor runs as many jobs as it has slots, and answers each once, failures too.

    Args:
        make: Makes a fresh executor; called a few times.

    Raises:
        AssertionError: A law is broken; the message names it.
        NasError: It lacks a method, or cannot be started.
    """
    space = small(resolution=8)
    executor = make()
    check_given(space, executor=executor)
    executor.close()
    executor = make()
    try:
        executor.start(space, Planned())
        assert executor.wait(0.0) == [], "an executor without jobs must return no results"
        _check_results(executor, [_job(space, trial) for trial in range(2 * executor.slots + 3)])
        _check_failures(executor, space)
        _check_continuing(executor, space)
    finally:
        executor.close()
    executor.close()


def _job(space: SearchSpace, trial: int, seed: int = 0) -> Job:
    return Job(trial=trial, attempt=1, tokens=(0,) * len(space.cardinalities), seed=seed)


def _check_results(executor: Executor, jobs: Sequence[Job]) -> None:
    for result, weights in _run(executor, jobs):
        trial = result.job.trial
        assert result.status is Status.COMPLETED, f"a sound job must complete, but got {result}"
        found = {metric.name: metric.value for metric in result.metrics}
        assert found == {"accuracy": trial / 100}, f"metrics must be those of the job, but are {found}"
        assert result.has_weights == (trial % 2 == 0), "has_weights must say whether there are weights"
        expected = f"weights {trial}".encode() if trial % 2 == 0 else None
        assert weights == expected, f"weights must be those of the job, {expected!r}, but are {weights!r}"


def _check_failures(executor: Executor, space: SearchSpace) -> None:
    """What an evaluator raises is a result, and the executor goes on."""
    for seed, cause in ((1, Cause.DIVERGED), (2, Cause.ERROR)):
        ((result, weights),) = _run(executor, [_job(space, 4, seed)])
        assert result.status is Status.INFEASIBLE, f"a failure must be INFEASIBLE, but is {result.status}"
        assert result.cause is cause, f"the cause must be {cause}, but is {result.cause}"
        assert "as planned" in result.message, f"the message must be the error's, but is {result.message!r}"
        assert weights is None, "there must be no weights of a failed job"


def _check_continuing(executor: Executor, space: SearchSpace) -> None:
    """The weights that a job goes on from reach its evaluator."""
    job = _job(space, 8)
    executor.submit(job, b"first, then ")
    ((_, weights),) = _collect(executor, [job])
    expected = b"first, then weights 8"
    assert weights == expected, f"a job must get the weights of its submit, but gave {weights!r}"


def _run(executor: Executor, jobs: Sequence[Job]) -> list[tuple[Result, bytes | None]]:
    """Runs jobs, as many at a time as there are slots; gives each result with its weights."""
    found = []
    for start in range(0, len(jobs), executor.slots):
        together = jobs[start : start + executor.slots]
        for job in together:
            executor.submit(job)
        found += _collect(executor, together)
    return found


def _collect(executor: Executor, jobs: Sequence[Job]) -> list[tuple[Result, bytes | None]]:
    until = time.monotonic() + PATIENCE_SECONDS
    waiting = {job.trial: job for job in jobs}
    found = []
    while waiting:
        assert time.monotonic() < until, f"every job must be answered, but {len(waiting)} were not"
        for result in executor.wait(1.0):
            asked = waiting.pop(result.job.trial, None)
            assert asked == result.job, f"a result must name a job that waits for one, but got {result.job}"
            found.append((result, executor.weights(result.job)))
    return found
