"""Sends what is logged of a search to a service in a thread, so that no search waits for a server."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

from nas.errors import NasError, UsageError
from nas.events import SearchEnd, SearchStart, TrialReport
from nas.report.run_facts import RunEnd, RunFacts
from nas.report.run_log import RunLog, Step, begun
from nas.study.study import Study, open_study

MOST_WAITING = 2000
"""Steps that are kept while a server does not answer; beyond that the oldest are left out."""

RETRY_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""A server that has taken nothing for so long is named, once."""

CLOSING_SECONDS = 30.0
"""How long the end of a search may wait for what is not sent yet."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A step and when it was logged, in seconds since 1970."""

    step: Step
    seconds: float


class Service(Protocol):
    """Where steps are sent to; every method may take long, and may raise any error."""

    def open(self, facts: RunFacts) -> None:
        """Begins the run of a study, or goes on with it; after a failure it is called again."""
        ...

    def send(self, steps: Sequence[Timed]) -> None:
        """Sends steps; those of a call that failed are given again."""
        ...

    def end(self, end: RunEnd) -> None:
        """Sends what came of the search, and ends the run."""
        ...

    def add(self, files: Sequence[Path], numbers: Mapping[str, float]) -> None:
        """Adds files and numbers to the run, and ends it."""
        ...


class Sending:
    """Sends a search to a service; the methods of reporters call its own.

    What fails is tried again. The first failure is raised from the call that comes next, for the search to
    name it.

    Args:
        name: What users call the service.
        service: Where to.
        closing_seconds: How long `end` and `add` may wait for it.
    """

    def __init__(self, name: str, service: Service, *, closing_seconds: float = CLOSING_SECONDS) -> None:
        self._name = name
        self._service = service
        self._closing_seconds = closing_seconds
        self._log: RunLog | None = None
        self._thread: _Thread | None = None

    def begin(self, start: SearchStart) -> None:
        """Reads what earlier runs of the study have done; sends nothing before the first trial."""
        self._log = RunLog(start)
        facts = RunFacts.of(open_study(start.folder))
        self._thread = _Thread(self._name, self._service, facts)

    def trial(self, report: TrialReport) -> None:
        """Takes everything that is new with a trial.

        Raises:
            Exception: Sending failed since the last call.
        """
        step = begun(self._log).of_trial(report)
        assert self._thread is not None
        if step.entries:
            self._thread.put(step)

    def count(self, kind: str) -> None:
        """Counts an event; the count goes with the next trial."""
        begun(self._log).count(kind)

    def end(self, end: SearchEnd) -> None:
        """Sends the winner and the last figure; waits for all of it, but not for long.

        Raises:
            Exception: Not everything was sent.
        """
        log, self._log = self._log, None
        thread, self._thread = self._thread, None
        ending = None if log is None else log.ending()
        if thread is None or ending is None:
            return
        thread.put_last(ending, RunEnd.of(open_study(thread.facts.folder), end.ending))
        thread.close(self._closing_seconds)

    def add(self, study: Study, files: Iterable[Path], numbers: Mapping[str, float]) -> None:
        """Adds files and numbers to the run of a study whose search has ended.

        Raises:
            NasError: The service did not answer in time.
            Exception: It failed.
        """
        facts, listed = RunFacts.of(study), tuple(files)

        def call() -> None:
            self._service.open(facts)
            self._service.add(listed, numbers)

        within(self._closing_seconds, call, name=self._name)


class _Thread:
    """Sends in the background what is put into it."""

    def __init__(self, name: str, service: Service, facts: RunFacts) -> None:
        self.facts = facts
        self._name = name
        self._service = service
        self._waiting: deque[Timed] = deque(maxlen=MOST_WAITING)
        self._in_flight = self._left_out = 0
        self._end: RunEnd | None = None
        self._error: Exception | None = None
        self._silent_since: float | None = None
        self._is_open = self._is_closing = self._is_abandoned = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=thread_name(name), daemon=True)
        self._thread.start()

    def put(self, step: Step) -> None:
        """Takes a step; raises what failed since the last call."""
        with self._change:
            self._append(step)
            error, self._error = self._error, None
            silent = time.monotonic() - (self._silent_since or time.monotonic())
        if error is not None:
            raise error
        if silent > SILENT_SECONDS:
            raise NasError(f"it has taken nothing for {silent:.0f} s; what is new is kept and tried again")

    def put_last(self, step: Step, end: RunEnd) -> None:
        """Takes the last step and what came of the search."""
        with self._change:
            self._end = end
            self._is_closing = True
            self._append(step)

    def close(self, seconds: float) -> None:
        """Waits until everything is sent; raises what failed, or that it took too long."""
        self._thread.join(seconds)
        with self._change:
            self._is_abandoned = True  # it gives up once its present call returns
            left = len(self._waiting) + self._in_flight + self._left_out
            error = self._error
        why = f"it did not answer within {seconds:.0f} s" if error is None else str(error)
        if self._left_out and not self._thread.is_alive() and error is None:
            why = f"no more than {MOST_WAITING} are kept while it does not answer"
        if left:
            raise NasError(f"{left} steps were not sent: {why}") from error
        if error is not None or self._thread.is_alive():
            raise NasError(f"it was not told how the search ended: {why}") from error

    def _append(self, step: Step) -> None:
        self._left_out += len(self._waiting) == MOST_WAITING
        self._waiting.append(Timed(step=step, seconds=time.time()))
        self._silent_since = self._silent_since or time.monotonic()
        self._change.notify_all()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._is_closing)
                if self._is_abandoned or not self._waiting:
                    break
                steps = tuple(self._waiting)
                self._waiting.clear()
                self._in_flight = len(steps)
            error = self._send(steps)
            with self._change:
                self._in_flight = 0
                self._error = error or self._error
                if error is None:
                    self._silent_since = time.monotonic() if self._waiting else None
                else:
                    self._keep(steps)
                    if self._is_closing:
                        return
                    self._change.wait_for(lambda: self._is_closing, RETRY_SECONDS)
        self._finish()

    def _keep(self, steps: Sequence[Timed]) -> None:
        """Puts steps that were not sent before those that came since, as far as there is room."""
        kept = steps[max(0, len(steps) + len(self._waiting) - MOST_WAITING) :]
        self._left_out += len(steps) - len(kept)
        self._waiting.extendleft(reversed(kept))

    def _send(self, steps: Sequence[Timed]) -> Exception | None:
        try:
            if not self._is_open:
                self._service.open(self.facts)
                self._is_open = True
            self._service.send(steps)
        except Exception as error:
            return error
        return None

    def _finish(self) -> None:
        if self._end is None or self._is_abandoned:
            return
        self._error = None  # what failed before was sent since
        try:
            self._service.end(self._end)
        except Exception as error:
            self._error = error


def thread_name(name: str) -> str:
    """Name of the threads that talk to a service, by which its messages are kept off the screen."""
    return f"nas-{name}"


def imported(package: str, service: str) -> Any:
    """The package of a service, which is an extra of ours of the same name.

    Raises:
        UsageError: It cannot be imported; the option has its name too.
    """
    try:
        return import_module(package)
    except Exception as error:  # a broken installation may raise anything
        raise UsageError(
            f"reporting to {service} needs the package {package}, which cannot be imported ({error}): "
            f"pip install 'mnas[{package}]'",
            field=package,
        ) from error


def within(seconds: float, call: Callable[[], T], *, name: str) -> T:
    """Calls something that may hang, in a thread of a service, and gives its result.

    Raises:
        NasError: It did not return in time.
        Exception: It failed.
    """
    found: list[T] = []
    failed: list[Exception] = []

    def target() -> None:
        try:
            found.append(call())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=target, name=thread_name(name), daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise NasError(f"{name} did not answer within {seconds:.0f} s")
    return found[0]
