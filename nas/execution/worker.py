"""Owns running one job where the executor put it: evaluating, and turning whatever goes wrong into a result.

Does not own where it runs (executors) nor what happens next (`nas.loop`).
"""

from __future__ import annotations

import math
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

from nas.trial import Candidate, Cause, Evaluation, Evaluator, InfeasibleError, Job, Result, Status
from search_spaces import SearchSpace


class Worker:
    """Evaluates candidates one after another.

    Args:
        space: Turns tokens into networks.
        evaluator: Turns networks into measurements; prepared here, once.
    """

    def __init__(self, space: SearchSpace, evaluator: Evaluator) -> None:
        self._space = space
        self._evaluator = evaluator
        self._job: Job | None = None
        self._weights: Callable[[], bytes] | None = None
        self.node = f"{socket.gethostname()}, process {os.getpid()}"
        evaluator.prepare()

    def run(self, job: Job, weights: bytes | None = None) -> Result:
        """Runs a job; an exception of the evaluator becomes a result, a signal does not."""
        self._job, self._weights = job, None
        started = time.perf_counter()
        result = self._run(job, weights)
        seconds = time.perf_counter() - started
        if result.status is not Status.COMPLETED:
            self._weights = None
        return replace(result, node=self.node, seconds=seconds, has_weights=self._weights is not None)

    def weights(self, job: Job) -> bytes | None:
        """The weights of the job run last, until the next one; None for others, or where there are none."""
        return self._weights() if job == self._job and self._weights is not None else None

    def _run(self, job: Job, weights: bytes | None) -> Result:
        try:
            network = self._space.decode(job.tokens)
            evaluation = self._evaluator.evaluate(Candidate(job=job, network=network, weights=weights))
            self._weights = evaluation.weights
            return _checked(job, evaluation)
        except InfeasibleError as error:
            return _failed(job, error.cause, error)
        except Exception as error:
            return _failed(job, Cause.OUT_OF_MEMORY if _is_out_of_memory(error) else Cause.ERROR, error)


def _checked(job: Job, evaluation: Evaluation) -> Result:
    """A completed result, or the reason why the numbers cannot be one."""
    values = {metric.name: metric.value for metric in evaluation.metrics}
    if "accuracy" not in values:
        return _infeasible(
            job, Cause.ERROR, "the evaluator must measure `accuracy`, but gave " + repr([*values])
        )
    if not math.isfinite(values["accuracy"]):
        return _infeasible(job, Cause.DIVERGED, f"accuracy={values['accuracy']}")
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        return _infeasible(
            job, Cause.ERROR, f"every metric must be finite, but {wrong[0]}={values[wrong[0]]}"
        )
    return Result(job=job, status=Status.COMPLETED, metrics=evaluation.metrics, notes=evaluation.notes)


def _infeasible(job: Job, cause: Cause, message: str) -> Result:
    return Result(job=job, status=Status.INFEASIBLE, cause=cause, message=message, log=message)


def _failed(job: Job, cause: Cause, error: Exception) -> Result:
    line = f"{type(error).__name__}: {error}" if cause is Cause.ERROR else str(error)
    return replace(
        _infeasible(job, cause, (line.strip().splitlines() or [type(error).__name__])[0][:500]),
        log="".join(traceback.format_exception(error)),
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Knows torch's error by its name, since torch may not be loaded here."""
    names = {kind.__name__ for kind in type(error).__mro__}
    is_allocator = isinstance(error, RuntimeError) and "not enough memory" in str(error)
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or is_allocator
