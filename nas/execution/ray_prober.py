"""The one actor that measures candidates on a node set apart for it: a phone's host, a quiet machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from nas.evaluators import joined
from nas.execution.failures import failure_of
from nas.execution.ray_cluster import FETCH_SECONDS, check_offered, problem_of
from nas.execution.worker import usable
from nas.protocols import Probe
from nas.trial import Cause, Job, Metric, Result, Status, as_metrics
from nas.version import package_fingerprint
from search_spaces import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of measuring one candidate: metrics, or why there are none."""

    metrics: tuple[Metric, ...] = ()
    cause: Cause | None = None
    message: str = ""
    log: str = ""


class RayProber:
    """Gives every measurement to one actor, so that no two run at the same time.

    Args:
        ray: The module, connected.
        space: Turns tokens into networks.
        probe: What measures.
        resource: The custom resource that its node offers; the actor takes one of it.
        gpus: GPUs that the actor takes, for itself alone.

    Raises:
        ExecutorError: No node offers the resource.
    """

    def __init__(
        self, ray: Any, space: SearchSpace, probe: Probe, *, resource: str, gpus: float = 0.0
    ) -> None:
        self._ray = ray
        self._resource = resource
        self._gpus = gpus
        check_offered(ray, resource)
        self._shared = ray.put((space, probe))
        self._spawn()

    def _spawn(self) -> None:
        kind = self._ray.remote(_ProbeActor).options(
            num_cpus=1,
            num_gpus=self._gpus,
            resources={self._resource: 1},
            max_restarts=0,
            max_task_retries=0,
        )
        self._actor = kind.remote([self._shared], package_fingerprint(), self._gpus)
        self.greeting = self._actor.prepare.remote()

    def measure(self, job: Job) -> Any:
        """Asks for a measurement; returns Ray's reference to it."""
        return self._actor.measure.remote(job)

    def add_to(self, result: Result, answer: Any) -> Result:
        """A training's result with what was measured beside it; the training's failure says it all.

        An actor that died is replaced, and the trial lost, so that it is tried again.
        """
        try:
            measured: Measured = self._ray.get(answer, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayError as error:
            self.replace()
            if result.status is not Status.COMPLETED:
                return result
            return replace(
                result,
                status=Status.LOST,
                cause=Cause.WORKER_DIED,
                metrics=(),
                has_weights=False,
                message=f"the process that measures on {self._resource} died ({type(error).__name__})",
                log=str(error),
            )
        if result.status is not Status.COMPLETED:
            return result
        if measured.cause is not None:
            return replace(
                result,
                status=Status.LOST if measured.cause is Cause.WORKER_DIED else Status.INFEASIBLE,
                cause=measured.cause,
                metrics=(),
                has_weights=False,
                message=f"measuring on {self._resource}: {measured.message}",
                log=measured.log,
            )
        return replace(result, metrics=joined(result.metrics, measured.metrics))

    def replace(self) -> None:
        """Ends the actor, which hangs or is dead, and puts a new one in its place."""
        self._ray.kill(self._actor)
        self._spawn()

    def close(self) -> None:
        """Ends the actor."""
        self._ray.kill(self._actor)


class _ProbeActor:
    """A process of its own on the device's node; whatever goes wrong is said as text."""

    def __init__(self, shared: list[Any], fingerprint: str, gpus: float) -> None:
        self._shared = shared
        self._fingerprint = fingerprint
        self._space: SearchSpace | None = None
        self._probe: Probe | None = None
        self._problem = "it was not prepared"
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def prepare(self) -> str:
        """Prepares the probe; returns what went wrong, or nothing."""
        self._problem = problem_of(self._fingerprint, "the probe", self._fetch)
        return self._problem

    def _fetch(self) -> None:
        import ray

        self._space, self._probe = ray.get(self._shared[0])
        assert self._probe is not None
        self._probe.prepare()

    def measure(self, job: Job) -> Measured:
        """Measures one candidate."""
        if self._problem or self._space is None or self._probe is None:
            line = self._problem.splitlines()[0]
            return Measured(cause=Cause.WORKER_DIED, message=line, log=self._problem)
        try:
            found = self._probe.measure(self._space.decode(job.tokens))
            return Measured(metrics=usable(as_metrics(found, "what a probe measures")))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failure = failure_of(error)
            return Measured(cause=failure.cause, message=failure.message, log=failure.log)
