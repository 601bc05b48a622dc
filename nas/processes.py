"""Says whether the process that left a claim or a half-written folder behind still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

CLOCK_SECONDS = 2.0
"""Two readings of when one process started differ by less, also where the system's clock is adjusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process on some machine; its start tells it from a later one with the same number.

    Attributes:
        host: Name of the machine.
        number: Process id there.
        started: When it started, in seconds since 1970; empty where that is not known. Earlier versions wrote
            the boot's id and the clock ticks since then, with `/` between.
    """

    host: str
    number: int
    started: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it belongs to this machine, so that `is_alive` can tell."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it runs on this machine; a zombie, which was killed and not waited for, does not."""
        import psutil

        try:
            process = psutil.Process(self.number)
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
            return self._has_started_at(process.create_time(), psutil.boot_time())
        except psutil.AccessDenied:
            return True  # it runs as another user
        except (psutil.NoSuchProcess, OverflowError, ValueError):
            return False

    def _has_started_at(self, seconds: float, boot: float) -> bool:
        if not self.started:
            return True
        _, is_of_earlier_version, number = self.started.rpartition("/")
        known = float(number)
        if is_of_earlier_version:  # written on Linux
            known = boot + known / os.sysconf("SC_CLK_TCK")
        return abs(seconds - known) < CLOCK_SECONDS

    def __str__(self) -> str:
        return f"process {self.number} on {self.host}"


def this_process() -> Process:
    """The process that asks."""
    import psutil

    number = os.getpid()
    return Process(
        host=socket.gethostname(), number=number, started=str(psutil.Process(number).create_time())
    )
