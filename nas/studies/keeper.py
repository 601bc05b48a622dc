"""Owns the files of a study beside its journal: weights worth keeping, and logs of what failed.

Does not own the journal, which says which of them there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nas.trial import Result, Trial
from nas.verdict import Verdict, all_costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A completed trial as the policy sees it."""

    number: int
    reward: float
    accuracy: float
    cost: float


def pareto_front(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that no other beats in accuracy at no more cost, cheapest first, of equals the first."""
    front: list[Entry] = []
    for entry in sorted(entries, key=lambda e: (e.cost, -e.accuracy, e.number)):
        if not front or entry.accuracy > front[-1].accuracy:
            front.append(entry)
    return front


class Keeper:
    """Keeps the weights of the best trials by reward and of the Pareto front, and drops the rest.

    A trial that falls out of either never comes back into it, so what is kept in the end does not depend on
    the order in which trials finish.

    Args:
        folder: The study's folder.
        metric: Cost of the Pareto front, against accuracy.
        best: How many of the best by reward are kept.
    """

    def __init__(self, folder: Path, *, metric: str = "macs", best: int = 3) -> None:
        self._folder = folder
        self._metric = metric
        self._best = best
        self._top: list[Entry] = []
        self._front: list[Entry] = []
        self._files: set[int] = set()

    def place(self, trial: Trial, verdict: Verdict) -> bool:
        """Takes a completed trial into account; says whether its weights are wanted."""
        entry = self.entry(trial, verdict)
        if entry is None:
            return False
        self._top = sorted([*self._top, entry], key=lambda e: (-e.reward, e.number))[: self._best]
        self._front = pareto_front([*self._front, entry])
        if verdict.weights_file is not None:
            self._files.add(trial.number)
        return trial.number in self._wanted()

    def entry(self, trial: Trial, verdict: Verdict) -> Entry | None:
        """The trial as the policy sees it; None unless completed by itself with the metric known."""
        cost = all_costs(trial.cost, verdict.metrics).get(self._metric)
        if (
            verdict.reward is None
            or verdict.accuracy is None
            or verdict.copied_from is not None
            or cost is None
        ):
            return None
        return Entry(number=trial.number, reward=verdict.reward, accuracy=verdict.accuracy, cost=cost)

    def _wanted(self) -> set[int]:
        return {entry.number for entry in (*self._top, *self._front)}

    def unwanted(self) -> tuple[int, ...]:
        """Trials whose weight files may be dropped."""
        return tuple(sorted(self._files - self._wanted()))

    def save(self, verdict: Verdict, weights: bytes | None) -> Verdict:
        """Writes a weight file whole or not at all; returns the verdict with its name.

        Raises:
            OSError: The disk is full or not writable, or the worker has lost the weights.
        """
        if weights is None:
            raise OSError("the worker has lost them")
        name = weights_name(verdict.number)
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        scratch = path.with_suffix(".partial")
        try:
            with scratch.open("wb") as file:
                file.write(weights)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        self._files.add(verdict.number)
        return replace(verdict, weights_file=name)

    def drop(self, numbers: Iterable[int]) -> None:
        """Removes weight files; the journal must have forgotten them already."""
        for number in numbers:
            (self._folder / weights_name(number)).unlink(missing_ok=True)
            self._files.discard(number)

    def sweep(self) -> tuple[int, ...]:
        """Removes files the journal does not know, left by a kill; returns trials whose file is gone."""
        known = {weights_name(number) for number in self._files}
        for path in (self._folder / "weights").glob("trial-*"):
            if f"weights/{path.name}" not in known:
                path.unlink()
        missing = {number for number in self._files if not (self._folder / weights_name(number)).is_file()}
        self._files -= missing
        return tuple(sorted(missing))

    def log(self, result: Result) -> Path:
        """Appends what went wrong in an attempt to the trial's log file."""
        path = self._folder / log_name(result.job.trial)
        # The journal has the message and the traceback is shown: a full disk must not end the search here.
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                fate = f"{result.status.value}, {result.cause.value if result.cause else 'no cause'}"
                node = result.node or "an unknown node"
                file.write(
                    f"attempt {result.job.attempt} on {node}: {fate}\n{result.message}\n{result.log}\n"
                )
        return path


def weights_name(number: int) -> str:
    """Path of a trial's weights in the study's folder."""
    return f"weights/trial-{number:05d}.safetensors"


def log_name(number: int) -> str:
    """Path of a trial's log in the study's folder."""
    return f"logs/trial-{number:05d}.log"
