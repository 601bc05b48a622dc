"""The events that reporters receive, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.outcome import TrialOutcome
from nas.trial import Metric, Status, Trial
from search_spaces import Decision, Network

Probabilities = Callable[[], list[npt.NDArray[np.float64]] | None]
"""Gives for each decision the probability of each option, shape (options,); computed when called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best trial so far; `value` is what the objective maximises or minimises."""

    number: int
    reward: float
    value: float
    macs: int
    network: Network
    fidelity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many trials there are of each kind; `rejected` candidates never became trials."""

    completed: int = 0
    infeasible: int = 0
    lost: int = 0
    rejected: int = 0

    @property
    def done(self) -> int:
        """Trials that are finished, however they ended."""
        return self.completed + self.infeasible + self.lost


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStart:
    """Said once, before the first trial of this run.

    Attributes:
        folder: The study's folder.
        space_name: Name of the space.
        decisions: The decisions of the space, in the order of probabilities and tokens.
        objective: The objective as one line.
        note: What the user should know about the objective; mostly empty.
        controller: Name of the controller.
        trials: How many trials the study shall have in the end; None where only time limits it.
        workers: How many run at the same time.
        is_resumed: Whether trials of earlier runs are continued.
        counts: Trials of earlier runs.
        best: The best of earlier runs.
        metric: Name of what the objective maximises or minimises.
        training_notes: What follows from the number of training images and is worth saying.
    """

    folder: Path
    space_name: str
    decisions: tuple[Decision, ...]
    objective: str
    note: str
    controller: str
    trials: int | None
    workers: int
    is_resumed: bool
    counts: Counts
    best: Best | None
    metric: str = "accuracy"
    training_notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """Said once for every trial that is finished, after the controller has learnt from it.

    Attributes:
        trial: The candidate with its number, network and cost.
        outcome: Status, reward, metrics, cause and message.
        log: Traceback of a failure, as far as it was seen in this run.
        log_file: Where that is written; None for a trial that did not fail.
        is_first_failure: Whether no other trial failed before in this run.
        is_best: Whether no trial before had so high a reward.
        best: The best trial so far, this one included.
        counts: Trials of each kind so far.
        total: How many trials the study shall have in the end; None where only time limits it.
        running: Trials that run at the moment.
        seconds: Wall time in the worker.
        elapsed_seconds: Since this run of the search began.
        diagnostics: The controller's numbers after its last update, named as in cleanrl.
        probabilities: Gives the controller's present probabilities; valid only while this is reported.
        on_front: Trials on the front, where the objective has several goals and this one joined it.
    """

    trial: Trial
    outcome: TrialOutcome
    log: str
    log_file: Path | None
    is_first_failure: bool
    is_best: bool
    best: Best | None
    counts: Counts
    total: int | None
    running: int
    seconds: float
    elapsed_seconds: float
    diagnostics: Mapping[str, float]
    probabilities: Probabilities
    on_front: int | None = None

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.trial.number

    @property
    def status(self) -> Status:
        """What became of it."""
        return self.outcome.status

    @property
    def reward(self) -> float | None:
        """The objective's value; None unless completed."""
        return self.outcome.reward

    @property
    def value(self) -> float | None:
        """What the objective maximises or minimises, measured on the search split."""
        return self.outcome.value

    @property
    def macs(self) -> int:
        """Multiply-adds of the network."""
        return self.trial.cost.macs

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Everything measured."""
        return self.outcome.metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEnd:
    """Said once, when everything is on disk.

    Attributes:
        ending: `trials`, `max_hours`, `patience`, `exhausted`, `interrupted` or `failed`.
        message: The error in one line, where it failed.
        counts: Trials of each kind.
        best: The best trial.
        elapsed_seconds: Since this run of the search began.
    """

    ending: str
    message: str
    counts: Counts
    best: Best | None
    elapsed_seconds: float
