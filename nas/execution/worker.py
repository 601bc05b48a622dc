"""Runs one job where the executor put it, and turns whatever goes wrong into a result."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from nas.errors import MetricError
from nas.evaluators import Probed
from nas.failures import failure_of
from nas.protocols import Decodes, Evaluator, GivesWeights, NamesMetrics
from nas.trial import (
    Candidate,
    Cause,
    InfeasibleError,
    Job,
    Metric,
    Result,
    Say,
    Status,
    WeightsError,
    as_evaluation,
    say_nothing,
)
from nas.values import few, shown
from nas.version import is_ours
from search_spaces import Network, build

ROUNDING = 1e-6
"""An accuracy so little outside [0, 1] is one of its ends, computed in single precision."""

MOST_SAID = 120
"""Characters of a line of progress that are passed on."""


class Worker:
    """Evaluates candidates one after another.

    Args:
        space: Turns tokens into networks.
        evaluator: Turns networks into measurements; prepared here, once.
    """

    def __init__(self, space: Decodes, evaluator: Evaluator) -> None:
        self._space = space
        self._evaluator = evaluator
        self._job: Job | None = None
        self._weights: Callable[[], bytes] | None = None
        self._is_promised = _promises_weights(evaluator)
        self.node = f"{socket.gethostname()}, process {os.getpid()}"
        evaluator.prepare()

    def run(self, job: Job, weights: bytes | None = None, *, progress: Say = say_nothing) -> Result:
        """Runs a job; whatever the evaluator raises becomes a result, `sys.exit` too, but not Ctrl-C."""
        self._job, self._weights = job, None
        started = time.perf_counter()
        result = self._run(job, weights, progress)
        seconds = time.perf_counter() - started
        if result.status is not Status.COMPLETED:
            self._weights = None
        return replace(result, node=self.node, seconds=seconds, has_weights=self._weights is not None)

    def weights(self, job: Job) -> bytes | None:
        """The weights of the job run last, until the next one; None for others, or where there are none.

        Raises:
            WeightsError: The evaluator's function failed, or gave something else than bytes.
        """
        if job != self._job or self._weights is None:
            return None
        try:
            found: object = self._weights()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise WeightsError(failure_of(error).message) from None
        if not isinstance(found, bytes | bytearray | memoryview):
            raise WeightsError(
                f"`weights` must give safetensors bytes, but gave {shown(found)} of type "
                f"{type(found).__name__}"
            )
        return bytes(found)

    def _run(self, job: Job, weights: bytes | None, progress: Say) -> Result:
        def say(text: str) -> None:
            printable = "".join(mark if mark.isprintable() else " " for mark in str(text))
            progress(" ".join(printable.split())[:MOST_SAID])

        try:
            network = self._space.decode(job.tokens)
            candidate = Candidate(job=job, network=network, weights=weights, progress=say)
            evaluation = as_evaluation(self._evaluator.evaluate(candidate))
            if not evaluation.metrics:
                raise MetricError("an evaluator must return at least one metric, but returned none")
            self._weights = evaluation.weights
            metrics = _usable(evaluation.metrics)
            notes = (*evaluation.notes, *self._not_measured(metrics), *self._broken_promise(network))
            return Result(job=job, status=Status.COMPLETED, metrics=metrics, notes=notes)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failure = failure_of(error)
            return Result(
                job=job,
                status=Status.LOST if failure.is_of_device else Status.INFEASIBLE,
                cause=Cause.WORKER_DIED if failure.is_of_device else failure.cause,
                message=failure.message,
                log=failure.log,
                is_expected=failure.is_expected,
            )

    def _not_measured(self, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
        """Says which metrics a user's evaluator names in `measures` and did not return."""
        own = _own(self._evaluator)
        named = own.measures if not is_ours(own) and isinstance(own, NamesMetrics) else ()
        found = [metric.name for metric in metrics]
        missing = [name for name in named if name not in found]
        if not missing:
            return ()
        return (
            f"the evaluator names {', '.join(missing)} in `measures`, but returned {', '.join(found)}: "
            "return a metric of each of these names",
        )

    def _broken_promise(self, network: Network) -> tuple[str, ...]:
        """Says what is wrong with the first weights of a user's evaluator that said it gives some."""
        if not self._is_promised:
            return ()
        self._is_promised = False
        try:
            found = None if self._job is None else self.weights(self._job)
            reason = "there are none" if found is None else weights_misfit(network, found)
        except WeightsError as error:
            reason = str(error)
        return (f"no network can be exported with the evaluator's weights: {reason}",) if reason else ()


def _own(evaluator: Evaluator) -> Evaluator:
    """The evaluator without the probe beside it."""
    return evaluator.evaluator if isinstance(evaluator, Probed) else evaluator


def _promises_weights(evaluator: Evaluator) -> bool:
    own = _own(evaluator)
    return not is_ours(own) and isinstance(own, GivesWeights) and own.gives_weights


def weights_misfit(network: Network, weights: bytes) -> str:
    """Why weights are not the state dict of a network, in words; empty where they are."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        found = {name: tuple(tensor.shape) for name, tensor in load(weights).items()}
    except SafetensorError as error:
        return f"they are no safetensors bytes ({error})"
    wanted = {name: tuple(tensor.shape) for name, tensor in build(network).state_dict().items()}
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    shapes = [
        f"{name} is {found.get(name, 'missing')}, of the network {wanted.get(name, 'none')}" for name in wrong
    ]
    return f"they are not those of build(candidate.network): {few(shapes)}" if wrong else ""


def _usable(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Checks what was measured; an accuracy outside [0, 1] by rounding is put at its end.

    Raises:
        InfeasibleError: The accuracy is not finite, so the training diverged.
        MetricError: Another metric is not finite, or the accuracy lies outside [0, 1].
    """
    return tuple(_accuracy(metric) if metric.name == "accuracy" else _finite(metric) for metric in metrics)


def _finite(metric: Metric) -> Metric:
    if not math.isfinite(metric.value):
        raise MetricError(f"every metric must be finite, but {metric.name}={metric.value}")
    return metric


def _accuracy(metric: Metric) -> Metric:
    value = metric.value
    if not math.isfinite(value):
        raise InfeasibleError(Cause.DIVERGED, f"accuracy={value}")
    if not -ROUNDING <= value <= 1 + ROUNDING:
        remedy = "it looks like percent: divide by 100" if 1 < value <= 100 else "accuracy is a fraction"
        raise MetricError(f"`0 <= accuracy <= 1` must hold, but got accuracy={value:.12g}: {remedy}")
    return replace(metric, value=min(1.0, max(0.0, value)))
