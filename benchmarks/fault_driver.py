"""A process that searches, and can be stopped at any line, for benchmarks/faults.py.

It says on a pipe what its reporters are told, and stops, where that is asked for, at the n-th line of the
code that searches and writes, until it is told to go on: so a moment is exact, and a seed gives it again.
Searches on Ray run in a fresh Python, the others in a fork of this one.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import fault_search
from fault_search import Case, Telling, search

import nas
from nas.errors import NasError

SECONDS = 180.0
"""A driver that says nothing for so long hangs, which counts as a loss."""

MARK = "MNAS_FAULTS"
"""Names the round in the environment of every process that it starts."""

_ROOT = Path(nas.__file__).parent
TRACED = (
    *("loop", "resumption", "scheduling", "proposals", "io", "search", "execution/inline_executor"),
    *("execution/worker", "execution/ray_executor"),
)
FILES = frozenset(
    [str(_ROOT / f"{name}.py") for name in TRACED]
    + [str(path) for path in (_ROOT / "study").glob("*.py")]
    + [str(Path(fault_search.__file__).resolve())]
)
"""The code whose lines are counted."""


class Lines:
    """Counts the lines of `FILES` that are run, and stops at one.

    Attributes:
        count: So far.
    """

    def __init__(self, at: int | None, stop: Any) -> None:
        self.count = 0
        self._at = at
        self._stop = stop

    def __call__(self, frame: FrameType, _event: str, _arg: object) -> Any:
        """Looks at one call."""
        return self._line if frame.f_code.co_filename in FILES else None

    def _line(self, _frame: FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self._at:
                sys.settrace(None)
                self._stop()
        return self._line


def drive(case: Case, say_to: int, told_by: int, line: int | None) -> None:
    """Runs the search in this process, and says what happens."""

    def say(**words: object) -> None:
        os.write(say_to, (json.dumps(words) + "\n").encode())

    def stop() -> None:
        say(at=line)
        os.read(told_by, 1)

    if case.is_user:
        _obey_permissions()
    lines = Lines(line, stop)
    if line is not None:
        sys.settrace(lines)
    try:
        search(case, Telling(say))
    except NasError as error:
        say(error=str(error), ours=True)
    except BaseException as error:
        traceback.print_exc()
        say(error=f"{type(error).__name__}: {error}", ours=isinstance(error, KeyboardInterrupt))
    finally:
        sys.settrace(None)
        say(lines=lines.count)


def _obey_permissions() -> None:
    """Gives up root's rights to pass over the permissions of files (capset(2), version 3)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) or libc.capset(header, _without(data, (1, 2, 3))):
        raise OSError(ctypes.get_errno(), "capset")


def _without(data: Any, capabilities: tuple[int, ...]) -> Any:
    for number in capabilities:  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        data[0] &= ~(1 << number)
        data[1] &= ~(1 << number)
    return data


class Driver:
    """A process that searches.

    Args:
        case: What it searches.
        log: Where its output goes.
        line: Stops at this line.
        command: Put before that of a fresh Python, which is then started in place of a fork.

    Attributes:
        pid: Of the process.
        said: All that it has said.
    """

    def __init__(
        self, case: Case, log: Path, *, line: int | None = None, command: tuple[str, ...] | None = None
    ) -> None:
        self.said: list[dict[str, Any]] = []
        self._text = b""
        self._log = log
        self._says, say_to = os.pipe()
        told_by, self._tells = os.pipe()
        os.environ[MARK] = case.ledger
        if command is None and case.executor != "ray":
            self.pid = self._fork(case, say_to, told_by, line)
        else:
            self.pid = self._run(command or (), case, say_to, told_by, line)
        os.close(say_to)
        os.close(told_by)

    def _fork(self, case: Case, say_to: int, told_by: int, line: int | None) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            with self._log.open("ab", buffering=0) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                is_int = number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)
            drive(case, say_to, told_by, line)
        finally:
            os._exit(0)

    def _run(self, command: tuple[str, ...], case: Case, say_to: int, told_by: int, line: int | None) -> int:
        asked = json.dumps([asdict(case), say_to, told_by, line])
        with self._log.open("ab") as file:
            process = subprocess.Popen(
                [*command, sys.executable, __file__, asked],
                stdout=file,
                stderr=file,
                pass_fds=(say_to, told_by),
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(_ROOT.parent), "RAY_USAGE_STATS_ENABLED": "0"},
            )
        process.returncode = 0  # it is waited for below
        return process.pid

    def hear(self, seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
        """What it says, as it comes, until it has ended.

        Raises:
            TimeoutError: It says nothing for so long.
        """
        while True:
            ready, _, _ = select.select([self._says], [], [], seconds)
            if not ready:
                raise TimeoutError(f"the driver said nothing for {seconds:g} s")
            data = os.read(self._says, 1 << 16)
            if not data:
                return
            *lines, self._text = (self._text + data).split(b"\n")
            for one in lines:
                self.said.append(json.loads(one))
                yield self.said[-1]

    def has_said(self, what: str) -> bool:
        """Whether it has said something of this kind so far."""
        return any(what in one for one in self.said)

    def reaches_line(self) -> bool:
        """Waits until it stops at its line; says whether it did, and had not ended before."""
        return any("at" in one for one in self.hear())

    def go(self) -> None:
        """Lets it go on from the line."""
        os.write(self._tells, b"g")

    def send(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def end(self, seconds: float = SECONDS) -> int:
        """Waits until it has ended; returns its exit code, or less than 0 where a signal ended it."""
        for _ in self.hear(seconds):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self._says)
        os.close(self._tells)
        return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    fields, say_to, told_by, line = json.loads(sys.argv[1])
    fields["faults"] = {int(number): fault for number, fault in fields["faults"].items()}
    drive(Case(**fields), say_to, told_by, line)
