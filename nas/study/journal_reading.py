"""What is read from a journal: the trials of a study, what became of them, the controller's state."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from controllers import State, state_from_json
from nas.errors import StudyError
from nas.metrics import ACCURACY
from nas.objective import Objective
from nas.outcome import TrialOutcome
from nas.study.identity import Identity, Provenance
from nas.study.journal_file import connect_readonly, open_readonly, readable
from nas.study.journal_tables import columns
from nas.study.stored_values import stored_count, stored_number
from nas.study.study_folder import FILE_NAME, has_study
from nas.study.trial_table import TrialTable
from nas.trial import Status, Trial
from search_spaces import SearchSpace

IN_PROCESS = "the process of the search"
"""Where an attempt is begun that may end the search."""

MOST_AT_ONCE = 64
"""A controller is asked for at most so many proposals at once."""


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
    (text,) = database.execute("SELECT objective FROM study").fetchone() or ("",)
    table = TrialTable(database, Objective.from_json(text).goal if text else ACCURACY)
    trials = [_trial(table, place, space) for place in range(len(table))]
    finished = map(table.outcome, np.flatnonzero(table.is_finished).tolist())
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
        finished={outcome.number: outcome for outcome in finished},
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
    if row is None:
        return Asked()
    asked, rejected = map(stored_count, row)
    if asked is None or rejected is None:
        raise ValueError("how often the controller was asked is no integer")
    return Asked(asked=asked, rejected=rejected)


def _trial(table: TrialTable, place: int, space: SearchSpace) -> Trial:
    tokens = table.tokens(place)
    number, seed, fidelity, replicate, origin, continues, proposal_number, log_prob = (
        table.columns[name][place] for name in _COLUMNS
    )
    number_given, log_prob_given = stored_count(proposal_number), stored_number(log_prob)
    return Trial(
        number=number,
        tokens=tokens,
        decode=partial(space.decode, tokens),
        digest=table.digests[place],
        cost=table.cost(place),
        seed=seed,
        fidelity=fidelity,
        replicate=replicate,
        proposal_number=-1 if number_given is None else number_given,
        log_prob=math.nan if log_prob_given is None else log_prob_given,
        origin=origin,
        continues=continues,
    )


_COLUMNS = ("number", "seed", "fidelity", "repeat", "origin", "continues", "proposal_number", "log_prob")


def read_networks(database: sqlite3.Connection) -> dict[str, str]:
    """Reads the networks of all candidates as JSON text, by digest; those that are no text are left out."""
    rows = database.execute("SELECT digest, network_json FROM candidate WHERE typeof(network_json) = 'text'")
    return dict(rows.fetchall())


def read_network(folder: Path, digest: str) -> str:
    """Reads the network of a candidate as JSON text.

    Raises:
        StudyError: The journal cannot be read, or has no such candidate.
    """
    query = "SELECT network_json FROM candidate WHERE digest = ?"
    with readable(folder), closing(open_readonly(folder / FILE_NAME)) as database:
        (text,) = database.execute(query, [digest]).fetchone() or (None,)
    if not isinstance(text, str):
        raise StudyError(
            f"the network of the candidate {digest} cannot be read from {folder / FILE_NAME}: look with nas "
            f"verify {folder}, and repair it with --repair, or restore it from a copy"
        )
    return text


def read_recommendation(database: sqlite3.Connection) -> tuple[str, ...]:
    """Reads the digests that the controller recommended, best first; none before the search has ended."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'recommendation'").fetchone():
        return ()  # the journal is of an earlier version
    return tuple(digest for (digest,) in database.execute("SELECT digest FROM recommendation ORDER BY rank"))
