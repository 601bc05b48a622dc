"""Several reporters as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nas.events import SearchEnd, SearchStart, TrialReport
from nas.failures import failure_of
from nas.protocols import Reporter
from nas.trial import Progress


class Reporters:
    """Several reporters as one, whose failures are named once each and end nothing.

    Args:
        reporters: They are asked again after a failure, as the next trial may be a better one.
        note: Receives a failure as an event; so do the other reporters.

    Attributes:
        note: The same; a search sets it as soon as it has a journal.
    """

    def __init__(
        self, reporters: Sequence[Reporter], note: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._reporters = tuple(reporters)
        self.note = note
        self._failed: set[int] = set()

    def on_start(self, start: SearchStart) -> None:
        """Tells each."""
        self._tell("on_start", lambda reporter: reporter.on_start(start))

    def on_trial(self, report: TrialReport) -> None:
        """Tells each."""
        self._tell("on_trial", lambda reporter: reporter.on_trial(report))

    def on_event(self, kind: str, message: str) -> None:
        """Tells each."""
        self._tell("on_event", lambda reporter: reporter.on_event(kind, message))

    def on_progress(self, progress: Progress) -> None:
        """Tells each; an event among it goes into the journal too."""
        if progress.event:
            self.note(progress.event, progress.text)
            self.on_event(progress.event, progress.text)
            return
        self._tell("on_progress", lambda reporter: reporter.on_progress(progress))

    def on_end(self, end: SearchEnd) -> None:
        """Tells each."""
        self._tell("on_end", lambda reporter: reporter.on_end(end))

    def _tell(self, method: str, tell: Callable[[Reporter], None]) -> None:
        for index, reporter in enumerate(self._reporters):
            try:
                tell(reporter)
            except (Exception, SystemExit) as error:
                if index not in self._failed:
                    self._failed.add(index)
                    self._name_failure(f"{method} of {type(reporter).__name__}", error)

    def _name_failure(self, where: str, error: BaseException) -> None:
        message = (
            f"{where} failed and the search continues, further failures of it are not named: "
            f"{failure_of(error).message}"
        )
        self.note("reporter_failed", message)
        self.on_event("reporter_failed", message)
