"""A study as it is read from its folder: its trials, the best of them, its Pareto fronts."""

from __future__ import annotations

import copy
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from controllers import State, state_from_json
from nas.errors import StudyError
from nas.metrics import NETWORK_METRICS, Goal
from nas.objective import Objective
from nas.reading import parse_json
from nas.study.checkpoints import Entry, front_rows, kept_weights, unknown_weights
from nas.study.fronts import from_knee
from nas.study.journal_file import connect_readonly, explained, open_readonly, readable, without_collecting
from nas.study.journal_reading import (
    read_asked,
    read_identity,
    read_networks,
    read_provenance,
    read_recommendation,
)
from nas.study.study_folder import FILE_NAME
from nas.study.study_trial import StudyTrial, study_trial, values_of_repeated
from nas.study.trial_rows import Value, trial_rows
from nas.study.trial_table import TrialTable
from nas.task_objective import judged_by
from nas.trial import Status
from nas.values import counted
from search_spaces import Op, SearchSpace

KNOWN_NETWORKS = 1_000
"""Trials up to which a study holds all networks, so that they are there when its folder is gone."""

_FACTS = ("settings_json", "package_version", "created_at", "ended_at", "ending")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """A study in a few numbers.

    Attributes:
        folder: The study's folder.
        space_name: Name of the space.
        objective: The objective as one line.
        controller: Name of the controller.
        seed: Seed of the study.
        deterministic_workers: Width of the fixed schedule; None where results counted as they came.
        states: Number of trials by status.
        causes: Number of failed attempts by cause.
        rejected: Candidates that broke a known constraint.
        with_weights: Trials whose weights are kept.
        best: Number of the best trial; None where none has completed.
        worker_hours: Wall time in workers, all attempts together.
        created_at: ISO 8601 in UTC.
        ended_at: The same; None while it runs, or after a kill.
        ending: Why it ended; None while it runs, or after a kill.
        package_version: Version of this package that made it.
    """

    folder: Path
    space_name: str
    objective: str
    controller: str
    seed: int
    deterministic_workers: int | None
    states: Mapping[str, int]
    causes: Mapping[str, int]
    rejected: int
    with_weights: int
    best: int | None
    worker_hours: float
    created_at: str
    ended_at: str | None
    ending: str | None
    package_version: str


class Study:
    """What is in a study's folder at the moment of opening; open it again to see more.

    Args:
        folder: The study's folder.
        space: The study's space, to name decisions and to read networks that hold the user's own ops.

    Attributes:
        table: The trials in columns, for those who look at many.
        recommended: Digests that the controller recommended, best first; none before the search has ended.
        objective: What was searched for.
        settings: How the search was asked for.
        warnings: What seems to be missing of it, a sentence each.
        space: The study's space; None where it was not given, or is another one than was searched.

    Raises:
        StudyError: There is no study, or its journal cannot be read.
    """

    space: SearchSpace | None

    def __init__(self, folder: Path | str, *, space: SearchSpace | None = None) -> None:
        self.folder = Path(folder)
        weights = kept_weights(self.folder)  # first: the journal has a trial before its weights are there
        with (
            closing(connect_readonly(self.folder)) as database,
            readable(self.folder),
            without_collecting(),
        ):
            database.execute("BEGIN")
            self._read(database)
        unknown = [name for number, name in weights.items() if number >= len(self.table)]
        remedy = "if the journal was copied without its -wal file, copy that too"
        self.warnings = (f"{unknown_weights(unknown)}: {remedy}",) if unknown else ()
        self.space = None
        self._op_types: tuple[type[Op], ...] = ()
        self._made: dict[int, StudyTrial] = {}
        self._entries: dict[tuple[Goal, ...], tuple[Entry, ...]] = {}
        if space is not None:
            self._use(space)

    def with_space(self, space: SearchSpace) -> Study:
        """The same study as it was read, with its space."""
        other = copy.copy(self)
        other._use(space)
        return other

    def _use(self, space: SearchSpace) -> None:
        if space.op_types:
            self._op_types, self._made = space.op_types, {}
            for name in ("trials", "completed", "best"):
                self.__dict__.pop(name, None)  # they hold the trials as they were
        self.space = space if space.fingerprint == self.identity.space else None

    def _read(self, database: sqlite3.Connection) -> None:
        row = database.execute(f"SELECT {', '.join(_FACTS)} FROM study").fetchone()
        if row is None:
            raise StudyError(f"the study in {self.folder} was never begun: start the search again")
        self._facts: dict[str, Any] = dict(zip(_FACTS, row, strict=True))
        for name, value in self._facts.items():
            if not isinstance(value, str | None):
                raise ValueError(f"{name} of study is no text")
        self.settings: dict[str, Any] = dict(parse_json(self._facts["settings_json"]))
        self.identity = read_identity(database)
        self.provenance = read_provenance(database)
        self.objective = Objective.from_json(self.identity.objective)
        self.table = TrialTable(database, self.objective.goal)
        self._networks = read_networks(database) if len(self.table) <= KNOWN_NETWORKS else {}
        events = database.execute("SELECT happened_at, kind, message FROM event ORDER BY id")
        self.events: tuple[tuple[str, str, str], ...] = tuple(events)
        self.recommended = read_recommendation(database)
        self._rejected = read_asked(database).rejected
        causes = database.execute(
            "SELECT cause, count(*) FROM attempt WHERE cause IS NOT NULL GROUP BY cause"
        )
        self._causes: dict[str, int] = dict(causes.fetchall())

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r}, {counted(len(self.table), 'trial')})"

    @cached_property
    def trials(self) -> tuple[StudyTrial, ...]:
        """Every trial, in order of number.

        Raises:
            StudyError: The journal holds a value that cannot be read.
        """
        return self.trials_at(range(len(self.table)))

    @cached_property
    def completed(self) -> tuple[StudyTrial, ...]:
        """The trials that have a reward."""
        return self.trials_at(np.flatnonzero(self.table.is_completed))

    def trials_at(self, places: Iterable[int]) -> tuple[StudyTrial, ...]:
        """The trials at these places of `table`, in this order.

        Raises:
            StudyError: The journal holds a value that cannot be read.
        """
        with readable(self.folder), without_collecting():
            return tuple(self._made.get(place) or self._make(place) for place in map(int, places))

    def _make(self, place: int) -> StudyTrial:
        key = self.table.digests[place], self.table.columns["fidelity"][place]
        trial = self._made[place] = study_trial(
            self.table,
            place,
            self.folder,
            provenance=self.provenance,
            objective=self.objective,
            values=self._repeated.get(key, ()) if self.table.is_completed[place] else (),
            op_types=self._op_types,
            known_network=self._networks.get(key[0]),
        )
        return trial

    @cached_property
    def _repeated(self) -> dict[tuple[str, float], tuple[float, ...]]:
        return values_of_repeated(self.table, judged_by(self.objective).metric)

    @property
    def has_completed(self) -> bool:
        """Whether any trial has."""
        return bool(self.table.is_completed.any())

    @cached_property
    def best(self) -> StudyTrial:
        """The trial to go with: of the candidate that the controller recommends, where the search has ended.

        It is one of the highest fidelity that any has. Recommended is what is best by the controller's
        estimate, which a lucky training does not mislead. Of trials of one candidate, and while the search
        runs of all, it is the one with the highest reward; where weights are kept, of those that have them.
        With several goals it is the knee of the front that the controller recommends, or of all trials.

        Raises:
            StudyError: No trial has completed.
        """
        table = self.table
        kept = table.is_completed & table.has_weights
        places = np.flatnonzero(kept if kept.any() else table.is_completed)
        if not len(places):
            raise StudyError(f"no trial of the study in {self.folder} has completed yet: continue the search")
        ranks = self._ranks()
        rank = np.array([ranks.get(table.digests[place], len(ranks)) for place in places])
        order = np.lexsort((-table.reward[places], rank, -table.fidelity[places]))
        return self.trials_at(places[order[:1]])[0]

    def ranked(self, count: int) -> tuple[StudyTrial, ...]:
        """So many completed trials: those of the highest fidelity first, by reward, and then by number."""
        places = np.flatnonzero(self.table.is_completed)
        order = np.lexsort((-self.table.reward[places], -self.table.fidelity[places]))
        return self.trials_at(places[order[:count]])

    def top(self, count: int) -> tuple[StudyTrial, ...]:
        """The trials of so many different networks: `best`, then by recommendation and reward.

        Fewer where fewer completed. Only trials of the highest fidelity that any has are among them.

        Raises:
            StudyError: No trial has completed.
        """
        best = self.best
        ranks = self._ranks()
        ranked = sorted(
            (trial for trial in self.completed if trial.fidelity == best.fidelity),
            key=lambda t: (ranks.get(t.digest, len(ranks)), -_or_least(t.reward), t.number),
        )
        distinct = {best.digest: best}
        for trial in ranked:
            distinct.setdefault(trial.digest, trial)
        return tuple(distinct.values())[:count]

    def _ranks(self) -> dict[str, int]:
        """The place of candidates by digest: as recommended, or on a front from its knee on."""
        digests: Iterable[str] = self.recommended
        if self.objective.is_front:
            entries = self.entries(self.objective.goals)
            own = [entry for entry in entries if self.table.digests[entry.number] in self.recommended]
            found = from_knee(own or entries, self.objective.goals)
            digests = dict.fromkeys(self.table.digests[entry.number] for entry in found)
        return {digest: rank for rank, digest in enumerate(digests)}

    @property
    def ending(self) -> str | None:
        """Why the search ended; None while it runs, or after a kill."""
        ending: str | None = self._facts["ending"]
        return ending

    def controller_state(self) -> State | None:
        """What the controller remembers; None before its first proposal.

        Of a search that runs or was interrupted, it may be so old that one in a hundred steps came after it.

        Raises:
            StudyError: The journal cannot be read any more.
            ControllerError: What is there is no state.
        """
        with explained(self.folder), closing(open_readonly(self.folder / FILE_NAME)) as database:
            row = database.execute("SELECT state_json FROM controller").fetchone()
        return None if row is None else state_from_json(row[0])

    def trial(self, number: int) -> StudyTrial:
        """One trial by number.

        Raises:
            StudyError: There is no such trial.
        """
        if not 0 <= number < len(self.table):
            raise StudyError(
                f"`0 <= trial < {len(self.table)}` must hold in {self.folder}, but got trial={number}: give "
                "the number of one of its trials",
                field="trial",
            )
        return self.trials_at([number])[0]

    def rows(self) -> list[dict[str, Value]]:
        """One row of plain values for each trial, as `nas show --csv` prints them and pandas takes them.

        Decisions are named where the study was opened with its space, else numbered, with tokens for options.

        Raises:
            StudyError: The journal cannot be read any more.
        """
        with readable(self.folder), closing(open_readonly(self.folder / FILE_NAME)) as database:
            nodes = database.execute("SELECT trial, node FROM attempt ORDER BY trial, number").fetchall()
        return trial_rows(self.trials, self.space, dict(nodes))

    def front_goals(self, *metrics: str) -> tuple[Goal, ...]:
        """The goals of a Pareto front: the objective's, then these metrics or else its own costs and limits.

        Each has the direction that the objective gives it, or that it has by itself. Of its own, those are
        left out that no trial has: `min macs` is compared with accuracies only where there are some.
        """
        own = {goal.metric: goal for goal in self.objective.front}
        first = self.objective.goal
        others = (own.get(name) or Goal.of(name) for name in metrics if name != first.metric)
        if metrics:
            return (first, *others)
        known = self._metrics
        return (first, *(goal for goal in self.objective.front[1:] if goal.metric in known or not known))

    @cached_property
    def _metrics(self) -> frozenset[str]:
        """Everything that any completed trial has, by name; nothing where none completed."""
        names = self.table.metric_names() | set(NETWORK_METRICS)
        return frozenset(names if self.has_completed else ())

    def entries(self, goals: Sequence[Goal]) -> tuple[Entry, ...]:
        """The completed trials that have every metric of these goals, as the Pareto front compares them."""
        goals = tuple(goals)
        if goals not in self._entries:
            places, points = self._points(goals)
            numbers, table = self.table.columns["number"], self.table
            self._entries[goals] = tuple(
                Entry(
                    number=numbers[place], reward=reward, value=value, costs=tuple(costs), fidelity=fidelity
                )
                for place, reward, fidelity, (value, *costs) in zip(
                    places.tolist(),
                    table.reward[places].tolist(),
                    table.fidelity[places].tolist(),
                    points.tolist(),
                    strict=True,
                )
            )
        return self._entries[goals]

    def _points(self, goals: Sequence[Goal]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Places of the completed trials that have every metric, and the metrics `(n, goals)`."""
        values = np.stack([self.table.values(goal.metric) for goal in goals], axis=1)
        places = np.flatnonzero(self.table.is_completed & np.isfinite(values).all(axis=1))
        return places, values[places]

    def pareto_front(self, *metrics: str) -> tuple[StudyTrial, ...]:
        """The completed trials that no other beats in the objective's goal and every cost, cheapest first.

        Only trials of the highest fidelity that any has are compared.

        Args:
            metrics: The costs; by default all that the objective looks at, or macs.

        Raises:
            StudyError: A cost was not measured in this study; names those that were.
        """
        goals = self.front_goals(*metrics)
        own = goals[0].metric
        measured = sorted(self._metrics - {own})
        for goal in goals[1:]:
            if measured and goal.metric not in measured:
                raise StudyError(
                    f"no trial of the study in {self.folder} has {goal.metric!r} beside its {own}: there are "
                    f"{', '.join(measured)}",
                    field="metrics",
                )
        places, points = self._points(goals)
        return self.trials_at(places[front_rows(points, self.table.fidelity[places], goals)])

    def summary(self) -> StudySummary:
        """The study in a few numbers."""
        count, table = Counter(self.table.status), self.table
        return StudySummary(
            folder=self.folder,
            space_name=self.provenance.space_name,
            objective=self.objective.describe(),
            controller=self.identity.controller,
            seed=self.identity.seed,
            deterministic_workers=self.identity.deterministic_workers,
            states={status.value: count[status] for status in Status},
            causes=self._causes,
            rejected=self._rejected,
            with_weights=int(table.has_weights.sum()),
            best=self.best.number if self.has_completed else None,
            worker_hours=sum(table.seconds) / 3600,
            created_at=self._facts["created_at"],
            ended_at=self._facts["ended_at"],
            ending=self._facts["ending"],
            package_version=self._facts["package_version"],
        )


def _or_least(reward: float | None) -> float:
    return -math.inf if reward is None else reward


def open_study(folder: Path | str, *, space: SearchSpace | None = None) -> Study:
    """Opens the study in a folder, also while a search writes to it.

    Args:
        folder: The study's folder.
        space: The study's space, to name decisions and to read networks that hold the user's own ops.

    Raises:
        StudyError: There is no study, or its journal cannot be read.
    """
    return Study(folder, space=space)
