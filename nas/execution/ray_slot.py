"""One place for a worker on a Ray cluster, and what the driver knows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from nas.execution.ray_actor import Memory
from nas.trial import Job

GROWN_BYTES = 1 << 30
"""A worker whose memory has doubled and grown by so much keeps what it no longer needs."""

MOST_FILES = 0.5
"""Share of the files that a worker may open; with more it will soon fail to open any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long workers may take.

    Attributes:
        trial_seconds: A job that takes longer is infeasible; None is no limit.
        start_seconds: A worker that is not up by then is taken for one without a place.
        recycle_after: A worker is replaced by a fresh one after so many jobs, or when it has grown.
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
        held_at_first: Bytes that its worker held after the first of them.
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
    held_at_first: int = 0

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

    def end_job(self, memory: Memory) -> None:
        """Takes in that the job was run, and the memory afterwards."""
        assert self.job is not None
        self.last_job, self.memory = self.job[0], memory
        self.jobs_done += 1
        if self.jobs_done == 1:
            self.held_at_first = memory.held
        self.give_up_job()

    def worn(self, limits: Limits) -> str:
        """Why its worker should be replaced by a fresh one, in words; empty where it should not."""
        if self.jobs_done == 0:
            return ""
        if self.jobs_done >= limits.recycle_after:
            return f"has run {self.jobs_done:,} trials"
        held, first = self.memory.held, self.held_at_first
        if held - first >= max(GROWN_BYTES, first):
            return f"grew from {first / 2**30:.1f} to {held / 2**30:.1f} GiB in {self.jobs_done:,} trials"
        if self.memory.files >= MOST_FILES:
            return (
                f"holds {self.memory.files:.0%} of the files that it may open after {self.jobs_done:,} trials"
            )
        return ""

    def give_up_job(self) -> None:
        """Takes the job away."""
        self.job = self.called = self.answer = self.measured = None
