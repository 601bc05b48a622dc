"""The trials of a journal in columns; metrics and outcomes are made of them when they are asked for."""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import StudyError
from nas.metrics import NETWORK_METRICS, Goal
from nas.outcome import TrialOutcome, all_costs
from nas.reading import parse_json
from nas.study.journal_tables import columns
from nas.study.stored_values import stored_number, stored_text
from nas.trial import Cause, Metric, Status
from nas.values import shown
from search_spaces import Cost

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Columns = Mapping[str, tuple[Any, ...]]

_TRIAL: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("number", "seed", "repeat"), (int,)),
    **dict.fromkeys(("digest", "tokens_json", "origin", "status", "proposed_at"), (str,)),
    "fidelity": (int, float),
    "finished_at": (str, type(None)),
}
_CANDIDATE: Mapping[str, tuple[type, ...]] = {"digest": (str,), **dict.fromkeys(NETWORK_METRICS, (int,))}
"""Columns and the types of what is in them, which SQLite does not see to."""

_OTHERS = (
    *("proposal_number", "log_prob", "continues", "cause", "message", "reward"),
    *("copied_from", "weights_file"),
)
"""Further columns of a trial: earlier versions put other types into some of them."""

_ATTEMPTS = (
    "SELECT trial, count(*), coalesce(sum(worker_seconds), 0), "
    "max(typeof(worker_seconds) IN ('text', 'blob')) FROM attempt GROUP BY trial"
)


class TrialTable:
    """Every trial of a journal, in order of number; the place of a trial is that in this order.

    A trial counts as infeasible where its reward, or what the objective maximises, is stored as something
    that is no number.

    Args:
        database: The journal.
        goal: What is maximised or minimised.

    Attributes:
        columns: The journal's own columns, by name.
        digests: Digest of each candidate.
        status: What became of each.
        fidelity: Share of the schedule `(n,)`.
        reward: Rewards, NaN where there is none `(n,)`.
        is_finished: Which have an outcome `(n,)`.
        is_completed: Which have completed `(n,)`.
        is_copy: Which have the result of another trial `(n,)`.
        has_weights: Which have weights that are kept `(n,)`.
        attempts: How often each was begun.
        seconds: Wall time of each in workers.

    Raises:
        ValueError: A value is of another type, or not one of those that are known.
        KeyError: There is no candidate of a digest.
        StudyError: Weights lie outside of the study's folder.
    """

    def __init__(self, database: sqlite3.Connection, goal: Goal) -> None:
        self._goal = goal
        self.columns = _read(database, "trial", (*_TRIAL, *_OTHERS), "number")
        _check_types("trial", self.columns, _TRIAL)
        candidates = _read(database, "candidate", tuple(_CANDIDATE), "rowid")
        _check_types("candidate", candidates, _CANDIDATE)
        self.digests: tuple[str, ...] = self.columns["digest"]
        known_costs = zip(*(candidates[name] for name in NETWORK_METRICS), strict=True)
        costs = dict(zip(candidates["digest"], known_costs, strict=True))
        self._costs = [costs[digest] for digest in self.digests]
        known = {word: Status(word) for word in set(self.columns["status"])}
        self.status = [known[word] for word in self.columns["status"]]
        self._causes = {word: None if word is None else Cause(word) for word in set(self.columns["cause"])}
        for name in set(self.columns["weights_file"]) - {None}:
            _check_within(name)
        self.fidelity: Floats = np.array(self.columns["fidelity"], np.float64)
        self.is_copy, self.has_weights = (
            np.array([one is not None for one in self.columns[name]], np.bool_)
            for name in ("copied_from", "weights_file")
        )
        self.is_finished = self.have(Status.COMPLETED, Status.INFEASIBLE, Status.LOST)
        self.has_weights &= self.is_finished
        self._read_attempts(database)
        self._read_measurements(database)
        self._read_rewards()
        self.is_completed = self.have(Status.COMPLETED)

    def _read_attempts(self, database: sqlite3.Connection) -> None:
        found = {row[0]: row for row in database.execute(_ATTEMPTS)}
        if any(row[3] or not math.isfinite(row[2]) for row in found.values()):
            raise ValueError("the seconds of an attempt are no finite number")
        rows = [found.get(number, (number, 0, 0.0)) for number in self.columns["number"]]
        self.attempts: list[int] = [row[1] for row in rows]
        self.seconds: list[float] = [row[2] for row in rows]

    def _read_measurements(self, database: sqlite3.Connection) -> None:
        names = ("trial", "metric", "value", "unit", "environment")
        found = _read(database, "measurement", names, "trial, metric")
        known = {name: stored_text(name).strip() or "unnamed" for name in set(found["metric"])}
        self._trials, self._units, self._environments = found["trial"], found["unit"], found["environment"]
        self._metrics = [known[name] for name in found["metric"]]
        self._measured_in = set(zip(self._metrics, self._environments, strict=True))
        self._values = _numbers(found["value"])
        trials, numbers = np.array(self._trials, np.int64), np.array(self.columns["number"], np.int64)
        self._rows = [trials.searchsorted(numbers, side) for side in ("left", "right")]

    def _read_rewards(self) -> None:
        goal = self._goal.metric
        self.reward: Floats = np.array(_numbers(self.columns["reward"]), np.float64)  # None is NaN
        self.reward[~self.is_finished] = math.nan
        has_no_reward = np.isnan(self.reward)
        self._lost: dict[int, str] = {}
        wrong = self.have(Status.COMPLETED) & (has_no_reward | np.isnan(self.values(goal)))
        for place in np.flatnonzero(wrong).tolist():
            self._lost[place] = "reward" if has_no_reward[place] else goal
            self.status[place], self.reward[place] = Status.INFEASIBLE, math.nan

    def __len__(self) -> int:
        return len(self.digests)

    def have(self, *statuses: Status) -> Flags:
        """Which trials have one of these statuses `(n,)`."""
        return np.array([status in statuses for status in self.status], np.bool_)

    def values(self, name: str) -> Floats:
        """A cost or metric of each trial, as `StudyTrial.costs` has it; NaN where it has none `(n,)`."""
        if name in NETWORK_METRICS:
            place = NETWORK_METRICS.index(name)
            return np.array([costs[place] for costs in self._costs], np.float64)
        rows = zip(self._trials, self._metrics, self._values, strict=True)
        found = {trial: value for trial, metric, value in rows if metric == name and value is not None}
        values = np.array([found.get(number, math.nan) for number in self.columns["number"]], np.float64)
        values[~self.is_finished] = math.nan
        return values

    def environments(self, name: str) -> set[str]:
        """Where a metric was measured."""
        return {stored_text(environment) for metric, environment in self._measured_in if metric == name}

    def metric_names(self) -> set[str]:
        """Everything that was measured in completed trials, by name."""
        completed = set(itertools.compress(self.columns["number"], self.is_completed))
        rows = zip(self._trials, self._metrics, self._values, strict=True)
        return {metric for trial, metric, value in rows if trial in completed and value is not None}

    def tokens(self, place: int) -> tuple[int, ...]:
        """Tokens of a trial.

        Raises:
            ValueError: They are no JSON, or no list of integers.
        """
        tokens = parse_json(self.columns["tokens_json"][place])
        if type(tokens) is not list or not {int}.issuperset(map(type, tokens)):
            raise ValueError(f"the tokens of trial {self.columns['number'][place]} are no list of integers")
        return tuple(tokens)

    def cost(self, place: int) -> Cost:
        """Exact cost of a trial's network."""
        return Cost(**dict(zip(NETWORK_METRICS, self._costs[place], strict=True)))

    def metrics(self, place: int) -> tuple[Metric, ...]:
        """Everything measured of a trial that is finished."""
        rows = range(*(int(bound[place]) for bound in self._rows)) if self.is_finished[place] else ()
        return tuple(
            Metric(
                name=self._metrics[row],
                value=value,
                unit=stored_text(self._units[row]),
                environment=stored_text(self._environments[row]),
            )
            for row in rows
            if (value := self._values[row]) is not None
        )

    def outcome(self, place: int) -> TrialOutcome:
        """What became of a trial; of one that is not finished, its status alone."""
        number, status = self.columns["number"][place], self.status[place]
        if not self.is_finished[place]:
            return TrialOutcome(number=number, status=status)
        cause, message, weights_file, copied_from = (
            self.columns[name][place] for name in ("cause", "message", "weights_file", "copied_from")
        )
        metrics, reward, lost = self.metrics(place), float(self.reward[place]), self._lost.get(place)
        return TrialOutcome(
            number=number,
            status=status,
            metrics=metrics,
            value=all_costs(self.cost(place), metrics).get(self._goal.metric),
            reward=None if math.isnan(reward) else reward,
            cause=Cause.ERROR if lost else self._causes[cause],
            message=f"its {lost} is stored as something that is no number" if lost else stored_text(message),
            weights_file=weights_file,
            copied_from=copied_from,
        )


def _read(database: sqlite3.Connection, table: str, names: tuple[str, ...], order: str) -> Columns:
    """Columns of a table by name; one that an earlier version did not have is full of None."""
    known = columns(database, table)
    asked = ", ".join(name if name in known else "NULL" for name in names)
    rows = database.execute(f"SELECT {asked} FROM {table} ORDER BY {order}").fetchall()
    found = zip(*rows, strict=True) if rows else [()] * len(names)
    return dict(zip(names, found, strict=True))


def _check_types(table: str, found: Columns, kinds: Mapping[str, tuple[type, ...]]) -> None:
    for name, allowed in kinds.items():
        if foreign := set(map(type, found[name])) - set(allowed):
            words = ", ".join(sorted(kind.__name__ for kind in foreign))
            raise ValueError(f"a value in the column {name} of {table} is of another type, {words}")


def _numbers(values: Iterable[object]) -> list[float | None]:
    found = (value if type(value) is float else stored_number(value) for value in values)
    return [None if value is None or not math.isfinite(value) else value for value in found]


def _check_within(weights_file: str) -> None:
    """Checks that a file of weights lies in the study's folder."""
    path = PurePath(weights_file)
    if path.is_absolute() or ".." in path.parts:
        raise StudyError(
            f"weights must lie in the folder of their study, but the journal names {shown(weights_file)}: it "
            "was changed by another program; restore it from a copy"
        )
