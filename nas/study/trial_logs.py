"""The logs of trials that failed: a file each, and not more than so many."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from nas.trial import Result

MOST_LOGS, FIRST_LOGS = 1_000, 100
"""Logs that a study keeps, and how many of those are the first ones; the others are the last."""


class TrialLogs:
    """Writes what went wrong in the attempts at a trial to its log, and drops logs where there are too many.

    A log has at most three attempts, each cut to `nas.trial.LOG_CHARACTERS`, which says so. The journal has
    the message of every failure; the first and the last logs are those that tell the most.

    Args:
        folder: The study's folder.
        most: Logs that are kept.
        first: How many of them are the first ones.
    """

    def __init__(self, folder: Path, *, most: int = MOST_LOGS, first: int = FIRST_LOGS) -> None:
        self._folder = folder
        self._most = most
        self._first = first
        self._numbers: dict[int, None] | None = None  # in the order in which they were written

    def add(self, result: Result) -> Path:
        """Appends what went wrong in an attempt; returns the log."""
        path = self._folder / log_name(result.job.trial)
        # The journal has the message and the traceback is shown: a full disk must not end the search here.
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            if self._numbers is None:
                self._numbers = dict.fromkeys(_numbers_in(path.parent))
            with path.open("a", encoding="utf-8") as file:
                ended = f"{result.status.value}, {result.cause.value if result.cause else 'no cause'}"
                node = result.node or "an unknown node"
                file.write(
                    f"attempt {result.job.attempt} on {node}: {ended}\n{result.message}\n{result.log}\n"
                )
            self._numbers[result.job.trial] = None
            self._drop(self._numbers)
        return path

    def _drop(self, numbers: dict[int, None]) -> None:
        """Removes the oldest logs but for the first."""
        for number in list(numbers)[self._first : self._first + max(0, len(numbers) - self._most)]:
            del numbers[number]
            (self._folder / log_name(number)).unlink(missing_ok=True)


def _numbers_in(folder: Path) -> list[int]:
    found = (re.fullmatch(r"trial-(\d{5,})\.log", path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def log_name(number: int) -> str:
    """Path of a trial's log in the study's folder."""
    return f"logs/trial-{number:05d}.log"
