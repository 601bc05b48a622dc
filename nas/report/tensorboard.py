"""Writes what is logged of a search to TensorBoard's event files; docs/tensorboard.md explains each tag."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from nas.events import SearchEnd, SearchStart, TrialReport
from nas.report.event_file import EventFile, Value, charts, image, scalar, text
from nas.report.run_log import Charts, Entry, Number, Picture, RunLog, Step, begun
from nas.trial import Progress

FOLDER = "tensorboard"
"""Name of the folder inside the study's folder."""


class TensorBoardReporter:
    """Writes a search to `tensorboard/` in its study's folder; a `nas.Reporter`.

    A step is a finished trial: step 1 is the first that finished, whatever its number. A resumed search goes
    on in the same folder at the next step.

    Args:
        policy_every: See `RunLog`.
        figure_share: See `RunLog`.
        clock: Gives the time in seconds.

    Raises:
        StudyError: While searching, when the files cannot be written.
    """

    def __init__(
        self,
        *,
        policy_every: int = 10,
        figure_share: float = 0.01,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if policy_every < 1 or not 0 <= figure_share <= 1:
            raise ValueError(
                "`policy_every >= 1` and `0 <= figure_share <= 1` must hold, but got "
                f"policy_every={policy_every!r}, figure_share={figure_share!r}"
            )
        self._policy_every = policy_every
        self._figure_share = figure_share
        self._clock = clock
        self._log: RunLog | None = None
        self._folder = Path()
        self._file: EventFile | None = None

    def on_start(self, start: SearchStart) -> None:
        """Reads what earlier runs of the study have done; writes nothing yet."""
        self._folder = start.folder / FOLDER
        self._log = RunLog(
            start, policy_every=self._policy_every, figure_share=self._figure_share, clock=self._clock
        )

    def on_trial(self, report: TrialReport) -> None:
        """Writes one record with everything that is new."""
        self._write(begun(self._log).of_trial(report))

    def on_event(self, kind: str, message: str) -> None:  # noqa: ARG002 - the journal has the message
        """Counts it; the count goes with the next trial."""
        begun(self._log).count(kind)

    def on_progress(self, progress: Progress) -> None:
        """Writes nothing: progress is for the terminal."""

    def on_end(self, end: SearchEnd) -> None:  # noqa: ARG002 - the last trial has said all of it
        """Writes the winner and the last figure, and closes the file."""
        log, self._log = self._log, None
        ending = None if log is None else log.ending()
        file = self._file
        try:
            if file is not None and ending is not None:
                self._write(ending)
        finally:
            self._file = None
            if file is not None:
                file.close()

    def _write(self, step: Step) -> None:
        """Appends a record, opening the file at the first; nothing where nothing is new."""
        if not step.entries:
            return
        if self._file is None:
            self._file = EventFile(self._folder, first_step=step.number)
        self._file.write(step.number, [_value(entry) for entry in step.entries])


def _value(entry: Entry) -> Value:
    """An entry as TensorBoard has it."""
    if isinstance(entry, Number):
        return scalar(entry.name, entry.value)
    if isinstance(entry, Picture):
        return image(entry.name, entry.png)
    if isinstance(entry, Charts):
        return charts({entry.category: entry.lines})
    return text(entry.name, entry.markdown)
