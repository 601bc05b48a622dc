"""The laws of a study's files: the database and its log as SQLite sees them, weights, what is unfinished."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from nas.reading import parse_json, read_bytes
from nas.study.checkpoints import kept_weights, weights_name
from nas.study.journal_file import READ_ERRORS
from nas.study.journal_tables import APPLICATION_ID, SCHEMA_VERSION, header, make_tables
from nas.study.problems import Mend, Problem, Severity
from nas.study.study_folder import FILE_NAME, LOG_NAME, PARTS, SHARED_NAME
from nas.study.verify_rows import Rows

WHOLE = "the database is whole (PRAGMA integrity_check)"
TIED = "every row that names a trial names one that is there (PRAGMA foreign_key_check)"
LOGGED = f"{LOG_NAME} is whole and beside {FILE_NAME}"
WEIGHTS = "weights that the journal names are there, each a whole safetensors file of its trial"
NAMED = "every file of weights is of a trial that names it"
FINISHED = "no file is left half written"

MOST_LOG, MOST_HEADER = 64 << 20, 100 << 20
"""Bytes of a log, and of the header of weights, that are looked through."""

MOST_FOUND = 20
"""Messages of an integrity check that are read."""

SET_ASIDE = "set-aside-"
"""Begins the name of a file of weights that a repair has renamed."""

_ENDS = "'running', 'completed', 'infeasible', 'lost'"

CHECKS = {
    "study": "id = 1",
    "controller": "id = 1",
    "driver": "id = 1",
    "identity_copy": "id = 1",
    "trial": f"status IN ('proposed', {_ENDS}) AND origin IN ('controller', 'user')",
    "attempt": f"status IN ({_ENDS})",
    "step": "kind IN ('proposed', 'counted')",
}
"""The CHECK constraints of the tables."""

TABLES = (
    "study",
    "candidate",
    "trial",
    "attempt",
    "measurement",
    "event",
    "controller",
    "recommendation",
    "identity_copy",
)
"""The tables that hold texts."""

HALF_WRITTEN = (".*.new", "weights/.*.new", "weights/*.partial")
"""What a kill leaves of a file that was being written."""

BESIDE = ("comparison.json", "training.json", *(f"{name}/" for name in PARTS))


def database_problems(database: sqlite3.Connection) -> Iterator[Problem]:
    """What SQLite finds wrong with an open file, up to where it cannot be read."""
    try:
        yield from _database(database)
    except READ_ERRORS as error:
        yield _damaged(str(error), Mend.SALVAGE)


def _database(database: sqlite3.Connection) -> Iterator[Problem]:
    application, version = header(database)
    lines = [str(row[0]) for row in database.execute(f"PRAGMA integrity_check({MOST_FOUND})")]
    if (application, version) != (APPLICATION_ID, version) or not 1 <= version <= SCHEMA_VERSION:
        yield _damaged(f"its header says version {version} of application {application:#x}", Mend.SALVAGE)
    if lines != ["ok"]:
        is_index = all("index" in line and "page" not in line.lower() for line in lines)
        yield _damaged("; ".join(lines[:3]), Mend.REINDEX if is_index else Mend.SALVAGE)
        if not is_index:
            return
    if wrong := _schema(database, version):
        yield _damaged(wrong, Mend.SALVAGE)
        return
    yield from _checked(database)
    yield from _texts(database)
    loose = [row[0] for row in database.execute("PRAGMA foreign_key_check")]
    for table in ("attempt", "measurement", "step"):
        if count := loose.count(table):
            yield Problem(
                law=TIED,
                where=f"table {table}",
                found=f"{count} rows are of no trial",
                severity=Severity.DOUBTFUL,
                mend=Mend.DROP_ROWS,
                key=table,
            )


def _schema(database: sqlite3.Connection, version: int) -> str:
    """What differs from the tables of a journal; an earlier version may lack some of their columns."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        make_tables(new)
        texts = database.execute("SELECT CAST(coalesce(sql, '') AS BLOB) FROM sqlite_master")
        if not all(is_text(text) for (text,) in texts):
            return "the definition of a table is no text"
        for (table,) in new.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"):
            ours, theirs = _columns(new, table), _columns(database, table)
            lacks_some = version == SCHEMA_VERSION and ours.keys() - theirs.keys()
            if lacks_some or any(ours.get(name) != theirs[name] for name in theirs):
                return f"the columns of {table} are not those of a journal"
            if not _definition(database, table) <= _definition(new, table):
                return f"the definition of {table} is not that of a journal"
    return ""


def _columns(database: sqlite3.Connection, table: str) -> dict[str, tuple[object, ...]]:
    """Type, NOT NULL, default and place in the key of each column."""
    return {row[1]: row[2:] for row in database.execute(f"PRAGMA table_info({table})")}


def _definition(database: sqlite3.Connection, table: str) -> set[str]:
    """What its text says of each column, with what no pragma tells, and of the table; of a view its text."""
    found = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()
    text = " ".join(str(found[0]).split()) if found else ""
    head, _, body = text.partition("(")
    if not head.startswith("CREATE TABLE"):
        return {text} - {""}
    body, _, tail = body.rpartition(")")
    return {head, tail, *(part.strip() for part in re.split(r",(?![^(]*\))", body))}


def _checked(database: sqlite3.Connection) -> Iterator[Problem]:
    """What breaks a CHECK of its table, which SQLite does not look at in a file that it only reads."""
    for table, law in CHECKS.items():
        try:
            (count,) = database.execute(f"SELECT count(*) FROM {table} WHERE NOT ({law})").fetchone()
        except sqlite3.OperationalError:
            continue  # the journal is of an earlier version
        if count:
            yield _damaged(f"in {count} rows of {table}, `{law}` does not hold", Mend.SALVAGE)


def _texts(database: sqlite3.Connection) -> Iterator[Problem]:
    """Tables with bytes in place of text."""
    database.create_function("is_text", 1, is_text, deterministic=True)
    for table in TABLES:
        names = text_columns(database, table)
        bad = " + ".join(
            f"sum(typeof({name}) = 'text' AND NOT is_text(CAST({name} AS BLOB)))" for name in names
        )
        count = database.execute(f"SELECT {bad} FROM {table}").fetchone()[0] if names else 0
        if count:
            yield Problem(
                law="a text is UTF-8",
                where=f"table {table}",
                found=f"{count} texts are not",
                severity=Severity.DOUBTFUL,
                mend=Mend.CLEAN,
                key=table,
            )


def is_text(data: bytes | None) -> bool:
    """Whether bytes are UTF-8; SQLite asks for NULL too."""
    try:
        (data or b"").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def text_columns(database: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table that hold texts."""
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[2] == "TEXT"]


def _damaged(found: str, mend: Mend) -> Problem:
    severity = Severity.LOST if mend is Mend.SALVAGE else Severity.HARMLESS
    return _of_file(FILE_NAME, WHOLE, found, severity, mend)


def log_problems(folder: Path) -> Iterator[Problem]:
    """What is wrong with the write-ahead log; only of a study that nobody writes to."""
    log = folder / LOG_NAME
    if not log.is_file():
        if (folder / SHARED_NAME).is_file():
            wrong = (
                f"{SHARED_NAME} is there, which a killed search leaves with {LOG_NAME}: its last results may "
                "be lost"
            )
            remedy = f"copy {LOG_NAME} from where {FILE_NAME} comes from; if it is gone, remove {SHARED_NAME}"
            yield _of_file(LOG_NAME, LOGGED, wrong, Severity.LOST, None, remedy=remedy)
    elif 0 < log.stat().st_size <= MOST_LOG and (wrong := _torn(read_bytes(log))):
        yield _of_file(LOG_NAME, LOGGED, wrong, Severity.LOST, Mend.CHECKPOINT)


def _torn(data: bytes) -> str:
    """Where a log breaks off; empty where it is whole. https://www.sqlite.org/fileformat2.html, section 4."""
    if len(data) < 32:
        return f"it has {len(data)} bytes, less than its header"
    magic, _, page_size, _, *salts = struct.unpack(">6I", data[:24])
    if magic not in (0x377F0682, 0x377F0683) or page_size not in (2**n for n in range(9, 17)):
        return "its header is damaged"
    order = ">" if magic & 1 else "<"
    sums = _checksum(order, data[:24], (0, 0))
    if sums != struct.unpack(">2I", data[24:32]):
        return "its header is damaged"
    size = 24 + page_size
    for index, start in enumerate(range(32, len(data), size), start=1):
        frame = data[start : start + size]
        if len(frame) < 24 or list(struct.unpack(">2I", frame[8:16])) != salts:
            is_rest = len(frame) == size and not _has_later(data, start + size, size, salts)
            return "" if is_rest else f"it breaks off in page {index}"
        sums = _checksum(order, frame[24:], _checksum(order, frame[:8], sums))
        if len(frame) < size or sums != struct.unpack(">2I", frame[16:24]):
            return f"it is damaged in page {index}: what comes after is lost"
    return ""


def _has_later(data: bytes, start: int, size: int, salts: list[int]) -> bool:
    """Whether a later page of a log is of its present run; others are left from runs before."""
    starts = range(start, len(data) - 24, size)
    return any(list(struct.unpack(">2I", data[at + 8 : at + 16])) == salts for at in starts)


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data[: len(data) // 4 * 4])
    for even, odd in zip(words[::2], words[1::2], strict=False):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def folder_problems(folder: Path, rows: Rows) -> Iterator[Problem]:
    """What is wrong with the weights, and what is left half written; only where no search runs."""
    asked = {number: row for number, row in rows.trials.items() if row["weights_file"] is not None}
    for number, row in asked.items():
        if wrong := _weights(folder, number, row["weights_file"], is_completed=row["status"] == "completed"):
            yield _of_file(
                weights_name(number), WEIGHTS, wrong, Severity.LOST, Mend.FORGET_WEIGHTS, trial=number
            )
    for number, name in kept_weights(folder).items():
        file = f"weights/{name}"
        if number in rows.trials and number not in asked:
            wrong = "its trial does not name it; a resume would remove it"
            yield _of_file(file, NAMED, wrong, Severity.HARMLESS, Mend.SET_ASIDE, trial=number)
        elif number not in rows.trials:
            remedy = f"put {LOG_NAME} back if the journal was copied without it; else move the file away"
            wrong = "the journal has no such trial, so that it is older than the file"
            yield _of_file(file, NAMED, wrong, Severity.LOST, None, trial=number, remedy=remedy)
    left = (path for pattern in HALF_WRITTEN for path in folder.glob(pattern))
    for path in sorted(left):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            yield _of_file(name, FINISHED, "a kill left it", Severity.HARMLESS, Mend.REMOVE_FILE)


def _of_file(
    file: str,
    law: str,
    found: str,
    severity: Severity,
    mend: Mend | None,
    *,
    trial: int | None = None,
    remedy: str = "",
) -> Problem:
    return Problem(
        law=law,
        where=file,
        found=found,
        severity=severity,
        mend=mend,
        remedy=remedy,
        trial=trial,
        file=file,
    )


def _weights(folder: Path, number: int, name: object, *, is_completed: bool) -> str:
    """What is wrong with the weights that a trial names; empty where nothing is."""
    if name != weights_name(number):
        return f"trial {number} names {name!r}"
    if not is_completed:
        return f"trial {number} names it, but is not completed"
    try:
        return _safetensors(folder / weights_name(number))
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"


def _safetensors(path: Path) -> str:
    """What is wrong with a file's header or length; the numbers themselves carry no checksum."""
    if not path.is_file():
        return "the file is gone"
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(MOST_HEADER, size - 8):
            return "it is no whole safetensors file"
        try:
            tensors = parse_json(file.read(length))
            ends = [one["data_offsets"][1] for name, one in tensors.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return "its header cannot be read"
    return "" if expected == size else f"it has {size} bytes in place of {expected}"


def beside(folder: Path) -> tuple[str, ...]:
    """What else is in the folder, by name."""
    return tuple(name for name in BESIDE if os.path.lexists(folder / name.rstrip("/")))
