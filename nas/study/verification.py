"""Checks a study by its files alone, and repairs it: no search, no torch, none of the user's code."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nas.errors import StudyError
from nas.io import Process
from nas.study.driver import FolderLock, claim, release_claim
from nas.study.journal_file import READ_ERRORS, connect, explained, open_readonly
from nas.study.journal_tables import APPLICATION_ID, SCHEMA_VERSION, columns, header
from nas.study.problems import Mend, Problem, Severity, Verification
from nas.study.repair import Mender, keep_copy, mend_files, put_back, rebuild_index, salvage_file
from nas.study.study_folder import FILE_NAME, LOG_NAME, has_study
from nas.study.verify_file import (
    MOST_LOG,
    WHOLE,
    beside,
    database_problems,
    folder_problems,
    log_problems,
)
from nas.study.verify_rows import Rows, is_finished, read_rows
from nas.study.verify_state import candidate_problems, objective_of, state_problems, token_problems
from nas.study.verify_trials import trial_problems
from nas.values import counted
from search_spaces import SearchSpace

NEWER = 1_000
"""A schema version above this is no newer version, but damage."""

MOST_ROUNDS = 20
"""What one repair shows may need another: a copy of a trial that runs again runs again too."""


def verify(folder: Path | str, *, repair: bool = False, space: SearchSpace | None = None) -> Verification:
    """Checks that a study is whole, and repairs what can be repaired.

    While a search writes to the study, it checks the journal only.

    Args:
        folder: The study's folder.
        repair: Whether to repair it, after keeping a copy of the file beside it.
        space: The study's space: also checks tokens and ops of the user's own, and restores lost candidates.

    Raises:
        StudyError: There is no study, it is of a newer version, another space is given, or a repair is asked
            for while a search writes to it or cannot be made.
    """
    path = Path(folder)
    if not has_study(path):
        raise StudyError(f"there is no study in {path}: {path / FILE_NAME} does not exist, or is empty")
    return _repair(path, space) if repair else _look(path, space)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is wrong with an open journal, and what could not be checked."""

    problems: list[Problem]
    unchecked: list[str]
    rows: Rows | None = None


def _look(folder: Path, space: SearchSpace | None) -> Verification:
    path = folder / FILE_NAME
    problems = list(log_problems(folder))  # first: SQLite may touch the log when it opens the file
    with explained(path), closing(open_readonly(path)) as database:
        _check_ours(database, path)
        is_running = _is_running(database, path)
        problems = [] if is_running else problems
        database.execute("BEGIN")  # one state of the file, also while a search writes to it
        found = _of_journal(database, folder, space, is_running=is_running)
    if (log := folder / LOG_NAME).is_file() and log.stat().st_size > MOST_LOG:
        found.unchecked.append(f"the {log.name} file, which is larger than {MOST_LOG >> 20} MiB")
    return Verification(
        folder=folder,
        problems=(*problems, *found.problems),
        trials=None if found.rows is None else len(found.rows.trials),
        is_running=is_running,
        unchecked=tuple(found.unchecked),
        beside=beside(folder),
    )


def _check_ours(database: sqlite3.Connection, path: Path) -> None:
    """Refuses a whole file of another program, or of a newer version."""
    try:
        application, version = header(database)
        is_journal = bool(columns(database, "trial"))
    except READ_ERRORS:
        return
    if application != APPLICATION_ID and not is_journal:
        raise StudyError(f"{path} is an SQLite file, but not a study's journal: give another folder")
    if SCHEMA_VERSION < version <= NEWER:
        raise StudyError(
            f"{path} has schema version {version}, but this version of mnas reads up to {SCHEMA_VERSION}: "
            "upgrade with pip install --upgrade mnas"
        )


def _is_running(database: sqlite3.Connection, path: Path) -> bool:
    """Whether a search writes to the journal, or may do so on another machine."""
    try:
        row = database.execute("SELECT host, process, started, inode FROM driver").fetchone()
        if row is None or not row[0] or row[3] != path.stat().st_ino:
            return False
        other = Process(host=str(row[0]), number=int(row[1]), started=str(row[2]))
        return not other.is_here or other.is_alive
    except (*READ_ERRORS, ValueError, TypeError, OverflowError):
        return False  # of an earlier version, or damaged


def _of_journal(
    database: sqlite3.Connection, folder: Path, space: SearchSpace | None, *, is_running: bool
) -> _Found:
    """What is wrong with an open journal and the files that it names."""
    database.text_factory = lambda data: data.decode("utf-8", "replace")
    problems = list(database_problems(database))
    rows, wrong = None, ""
    if all(one.mend in (Mend.DROP_ROWS, Mend.CLEAN) for one in problems):
        try:
            rows = read_rows(database)
        except (*READ_ERRORS, KeyError, TypeError, ValueError, OverflowError) as error:
            wrong = f"its rows cannot be read: {error}"
    if wrong:
        problems.append(
            Problem(law=WHOLE, where=FILE_NAME, found=wrong, severity=Severity.LOST, mend=Mend.SALVAGE)
        )
    if rows is None:
        return _Found(
            problems=problems, unchecked=["the trials and their files, until the database is whole"]
        )
    if rows.study is None and not rows.trials:
        raise StudyError(f"the study in {folder} was never begun: start the search again")
    _check_space(rows, space)
    found, unchecked = _of_rows(rows, space, is_running=is_running)
    if is_running:
        unchecked.append("files of weights, and attempts that run: a search writes to the study")
    else:
        found += folder_problems(folder, rows)
    return _Found(problems=problems + found, unchecked=unchecked, rows=rows)


def _check_space(rows: Rows, space: SearchSpace | None) -> None:
    if space is not None and rows.study is not None and space.fingerprint != rows.study["space"]:
        raise StudyError(
            f"the space must be that of the study, {rows.study['space_name']}, but got {space.name}: give "
            "the one that was searched",
            field="space",
        )


def _of_rows(rows: Rows, space: SearchSpace | None, *, is_running: bool) -> tuple[list[Problem], list[str]]:
    found = [*trial_problems(rows, objective_of(rows), is_running=is_running), *state_problems(rows)]
    candidates, unknown = candidate_problems(rows, space)
    found += candidates
    if space is not None:
        found += token_problems(rows, space)
    unchecked = []
    if unknown:
        unchecked.append(
            f"{counted(unknown, 'candidate')} with ops of your own: nas.verify(folder, space=...) checks them"
        )
    old = sum(is_finished(row) and not row.get("finished_seal") for row in rows.trials.values())
    if old:
        unchecked.append(
            f"metrics that no reward depends on, and tokens, of {counted(old, 'trial')}: an earlier version "
            "wrote them without a hash"
        )
    return found, unchecked


def _repair(folder: Path, space: SearchSpace | None) -> Verification:
    with _locked(folder) as unlocked:
        before = _look(folder, space)
        if before.is_running:
            raise StudyError(f"a search writes to {folder}: wait for it to end, or stop it, and repair then")
        mends = {one.mend for one in before.problems} - {None}
        if not mends:
            return before
        kept = keep_copy(folder)
        done = []
        if Mend.SALVAGE in mends:
            done.append(salvage_file(folder, kept))
        elif Mend.REINDEX in mends:
            done.append(rebuild_index(folder, kept))
        if Mend.CHECKPOINT in mends:
            done.append(f"{Mend.CHECKPOINT}")
        try:
            done += _mend_rows(folder, space, unlocked)
        except StudyError:
            put_back(folder, kept)
            raise
        left = _look(folder, space)
        done += [_words(one) for one in mend_files(folder, left.problems)]
        return replace(_look(folder, space), repaired=tuple(done), kept=kept)


@contextmanager
def _locked(folder: Path) -> Iterator[str]:
    """Keeps searches away; yields who had the lock last."""
    try:
        lock = FolderLock(folder)
    except OSError as error:
        raise StudyError(
            f"the folder {folder} cannot be written ({error}): copy it to where you may write, and "
            "repair that"
        ) from error
    try:
        yield lock.unlocked
    finally:
        lock.release()


def _mend_rows(folder: Path, space: SearchSpace | None, unlocked: str) -> list[str]:
    """Mends rows in one transaction, until no law is broken that can be mended."""
    path = folder / FILE_NAME
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with explained(path), closing(connect(folder)) as database:
        database.execute("PRAGMA foreign_keys = OFF")  # rows that others name are replaced
        database.execute("BEGIN IMMEDIATE")
        session = claim(database, path, unlocked=unlocked)
        mender = Mender(database, now=now, space=space)
        done: list[Problem] = []
        for _ in range(MOST_ROUNDS):
            problems = _of_journal(database, folder, space, is_running=False).problems
            candidates = [one for one in problems if one.mend in (Mend.RECOST, Mend.REWRITE)]
            mended = mender.mend(candidates or problems)  # rewards follow from costs: these first
            if not mended:
                break
            done += [one for one in mended if one not in done]
        words = [_words(one) for one in done if one.mend is not Mend.FORGET_WEIGHTS]
        words += [
            _words(one)
            for one in done
            if one.mend is Mend.FORGET_WEIGHTS and not (folder / one.file).is_file()
        ]
        database.execute(
            "INSERT INTO event (happened_at, kind, message) VALUES (?, 'repaired', ?)",
            [now, f"nas verify --repair: {'; '.join(words) or 'the file'}"],
        )
        release_claim(database, session)
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return words


def _words(problem: Problem) -> str:
    return f"{problem.where}: {problem.mend}"
