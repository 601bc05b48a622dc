"""Carries what jobs say of their progress from Ray's workers to the driver, through one small actor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from nas.trial import Job, Progress, Tell

READ_SECONDS = 2.0
"""How often the driver asks the board at most; it asks only while it waits."""

WRITE_SECONDS = 0.25
"""A worker that has just written leaves its next line out."""

MOST_LINES = 4096

Key = tuple[int, int]
"""Trial and attempt."""


class ProgressBoard:
    """The driver's side: an actor that workers write to, asked without ever being waited for.

    Workers cannot be asked themselves: while they train they answer nothing, and an actor with a second
    thread would no longer train in the main one, where users' code may need to be. When a board dies, the
    search runs on without it.

    Args:
        ray: The module, connected.
        tell: Told of every new line.
        clock: Seconds.

    Attributes:
        actor: What `BoardWriter` is given.
    """

    def __init__(self, ray: Any, tell: Tell, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ray = ray
        self._tell = tell
        self._clock = clock
        self._asked_at = clock()
        self._answer: Any = None
        self._shown: dict[Key, str] = {}
        self.actor: Any = ray.remote(_Board).options(num_cpus=0, max_restarts=0).remote()

    def look(self, jobs: Iterable[Job]) -> None:
        """Reports new progress of these jobs, and asks for more when it is time."""
        if self.actor is None:
            return
        try:
            if self._answer is None and self._clock() - self._asked_at >= READ_SECONDS:
                self._asked_at = self._clock()
                self._answer = self.actor.read.remote()
            if self._answer is None or not self._ray.wait([self._answer], timeout=0)[0]:
                return
            lines: dict[Key, str] = self._ray.get(self._answer)
        except self._ray.exceptions.RayError:
            self.actor = self._answer = None
            return
        self._answer = None
        known = {(job.trial, job.attempt) for job in jobs}
        new = {key: text for key, text in lines.items() if key in known and self._shown.get(key) != text}
        self._shown = {key: text for key, text in lines.items() if key in known}
        for (trial, _), text in new.items():
            self._tell(Progress(text=text, trial=trial))

    def close(self) -> None:
        """Ends the actor; safe to call twice."""
        if self.actor is not None:
            self._ray.kill(self.actor)
            self.actor = None


class BoardWriter:
    """The worker's side: writes a job's lines without waiting for anything.

    Args:
        board: The board's actor.
        job: Whose lines they are.
        clock: Seconds.
    """

    def __init__(self, board: Any, job: Job, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._key = job.trial, job.attempt
        self._clock = clock
        self._wrote_at = float("-inf")

    def __call__(self, text: str) -> None:
        """Writes a line, unless one was just written."""
        now = self._clock()
        if now - self._wrote_at >= WRITE_SECONDS:
            self._wrote_at = now
            self._board.write.remote(self._key, text)


class _Board:
    """The actor: the last line of each job."""

    def __init__(self) -> None:
        self._lines: dict[Key, str] = {}

    def write(self, key: Key, text: str) -> None:
        """Keeps a line in place of the job's last one."""
        self._lines[key] = text
        if len(self._lines) > MOST_LINES:
            del self._lines[next(iter(self._lines))]

    def read(self) -> dict[Key, str]:
        """All lines."""
        return self._lines
