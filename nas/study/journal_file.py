"""Opens the file of a journal, and says what may be wrong with it."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nas.errors import NasError, StudyError
from nas.io import unfinished, write_whole
from nas.study.journal_tables import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    foreign_parts,
    has_tables,
    header,
    make_tables,
    upgrade,
)
from nas.study.study_folder import FILE_NAME, LOG_NAME, ROLLBACK_NAME, has_study
from nas.values import few, shown

MOST_BYTES = 256 * 2**20
"""Bytes of one value of a journal; the largest is the state of a controller."""

READ_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file may raise: the message may quote bytes that are no text."""


def connect(folder: Path) -> sqlite3.Connection:
    """Opens the journal of a study for writing; makes it, with its tables, where there is none yet.

    Raises:
        StudyError: It is no journal of ours, of a newer version, or damaged.
        OSError: It cannot be made.
    """
    path = folder / FILE_NAME
    with readable(folder):
        if _is_new(path):
            _make(path)
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            restrict(database)
            check(database, path)
            set_journal_mode(database)
            upgrade(database)
        except BaseException:
            database.close()
            raise
    return database


def _is_new(path: Path) -> bool:
    """Whether there is no file, or one that nothing was written to yet."""
    if not path.exists():
        return True
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
        restrict(database)
        return not has_tables(database) and header(database) == (0, 0)


def _make(path: Path) -> None:
    """Writes a file with empty tables, whole or not at all: one without looks like one that lost its log."""
    for left in unfinished(path.parent, path.name):
        left.unlink()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        make_tables(database)
        write_whole(path, database.serialize())


def connect_readonly(folder: Path) -> sqlite3.Connection:
    """Opens the journal for reading, also while a search writes to it, also on a read-only disk.

    Raises:
        StudyError: There is none, it is no journal of ours, of a newer version, or damaged.
    """
    path = folder / FILE_NAME
    if not has_study(folder):
        raise StudyError(f"there is no study in {folder}: {path} does not exist, or is empty")
    with readable(folder):
        database = open_readonly(path)
        try:
            check(database, path)
        except BaseException:
            database.close()
            raise
    return database


def open_readonly(path: Path) -> sqlite3.Connection:
    """Opens a file for reading as it stands, with its `-wal` file, also on a read-only disk.

    Raises:
        StudyError: The trials in its `-wal` file cannot be read.
        sqlite3.Error: It cannot be opened; what is damaged inside is found by who reads it.
    """
    database = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30, isolation_level=None
    )
    try:
        restrict(database)
        has_tables(database)
    except sqlite3.OperationalError:
        database.close()
        database = _without_writing(path)
        restrict(database)
    except READ_ERRORS:
        pass
    return database


def _without_writing(path: Path) -> sqlite3.Connection:
    """Opens a journal that SQLite cannot write beside; with the trials that are still in its `-wal` file.

    Raises:
        StudyError: They cannot be read.
    """
    beside = [path.with_name(name) for name in (LOG_NAME, ROLLBACK_NAME)]
    beside = [each for each in beside if each.is_file() and each.stat().st_size]
    if not beside:
        return sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True, isolation_level=None)
    whole = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for each in (path, *beside):
                shutil.copyfile(each, Path(scratch) / each.name)
            with closing(sqlite3.connect(Path(scratch) / path.name)) as copy:
                copy.backup(whole)
    except OSError as error:
        raise StudyError(
            f"the newest trials of {path} are in {beside[0].name}, which cannot be read on a read-only disk "
            f"without a copy ({error}): copy both files to a folder that you may write to"
        ) from error
    return whole


def restrict(database: sqlite3.Connection) -> None:
    """Bounds what a value takes, and forbids that a file's own schema calls functions of the program.

    Source: https://www.sqlite.org/security.html, "untrusted SQLite database files".
    """
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")


def check(database: sqlite3.Connection, path: Path) -> None:
    """Checks that an open file is a whole journal of ours that this version can read.

    Raises:
        StudyError: It is not.
    """
    application, version = header(database)
    if application != APPLICATION_ID:
        raise StudyError(f"{path} is an SQLite file, but not a study's journal: give another folder")
    if version > SCHEMA_VERSION:
        raise StudyError(
            f"{path} has schema version {version}, but this version of mnas reads up to {SCHEMA_VERSION}: "
            "upgrade with pip install --upgrade mnas"
        )
    foreign = foreign_parts(database)
    if foreign:
        raise StudyError(
            f"{path} must have the tables of a journal and nothing that acts by itself, but has "
            f"{few(foreign, shown)}: it was changed by another program; restore it from a copy"
        )
    outcome = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if outcome != "ok":
        raise StudyError(f"{path} is damaged ({outcome}): restore it from a copy, or give another folder")


def set_journal_mode(database: sqlite3.Connection) -> str:
    """Chooses write-ahead logging, or rollback where the file system cannot.

    `synchronous = NORMAL` with a write-ahead log leaves a commit in the operating system's cache: killing the
    process loses nothing; a power failure may lose the last commits, never the file. With rollback every
    commit is forced to the disk.

    Returns:
        `wal` or `delete`.
    """
    try:
        mode = str(database.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        database.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        mode = str(database.execute("PRAGMA journal_mode = DELETE").fetchone()[0])
    database.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
    database.execute("PRAGMA foreign_keys = ON")
    return mode


def journal_mode_of(folder: Path) -> str:
    """Says which journal mode a folder's file system allows, by trying it in a file that is removed again.

    Raises:
        StudyError: Nothing can be written there.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        explained(folder),
        closing(sqlite3.connect(Path(scratch) / "probe.sqlite", isolation_level=None)) as database,
    ):
        return set_journal_mode(database)


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns what a value of a journal that was changed by hand leads to into an error of ours.

    Raises:
        StudyError: A value is missing, of another type, or cannot be read.
    """
    try:
        with explained(folder / FILE_NAME):
            yield
    except NasError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
        raise StudyError(
            f"{folder / FILE_NAME} holds a value that cannot be read ({shown(str(error))}): look with "
            f"nas verify {folder}, and repair it with --repair, or restore it from a copy"
        ) from error


@contextmanager
def without_collecting() -> Iterator[None]:
    """Leaves the garbage collector out while many objects are made, none of which is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours, with the remedy."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite quotes a damaged file in its message
        raise StudyError(
            f"{path} is damaged ({error}): restore it from a copy, or give another folder"
        ) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StudyError(
                f"{path} cannot be written ({error}): free some disk space and start again; "
                "every trial finished before this is kept"
            ) from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise StudyError(
                f"{path} is no journal, or a truncated one ({error}): restore it from a copy, "
                "or give another folder"
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StudyError(
                f"{path} is held by another program ({error}): close it and start again"
            ) from error
        raise StudyError(f"{path} cannot be used: {error}") from error
