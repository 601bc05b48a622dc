"""The attempts of a study: which worker had which trial from when to when, and how that ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nas.io import Process
from nas.study.journal_file import connect_readonly, explained
from nas.study.journal_tables import columns
from nas.study.stored_values import stored_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a trial.

    Attributes:
        trial: The trial.
        number: Counted from 1.
        status: How it ended; `running` where it has not.
        cause: Why it did not complete; empty where it did.
        message: The same in one line.
        node: The worker: its machine and process.
        fidelity: Share of the recipe's schedule.
        begun: When the worker began.
        ended: When its result came; None where none came.
    """

    trial: int
    number: int
    status: str
    cause: str
    message: str
    node: str
    fidelity: float
    begun: datetime
    ended: datetime | None

    @property
    def seconds(self) -> float:
        """How long it took; 0 where that is not known."""
        return 0.0 if self.ended is None else (self.ended - self.begun).total_seconds()


def span(attempts: Sequence[Attempt]) -> timedelta | None:
    """From the first beginning of attempts in order to the last end; None where none has ended."""
    ends = [one.ended for one in attempts if one.ended is not None]
    return max(ends) - attempts[0].begun if ends else None


def read_attempts(folder: Path) -> tuple[Attempt, ...]:
    """Reads the attempts of the study in a folder, in order of their beginning.

    Raises:
        StudyError: There is no study, or its journal cannot be read.
    """
    with closing(connect_readonly(folder)) as database, explained(folder):
        rows = database.execute(
            "SELECT trial, number, status, coalesce(cause, ''), message, node, fidelity, started_at, "
            "finished_at, worker_seconds FROM attempt"
        ).fetchall()
    return tuple(sorted(_attempts(rows), key=lambda one: (one.begun, one.trial, one.number)))


def _attempts(rows: list[tuple[Any, ...]]) -> Iterator[Attempt]:
    for trial, number, status, cause, message, node, fidelity, started, finished, seconds in rows:
        begun, ended = _time(started), _time(finished)
        if begun is None:
            continue
        if ended is not None:
            # A worker may have waited for data or for its turn: what it says of its own time is closer.
            begun = ended - timedelta(seconds=_between(seconds, (ended - begun).total_seconds()))
        yield Attempt(
            trial=trial,
            number=number,
            status=status,
            cause=stored_text(cause),
            message=stored_text(message),
            node=stored_text(node) or "a worker that is not known",
            fidelity=fidelity,
            begun=begun,
            ended=ended,
        )


def _between(seconds: object, most: float) -> float:
    known = isinstance(seconds, int | float) and 0 < seconds < most
    return float(seconds) if known and isinstance(seconds, int | float) else max(0.0, most)


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def driver_of(folder: Path) -> Process | None:
    """The process that writes to the study, or was killed; None where its journal names none.

    Raises:
        StudyError: There is no study, or its journal cannot be read.
    """
    with closing(connect_readonly(folder)) as database, explained(folder):
        if not columns(database, "driver"):
            return None
        row = database.execute("SELECT host, process, started FROM driver").fetchone()
    return None if row is None or not row[0] else Process(host=row[0], number=row[1], started=row[2])
