"""A list of trainings that runs on an executor, can be stopped at any time, and continues where it was."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from nas.errors import SearchStoppedError, StudyError
from nas.health import FAILURES_AT_FIRST
from nas.protocols import Decodes, Evaluator, Executor
from nas.reading import parse_json, read_bytes
from nas.scheduling import ATTEMPTS
from nas.signals import Interruption
from nas.trial import Cause, Job, Metric, Result, Status, Tell
from search_spaces import Network
from search_spaces.space import own_types

POLL_SECONDS = 1.0

VERSION = 2
"""Of the file of a `JobLog`. Version 1 was the proxy check's alone, with lines of its own form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training of a list.

    Attributes:
        key: Its identity: a training with an equal key is not done again.
        label: What users call it (`trial 12`, `random 3`).
        tokens: The candidate, one option index per decision of the space.
        seed: Seed of the training.
        fidelity: Share of the recipe's schedule, in (0, 1].
    """

    key: str
    label: str
    tokens: tuple[int, ...]
    seed: int
    fidelity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Networks that come from no search space, as what the trainings of a list choose from.

    The tokens of a training are then the place of its network alone: `(3,)` is the fourth.

    Attributes:
        name: What users call them.
        networks: The networks.
    """

    name: str
    networks: tuple[Network, ...]

    @property
    def own_types(self) -> tuple[type, ...]:
        """The user's own classes that occur in them."""
        return own_types(self.networks)

    def decode(self, tokens: Sequence[int]) -> Network:
        """The network at a place."""
        (place,) = tokens
        return self.networks[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A training that has just ended.

    Attributes:
        training: Which.
        result: What came of it.
        done: Trainings of the list that are done, this one among them.
        total: Trainings of the list.
    """

    training: Training
    result: Result
    done: int
    total: int


OnFinished = Callable[[Finished], None]
"""Receives each finished training, once it is on disk; the executor still has its weights then."""

ReadEarlier = Callable[[Mapping[str, Any]], tuple[str, Result]]
"""Reads a line of version 1: its key and its result."""


def value_of(result: Result, metric: str) -> float | None:
    """What was measured under a name; None where nothing was."""
    return next((one.value for one in result.metrics if one.name == metric), None)


def earlier_result(
    accuracy: float | None,
    message: str,
    *,
    seconds: float = 0.0,
    tokens: tuple[int, ...] = (),
    seed: int = 0,
) -> Result:
    """A training as earlier versions stored it: its accuracy, or None and why; of others its notes."""
    job = Job(trial=0, attempt=1, tokens=tokens, seed=seed)
    if accuracy is None:
        return Result(job=job, status=Status.INFEASIBLE, message=message, seconds=seconds)
    metric = Metric(name="accuracy", value=accuracy)
    notes = (message,) if message else ()
    return Result(job=job, status=Status.COMPLETED, metrics=(metric,), seconds=seconds, notes=notes)


def unless_all_fail(on_finished: OnFinished, metric: str) -> OnFinished:
    """Ends a list of trainings whose first ones all fail."""
    count, has_worked = 0, False

    def checked(finished: Finished) -> None:
        nonlocal count, has_worked
        on_finished(finished)
        count += 1
        has_worked = has_worked or value_of(finished.result, metric) is not None
        if count == FAILURES_AT_FIRST and not has_worked:
            raise SearchStoppedError(
                f"the first {FAILURES_AT_FIRST} trainings all failed, the last with: "
                f"{finished.result.message}"
            )

    return checked


def is_final(result: Result) -> bool:
    """Whether a result is the candidate's own: what a machine lost or an error ended is tried again later."""
    return result.status is not Status.LOST and result.cause is not Cause.ERROR


def run_trainings(
    space: Decodes,
    evaluator: Evaluator,
    executor: Executor,
    trainings: Sequence[Training],
    log: JobLog,
    *,
    on_finished: OnFinished = lambda _: None,
    on_progress: Tell = lambda _: None,
) -> None:
    """Runs, in order, the jobs without a final result in the log; each result is on disk before it is used.

    What a machine loses is tried again, at most three times; then the loss is the result. SIGINT, SIGTERM and
    SIGHUP end it between two steps, with KeyboardInterrupt.

    Args:
        space: Where the candidates come from.
        evaluator: Trains and measures; a job's `trial` is the place of its training in the list.
        executor: Runs the trainings; started and closed here, where there is anything to run.
        trainings: The whole list, each key once.
        log: What is done already, and where results go.
        on_finished: Receives each finished training. An exception from it ends the run.
        on_progress: Receives progress, with the place of a training as the number of its trial.

    Raises:
        NasError: The machines cannot be had, or the log cannot be written.
    """
    is_in_process = executor.is_in_process
    waiting = _unfinished(trainings, log)
    if not waiting:
        return
    left = len(waiting)
    executor.watch(on_progress)
    with Interruption() as interruption:
        try:
            with interruption.breakable():
                executor.start(space, evaluator)
            while left:
                while waiting and left - len(waiting) < executor.slots:
                    job = waiting.pop(0)
                    if is_in_process:
                        log.begin(trainings[job.trial].key)
                    executor.submit(job)
                with interruption.breakable():
                    results = executor.wait(POLL_SECONDS)
                for result in results:
                    if result.status is Status.LOST and result.job.attempt < ATTEMPTS:
                        waiting.insert(0, replace(result.job, attempt=result.job.attempt + 1))
                        continue
                    left -= 1
                    training = trainings[result.job.trial]
                    log.add(training.key, result)
                    done = len(trainings) - left
                    on_finished(Finished(training=training, result=result, done=done, total=len(trainings)))
            with interruption.breakable():
                pass  # a signal that came with the last result
        finally:
            executor.close()


def _unfinished(trainings: Sequence[Training], log: JobLog) -> list[Job]:
    """Jobs for the trainings without a final result; those that ended this process three times get one."""
    jobs = []
    for place, one in enumerate(trainings):
        job = Job(trial=place, attempt=1, tokens=one.tokens, seed=one.seed, fidelity=one.fidelity)
        if log.deaths[one.key] >= ATTEMPTS:
            message = f"the process ended {ATTEMPTS} times while this training ran in it"
            cause = Cause.WORKER_DIED
            log.add(one.key, Result(job=job, status=Status.INFEASIBLE, cause=cause, message=message))
        elif one.key not in log.results or not is_final(log.results[one.key]):
            jobs.append(job)
    return jobs


class JobLog:
    """The results of a list of trainings in a file, a line of JSON each; a context that closes it.

    A line that was cut short by a kill is left out: its training runs again.

    Args:
        path: The file; it is made where it is missing, with its folder.
        settings: What makes its results comparable: fingerprints, candidates, seed.
        read_earlier: Reads the lines of version 1.

    Attributes:
        path: The file.
        results: The latest result of each key.
        deaths: How often the process ended while a training ran in it, by key, since its latest result.

    Raises:
        StudyError: The file is of other settings, which are named, damaged, or cannot be written; or another
            process trains into it.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, str], *, read_earlier: ReadEarlier | None = None
    ) -> None:
        self.path = path
        self.results: dict[str, Result] = {}
        self.deaths: Counter[str] = Counter()
        self._has_begun = False
        self._lock = FileLock(path.with_suffix(".lock"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StudyError(
                f"another process trains into {path}: wait for it, or give another --out", field="out"
            ) from error
        except OSError as error:
            raise StudyError(f"{path} cannot be written: {error.strerror or error}", field="out") from error
        try:
            whole = self._read(settings, read_earlier) if path.exists() else 0
            self._file = path.open("a", encoding="utf-8")
            self._file.truncate(whole)
        except OSError as error:
            self._lock.release()
            raise StudyError(f"{path} cannot be written: {error.strerror or error}", field="out") from error
        except StudyError:
            self._lock.release()
            raise
        if not whole:
            self._write({"version": VERSION, "settings": dict(settings)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if self._has_begun:
                    self._write({"closed": True})
        finally:
            self._lock.release()

    def begin(self, key: str) -> None:
        """Writes down that a training begins in this process."""
        self._has_begun = True
        self._write({"begun": key})

    def add(self, key: str, result: Result) -> None:
        """Writes a result down."""
        values = asdict(result)
        del values["has_weights"]  # they are fetched when the job ends
        self._write({"key": key, **values})
        self.results[key] = result
        self.deaths.pop(key, None)

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._has_begun = False  # nothing may follow the piece of a line
            raise StudyError(
                f"{self.path} cannot be written: {error.strerror or error}", field="out"
            ) from error

    def _read(self, settings: Mapping[str, str], read_earlier: ReadEarlier | None) -> int:
        """Reads whole lines; returns their length in bytes."""
        text = read_bytes(self.path)
        whole = text.rfind(b"\n") + 1
        if not whole:
            return 0
        try:
            head, *lines = (parse_json(line) for line in text[:whole].splitlines())
            if head["version"] not in (1, VERSION):
                raise ValueError(f"version {head['version']}, and this program writes {VERSION}")
            there = head["settings"]
            self._take(lines, read_earlier)
        except (ValueError, TypeError, KeyError) as error:
            raise StudyError(
                f"{self.path} cannot be read as a list of trainings ({error}): give another --out",
                field="out",
            ) from error
        names = dict.fromkeys([*there, *settings])
        differing = [name for name in names if there.get(name) != settings.get(name)]
        if differing:
            raise StudyError(
                f"{self.path} holds trainings with another {', '.join(differing)}: repeat the command with "
                "its first options, or give another --out",
                field="out",
            )
        return whole

    def _take(self, lines: Sequence[Mapping[str, Any]], read_earlier: ReadEarlier | None) -> None:
        """Takes over results, and counts how often the process ended during a training."""
        begun: set[str] = set()
        for line in lines:
            if "begun" in line:
                self.deaths[line["begun"]] += line["begun"] in begun
                begun.add(line["begun"])
            elif "closed" in line:
                begun.clear()
            else:
                read = read_earlier if read_earlier is not None and "key" not in line else _read_result
                key, result = read(line)
                self.results[key] = result
                self.deaths.pop(key, None)
                begun.discard(key)
        self.deaths.update(begun)


def _read_result(line: Mapping[str, Any]) -> tuple[str, Result]:
    values = dict(line)
    key, job = values.pop("key"), values.pop("job")
    return key, Result(
        **{
            **values,
            "job": Job(**{**job, "tokens": tuple(job["tokens"])}),
            "status": Status(values["status"]),
            "cause": None if values["cause"] is None else Cause(values["cause"]),
            "metrics": tuple(Metric(**metric) for metric in values["metrics"]),
            "notes": tuple(values["notes"]),
        }
    )
