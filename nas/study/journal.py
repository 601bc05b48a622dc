"""What is written to a study's journal and when: each step of the search is one transaction."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from controllers import State, state_to_json
from nas.conversion import clean
from nas.errors import StudyError
from nas.outcome import TrialOutcome
from nas.study.driver import FolderLock, check_claim, claim, release_claim
from nas.study.journal_reading import IN_PROCESS, History, read_history, read_identity, read_provenance
from nas.study.journal_schema import Identity, Provenance, connect, explained
from nas.study.journal_tables import has_tables, make_tables
from nas.study.study_folder import FILE_NAME, check_parts, has_study
from nas.trial import Job, Result, Trial
from nas.version import package_version
from search_spaces import SearchSpace


class Journal:
    """The one writer of a study's journal.

    Args:
        folder: The study's folder; made where it is missing.
        identity: What makes this study what it is.
        provenance: Where the study comes from, in words.
        settings: How the search was asked for, for `nas resume`; JSON values. A resume overwrites it.
        in_process: Whether trials run in this process, so that one may end it.

    Attributes:
        identity: As given; a fixed schedule keeps the width the study was begun with.
        is_resumed: Whether the folder held the study already.
        mode: How SQLite journals: `wal`, or `delete` where the file system cannot.

    Raises:
        StudyError: Another driver has the study, the folder holds another study, or the file is not usable.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *,
        provenance: Provenance | None = None,
        settings: Mapping[str, object] | None = None,
        in_process: bool = False,
    ) -> None:
        self.folder = folder
        self._node = IN_PROCESS if in_process else ""
        self.path = folder / FILE_NAME
        self.identity = identity
        self._session: int | None = None
        has_study(folder)  # refuses what is left of one
        check_parts(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
        except OSError as error:
            raise StudyError(f"the folder {folder} cannot be written: {error}") from error
        try:
            self._database = connect(folder)
        except BaseException:
            self._lock.release()
            raise
        try:
            self.is_resumed = self._adopt(
                identity, provenance or Provenance(), json.dumps(dict(settings or {}), default=str)
            )
            self._lock.sign()
            self._into_main_file()
        except BaseException:
            self.close()
            raise
        self.mode = str(self._database.execute("PRAGMA journal_mode").fetchone()[0])

    def _adopt(self, identity: Identity, provenance: Provenance, settings: str) -> bool:
        """Enters the study, or checks that it is the one that is there already."""
        with self._transaction() as database:
            if not has_tables(database):
                make_tables(database)
            row = database.execute("SELECT * FROM study").fetchone()
            session = claim(database, self.path, unlocked=self._lock.unlocked)
            if row is None:
                values = {
                    "id": 1,
                    **asdict(identity),
                    **{name: clean(text) for name, text in asdict(provenance).items()},
                    "settings_json": settings,
                    "package_version": package_version(),
                    "created_at": _now(),
                }
                marks = ", ".join("?" * len(values))
                database.execute(
                    f"INSERT INTO study ({', '.join(values)}) VALUES ({marks})", [*values.values()]
                )
            else:
                self._continue(database, identity, provenance, settings)
        self._session = session
        return row is not None

    def _continue(
        self, database: sqlite3.Connection, identity: Identity, provenance: Provenance, settings: str
    ) -> None:
        """Checks that the study in the journal is this one; whatever ran when it ended will run again."""
        stored = read_identity(database)
        self.identity = identity.at_width_of(stored)
        self.identity.check_same(stored, self.folder, told=read_provenance(database), tells=provenance)
        # What the images are is the same, and may not have been written down by an earlier version.
        database.execute(
            "UPDATE study SET settings_json = ?, data_json = ?, ended_at = NULL, ending = NULL",
            [settings, provenance.data_json],
        )
        database.execute("DELETE FROM recommendation")
        _interrupt(database, is_dead=True)

    def history(self, space: SearchSpace) -> History:
        """Reads what was done before.

        Raises:
            StudyError: The file cannot be read.
        """
        with explained(self.path):
            return read_history(self._database, space)

    def propose(self, trial: Trial, state: State, *, rejected: int) -> None:
        """Writes a new trial down, with the controller's state after proposing it."""
        proposal = trial.proposal_number if trial.proposal_number >= 0 else None
        log_prob = None if math.isnan(trial.log_prob) else trial.log_prob
        with self._transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO candidate VALUES (?, ?, ?, ?, ?)",
                [
                    trial.digest,
                    trial.cost.macs,
                    trial.cost.params,
                    trial.cost.activations,
                    trial.network.to_json(),
                ],
            )
            database.execute(
                "INSERT INTO trial (number, digest, tokens_json, origin, proposal_number, log_prob, repeat, "
                "seed, fidelity, continues, status, proposed_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'proposed', ?)",
                [
                    trial.number,
                    trial.digest,
                    json.dumps(trial.tokens),
                    trial.origin,
                    proposal,
                    log_prob,
                    trial.repeat,
                    trial.seed,
                    trial.fidelity,
                    trial.continues,
                    _now(),
                ],
            )
            _write_state(database, state, rejected=rejected)

    def start(self, job: Job) -> None:
        """Writes down that an attempt begins."""
        with self._transaction() as database:
            database.execute("UPDATE trial SET status = 'running' WHERE number = ?", [job.trial])
            database.execute(
                "INSERT INTO attempt (trial, number, status, node, seed, fidelity, started_at) "
                "VALUES (?, ?, 'running', ?, ?, ?, ?)",
                [job.trial, job.attempt, self._node, job.seed, job.fidelity, _now()],
            )

    def lose(self, result: Result) -> None:
        """Writes down that a machine lost an attempt, and that the trial waits for another."""
        with self._transaction() as database:
            _end_attempt(database, result)
            database.execute("UPDATE trial SET status = 'proposed' WHERE number = ?", [result.job.trial])

    def finish(
        self, outcome: TrialOutcome, result: Result | None = None, *, dropped: Iterable[int] = ()
    ) -> None:
        """Writes down what became of a trial, and whose weights are no longer kept.

        Args:
            outcome: What became of it.
            result: The attempt that settled it; None where another trial's result is copied.
            dropped: Trials whose weight files are about to be removed.
        """
        with self._transaction() as database:
            attempt = 0 if result is None else result.job.attempt
            if result is not None:
                _end_attempt(database, result)
            database.execute(
                "UPDATE trial SET status = ?, cause = ?, message = ?, reward = ?, copied_from = ?, "
                "weights_file = ?, finished_at = ? WHERE number = ?",
                [
                    outcome.status,
                    outcome.cause,
                    outcome.message,
                    outcome.reward,
                    outcome.copied_from,
                    outcome.weights_file,
                    _now(),
                    outcome.number,
                ],
            )
            database.executemany(
                "INSERT OR REPLACE INTO measurement (trial, metric, value, unit, environment, attempt) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [(outcome.number, m.name, m.value, m.unit, m.environment, attempt) for m in outcome.metrics],
            )
            self._drop(database, dropped)

    def forget_weights(self, dropped: Iterable[int]) -> None:
        """Writes down that weight files are not there any more."""
        with self._transaction() as database:
            self._drop(database, dropped)

    def _drop(self, database: sqlite3.Connection, numbers: Iterable[int]) -> None:
        rows = [(number,) for number in numbers]
        database.executemany("UPDATE trial SET weights_file = NULL WHERE number = ?", rows)

    def fed_back(self, number: int, reward: float | None, rank: int, state: State, *, rejected: int) -> None:
        """Writes down that a trial counts, what the controller has learnt from it, and its state after that.

        Args:
            number: The trial's number.
            reward: What it was told; for an infeasible trial the worst reward so far; None where it was not
                told, since the trial is of a higher fidelity than those it compares.
            rank: How many trials had counted before.
            state: The controller's state.
            rejected: Candidates rejected so far.
        """
        with self._transaction() as database:
            database.execute(
                "UPDATE trial SET feedback_rank = ?, feedback_reward = ? WHERE number = ?",
                [rank, reward, number],
            )
            _write_state(database, state, rejected=rejected)

    def note(self, kind: str, message: str) -> None:
        """Writes an event down."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO event (happened_at, kind, message) VALUES (?, ?, ?)", [_now(), kind, message]
            )

    def end(self, ending: str) -> None:
        """Writes down why the search ended, and that attempts still running were given up.

        Args:
            ending: Why.
        """
        with self._transaction() as database:
            _interrupt(database)
            database.execute("UPDATE study SET ended_at = ?, ending = ?", [_now(), ending])

    def recommend(self, recommended: Sequence[str]) -> None:
        """Writes down the digests of the candidates that the controller would go with, best first."""
        with self._transaction() as database:
            database.execute("DELETE FROM recommendation")
            database.executemany("INSERT INTO recommendation VALUES (?, ?)", enumerate(recommended))
        self._into_main_file()

    def close(self) -> None:
        """Closes the file and gives the study free; safe to call twice."""
        if self._session is not None:
            # Whatever is wrong with the disk was said by the transaction that met it first.
            with suppress(sqlite3.Error):
                release_claim(self._database, self._session)
            self._session = None
        self._database.close()
        self._lock.release()

    def _into_main_file(self) -> None:
        """Copies what is in the `-wal` file into the main one, so that a copy of that alone is a journal."""
        with explained(self.path):
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with explained(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                if self._session is not None:
                    check_claim(self._database, self._session, self.path)
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def _interrupt(database: sqlite3.Connection, *, is_dead: bool = False) -> None:
    """Marks what was running when a driver ended: its trials will be run again.

    Where the driver did not live to say so, what ran in its own process may have ended it.
    """
    if is_dead:
        database.execute(
            "UPDATE attempt SET status = 'lost', cause = 'worker_died', finished_at = ?, "
            "message = 'the process of the search ended while this ran in it' "
            "WHERE status = 'running' AND node = ?",
            [_now(), IN_PROCESS],
        )
    database.execute(
        "UPDATE attempt SET status = 'lost', cause = 'interrupted', finished_at = ?, "
        "message = 'the search ended while this ran' WHERE status = 'running'",
        [_now()],
    )
    database.execute("UPDATE trial SET status = 'proposed' WHERE status = 'running'")


def _end_attempt(database: sqlite3.Connection, result: Result) -> None:
    database.execute(
        "UPDATE attempt SET status = ?, cause = ?, message = ?, node = ?, worker_seconds = ?, "
        "finished_at = ? WHERE trial = ? AND number = ?",
        [
            result.status,
            result.cause,
            result.message,
            result.node,
            result.seconds,
            _now(),
            result.job.trial,
            result.job.attempt,
        ],
    )


def _write_state(database: sqlite3.Connection, state: State, *, rejected: int) -> None:
    database.execute(
        "INSERT OR REPLACE INTO controller (id, proposals, feedbacks, rejected, state_json) VALUES (1, "
        "(SELECT count(*) FROM trial), (SELECT count(feedback_rank) FROM trial), ?, ?)",
        [rejected, state_to_json(state)],
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
