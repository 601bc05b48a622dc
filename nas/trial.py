"""The plain data that travels between the search loop, executors, evaluators and the journal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum

from nas.errors import MetricError
from nas.metrics import metric_info
from nas.values import as_number, as_text, bounded, clean, shown
from search_spaces import Cost, Network

MESSAGE_CHARACTERS = 500
"""Characters of a message that are kept; the log has more."""

LOG_CHARACTERS = 100_000
"""Characters of a log that are kept."""


class Status(StrEnum):
    """What became of a trial or of one attempt at it."""

    PROPOSED = "proposed"
    RUNNING = "running"
    COMPLETED = "completed"
    INFEASIBLE = "infeasible"
    LOST = "lost"


class Cause(StrEnum):
    """Why a trial did not complete."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    CONSTRAINT = "constraint"
    ERROR = "error"
    WORKER_DIED = "worker_died"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measured number with its origin.

    Attributes:
        name: What was measured, the unit in the name where it is not obvious (`latency_ms`).
        value: The number; accuracy is a fraction in [0, 1]. Numbers of numpy, torch, `decimal` and
            `fractions`, and arrays of one element, are converted to a float.
        unit: The unit (`fraction`, `ms`, `bytes`, `s`, `count`); empty takes that of `nas.metrics`.
        environment: Where it was measured (`cpu, 1 thread, batch 1`).

    Raises:
        MetricError: The value is no number, or one of the others no text, or the name is empty.
    """

    name: str
    value: float
    unit: str = ""
    environment: str = ""

    def __post_init__(self) -> None:
        name = as_text(self.name, "a metric's name").strip()
        if not name:
            raise MetricError(
                f"a metric must have a name, but got {self.name!r} for the value {shown(self.value)}"
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "value", as_number(self.value, name))
        for label in ("unit", "environment"):
            object.__setattr__(self, label, as_text(getattr(self, label), f"the {label} of {name}"))
        object.__setattr__(self, "unit", self.unit or metric_info(name).unit.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an executor is asked to run: data only, a few hundred bytes.

    Attributes:
        trial: Number of the trial, counted from 0.
        attempt: Number of the attempt at it, counted from 1.
        tokens: The candidate, one option index per decision of the space.
        seed: Seed of this training.
        fidelity: Share of the recipe's schedule, in (0, 1].
    """

    trial: int
    attempt: int
    tokens: tuple[int, ...]
    seed: int
    fidelity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is going on at the moment.

    Attributes:
        text: One line for users.
        trial: Number of the trial it is about; None where it is about the whole search.
        event: Kind of the event that it is, for the journal; empty where it is of the moment only.
    """

    text: str
    trial: int | None = None
    event: str = ""


Tell = Callable[[Progress], None]
"""Receives progress."""

Say = Callable[[str], None]
"""Receives progress as text."""


def say_nothing(_: str) -> None:
    """Ignores progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What an evaluator is given: the job with its network written out.

    Attributes:
        job: What is asked for.
        network: Its tokens as a network.
        weights: Weights to continue from, as safetensors bytes; None starts from new ones.
        progress: May be called with a line of text now and then (`epoch 2 of 5`), for those who watch.
    """

    job: Job
    network: Network
    weights: bytes | None = None
    progress: Say = say_nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an evaluator returns: what the objective needs, the `accuracy` by default, must be measured.

    Attributes:
        metrics: Everything measured, each name once.
        weights: Gives the trained weights as safetensors bytes when they are asked for, or None.
        notes: What users should know of it, such as images that could not be read; each is said once.

    Raises:
        MetricError: The metrics are something else, two have one name, the weights are no function, or the
            notes no texts.
    """

    metrics: tuple[Metric, ...]
    weights: Callable[[], bytes] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", as_metrics(self.metrics))
        if self.weights is not None and not callable(self.weights):
            raise MetricError(
                "weights must be a function that gives safetensors bytes, or None, but got "
                f"{shown(self.weights)}: give `lambda: weights`"
            )
        if isinstance(self.notes, str) or not all(isinstance(note, str) for note in self.notes):
            raise MetricError(f"notes must be a tuple of texts, but got {shown(self.notes)}")


def as_metrics(found: object, what: str = "metrics") -> tuple[Metric, ...]:
    """Checks what was measured, and makes a tuple of it.

    Args:
        found: The metrics.
        what: Their name, for the message.

    Raises:
        MetricError: Something in it is no `Metric`, or two have one name.
    """
    if isinstance(found, Metric | str) or not isinstance(found, Iterable):
        raise MetricError(f"{what} must be a tuple of `nas.Metric`, but got {shown(found)}")
    metrics: list[Metric] = []
    names: set[str] = set()
    for metric in found:
        if not isinstance(metric, Metric):
            raise MetricError(
                f"{what} must be a tuple of `nas.Metric`, but there is {shown(metric)} of type "
                f"{type(metric).__name__} in it"
            )
        if metric.name in names:
            raise MetricError(
                f"each metric must have a name of its own, but two are named {metric.name!r}: put what tells "
                "them apart into the name"
            )
        names.add(metric.name)
        is_plain = type(metric) is Metric  # a class of the user's own does not leave the worker
        metrics.append(
            metric if is_plain else Metric(**{f.name: getattr(metric, f.name) for f in fields(Metric)})
        )
    return tuple(metrics)


def as_evaluation(found: object) -> Evaluation:
    """Checks what an evaluator returned.

    Raises:
        MetricError: It is something else than an `Evaluation`.
    """
    if not isinstance(found, Evaluation):
        raise MetricError(
            f"`evaluate` must return a `nas.Evaluation`, but returned {shown(found)} of type "
            f"{type(found).__name__}: return nas.Evaluation(metrics=(nas.Metric(name=..., value=...),)) "
            "named as in `measures`, or wrap a function that gives numbers in nas.TableEvaluator(function)"
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What comes back from an executor for a job.

    Attributes:
        job: The job this answers.
        status: COMPLETED, INFEASIBLE (the candidate's fault) or LOST (the machine's fault).
        metrics: What was measured; empty unless completed.
        cause: Why it did not complete.
        message: One line for users, cut where it is very long.
        log: Traceback or other detail, for the trial's log file, cut where it is very long.
        node: Where it ran.
        seconds: Wall time in the worker.
        has_weights: Whether the worker still holds the trained weights.
        notes: Those of the evaluation.
        is_expected: Whether the evaluator says in words of its own that the candidate is at fault.
    """

    job: Job
    status: Status
    metrics: tuple[Metric, ...] = ()
    cause: Cause | None = None
    message: str = ""
    log: str = ""
    node: str = ""
    seconds: float = 0.0
    has_weights: bool = False
    notes: tuple[str, ...] = ()
    is_expected: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", bounded(clean(self.message), MESSAGE_CHARACTERS))
        object.__setattr__(self, "log", bounded(clean(self.log), LOG_CHARACTERS))
        notes = tuple(bounded(clean(note), MESSAGE_CHARACTERS) for note in self.notes)
        object.__setattr__(self, "notes", notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate that was let in: everything known of it before anything runs.

    Attributes:
        number: Counted from 0, without gaps.
        tokens: One option index per decision.
        decode: Gives `network`: that of a trial in a journal is made when it is asked for.
        digest: Identity of the network: equal for all tokens that mean the same layers.
        cost: Exact cost of the network.
        predictions: What a table predicts of it.
        seed: Seed of its training, derived from the study's seed and the number.
        fidelity: Share of the recipe's schedule, in (0, 1].
        replicate: 0, or counts the replicates that were asked for of one candidate.
        proposal_number: The controller's number for it; -1 where it did not propose it.
        log_prob: Log-probability under the policy that proposed it; NaN where none did.
        origin: `user` where the user put it in, else `controller`.
        continues: Number of the trial whose training it continues; None where it starts from new weights.
    """

    number: int
    tokens: tuple[int, ...]
    decode: Callable[[], Network] = field(repr=False, compare=False)
    digest: str
    cost: Cost
    seed: int
    fidelity: float = 1.0
    replicate: int = 0
    proposal_number: int = -1
    log_prob: float = math.nan
    origin: str = "controller"
    continues: int | None = None
    predictions: tuple[Metric, ...] = ()

    @property
    def network(self) -> Network:
        """The tokens written out."""
        return self.decode()

    @property
    def key(self) -> tuple[str, float, int]:
        """Trials with equal keys are trained once; recipe and data are fixed in a study."""
        return self.digest, self.fidelity, self.replicate

    @property
    def is_final(self) -> bool:
        """Whether it trains again what may be the best, which the search chose by itself."""
        return self.replicate > 0 and self.origin == "controller"

    def job(self, attempt: int) -> Job:
        """The trial as work for an executor."""
        return Job(
            trial=self.number, attempt=attempt, tokens=self.tokens, seed=self.seed, fidelity=self.fidelity
        )


class InfeasibleError(Exception):
    """Raised by an evaluator when the candidate itself cannot be trained or measured.

    Args:
        cause: Why; a word that is no `Cause` counts as `Cause.ERROR` and is put before the message.
        message: The same in one line.
    """

    def __init__(self, cause: Cause | str, message: str = "") -> None:
        super().__init__(cause, message)  # so that it can be pickled
        is_known = isinstance(cause, str) and cause in set(Cause)
        self.cause = Cause(cause) if is_known else Cause.ERROR
        words = [] if is_known else [cause if isinstance(cause, str) else shown(cause)]
        self.message = ": ".join([*words, *([str(message)] if str(message) else [])])

    def __str__(self) -> str:
        return self.message


class WeightsError(Exception):
    """Raised when the weights of a finished job cannot be had; says why in one line."""
