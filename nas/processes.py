"""Tells whether the process that left a claim or a half-written folder behind still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process on some machine; its start tells it from a later one with the same number.

    Attributes:
        host: Name of the machine.
        number: Process id there.
        started: When it started, as the system counts; empty where the system does not say.
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
        """Whether it runs on this machine; a killed process that nobody has waited for does not."""
        try:
            os.kill(self.number, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass  # it runs as another user
        state, started = _stat(self.number)
        return state not in ("Z", "X") and self.started in ("", started)

    def __str__(self) -> str:
        return f"process {self.number} on {self.host}"


def this_process() -> Process:
    """The process that asks."""
    return Process(host=socket.gethostname(), number=os.getpid(), started=_stat(os.getpid())[1])


def _stat(number: int) -> tuple[str, str]:
    """State of a process, and its start with the boot it belongs to; empty where there is no `/proc`."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "", ""
    words = fields.rpartition(")")[2].split()  # the name in brackets may hold anything
    return words[0], f"{boot}/{words[19]}"
