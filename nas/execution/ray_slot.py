"""One place for a worker on a Ray cluster, and what the driver knows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from nas.execution.ray_actor import Memory
from nas.trial import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long workers may take.

    Attributes:
        trial_seconds: A job that takes longer is infeasible; None is no limit.
        start_seconds: A worker that is not up by then is taken for one without a place.
        recycle_after: A worker is replaced by a fresh one after so many jobs.
    """

    trial_seconds: float | None
    start_seconds: float
    recycle_after: int


@dataclass(slots=True, kw_only=True, eq=False)
class Slot:
    """A place for one worker, and the job that it has.

    Attributes:
        actor: Ray's handle of the worker; None while a pause is made.
        greeting: What its preparation answers.
        since: When it was started, or its job was; seconds of a monotonic clock.
        node: Ray's name of its node, once it is prepared.
        is_ready: Whether it is prepared.
        failures: Times in a row that a worker here died or failed before a job began.
        late: Times in a row that a worker here was not up in time.
        resumes_at: When a pause ends.
        job: What it runs, with the weights that it continues from.
        alive_at: When its worker last gave an answer.
        called: Answered when the worker is alive to begin the job.
        memory: That of its node when the job began.
        is_alone: Whether no other job has run on the node since.
        answer: The training's answer; None before it has begun.
        measured: The probe's, where that measures elsewhere.
        last_job: The job it ran last, whose weights it holds.
        jobs_done: How many it has run.
    """

    actor: Any = None
    greeting: Any = None
    since: float = 0.0
    node: str = ""
    is_ready: bool = False
    failures: int = 0
    late: int = 0
    resumes_at: float = math.inf
    job: tuple[Job, bytes | None] | None = None
    alive_at: float = -math.inf
    called: Any = None
    memory: Memory = field(default_factory=lambda: Memory(free=1.0, kills=0))
    is_alone: bool = True
    answer: Any = None
    measured: Any = None
    last_job: Job | None = None
    jobs_done: int = 0

    @property
    def awaited(self) -> list[Any]:
        """What is to come next: that it is up, that it is alive, or its job's training and measurement."""
        if self.actor is None:
            return []
        if not self.is_ready:
            return [self.greeting]
        return [answer for answer in (self.called, self.answer, self.measured) if answer is not None]

    @property
    def is_parked(self) -> bool:
        """Whether no worker is to be had here at present."""
        return self.actor is None or (not self.is_ready and self.late > 0)

    def give_up_job(self) -> None:
        """Takes the job away."""
        self.job = self.called = self.answer = self.measured = None
