"""Says what is going on while it lasts: a live line in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.report.printing import show_seconds
from nas.trial import Progress, Tell

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

FIRST_SECONDS = 5.0
"""What takes less is not mentioned where the output is no terminal."""

EVERY_SECONDS = 30.0
"""Lines about what is going on are at least so far apart there."""

TICK_SECONDS, QUIET_TICK_SECONDS = 0.5, 5.0

MOST_SHOWN = 3
"""Trials that are shown at a time; the others are counted."""


class Activity:
    """Shows what is going on, and since when; a context, to be entered for as long as it may last.

    In a terminal it is one line that is written over and leaves nothing behind. Elsewhere a plain line comes
    when nothing was printed for a while, and then at most one every 30 s: what is soon over prints nothing.

    Args:
        console: Where to.
        words: What is going on.
        first_seconds: Silence before a plain line.
        is_quiet: Draws seldom and simply, for times at which the processor must be left alone.
        clock: Seconds.
        tick_seconds: How often a thread checks whether a line is due; None: only `tick` checks.
    """

    def __init__(
        self,
        console: Console,
        words: str = "",
        *,
        first_seconds: float = FIRST_SECONDS,
        is_quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float | None = TICK_SECONDS,
    ) -> None:
        self._console = console
        self._words = words
        self._text = ""
        self._first = first_seconds
        self._is_quiet = is_quiet
        self._clock = clock
        self._tick_seconds = QUIET_TICK_SECONDS if is_quiet and tick_seconds is not None else tick_seconds
        self._began = self._heard = clock()
        self._spoke = float("-inf")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._live: Live | None = None

    def begin(self) -> None:
        """Counts time from now on."""
        self._began = self._heard = self._clock()

    def __enter__(self) -> Self:
        self.begin()
        self._stop.clear()
        if self._console.is_terminal and not self._is_quiet:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._draw, console=self._console, refresh_per_second=4, transient=True
            )
            self._live.start()
        elif self._tick_seconds is not None:
            self._thread = threading.Thread(target=self._watch, args=(self._tick_seconds,), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, text: str) -> None:
        """Says how far it is, or what is going on now."""
        self._text = text
        self.tick()

    def print(self, line: str | Text) -> None:
        """Prints a line that stays."""
        self._erase()
        self._console.print(line, soft_wrap=True)
        self.heard()

    def heard(self) -> None:
        """Notes that something was printed."""
        self._heard = self._clock()

    def tick(self) -> None:
        """Prints what is going on where it is time to."""
        if self._live is not None:
            return
        with self._lock:
            if self._console.is_terminal and self._is_quiet:
                self._erase()
                self._console.print(self._line(), style="dim", end="\r", overflow="crop", no_wrap=True)
                return
            now = self._clock()
            if not self._line() or now - self._heard < self._first or now - self._spoke < EVERY_SECONDS:
                return
            self._heard = self._spoke = now
            self._console.print(self._line(), style="dim", soft_wrap=True)

    def close(self) -> None:
        """Ends it, and takes the live line away; safe to call twice."""
        self._stop.set()
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._erase()

    def _line(self) -> str:
        what = ": ".join(words for words in (self._words, self._text) if words)
        return f"{what} ({show_seconds(self._clock() - self._began)})" if what else ""

    def _draw(self) -> RenderableType:
        from rich.text import Text

        return Text(self._line(), style="dim", overflow="ellipsis", no_wrap=True)

    def _erase(self) -> None:
        """Takes away the line that a quiet activity wrote in a terminal."""
        if self._console.is_terminal and self._is_quiet:
            self._console.print(" " * (self._console.width - 1), end="\r")

    def _watch(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.tick()


class Running:
    """The trainings that run now, and what each of them said last.

    Args:
        name: Number of a trial to what users call it.
    """

    def __init__(self, name: Callable[[int], str] = "trial {}".format) -> None:
        self._name = name
        self._phase = ""
        self._said: dict[int, str] = {}

    def note(self, progress: Progress) -> None:
        """Takes note of progress: of a trial, or of the whole."""
        if progress.trial is None:
            self._phase = progress.text
        else:
            self._said[progress.trial] = progress.text

    def end(self, trial: int) -> None:
        """Takes note that a trial has ended."""
        self._said.pop(trial, None)

    def teller(self, activity: Activity) -> Tell:
        """Makes what takes note of progress and has an activity show it."""

        def tell(progress: Progress) -> None:
            self.note(progress)
            activity(self.text)

        return tell

    @property
    def text(self) -> str:
        """What is going on, in one line: the trials that run, or else what was last said of the whole."""
        said = [f"{self._name(trial)}: {text}" for trial, text in sorted(self._said.copy().items())]
        more = [f"{len(said) - MOST_SHOWN} more"] if len(said) > MOST_SHOWN else []
        return "; ".join([*said[:MOST_SHOWN], *more]) or self._phase
