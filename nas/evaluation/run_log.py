"""`RunLog`: every finished training of a check, one line of JSON each, on disk before the next counts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nas.errors import StudyError

FILE_NAME = "trainings.jsonl"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        way: Name of the proxy, or `long`.
        candidate: Index in the sample.
        number: Which of a candidate's trainings in this way, from 0.
        accuracy: On the search split; None where it failed.
        seconds: Wall time in the worker.
        message: Why it failed.
    """

    way: str
    candidate: int
    number: int
    accuracy: float | None
    seconds: float = 0.0
    message: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        """A training with an equal key is not done again."""
        return self.way, self.candidate, self.number


class RunLog:
    """The trainings in a folder, kept open for more; a context that closes it.

    Args:
        folder: Where the file is, or will be.
        settings: What makes trainings comparable: fingerprints, candidates, seed.

    Attributes:
        path: The file.
        runs: All trainings so far, by key.

    Raises:
        StudyError: The file is of other settings, damaged, or cannot be written; names what differs.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.path = folder / FILE_NAME
        self.runs: dict[tuple[str, int, int], Run] = {}
        self._settings = dict(settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            whole = self._read() if self.path.exists() else 0
            self._file = self.path.open("a", encoding="utf-8")
            self._file.truncate(whole)
        except OSError as error:
            raise StudyError(f"{self.path} cannot be written: {error.strerror or error}") from error
        if not whole:
            self._write({"version": VERSION, "settings": self._settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, run: Run) -> None:
        """Writes a training down."""
        self._write(asdict(run))
        self.runs[run.key] = run

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Reads whole lines; returns their length in bytes: a last one cut short by a kill is done again."""
        text = self.path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if not whole:
            return 0
        try:
            head, *lines = (json.loads(line) for line in text[:whole].splitlines())
            if head["version"] != VERSION:
                raise ValueError(f"version {head['version']}, and this program writes {VERSION}")
            self._check(head["settings"])
            self.runs = {run.key: run for run in (Run(**line) for line in lines)}
        except (ValueError, TypeError, KeyError) as error:
            raise StudyError(
                f"{self.path} cannot be read as the trainings of a check ({error}): give another --out"
            ) from error
        return whole

    def _check(self, there: Mapping[str, str]) -> None:
        names = dict.fromkeys([*there, *self._settings])
        differing = [name for name in names if there.get(name) != self._settings.get(name)]
        if differing:
            raise StudyError(
                f"{self.path.parent} holds a check with another {', '.join(differing)}: repeat it with the "
                "options it was begun with, or give another --out"
            )
