"""Keeps what the Ray executor knows of one of its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.trial import Job


@dataclass(slots=True, kw_only=True, eq=False)
class Slot:
    """One worker, and the job it has."""

    actor: Any
    greeting: Any
    since: float
    is_ready: bool = False
    job: Job | None = None
    answer: Any = None
    measured: Any = None
    last_job: Job | None = None
    jobs_done: int = 0

    @property
    def awaited(self) -> list[Any]:
        """What its job is still to give: the training's answer, and the probe's."""
        return [answer for answer in (self.answer, self.measured) if answer is not None]
