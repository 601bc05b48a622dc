"""Checks the contracts of evaluators and executors, ours or a user's; run these on yours.

    from nas.testing import check_evaluator, check_executor

    def test_my_evaluator_keeps_the_contract():
        check_evaluator(MyEvaluator(), space)

    def test_my_executor_keeps_the_contract():
        check_executor(MyExecutor)

Controllers have `controllers.testing.check_controller`, spaces `search_spaces.testing.check_space`.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence

import numpy as np

from nas.contract import check_given
from nas.errors import ExecutorError, NasError
from nas.execution.ray_executor import RayExecutor
from nas.execution.worker import Worker
from nas.protocols import ChecksNetworks, Evaluator, Executor
from nas.trial import (
    Candidate,
    Cause,
    Evaluation,
    InfeasibleError,
    Job,
    Metric,
    Progress,
    Result,
    Status,
    WeightsError,
)
from search_spaces import SearchSpace, build, small

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
        samples: Number of candidates, each evaluated once, and once more from its weights if it gives any.
        seed: Seed of the sample and of the trainings.

    Raises:
        AssertionError: A rule of the contract is violated; the message names it.
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
        if results[-1].status is Status.COMPLETED:
            _check_accepted(evaluator, space, job)
            _check_weights(worker, space, job)
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


def _check_accepted(evaluator: Evaluator, space: SearchSpace, job: Job) -> None:
    """What completes must have been accepted before the search."""
    if isinstance(evaluator, ChecksNetworks):
        try:
            evaluator.check(space.decode(job.tokens))
        except NasError as error:
            raise AssertionError(
                f"`check` must accept a network that completes, but says: {error}"
            ) from error


def _check_weights(worker: Worker, space: SearchSpace, job: Job) -> None:
    """The weights are those of the network, and a training can continue from them."""
    try:
        weights = worker.weights(job)
    except WeightsError as error:
        raise AssertionError(str(error)) from error
    if weights is None:
        return
    from safetensors.torch import load

    try:
        build(space.decode(job.tokens), seed=0).load_state_dict(load(weights))
    except Exception as error:
        raise AssertionError(f"weights must be those of the network, as safetensors, but: {error}") from error
    again = worker.run(job, weights)
    assert again.status is Status.COMPLETED, (
        f"a training must continue from weights that the evaluator gave, but: {again.message}"
    )


class Planned:
    """An evaluator that does what the seed of a job says: measures, returns weights, or fails."""

    fingerprint = "planned"

    def __init__(self, *, is_broken: bool = False) -> None:
        self.is_prepared = False
        self._is_broken = is_broken

    def prepare(self) -> None:
        """Remembers that it was called."""
        if self._is_broken:
            raise RuntimeError("as planned")
        self.is_prepared = True

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Gives the accuracy `trial / 100`, and weights to even trials."""
        job = candidate.job
        candidate.progress(f"trial {job.trial}")
        if not self.is_prepared:
            raise RuntimeError("prepare() must be called before evaluate()")
        if job.seed == 1:
            raise InfeasibleError(Cause.DIVERGED, "as planned")
        if job.seed == 2:
            raise RuntimeError("as planned")
        if job.seed == 3:
            raise SystemExit("as planned")
        weights = (candidate.weights or b"") + f"weights {job.trial}".encode()
        return Evaluation(
            metrics=(Metric(name="accuracy", value=job.trial / 100),),
            weights=(lambda: weights) if job.trial % 2 == 0 else None,
            notes=("a note",) if job.seed == 4 else (),
        )


def check_executor(make: Callable[[], Executor]) -> None:
    """Checks that an executor runs as many jobs as it has slots, and answers each once, failures too.

    Args:
        make: Makes a fresh executor; called a few times.

    Raises:
        AssertionError: A rule of the contract is violated; the message names it.
        NasError: It lacks a method, or cannot be started.
    """
    space = small(resolution=8)
    executor = make()
    check_given(space, executor=executor)
    executor.close()
    received: list[object] = []
    executor = make()
    executor.watch(received.append)
    try:
        executor.start(space, Planned())
        for law in EXECUTOR_LAWS:
            law(executor, space)
    finally:
        executor.close()
    executor.close()
    assert all(isinstance(one, Progress) for one in received), "`watch` must pass on `nas.Progress` only"
    _check_start_that_fails(make(), space)


def an_executor_without_jobs_returns_no_results(executor: Executor, _: SearchSpace) -> None:
    """There is nothing to wait for."""
    assert executor.wait(0.0) == [], "an executor without jobs must return no results"


def every_job_is_answered_once(executor: Executor, space: SearchSpace) -> None:
    """As many run at a time as there are slots; each result names its job and holds what was measured."""
    slots = executor.slots
    for result, weights in _run(executor, [_job(space, trial) for trial in range(2 * slots + 3)]):
        trial = result.job.trial
        assert result.status is Status.COMPLETED, f"a sound job must complete, but got {result}"
        found = {metric.name: metric.value for metric in result.metrics}
        assert found == {"accuracy": trial / 100}, f"metrics must be those of the job, but are {found}"
        assert result.has_weights == (trial % 2 == 0), "has_weights must say whether there are weights"
        expected = f"weights {trial}".encode() if trial % 2 == 0 else None
        assert weights == expected, f"weights must be those of the job, {expected!r}, but are {weights!r}"
        assert result.seconds >= 0, f"`seconds >= 0` must hold, but got seconds={result.seconds}"
        assert pickle.loads(pickle.dumps(result)) == result, "a result must be plain data"
    assert executor.slots == slots, "the number of slots must not change while jobs run"


def a_failure_is_a_result(executor: Executor, space: SearchSpace) -> None:
    """What an evaluator raises is a result, `sys.exit` too, and the executor continues."""
    for seed, cause in ((1, Cause.DIVERGED), (2, Cause.ERROR), (3, Cause.ERROR)):
        ((result, weights),) = _run(executor, [_job(space, 4, seed)])
        assert result.status is Status.INFEASIBLE, f"a failure must be INFEASIBLE, but is {result.status}"
        assert result.cause is cause, f"the cause must be {cause}, but is {result.cause}"
        assert "as planned" in result.message, f"the message must be the error's, but is {result.message!r}"
        assert not result.metrics, "a failed job must have no metrics"
        assert weights is None, "there must be no weights of a failed job"


def an_accuracy_outside_its_range_is_a_failure(executor: Executor, space: SearchSpace) -> None:
    """Metrics are checked where they come in."""
    ((result, _),) = _run(executor, [_job(space, 500)])
    assert result.status is Status.INFEASIBLE, f"an accuracy of 5 must be INFEASIBLE, but is {result.status}"


def notes_come_back(executor: Executor, space: SearchSpace) -> None:
    """What users should know of an evaluation reaches them."""
    ((result, _),) = _run(executor, [_job(space, 1, seed=4)])
    assert result.notes == ("a note",), f"a result must have the evaluation's notes, but has {result.notes}"


def a_job_continues_from_its_weights(executor: Executor, space: SearchSpace) -> None:
    """The weights that a job continues from reach its evaluator."""
    job = _job(space, 8)
    executor.submit(job, b"first, then ")
    ((_, weights),) = _collect(executor, [job])
    expected = b"first, then weights 8"
    assert weights == expected, f"a job must get the weights of its submit, but gave {weights!r}"


def weights_of_another_job_are_none(executor: Executor, space: SearchSpace) -> None:
    """Weights are never mistaken for those of another training."""
    _run(executor, [_job(space, 2)])
    found = executor.weights(_job(space, 96))
    assert found is None, f"there must be no weights of a job that never ran, but got {found!r}"


def more_jobs_than_slots_are_refused(executor: Executor, space: SearchSpace) -> None:
    """The loop never asks for it, and would lose the job if it were taken silently."""
    jobs = [_job(space, trial) for trial in range(executor.slots)]
    for job in jobs:
        executor.submit(job)
    try:
        executor.submit(_job(space, 97))
    except ExecutorError:
        _collect(executor, jobs)
    else:
        raise AssertionError("a job beyond the slots must be refused with an ExecutorError")


EXECUTOR_LAWS: tuple[Callable[[Executor, SearchSpace], None], ...] = (
    an_executor_without_jobs_returns_no_results,
    every_job_is_answered_once,
    a_failure_is_a_result,
    an_accuracy_outside_its_range_is_a_failure,
    notes_come_back,
    a_job_continues_from_its_weights,
    weights_of_another_job_are_none,
    more_jobs_than_slots_are_refused,
)
"""What a started executor must do, given with a space and `Planned`."""


def _check_start_that_fails(executor: Executor, space: SearchSpace) -> None:
    said = ""
    try:
        executor.start(space, Planned(is_broken=True))
    except ExecutorError as error:
        said = str(error)
    finally:
        executor.close()
    assert "as planned" in said, (
        "`start` must raise an ExecutorError that says why the evaluator cannot be prepared, but "
        f"{f'it says: {said}' if said else 'it raises none'}"
    )


def _job(space: SearchSpace, trial: int, seed: int = 0) -> Job:
    return Job(trial=trial, attempt=1, tokens=(0,) * len(space.cardinalities), seed=seed)


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


__all__ = [
    "EXECUTOR_LAWS",
    "check_evaluator",
    "check_executor",
]
