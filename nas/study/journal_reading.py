"""What is read from a journal: the trials of a study, what became of them, the controller's state."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from controllers import State, state_from_json
from nas.errors import StudyError
from nas.metrics import ACCURACY, Goal
from nas.objective import Objective
from nas.outcome import TrialOutcome, all_costs
from nas.reading import parse_json
from nas.study.identity import Identity, Provenance
from nas.study.journal_file import connect_readonly, readable
from nas.study.journal_tables import columns
from nas.study.study_folder import has_study
from nas.trial import Cause, Metric, Status, Trial
from nas.values import shown
from search_spaces import Cost, SearchSpace

IN_PROCESS = "the process of the search"
"""Where an attempt is begun that may end the search."""

MOST_AT_ONCE = 64
"""A controller is asked for at most so many proposals at once."""

_SIZES: dict[int, tuple[str, str, float]] = {
    1: ("", "<i1", 0.0),
    2: ("<f2", "<i2", 6.2e-5),
    4: ("<f4", "<i4", 1e-20),
    8: ("<f8", "<i8", 1e-200),
}
"""Of numpy scalars by their bytes: the float, the integer, and the size below which a float is an integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How often a controller was asked for proposals, in all.

    Attributes:
        asked: So often.
        rejected: So many proposals broke a known constraint.
        size: For how many proposals at once it was asked in the latest step.
    """

    asked: int = 0
    rejected: int = 0
    size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a controller did after its state was last written, to be done again by a resumed search.

    Attributes:
        trial: Number of the trial that was proposed or counted.
        is_proposal: Whether it was proposed; else it counted.
        asks: How often the controller was asked in this step. Trials of its last answer were proposed: this
            one, and those of the next steps that did not ask.
        size: For how many proposals it was asked each time.
    """

    trial: int
    is_proposal: bool
    asks: int
    size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that a resumed search needs to know of what was done before.

    Attributes:
        trials: Every trial in order of number.
        finished: What became of those that are finished, by number.
        fed_back: Numbers of the trials the controller has learnt from, in that order.
        lost_attempts: Attempts that a machine lost, by number of the trial.
        deaths: Those of them that ran in the process of the search when it ended without a word.
        last_attempt: Number of the latest attempt, by number of the trial.
        asked: How often the controller was asked for a proposal.
        controller_state: The controller when its state was last written; None in a new study.
        steps: What it did since then, in order.
        rewards: What it was told of the trials that counted since then, by number; None for no reward.
    """

    trials: tuple[Trial, ...] = ()
    finished: Mapping[int, TrialOutcome]
    fed_back: tuple[int, ...] = ()
    lost_attempts: Mapping[int, int]
    last_attempt: Mapping[int, int]
    deaths: Mapping[int, int] = field(default_factory=dict)
    asked: Asked = Asked()
    controller_state: State | None = None
    steps: tuple[Step, ...] = ()
    rewards: Mapping[int, float | None] = field(default_factory=dict)

    def lost(self, width: int | None) -> tuple[int, ...]:
        """Numbers of the lost trials that have counted.

        The journal does not say so, since the controller learns nothing of them and may be told again.
        Without a width they counted at once; with a width W results count in order, k before proposal k + W.
        After a repair that removed the controller's state, nothing has counted.
        """
        if self.controller_state is None:
            return ()
        numbers = (n for n, outcome in self.finished.items() if outcome.status is Status.LOST)
        counted = len(self.trials) if width is None else len(self.trials) - width
        counted = max(counted, *self.fed_back, 0)
        return tuple(n for n in numbers if n < counted)


_TYPES = {
    "trial": (("number", "seed", "repeat"), ("digest", "tokens_json", "origin", "status", "proposed_at")),
    "candidate": (("macs", "params", "activations"), ("digest", "network_json")),
}
"""Columns of integers and of texts."""


def check_types(database: sqlite3.Connection) -> None:
    """Checks what SQLite does not: that the columns of trials and candidates hold what they are declared as.

    Raises:
        ValueError: A value is of another type.
    """
    laws = {
        "trial": [
            "typeof(fidelity) NOT IN ('real', 'integer')",
            "typeof(finished_at) NOT IN ('text', 'null')",
        ],
        "candidate": [],
    }
    for table, (integers, texts) in _TYPES.items():
        laws[table] += [f"typeof({name}) <> 'integer'" for name in integers]
        laws[table] += [f"typeof({name}) <> 'text'" for name in texts]
    foreign = {
        table: database.execute(f"SELECT rowid FROM {table} WHERE {' OR '.join(found)} LIMIT 1").fetchone()
        for table, found in laws.items()
    }
    for table, row in foreign.items():
        if row is not None:
            raise ValueError(f"a value of {table} {row[0]} is of another type")
    if database.execute("SELECT 1 FROM attempt WHERE typeof(worker_seconds) IN ('text', 'blob')").fetchone():
        raise ValueError("the seconds of an attempt are no number")


def read_identity(database: sqlite3.Connection) -> Identity:
    """Reads what makes the study what it is."""
    names = Identity.__slots__
    row = database.execute(f"SELECT {', '.join(names)} FROM study").fetchone()
    return Identity(**dict(zip(names, row, strict=True)))


def read_provenance(database: sqlite3.Connection) -> Provenance:
    """Reads where the study comes from; empty is what an earlier version did not write down."""
    names = [name for name in Provenance.__slots__ if name in columns(database, "study")]
    row = database.execute(f"SELECT {', '.join(names)} FROM study").fetchone()
    return Provenance(**dict(zip(names, row, strict=True)))


def read_begun(folder: Path) -> tuple[Identity, Provenance] | None:
    """What the study in a folder is, without its trials; None where there is none, or it was never begun.

    Raises:
        StudyError: The folder holds what is left of a study, or the journal cannot be read.
    """
    if not has_study(folder):
        return None
    with closing(connect_readonly(folder)) as database, readable(folder):
        if database.execute("SELECT 1 FROM study").fetchone() is None:
            return None
        return read_identity(database), read_provenance(database)


def read_history(database: sqlite3.Connection, space: SearchSpace) -> History:
    """Reads all trials and what became of them."""
    check_types(database)
    costs = {digest: cost for digest, (cost, _) in read_candidates(database).items()}
    trials = [
        _trial(row, costs, space)
        for row in database.execute(
            "SELECT number, digest, tokens_json, proposal_number, log_prob, repeat, seed, fidelity, origin, "
            "continues FROM trial ORDER BY number"
        )
    ]
    _check_tokens(trials, space)
    state = database.execute("SELECT state_json, asked FROM controller").fetchone()
    ranks = database.execute(
        "SELECT number FROM trial WHERE feedback_rank IS NOT NULL ORDER BY feedback_rank"
    )
    lost = database.execute(
        "SELECT trial, count(*) FROM attempt WHERE status = 'lost' AND cause <> 'interrupted' GROUP BY trial"
    )
    deaths = database.execute(
        "SELECT trial, count(*) FROM attempt WHERE status = 'lost' AND cause = 'worker_died' AND node = ? "
        "GROUP BY trial",
        [IN_PROCESS],
    )
    return History(
        trials=tuple(trials),
        finished=read_outcomes(database, costs),
        fed_back=tuple(number for (number,) in ranks),
        lost_attempts=dict(lost.fetchall()),
        deaths=dict(deaths.fetchall()),
        last_attempt=dict(
            database.execute("SELECT trial, max(number) FROM attempt GROUP BY trial").fetchall()
        ),
        asked=read_asked(database),
        controller_state=None if state is None else state_from_json(state[0]),
        steps=_read_steps(database, asked=0 if state is None else state[1]),
        rewards=dict(
            database.execute(
                "SELECT trial.number, feedback_reward FROM trial JOIN step ON step.trial = trial.number "
                "WHERE kind = 'counted'"
            ).fetchall()
        ),
    )


def _check_tokens(trials: Sequence[Trial], space: SearchSpace) -> None:
    """Checks the tokens of all trials at once, as most of their networks are never asked for."""
    if not trials:
        return
    table, counts = np.array([trial.tokens for trial in trials]), np.array(space.cardinalities)
    if table.dtype.kind not in "iu" or table.shape[1:] != counts.shape:
        raise ValueError(f"a trial has not {len(counts)} whole numbers for tokens")
    wrong = np.flatnonzero(((table < 0) | (table >= counts)).any(axis=1))
    if len(wrong):
        raise ValueError(f"the tokens of trial {wrong[0]} are none of the space's")


def _read_steps(database: sqlite3.Connection, *, asked: int) -> tuple[Step, ...]:
    """Reads the steps since the state, before which the controller was asked so often."""
    steps = []
    rows = database.execute("SELECT trial, kind, asked, size FROM step ORDER BY number")
    for trial, kind, total, size in rows:
        if not 1 <= size <= MOST_AT_ONCE:
            raise ValueError(f"the step of trial {trial} asks for {size} proposals at once")
        steps.append(Step(trial=trial, is_proposal=kind == "proposed", asks=total - asked, size=size))
        asked = total
    return tuple(steps)


def read_asked(database: sqlite3.Connection) -> Asked:
    """Reads how often the controller was asked; an earlier version counted only what was rejected."""
    if columns(database, "step"):
        latest = "SELECT asked, rejected FROM step ORDER BY number DESC LIMIT 1"
        row = (
            database.execute(latest).fetchone()
            or database.execute("SELECT asked, rejected FROM controller").fetchone()
        )
    else:
        row = database.execute("SELECT 0, rejected FROM controller").fetchone()
    return Asked() if row is None else Asked(asked=row[0], rejected=row[1])


def read_candidates(database: sqlite3.Connection) -> dict[str, tuple[Cost, str]]:
    """Reads the costs and the network, as JSON text, of every candidate, by digest."""
    rows = database.execute("SELECT digest, macs, params, activations, network_json FROM candidate")
    return {
        digest: (Cost(macs=macs, params=params, activations=activations), network_json)
        for digest, macs, params, activations, network_json in rows
    }


def _trial(row: tuple[Any, ...], costs: Mapping[str, Cost], space: SearchSpace) -> Trial:
    number, digest, tokens_json, proposal_number, log_prob, replicate, seed, fidelity, origin, continues = row
    tokens = tuple(parse_json(tokens_json))
    number_given, log_prob_given = stored_count(proposal_number), stored_number(log_prob)
    return Trial(
        number=number,
        tokens=tokens,
        decode=partial(space.decode, tokens),
        digest=digest,
        cost=costs[digest],
        seed=seed,
        fidelity=fidelity,
        replicate=replicate,
        proposal_number=-1 if number_given is None else number_given,
        log_prob=math.nan if log_prob_given is None else log_prob_given,
        origin=origin,
        continues=continues,
    )


def read_recommendation(database: sqlite3.Connection) -> tuple[str, ...]:
    """Reads the digests that the controller recommended, best first; none before the search has ended."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'recommendation'").fetchone():
        return ()  # the journal is of an earlier version
    return tuple(digest for (digest,) in database.execute("SELECT digest FROM recommendation ORDER BY rank"))


def read_outcomes(database: sqlite3.Connection, costs: Mapping[str, Cost]) -> dict[int, TrialOutcome]:
    """Reads the outcomes of the finished trials, by number; `costs` are those of candidates, by digest."""
    (text,) = database.execute("SELECT objective FROM study").fetchone() or ("",)
    goal = Objective.from_json(text).goal if text else ACCURACY
    metrics: dict[int, list[Metric]] = {}
    for trial, name, value, unit, environment in database.execute(
        "SELECT trial, metric, value, unit, environment FROM measurement ORDER BY trial, metric"
    ):
        number = stored_number(value)
        if number is not None:
            metrics.setdefault(trial, []).append(
                Metric(
                    name=stored_text(name).strip() or "unnamed",
                    value=number,
                    unit=stored_text(unit),
                    environment=stored_text(environment),
                )
            )
    finished = {}
    for number, status, reward, cause, message, weights_file, copied_from, digest in database.execute(
        "SELECT number, status, reward, cause, message, weights_file, copied_from, digest FROM trial "
        "WHERE status IN ('completed', 'infeasible', 'lost')"
    ):
        found = tuple(metrics.get(number, ()))
        finished[number] = _readable(
            TrialOutcome(
                number=number,
                status=Status(status),
                metrics=found,
                value=all_costs(costs[digest], found).get(goal.metric),
                reward=stored_number(reward),
                cause=None if cause is None else Cause(cause),
                message=stored_text(message),
                weights_file=_within(weights_file),
                copied_from=copied_from,
            ),
            goal,
        )
    return finished


def _within(weights_file: str | None) -> str | None:
    """The path of a file of weights, which lies in the study's folder."""
    if weights_file is None:
        return None
    path = PurePath(weights_file)
    if path.is_absolute() or ".." in path.parts:
        raise StudyError(
            f"weights must lie in the folder of their study, but the journal names {shown(weights_file)}: it "
            "was changed by another program; restore it from a copy"
        )
    return weights_file


def _readable(outcome: TrialOutcome, goal: Goal) -> TrialOutcome:
    """The outcome as it is, or that of an infeasible trial where its reward or metric cannot be read."""
    if outcome.status is not Status.COMPLETED or None not in (outcome.reward, outcome.value):
        return outcome
    lost = "reward" if outcome.reward is None else goal.metric
    return replace(
        outcome,
        status=Status.INFEASIBLE,
        reward=None,
        cause=Cause.ERROR,
        message=f"its {lost} is stored as something that is no number",
    )


def stored_number(value: object) -> float | None:
    """The number in a column of numbers; None where there is none, or it cannot be read.

    SQLite keeps what it does not know as the bytes it is made of, and earlier versions gave it numpy scalars:
    `float32`, `int64` and others, little endian. Bytes of a measured float never look like a small integer's.
    """
    if isinstance(value, bytes):
        return _from_bytes(value)
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def stored_count(value: object) -> int | None:
    """The whole number in a column of whole numbers; None where there is none, or it cannot be read."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "little", signed=True) if len(value) in _SIZES else None
    return value if isinstance(value, int) else None


def stored_text(value: object) -> str:
    """The text in a column of texts."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _from_bytes(value: bytes) -> float | None:
    if len(value) not in _SIZES:
        return None
    as_float, as_integer, least = _SIZES[len(value)]
    integer = int(np.frombuffer(value, as_integer)[0])
    if not as_float or integer == 0:
        return float(integer)
    number = float(np.frombuffer(value, as_float)[0])
    return number if abs(number) >= least else float(integer)  # NaN too: a negative integer looks like it
