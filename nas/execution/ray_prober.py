"""Measures candidates in one process on a node set apart for it: a phone's host, a quiet machine."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from nas.evaluators import joined
from nas.execution.ray_actor import MEASURED, start_actor
from nas.execution.ray_cluster import FETCH_SECONDS, check_offered
from nas.protocols import Decodes, Probe
from nas.trial import Candidate, Cause, Evaluation, Job, Result, Status, as_metrics


class Measuring:
    """A probe alone as an evaluator, for a worker that trains nothing.

    Args:
        probe: The probe.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    @property
    def fingerprint(self) -> str:
        """The probe's."""
        return self._probe.fingerprint

    def prepare(self) -> None:
        """Prepares the probe."""
        self._probe.prepare()

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Measures."""
        found = self._probe.measure(candidate.network)
        return Evaluation(metrics=as_metrics(found, "what a probe measures"))


class RayProber:
    """Gives every measurement to one actor, so that no two run at the same time.

    Args:
        space: Turns tokens into networks.
        probe: What measures.
        resource: The custom resource that its node offers; the actor takes one of it.
        gpus: GPUs that the actor takes, for itself alone.

    Raises:
        ExecutorError: No node offers the resource.
    """

    def __init__(self, space: Decodes, probe: Probe, *, resource: str, gpus: float = 0.0) -> None:
        import ray

        self._ray: Any = ray
        self._resource = resource
        self._gpus = gpus
        check_offered(ray, resource)
        self._shared = self._ray.put((space, Measuring(probe)))
        self._asked: dict[Job, tuple[int, Any]] = {}
        self._starts = 0
        self._ended: set[int] = set()  # starts of those that were ended here, for another's measurement
        self._start()

    def _start(self) -> None:
        self._starts += 1
        self._started_at, self._is_up = time.monotonic(), False
        self._actor, self.greeting = start_actor(
            self._ray, self._shared, MEASURED, cpus=1, gpus=self._gpus, resources={self._resource: 1}
        )

    @property
    def missing_seconds(self) -> float:
        """How long no process has measured, as no node offers the resource; 0 where one does."""
        self._is_up = self._is_up or bool(self._ray.wait([self.greeting], timeout=0)[0])
        return 0.0 if self._is_up else time.monotonic() - self._started_at

    @property
    def missing(self) -> str:
        """That nothing measures, in words."""
        return f"no node offers {self._resource!r} at present: what is trained waits to be measured there"

    def measure(self, job: Job) -> Any:
        """Asks for a measurement; returns Ray's reference to it."""
        self._asked[job] = self._starts, self._actor.begin.remote()
        return self._actor.run.remote(job)

    def again(self, job: Job, answer: Any) -> Any:
        """Asks once more for a measurement that is not to blame for the end of its process; else gives None.

        It had not begun when the process died, or the process was ended here as its GPU had failed before.
        """
        start, begun = self._asked[job]
        if self._is_answered(answer) or (start not in self._ended and self._is_answered(begun)):
            return None
        if start == self._starts:
            self.replace()
        return self.measure(job)

    def _is_answered(self, answer: Any) -> bool:
        try:
            self._ray.get(answer, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayError:
            return False
        return True

    def add_to(self, result: Result, answer: Any) -> Result:
        """A training's result with what was measured beside it; the training's failure says it all.

        An actor that died, or whose GPU failed, is replaced, and the trial lost, so that it is tried again.
        """
        try:
            measured: Result = self._ray.get(answer, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayError as error:
            measured = Result(
                job=result.job,
                status=Status.LOST,
                cause=Cause.WORKER_DIED,
                message=f"the process died ({type(error).__name__})",
                log=str(error),
            )
        start, _ = self._asked.pop(result.job)
        if measured.status is Status.LOST and start == self._starts:  # else another's death was seen first
            self._ended.add(start)
            self.replace()
        if result.status is not Status.COMPLETED:
            return result
        if measured.status is Status.COMPLETED:
            return replace(result, metrics=joined(result.metrics, measured.metrics))
        message = f"measuring on {self._resource}: {measured.message}"
        return replace(measured, message=message, node=result.node, seconds=result.seconds)

    def forget(self, job: Job) -> None:
        """Takes in that nobody waits for a job's measurement any more."""
        self._asked.pop(job, None)

    def replace(self) -> Any:
        """Ends the actor, which hangs or is dead, and puts a new one in its place; returns its greeting."""
        self._ray.kill(self._actor)
        self._start()
        return self.greeting

    def close(self) -> None:
        """Ends the actor."""
        self._ray.kill(self._actor)
