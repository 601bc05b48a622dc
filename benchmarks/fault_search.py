"""The small search that benchmarks/faults.py injures, and what its candidates do wrong."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import save

import nas
from nas.events import SearchEnd, SearchStart, TrialReport
from nas.execution.inline_executor import InlineExecutor
from nas.execution.ray_executor import RayExecutor
from nas.protocols import Executor
from nas.trial import Candidate, Cause, Evaluation, InfeasibleError, Metric, Progress, Result, Status
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


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

    def wait(self, timeout_seconds: float) -> list[Result]:
        """Runs a job; what would end its worker at every attempt is lost there."""
        return [
            replace(result, status=Status.LOST) if result.cause is Cause.WORKER_DIED else result
            for result in super().wait(timeout_seconds)
        ]


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
