"""Mends what can be mended in a journal: first a copy, then one transaction for the rows."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from nas.errors import StudyError
from nas.io import write_whole
from nas.reading import parse_json, read_bytes
from nas.study.identity import Identity
from nas.study.journal_file import READ_ERRORS
from nas.study.journal_reading import IN_PROCESS
from nas.study.problems import Mend, Problem
from nas.study.salvage import salvage
from nas.study.seal import keep_identity, proposed_seal
from nas.study.study_folder import FILE_NAME, LOG_NAME, ROLLBACK_NAME, SHARED_NAME
from nas.study.verify_file import SET_ASIDE, text_columns
from nas.trial import Cause
from nas.values import counted
from search_spaces import Network, SearchSpace, cost

KEPT = f"{FILE_NAME}.before-repair"

REPAIRED = "a repair found its result damaged"
"""The message of an attempt whose trial runs again."""

UNSETTLED = (
    "status = 'proposed', cause = NULL, message = '', reward = NULL, copied_from = NULL, "
    "weights_file = NULL, feedback_rank = NULL, feedback_reward = NULL, finished_at = NULL, "
    "finished_seal = NULL"
)
"""What a row of a trial says that waits to be run."""


def keep_copy(folder: Path) -> Path:
    """Copies the database, with its log, to the next free number.

    Raises:
        StudyError: There is no room, or the folder is read-only.
    """
    numbers = (folder / f"{KEPT}-{number}" for number in itertools.count(1))
    kept = next(path for path in numbers if not path.exists())
    try:
        for suffix in ("-wal", "-journal"):
            if (folder / f"{FILE_NAME}{suffix}").is_file():
                write_whole(Path(f"{kept}{suffix}"), read_bytes(folder / f"{FILE_NAME}{suffix}"))
        return write_whole(kept, read_bytes(folder / FILE_NAME))
    except OSError as error:
        raise StudyError(
            f"no copy of {folder / FILE_NAME} can be kept ({error.strerror or error}), and without one "
            "nothing is repaired: free some disk space, or copy the folder to where you may write"
        ) from error


def salvage_file(folder: Path, kept: Path) -> str:
    """Puts a new file in place of a damaged one, from the copy that was kept.

    Raises:
        StudyError: Nothing can be read of it.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".salvage-") as scratch:
        old, new = Path(scratch) / "old.sqlite", Path(scratch) / "new.sqlite"
        for suffix in ("", "-wal", "-journal"):
            if Path(f"{kept}{suffix}").is_file():
                shutil.copyfile(f"{kept}{suffix}", f"{old}{suffix}")
        try:
            counts = salvage(old, new)
        except READ_ERRORS as error:
            raise StudyError(_beyond(folder, kept, str(error))) from error
        if not (counts["study"] and counts["trial"]):
            lost = "no trial" if counts["study"] else "not even what was searched"
            raise StudyError(_beyond(folder, kept, f"{lost} can be read"))
        with new.open("rb") as file:
            os.fsync(file.fileno())
        for name in (LOG_NAME, SHARED_NAME, ROLLBACK_NAME):
            (folder / name).unlink(missing_ok=True)
        new.replace(folder / FILE_NAME)
    return f"wrote a new {FILE_NAME} of what can be read: {counted(counts['trial'], 'trial')}"


def put_back(folder: Path, kept: Path) -> None:
    """Puts the file and its log back as they were."""
    for name in (SHARED_NAME, LOG_NAME):
        (folder / name).unlink(missing_ok=True)
    for suffix in ("-wal", ""):
        if Path(f"{kept}{suffix}").is_file():
            write_whole(folder / f"{FILE_NAME}{suffix}", read_bytes(Path(f"{kept}{suffix}")))


def _beyond(folder: Path, kept: Path, why: str) -> str:
    return (
        f"{folder / FILE_NAME} is damaged beyond repair ({why}): restore it from a copy, or begin a new "
        f"study in another folder. It was not changed, and {kept.name} is a copy of it"
    )


class Mender:
    """Mends the rows of an open journal, in the transaction that is open.

    Args:
        database: The journal.
        now: The time, ISO 8601.
        space: The study's space, where it is known.
    """

    def __init__(self, database: sqlite3.Connection, *, now: str, space: SearchSpace | None) -> None:
        self._database = database
        self._now = now
        self._space = space
        self._actions: dict[Mend, Callable[[Problem], None]] = {
            Mend.INTERRUPT: self._interrupt,
            Mend.NAME_CAUSE: self._name_cause,
            Mend.RENUMBER: self._renumber,
            Mend.RERUN: self._rerun,
            Mend.RECOUNT: self._recount,
            Mend.RECOST: self._recost,
            Mend.REWRITE: self._rewrite,
            Mend.FORGET_WEIGHTS: self._forget_weights,
            Mend.CLEAN: self._clean,
            Mend.DROP_ROWS: self._drop_rows,
            Mend.RESTORE_IDENTITY: self._restore_identity,
            Mend.COPY_IDENTITY: lambda _: keep_identity(self._database, verb="REPLACE"),
            Mend.FORGET_RECOMMENDATION: self._forget_recommendation,
        }

    def mend(self, problems: Sequence[Problem]) -> list[Problem]:
        """Mends the rows; returns the problems that were mended.

        Raises:
            StudyError: Trials are lost, and there is no other to take their place.
        """
        done = [one for one in problems if one.mend in self._actions]
        for one in done:
            if one.mend is not None:
                self._actions[one.mend](one)
        lost = [one for one in problems if one.mend is Mend.REFILL]
        if lost:
            self._refill(lost, {one.trial for one in problems})
        return done + lost

    def _interrupt(self, problem: Problem) -> None:
        """As a resume does: what ran in the process of the search may have ended it."""
        self._database.execute(
            "UPDATE attempt SET status = 'lost', cause = CASE node WHEN ? THEN ? ELSE ? END, "
            "finished_at = ?, message = 'the search ended while this ran' "
            "WHERE trial = ? AND status = 'running'",
            [IN_PROCESS, Cause.WORKER_DIED, Cause.INTERRUPTED, self._now, problem.trial],
        )
        self._database.execute(
            "UPDATE trial SET status = 'proposed' WHERE number = ? AND status = 'running'", [problem.trial]
        )

    def _name_cause(self, problem: Problem) -> None:
        causes = ", ".join(f"'{cause}'" for cause in Cause)
        self._database.execute(
            "UPDATE attempt SET cause = CASE status WHEN 'lost' THEN ? ELSE ? END WHERE trial = ? AND status "
            f"IN ('lost', 'infeasible') AND (cause IS NULL OR cause NOT IN ({causes}))",
            [Cause.INTERRUPTED, Cause.ERROR, problem.trial],
        )

    def _renumber(self, problem: Problem) -> None:
        found = self._database.execute(
            "SELECT number FROM attempt WHERE trial = ? ORDER BY number", [problem.trial]
        ).fetchall()
        # First below 0, since two attempts may not have one number in between.
        for place, (number,) in enumerate(found, start=1):
            self._renumbered(problem.trial, number, -place)
        for place in range(1, len(found) + 1):
            self._renumbered(problem.trial, -place, place)

    def _renumbered(self, trial: int | None, before: int, now: int) -> None:
        for table, column in (("attempt", "number"), ("measurement", "attempt")):
            self._database.execute(
                f"UPDATE {table} SET {column} = ? WHERE trial = ? AND {column} = ?", [now, trial, before]
            )

    def _rerun(self, problem: Problem) -> None:
        self._database.execute(f"UPDATE trial SET {UNSETTLED} WHERE number = ?", [problem.trial])
        self._database.execute("DELETE FROM measurement WHERE trial = ?", [problem.trial])
        self._database.execute(
            "UPDATE attempt SET status = 'lost', cause = ?, message = ? WHERE trial = ? AND status <> 'lost'",
            [Cause.INTERRUPTED, REPAIRED, problem.trial],
        )
        self._recount(problem)

    def _restore_identity(self, problem: Problem) -> None:  # noqa: ARG002  # there is one identity
        (text,) = self._database.execute("SELECT identity_json FROM identity_copy").fetchone()
        identity = parse_json(text)
        names = Identity.__slots__  # never those of the text
        self._database.execute(
            f"UPDATE study SET {', '.join(f'{name} = ?' for name in names)}",
            [identity[name] for name in names],
        )

    def _recount(self, problem: Problem) -> None:  # noqa: ARG002  # all results are told again, whichever was wrong
        self._database.execute("UPDATE trial SET feedback_rank = NULL, feedback_reward = NULL")
        self._database.execute("DELETE FROM step")
        self._database.execute("DELETE FROM controller")

    def _refill(self, problems: Iterable[Problem], broken: set[int | None]) -> None:
        donor = self._donor({one.trial for one in problems}, broken)
        for problem in problems:
            for table in ("attempt", "measurement", "step"):
                self._database.execute(f"DELETE FROM {table} WHERE trial = ?", [problem.trial])
            self._database.execute("DELETE FROM trial WHERE number = ?", [problem.trial])
            self._database.execute(
                "INSERT INTO trial (number, digest, tokens_json, origin, repeat, seed, fidelity, status, "
                "proposed_at) SELECT ?, digest, tokens_json, 'user', repeat, seed, fidelity, 'proposed', ? "
                "FROM trial WHERE number = ?",
                [problem.trial, self._now, donor],
            )
            self._seal(problem.trial)
            self._recount(problem)

    def _donor(self, lost: set[int | None], broken: set[int | None]) -> int:
        """The first trial whose candidate is whole, of those with a sound result if there are any."""
        found = self._database.execute(
            "SELECT number FROM trial JOIN candidate USING (digest) WHERE continues IS NULL ORDER BY "
            "status = 'completed' DESC, copied_from IS NULL DESC, number"
        )
        whole: list[int] = [number for (number,) in found if number not in lost]
        if not whole:
            raise StudyError(
                "trials or their candidates are lost, and no whole one is left to take their place: give the "
                "space in Python, nas.verify(folder, repair=True, space=...), which restores candidates from "
                "tokens; or restore study.sqlite from a copy. Nothing was changed"
            )
        return next((number for number in whole if number not in broken), whole[0])

    def _seal(self, number: int | None) -> None:
        """Seals a proposal, unless trials after it are of an earlier version, which sealed none."""
        if number is not None:
            self._database.execute(
                "UPDATE trial SET proposed_seal = ? WHERE number = ? AND NOT EXISTS (SELECT 1 FROM trial "
                "AS later WHERE later.number > trial.number AND later.proposed_seal IS NULL)",
                [proposed_seal(self._database, number), number],
            )

    def _recost(self, problem: Problem) -> None:
        (text,) = self._database.execute(
            "SELECT network_json FROM candidate WHERE digest = ?", [problem.key]
        ).fetchone()
        self._write_costs(
            problem.key, Network.from_json(text, () if self._space is None else self._space.op_types)
        )

    def _write_costs(self, digest: str, network: Network) -> None:
        known = cost(network)
        self._database.execute(
            "REPLACE INTO candidate (digest, macs, params, activations, network_json) VALUES (?, ?, ?, ?, ?)",
            [digest, known.macs, known.params, known.activations, network.to_json(indent=None)],
        )

    def _rewrite(self, problem: Problem) -> None:
        """Writes a candidate anew where the tokens of one of its trials mean it; else its trials are lost."""
        if self._space is None:
            return
        found = self._database.execute(
            "SELECT tokens_json FROM trial WHERE digest = ?", [problem.key]
        ).fetchall()
        for (text,) in found:
            try:
                network = self._space.decode(parse_json(text))
            except (ValueError, TypeError, IndexError, RecursionError):
                continue
            if network.digest == problem.key:
                self._write_costs(problem.key, network)
                return
        self._database.execute("DELETE FROM candidate WHERE digest = ?", [problem.key])

    def _forget_weights(self, problem: Problem) -> None:
        self._database.execute("UPDATE trial SET weights_file = NULL WHERE number = ?", [problem.trial])

    def _clean(self, problem: Problem) -> None:
        self._database.create_function("cleaned", 1, lambda data: data.decode("utf-8", "replace"))
        for name in text_columns(self._database, problem.key):
            self._database.execute(
                f"UPDATE {problem.key} SET {name} = cleaned(CAST({name} AS BLOB)) "
                f"WHERE typeof({name}) = 'text' AND NOT is_text(CAST({name} AS BLOB))"
            )

    def _drop_rows(self, problem: Problem) -> None:
        if problem.trial is not None:
            self._database.execute("DELETE FROM trial WHERE number = ?", [problem.trial])
        elif problem.key == "candidate":
            self._database.execute(
                "DELETE FROM candidate WHERE digest IS NULL OR digest NOT IN "
                "(SELECT digest FROM trial WHERE digest IS NOT NULL)"
            )
        else:
            self._database.execute(f"DELETE FROM {problem.key} WHERE trial NOT IN (SELECT number FROM trial)")

    def _forget_recommendation(self, problem: Problem) -> None:  # noqa: ARG002  # the whole table goes
        self._database.execute("DELETE FROM recommendation")


def mend_files(folder: Path, problems: Iterable[Problem]) -> list[Problem]:
    """Renames and removes files; what cannot be is left. Returns the problems that were mended."""
    done = []
    for problem in problems:
        path = folder / problem.file
        try:
            if problem.mend is Mend.REMOVE_FILE:
                path.unlink(missing_ok=True)
            elif problem.mend in (Mend.SET_ASIDE, Mend.FORGET_WEIGHTS) and path.is_file():
                names = (path.with_name(f"{SET_ASIDE}{n}-{path.name}") for n in itertools.count(1))
                path.rename(next(name for name in names if not name.exists()))
            else:
                continue
        except OSError:
            continue
        done.append(problem)
    return done


def rebuild_index(folder: Path, kept: Path) -> str:
    """Builds the indices again from their tables; where rows repeat that must not, as a damaged file."""
    try:
        with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as database:
            database.execute("REINDEX")
            if database.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok":
                return "built the indices again from their tables"
    except READ_ERRORS:
        pass
    return salvage_file(folder, kept)
