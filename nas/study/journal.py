"""What is written to a study's journal and when: each step of the search is one transaction."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from controllers import ControllerError, State, state_to_json
from nas.errors import ControllerFailedError, StudyError
from nas.outcome import TrialOutcome
from nas.protocols import Clock, SystemClock
from nas.study.driver import FolderLock, check_claim, check_place, claim, release_claim
from nas.study.identity import Identity, Provenance
from nas.study.journal_file import connect, explained, readable, without_collecting
from nas.study.journal_reading import (
    IN_PROCESS,
    Asked,
    History,
    read_history,
    read_identity,
    read_provenance,
)
from nas.study.seal import finished_seal, keep_identity, proposed_seal
from nas.study.study_folder import FILE_NAME, check_parts, has_study
from nas.trial import Job, Result, Status, Trial
from nas.values import clean
from nas.version import package_version
from search_spaces import SearchSpace

STATE_EVERY = 100
"""The controller's state is written when one more in so many steps was taken, as it grows with them."""


class Journal:
    """The one writer of a study's journal.

    Args:
        folder: The study's folder; made where it is missing.
        identity: What makes this study what it is.
        provenance: Where the study comes from, in words.
        settings: How the search was asked for, for `nas resume`; JSON values. A resume overwrites it.
        in_process: Whether trials run in this process, so that one may end it.
        clock: Gives the times of all steps.

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
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self._node = IN_PROCESS if in_process else ""
        self._clock: Clock = SystemClock() if clock is None else clock
        self.path = folder / FILE_NAME
        self.identity = identity
        self._session: int | None = None
        has_study(folder)  # refuses what is left of one
        check_parts(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            self._database = connect(folder)
        except OSError as error:
            self._lock.release()
            raise _unwritable(folder, error) from error
        except BaseException:
            self._lock.release()
            raise
        try:
            asked = json.dumps(dict(settings or {}), default=str)
            self._inode = self.path.stat().st_ino
            self.is_resumed = self._adopt(identity, provenance or Provenance(), asked)
            self._lock.sign()
            self._into_main_file()
        except OSError as error:
            self.close()
            raise _unwritable(folder, error) from error
        except BaseException:
            self.close()
            raise
        self.mode = str(self._database.execute("PRAGMA journal_mode").fetchone()[0])
        self._steps, self._stated = self._count_steps()

    def _count_steps(self) -> tuple[int, int]:
        """Steps that the controller has taken, and those of them that its written state knows of."""
        row = self._database.execute("SELECT steps FROM controller").fetchone()
        (last,) = self._database.execute("SELECT max(number) FROM step").fetchone()
        stated = 0 if row is None else int(row[0])
        return stated if last is None else int(last), stated

    def _adopt(self, identity: Identity, provenance: Provenance, settings: str) -> bool:
        """Enters the study, or checks that it is the one that is there already."""
        with self._transaction() as database:
            is_there = database.execute("SELECT 1 FROM study").fetchone() is not None
            session = claim(database, self.path, unlocked=self._lock.unlocked)
            if is_there:
                self._continue(database, identity, provenance, settings)
            else:
                self._insert(
                    "study",
                    id=1,
                    **asdict(identity),
                    **{name: clean(text) for name, text in asdict(provenance).items()},
                    settings_json=settings,
                    package_version=package_version(),
                    created_at=self._now(),
                )
            keep_identity(database)
        self._session = session
        return is_there

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
        # Where the driver did not live to say so, what ran in its own process may have ended it.
        died = "the process of the search ended while this ran in it"
        self._interrupt("worker_died", died, node=IN_PROCESS)
        self._interrupt("interrupted", "the search ended while this ran")

    def history(self, space: SearchSpace) -> History:
        """Reads what was done before.

        Raises:
            StudyError: The file cannot be read, or its rows do not fit together.
        """
        with readable(self.path.parent), without_collecting():
            return read_history(self._database, space)

    def propose(self, trials: Sequence[Trial], state: Callable[[], State], asked: Asked) -> None:
        """Writes new trials down, and how the controller got there: all of them, or none.

        Args:
            trials: One, or all that the controller proposed at once.
            state: Gives the controller's state after proposing them.
            asked: How often the controller was asked for a proposal so far.
        """
        with self._transaction():
            for trial in trials:
                self._add(trial)
            self._step("proposed", [trial.number for trial in trials], state, asked)

    def _add(self, trial: Trial) -> None:
        self._insert(
            "candidate",
            "OR IGNORE",
            digest=trial.digest,
            macs=trial.cost.macs,
            params=trial.cost.params,
            activations=trial.cost.activations,
            network_json=trial.network.to_json(indent=None),
        )
        self._insert(
            "trial",
            number=trial.number,
            digest=trial.digest,
            tokens_json=json.dumps(trial.tokens),
            origin=trial.origin,
            proposal_number=trial.proposal_number if trial.proposal_number >= 0 else None,
            log_prob=None if math.isnan(trial.log_prob) else trial.log_prob,
            repeat=trial.replicate,
            seed=trial.seed,
            fidelity=trial.fidelity,
            continues=trial.continues,
            status=Status.PROPOSED,
            proposed_at=self._now(),
        )
        self._update_trial(trial.number, proposed_seal=proposed_seal(self._database, trial.number))

    def start(self, job: Job) -> None:
        """Writes down that an attempt begins."""
        with self._transaction():
            self._update_trial(job.trial, status=Status.RUNNING)
            self._insert(
                "attempt",
                trial=job.trial,
                number=job.attempt,
                status=Status.RUNNING,
                node=self._node,
                seed=job.seed,
                fidelity=job.fidelity,
                started_at=self._now(),
            )

    def lose(self, result: Result) -> None:
        """Writes down that a machine lost an attempt, and that the trial waits for another."""
        with self._transaction():
            self._end_attempt(result)
            self._update_trial(result.job.trial, status=Status.PROPOSED)

    def finish(
        self, outcome: TrialOutcome, result: Result | None = None, *, dropped: Iterable[int] = ()
    ) -> None:
        """Writes down what became of a trial, and whose weights are no longer kept.

        Args:
            outcome: What became of it.
            result: The attempt that settled it; None where another trial's result is copied.
            dropped: Trials whose weight files are about to be removed.
        """
        with self._transaction():
            if result is not None:
                self._end_attempt(result)
            self._update_trial(
                outcome.number,
                status=outcome.status,
                cause=outcome.cause,
                message=outcome.message,
                reward=outcome.reward,
                copied_from=outcome.copied_from,
                weights_file=outcome.weights_file,
                finished_at=self._now(),
            )
            for metric in outcome.metrics:
                self._insert(
                    "measurement",
                    "OR REPLACE",
                    trial=outcome.number,
                    metric=metric.name,
                    value=metric.value,
                    unit=metric.unit,
                    environment=metric.environment,
                    attempt=0 if result is None else result.job.attempt,
                )
            self._update_trial(outcome.number, finished_seal=finished_seal(self._database, outcome.number))
            self._drop(dropped)

    def forget_weights(self, dropped: Iterable[int]) -> None:
        """Writes down that weight files are not there any more."""
        with self._transaction():
            self._drop(dropped)

    def fed_back(
        self,
        number: int,
        reward: float | None,
        rank: int | None,
        state: Callable[[], State],
        asked: Asked,
    ) -> None:
        """Writes down that a trial counts, and what the controller has learnt from it.

        Args:
            number: The trial's number.
            reward: The reward it got; for an infeasible trial the worst reward so far; None if it got none,
                since the trial has a higher fidelity than those it compares.
            rank: How many trials had counted before; None if it was lost, which teaches nothing.
            state: Gives the controller's state after that.
            asked: How often the controller was asked for a proposal so far.
        """
        with self._transaction():
            self._update_trial(number, feedback_rank=rank, feedback_reward=reward)
            self._step("counted", [number], state, asked)

    def remember(self, state: State, asked: Asked) -> None:
        """Writes the controller's state down for those who read the study, whatever was written lately."""
        with self._transaction():
            self._write_state(state, asked)

    def note(self, kind: str, message: str) -> None:
        """Writes an event down."""
        with self._transaction():
            self._insert("event", happened_at=self._now(), kind=kind, message=message)

    def end(self, ending: str) -> None:
        """Writes down why the search ended, and that attempts still running were given up."""
        with self._transaction() as database:
            self._interrupt("interrupted", "the search ended while this ran")
            database.execute("UPDATE study SET ended_at = ?, ending = ?", [self._now(), ending])

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
                    check_place(self.path, self._inode)
                    check_claim(self._database, self._session, self.path)
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _insert(self, table: str, otherwise: str = "", /, **values: object) -> None:
        marks = ", ".join("?" * len(values))
        self._database.execute(
            f"INSERT {otherwise} INTO {table} ({', '.join(values)}) VALUES ({marks})", [*values.values()]
        )

    def _update_trial(self, number: int, /, **values: object) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(f"UPDATE trial SET {columns} WHERE number = ?", [*values.values(), number])

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._update_trial(number, weights_file=None)

    def _end_attempt(self, result: Result) -> None:
        self._database.execute(
            "UPDATE attempt SET status = ?, cause = ?, message = ?, node = ?, worker_seconds = ?, "
            "finished_at = ? WHERE trial = ? AND number = ?",
            [
                *(result.status, result.cause, result.message, result.node, result.seconds),
                *(self._now(), result.job.trial, result.job.attempt),
            ],
        )

    def _interrupt(self, cause: str, message: str, *, node: str | None = None) -> None:
        """Marks what was running, on one node or on all, when a driver ended: its trials will run again."""
        self._database.execute(
            "UPDATE attempt SET status = 'lost', cause = ?, finished_at = ?, message = ? "
            "WHERE status = 'running' AND node = coalesce(?, node)",
            [cause, self._now(), message, node],
        )
        if node is None:
            self._database.execute("UPDATE trial SET status = 'proposed' WHERE status = 'running'")

    def _step(self, kind: str, trials: Sequence[int], state: Callable[[], State], asked: Asked) -> None:
        """Writes the controller's state, or where that was done lately what leads from it to here.

        The state is that after all of these trials, so it is written with the last of them or not at all.
        """
        first, self._steps = self._steps + 1, self._steps + len(trials)
        if self._steps - self._stated >= max(1, self._stated // STATE_EVERY):
            self._write_state(state(), asked)
            return
        for number, trial in enumerate(trials, start=first):
            self._insert("step", number=number, trial=trial, kind=kind, **asdict(asked))

    def _write_state(self, state: State, asked: Asked) -> None:
        try:
            text = state_to_json(state)
        except ControllerError as error:
            raise ControllerFailedError(
                f"`state_dict` of the controller {self.identity.controller} gave what cannot be stored: "
                f"{error}; everything finished is in the journal: fix it and start again to continue"
            ) from error
        self._database.execute(
            "REPLACE INTO controller (id, proposals, feedbacks, state_json, steps, asked, rejected) "
            "VALUES (1, (SELECT count(*) FROM trial), (SELECT count(feedback_rank) FROM trial), ?, ?, ?, ?)",
            [text, self._steps, asked.asked, asked.rejected],
        )
        self._database.execute("DELETE FROM step")
        self._stated = self._steps

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds")


def _unwritable(folder: Path, error: OSError) -> StudyError:
    return StudyError(f"the folder {folder} cannot be written: {error}")
