"""Owns the journal as a file: its tables, its version, its lock, and what may be wrong with it.

Does not own what is written when: that is `nas.studies.journal`.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from nas.errors import StudyError

FILE_NAME = "study.sqlite"
LOCK_NAME = "study.lock"
SCHEMA_VERSION = 3
APPLICATION_ID = 0x6D6E6173
"""`mnas` in ASCII: tells our files from other people's."""

SCHEMA = """
CREATE TABLE study (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    space_name TEXT NOT NULL,
    space TEXT NOT NULL,
    data TEXT NOT NULL,
    split TEXT NOT NULL,
    recipe TEXT NOT NULL,
    evaluator TEXT NOT NULL,
    objective TEXT NOT NULL,
    controller TEXT NOT NULL,
    seed INTEGER NOT NULL,
    deterministic_workers INTEGER,
    data_text TEXT NOT NULL,
    recipe_json TEXT NOT NULL,
    preprocessing_json TEXT NOT NULL,
    settings_json TEXT NOT NULL,
    package_version TEXT NOT NULL,
    created_at TEXT NOT NULL,
    ended_at TEXT,
    ending TEXT
);
CREATE TABLE candidate (
    digest TEXT PRIMARY KEY,
    macs INTEGER NOT NULL,
    params INTEGER NOT NULL,
    activations INTEGER NOT NULL,
    network_json TEXT NOT NULL
);
CREATE TABLE trial (
    number INTEGER PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES candidate (digest),
    tokens_json TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('controller', 'user')),
    proposal_number INTEGER,
    log_prob REAL,
    repeat INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    fidelity REAL NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('proposed', 'running', 'completed', 'infeasible', 'lost')),
    cause TEXT,
    message TEXT NOT NULL DEFAULT '',
    reward REAL,
    copied_from INTEGER REFERENCES trial (number),
    continues INTEGER REFERENCES trial (number),
    weights_file TEXT,
    feedback_rank INTEGER UNIQUE,
    feedback_reward REAL,
    proposed_at TEXT NOT NULL,
    finished_at TEXT
);
CREATE TABLE attempt (
    trial INTEGER NOT NULL REFERENCES trial (number),
    number INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'infeasible', 'lost')),
    cause TEXT,
    message TEXT NOT NULL DEFAULT '',
    node TEXT NOT NULL DEFAULT '',
    seed INTEGER NOT NULL,
    fidelity REAL NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    worker_seconds REAL,
    PRIMARY KEY (trial, number)
) WITHOUT ROWID;
CREATE TABLE measurement (
    trial INTEGER NOT NULL REFERENCES trial (number),
    metric TEXT NOT NULL,
    value REAL NOT NULL,
    unit TEXT NOT NULL,
    environment TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (trial, metric, environment)
) WITHOUT ROWID;
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    happened_at TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE TABLE controller (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    proposals INTEGER NOT NULL,
    feedbacks INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    state_json TEXT NOT NULL
);
CREATE TABLE recommendation (
    rank INTEGER PRIMARY KEY,
    digest TEXT NOT NULL
);
CREATE INDEX trial_of_candidate ON trial (digest);
CREATE VIEW trials AS
SELECT trial.number, trial.status, trial.reward,
    (SELECT value FROM measurement WHERE trial = trial.number AND metric = 'accuracy') AS accuracy,
    candidate.macs, candidate.params, candidate.activations,
    (SELECT value FROM measurement WHERE trial = trial.number AND metric = 'latency_ms') AS latency_ms,
    (SELECT count(*) FROM attempt WHERE attempt.trial = trial.number) AS attempts,
    (SELECT sum(worker_seconds) FROM attempt WHERE attempt.trial = trial.number) AS worker_seconds,
    trial.cause, trial.message, trial.origin, trial.digest, trial.weights_file,
    trial.proposed_at, trial.finished_at
FROM trial JOIN candidate USING (digest) ORDER BY trial.number;
CREATE VIEW failures AS
SELECT trial, number AS attempt, status, cause, message, node, worker_seconds, finished_at
FROM attempt WHERE status IN ('infeasible', 'lost') ORDER BY trial, number;
"""


UPGRADES = {
    2: "CREATE TABLE recommendation (rank INTEGER PRIMARY KEY, digest TEXT NOT NULL);",
    3: "ALTER TABLE trial ADD COLUMN continues INTEGER REFERENCES trial (number);",
}
"""What each version added to the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two runs the same study; all of it must be equal for a resume.

    Attributes:
        space: Fingerprint of the search space.
        data: Fingerprint of the images.
        split: Fingerprint of how they were split.
        recipe: Fingerprint of the training recipe.
        evaluator: Fingerprint of everything that decides what is measured.
        objective: The objective as JSON.
        controller: Name of the controller.
        seed: Seed of the study.
        deterministic_workers: Width of the fixed schedule; None when results count as they come.
    """

    space: str
    evaluator: str
    objective: str
    controller: str
    seed: int
    deterministic_workers: int | None = None
    data: str = ""
    split: str = ""
    recipe: str = ""

    def check_same(self, other: Identity, folder: Path) -> None:
        """Checks that the study in a folder (`other`) is this one.

        Raises:
            StudyError: It is not; names every difference with both values.
        """
        names = [
            field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)
        ]
        if {"data", "split", "recipe"} & set(names):
            # The evaluator's own fingerprint covers these, and says less.
            names = [name for name in names if name != "evaluator"]
        if names:
            pairs = "; ".join(f"{n} is {getattr(other, n)!r} there, {getattr(self, n)!r} here" for n in names)
            raise StudyError(
                f"{folder} holds another study: {pairs}. Give the same {', '.join(names)} to continue it, "
                "or another folder to start anew"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a study comes from, in words, for whoever reads or exports it; empty where nobody knows.

    Attributes:
        space_name: Name of the space.
        data_text: The images.
        recipe_json: The training recipe.
        preprocessing_json: What an image goes through before a network sees it.
    """

    space_name: str = ""
    data_text: str = ""
    recipe_json: str = ""
    preprocessing_json: str = ""


def connect(folder: Path, *, create: bool) -> sqlite3.Connection:
    """Opens the journal of a study for writing, making it when asked to.

    Raises:
        StudyError: There is none, it is no journal of ours, of a newer version, or damaged.
    """
    path = folder / FILE_NAME
    if not path.exists() and not create:
        raise StudyError(f"there is no study in {folder}: {path} does not exist")
    if path.exists() and path.stat().st_size == 0 and any(folder.glob("weights/*.safetensors")):
        raise StudyError(
            f"{path} is empty though the study has weights: it was truncated; restore it from a copy"
        )
    with explained(path):
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            is_empty = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not (is_empty and _header(database) == (0, 0)):
                check(database, path)
            set_journal_mode(database)
            if not is_empty:
                _upgrade(database)
            if is_empty:
                database.executescript(
                    f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                    f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
        except BaseException:
            database.close()
            raise
    return database


def connect_readonly(folder: Path) -> sqlite3.Connection:
    """Opens the journal for reading, also while a search writes to it, also on a read-only disk.

    Raises:
        StudyError: There is none, it is no journal of ours, of a newer version, or damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise StudyError(f"there is no study in {folder}: {path} does not exist")
    with explained(path):
        uri = path.resolve().as_uri()
        try:
            database = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=30, isolation_level=None)
            database.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            database = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
        try:
            check(database, path)
        except BaseException:
            database.close()
            raise
    return database


def _upgrade(database: sqlite3.Connection) -> None:
    """Brings an open journal of an earlier version up to this one; a reader takes it as it is."""
    version = _header(database)[1]
    for number in range(version + 1, SCHEMA_VERSION + 1):
        database.executescript(f"BEGIN; {UPGRADES[number]} PRAGMA user_version = {number}; COMMIT;")


def _header(database: sqlite3.Connection) -> tuple[int, int]:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    return int(application), int(version)


def check(database: sqlite3.Connection, path: Path) -> None:
    """Checks that an open file is a whole journal of ours that this version can read.

    Raises:
        StudyError: It is not.
    """
    application, version = _header(database)
    if application != APPLICATION_ID:
        raise StudyError(f"{path} is an SQLite file, but not a study's journal: give another folder")
    if version > SCHEMA_VERSION:
        raise StudyError(
            f"{path} has schema version {version}, but this version of mnas reads up to {SCHEMA_VERSION}: "
            "upgrade with pip install --upgrade mnas"
        )
    verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StudyError(f"{path} is damaged ({verdict}): restore it from a copy, or give another folder")


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
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours, with the remedy."""
    try:
        yield
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


_held: set[Path] = set()
"""Folders locked by this process: a record lock does not stop the process that has it already."""


class FolderLock:
    """Makes sure that one driver at a time works on a study.

    A POSIX record lock on a file of its own: the system drops it when the process ends however it ends,
    and neither forked nor spawned children inherit it.

    Raises:
        StudyError: Another driver has the study.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        path = self._folder / LOCK_NAME
        if self._folder in _held:
            raise StudyError(f"a search in this process already writes to {folder}: wait for it to end")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise StudyError(
                f"another search already writes to {folder} ({holder}): wait for it, stop it, "
                "or give another folder"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        _held.add(self._folder)

    def release(self) -> None:
        """Gives the study free; safe to call twice."""
        if self._folder in _held:
            _held.discard(self._folder)
            os.close(self._descriptor)
