"""Ctrl-C, SIGTERM and SIGHUP during a search: they stop it between two steps, or while it waits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

SIGNALS = tuple(one for one in signal.Signals if one.name in ("SIGINT", "SIGTERM", "SIGHUP"))
"""What a user, a cluster's scheduler and a terminal that is closed send; Windows has no SIGHUP."""


class Interruption:
    """While entered, a first signal never breaks a step in two: it is kept until the search waits.

    A second signal interrupts at once. Outside the main thread, where Python delivers no signals, it does
    nothing.

    Attributes:
        requested: Whether a signal has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._may_raise = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._handle)
                for number in SIGNALS
                # `nohup` has it ignored, so that the search outlives its terminal.
                if not (number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN)
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if self._may_raise or again:
            raise KeyboardInterrupt

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Inside, a signal raises KeyboardInterrupt, also one that came before."""
        self._may_raise = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False
