"""The small search that benchmarks/faults.py injures: a driver process that can be stopped at any line.

A driver is a process of its own. It says on a pipe what its reporters are told, and stops, where that is
asked for, at the n-th line of the code that searches and writes, until it is told to go on: so a moment is
exact, and a seed gives it again. Searches on Ray run in a fresh Python, the others in a fork of this one.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import numpy as np
from safetensors.numpy import save

import nas
from nas.errors import NasError
from nas.events import SearchEnd, SearchStart, TrialReport
from nas.execution.inline_executor import InlineExecutor
from nas.execution.ray_executor import RayExecutor
from nas.protocols import Executor
from nas.trial import Candidate, Cause, Evaluation, InfeasibleError, Metric, Progress
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

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
    + [str(Path(__file__).resolve())]
)
"""The code whose lines are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One search.

    Attributes:
        folder: Of the study.
        ledger: A file outside of it, to which every evaluation writes a line when it begins.
        seed: Of the search.
        controller: Its name.
        trials: How many.
        width: Trials at the same time.
        faults: What evaluating a trial does, by its number; with `!` behind it at every attempt, else at the
            first only.
        nap_ms: An evaluation takes up to so long.
        executor: `inline`, `ray`, or `reference`, where what would end a process is said instead.
        address: Of a running Ray cluster.
        timeout: Seconds that a trial may take on Ray.
        on_ray_loss: As in `nas search`.
        clock_seed: Where given, the clock jumps by up to 30 days.
        is_user: Runs without root's right to write where nobody may.
    """

    folder: str
    ledger: str
    seed: int
    controller: str = "evolution"
    trials: int = 24
    width: int = 1
    faults: Mapping[int, str] = field(default_factory=dict)
    nap_ms: float = 2.0
    executor: str = "inline"
    address: str | None = None
    timeout: float | None = None
    on_ray_loss: str = "stop"
    clock_seed: int | None = None
    is_user: bool = False


def make_space() -> SearchSpace:
    """1,296 candidates that cost no time."""

    def stage(stride: int) -> Stage:
        op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3, 6))
        return Stage(op=op, channels=choice(8, 16), repeats=choice(1, 2, 3), stride=stride)

    stem = Stage(op=Conv(kernel_size=3), channels=8, stride=2)
    head = Head(channels=16)
    return SearchSpace(
        Network(stem=stem, stages=(stage(1), stage(2)), head=head, resolution=8, num_classes=4), name="small"
    )


def mark_of(tokens: tuple[int, ...]) -> float:
    """The accuracy of a candidate."""
    return sum((place + 1) * (token + 1) for place, token in enumerate(tokens)) % 97 / 97


def weights_of(tokens: tuple[int, ...]) -> bytes:
    """Its weights."""
    return save({"a": np.full(512, mark_of(tokens), np.float32)})


class _UnpicklableError(Exception):
    """An exception that cannot leave its process, whose text has surrogates."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.held = lambda: self

    def __reduce__(self) -> str:
        raise TypeError("this cannot be pickled")


def _raise(error: BaseException) -> None:
    raise error


def _fill_memory() -> None:
    held = []
    while True:
        held.append(np.ones(1 << 22))  # 32 MiB at a time, until the process is ended


def _hang_in_native_code() -> None:
    ctypes.PyDLL(None).usleep(10**9)  # holds the interpreter's lock


CANDIDATE_FAULTS = ("nan", "infinite", "unpicklable", "surrogates", "exits", "no memory")
"""What a candidate itself does wrong: infeasible wherever it runs."""

ACTIONS: Mapping[str, Any] = {
    "unpicklable": lambda: _raise(_UnpicklableError("odd")),
    "surrogates": lambda: _raise(RuntimeError("odd \udcff\ud800 \x1b[2J")),
    "exits": lambda: sys.exit(3),
    "no memory": lambda: _raise(MemoryError("no room")),
    "_exit": lambda: os._exit(7),
    "segfault": lambda: ctypes.string_at(0),
    "memory": _fill_memory,
    "hang": lambda: time.sleep(3_600),
    "native hang": _hang_in_native_code,
}


class Injured:
    """An evaluator that does what it is told to at some trials, and is a function of the tokens at others."""

    fingerprint = "injured"

    def __init__(self, case: Case) -> None:
        self.case = case

    def prepare(self) -> None:
        """Nothing to prepare."""

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Notes that it began, takes a while, and measures."""
        job = candidate.job
        with Path(self.case.ledger).open("a") as file:
            file.write(json.dumps([job.trial, job.attempt, list(job.tokens), os.getpid()]) + "\n")
        mark = mark_of(job.tokens)
        time.sleep(mark * self.case.nap_ms / 1_000)
        fault = self.case.faults.get(job.trial, "")
        if fault.endswith("!") or (fault and job.attempt == 1):
            self._do(fault.rstrip("!"))
            mark = {"nan": float("nan"), "infinite": float("inf")}.get(fault.rstrip("!"), mark)
        metrics = (Metric(name="accuracy", value=mark), Metric(name="macro_f1", value=mark / 2))
        return Evaluation(metrics=metrics, weights=lambda: weights_of(job.tokens))

    def _do(self, fault: str) -> None:
        if self.case.executor == "reference" and fault not in CANDIDATE_FAULTS:
            cause = Cause.TIMEOUT if "hang" in fault else Cause.WORKER_DIED
            raise InfeasibleError(cause, "the process of the search ended 3 times while this trial ran in it")
        ACTIONS.get(fault, lambda: None)()


class Several(InlineExecutor):
    """Runs jobs here as if there were several workers: a fixed schedule gives what they would."""

    is_in_process = False

    def __init__(self, slots: int) -> None:
        super().__init__()
        self._slots = slots

    @property
    def slots(self) -> int:
        """As given."""
        return self._slots


class JumpingClock:
    """A clock whose date jumps back and forth; what it measures never goes back."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._days = 0.0

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def now(self) -> datetime:
        """The date and time in UTC, wrong."""
        if self._random.random() < 0.2:
            self._days = self._random.uniform(-30, 30)
        return datetime.now(UTC) + timedelta(days=self._days)


class Telling:
    """Passes on what reporters are told."""

    def __init__(self, say: Any) -> None:
        self._say = say

    def on_start(self, start: SearchStart) -> None:
        """Says that it begins."""
        self._say(start=start.counts.done)

    def on_trial(self, report: TrialReport) -> None:
        """Says what was reported to the user."""
        outcome, trial = report.outcome, report.trial
        self._say(
            trial=trial.number,
            status=outcome.status.value,
            reward=outcome.reward,
            tokens=list(trial.tokens),
            metrics=sorted([metric.name, metric.value] for metric in outcome.metrics),
        )

    def on_event(self, kind: str, message: str) -> None:
        """Says it."""
        self._say(event=kind, message=message)

    def on_progress(self, progress: Progress) -> None:
        """Says nothing."""

    def on_end(self, end: SearchEnd) -> None:
        """Says how it ended."""
        self._say(ending=end.ending)


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


def search(case: Case, telling: Telling) -> None:
    """Begins or continues the search of a case."""
    described = nas.Search(
        make_space(),
        evaluator=Injured(case),
        objective="accuracy, macs <= 60k",
        controller=case.controller,
        budget=nas.Budget(trials=case.trials),
        seed=case.seed,
        deterministic=True,
    )
    clock = None if case.clock_seed is None else JumpingClock(case.clock_seed)
    described.run(case.folder, executor=_executor(case), reporters=[telling], clock=clock)


def _executor(case: Case) -> Executor:
    if case.executor == "ray":
        return RayExecutor(
            case.width,
            address=case.address,
            trial_timeout_seconds=case.timeout,
            on_ray_loss="restart" if case.on_ray_loss == "restart" else "stop",
            modules=[sys.modules[__name__]],
        )
    return InlineExecutor() if case.width == 1 else Several(case.width)


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
        self._code: int | None = None
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
