"""Copies the rows of a damaged journal that can be read into a new file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from nas.reading import read_bytes
from nas.study.journal_file import READ_ERRORS
from nas.study.journal_tables import columns, make_tables

MOST_ROWS_PER_BYTE = 1 / 24
"""No row of a journal is shorter than 24 bytes, which bounds the row ids that are looked for."""

BY_ROWID = (
    "study",
    "candidate",
    "trial",
    "event",
    "controller",
    "step",
    "recommendation",
    "driver",
    "identity_copy",
)
BY_TRIAL = ("attempt", "measurement")

_MAGIC = b"SQLite format 3\0"


def salvage(source: Path, target: Path) -> dict[str, int]:
    """Writes a new journal of all rows of a damaged one that can be read.

    Args:
        source: The damaged file, a copy that may be changed, with its log beside it.
        target: The new file.

    Returns:
        The number of rows by table.

    Raises:
        sqlite3.Error: Not even the table of tables can be read.
    """
    _pad(source)
    if not _has_schema(source):
        _give_schema(source)
    with closing(_open(source)) as old, closing(sqlite3.connect(target, isolation_level=None)) as new:
        old.execute("SELECT count(*) FROM sqlite_master")
        new.execute("BEGIN")
        make_tables(new)
        most = max(int(source.stat().st_size * MOST_ROWS_PER_BYTE), 64)
        counts = {table: _copy(old, new, table, "rowid", most) for table in BY_ROWID}
        counts |= {table: _copy(old, new, table, "trial", counts["trial"] + most) for table in BY_TRIAL}
        new.execute("COMMIT")
    return counts


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.text_factory = lambda data: data.decode("utf-8", "replace")
    database.execute("PRAGMA writable_schema = ON")  # reads what it can of a damaged schema
    database.execute("PRAGMA cell_size_check = OFF")
    return database


def _pad(path: Path) -> None:
    """Gives a file the magic number and the length that SQLite expects of it, so that it opens it at all."""
    with path.open("r+b") as file:
        start = file.read(100)
        page = int.from_bytes(start[16:18], "big")
        page, count = 65536 if page == 1 else page, int.from_bytes(start[28:32], "big")
        if not start.startswith(_MAGIC):
            file.seek(0)
            file.write(_MAGIC)
        size = path.stat().st_size
        if page in (2**n for n in range(9, 17)) and size < page * count <= 2 * size + (64 << 20):
            file.truncate(page * count)


def _has_schema(path: Path) -> bool:
    """Whether the tables of a journal can be found in a file."""
    with closing(_open(path)) as database, suppress(*READ_ERRORS):
        return all(columns(database, table) for table in ("study", "trial", "candidate"))
    return False


def _give_schema(path: Path) -> None:
    """Writes the table of tables of a new journal over that of a damaged one.

    Every journal that this version began has its tables in the same pages, as they are made in one order. One
    that an earlier version began has not: then no row fits the constraints of its table, and nothing is read.
    """
    with closing(_open(path)) as database, suppress(*READ_ERRORS):
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    Path(f"{path}-wal").unlink(missing_ok=True)
    new = path.with_name("schema.sqlite")
    with closing(sqlite3.connect(new, isolation_level=None)) as database:
        database.execute("BEGIN")
        make_tables(database)
        database.execute("COMMIT")
        (size,) = database.execute("PRAGMA page_size").fetchone()
        roots = {number for (number,) in database.execute("SELECT rootpage FROM sqlite_master")}
    fresh, data = read_bytes(new), bytearray(read_bytes(path))
    data += bytes(max(0, len(fresh) - len(data)) + -len(data) % size)
    for number in range(1, len(fresh) // size + 1):
        if number not in roots:
            place = slice((number - 1) * size, number * size)
            data[place] = fresh[place]
    data[28:32] = (len(data) // size).to_bytes(4, "big")  # pages of the file, valid for this change:
    data[92:96] = data[24:28]
    path.write_bytes(data)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, key: str, most: int) -> int:
    try:
        names = sorted(columns(old, table) & columns(new, table))
    except READ_ERRORS:
        return 0
    if not names:
        return 0
    marks = ", ".join("?" * len(names))
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})"
    count = 0
    for row in _rows(old, f"SELECT {', '.join(names)} FROM {table} WHERE {key} BETWEEN ? AND ?", 0, most):
        count += _insert(new, insert, table, dict(zip(names, row, strict=True)))
    return count


def _insert(new: sqlite3.Connection, insert: str, table: str, row: dict[str, object]) -> int:
    """Inserts a row; a trial whose feedback rank or status cannot be goes in without, to be run again."""
    forms = [row]
    if table == "trial":
        forms += [row | {"feedback_rank": None}, row | {"feedback_rank": None, "status": "proposed"}]
    return next((1 for form in forms if new.execute(insert, [*form.values()]).rowcount > 0), 0)


def _rows(old: sqlite3.Connection, query: str, low: int, high: int) -> Iterator[tuple[object, ...]]:
    """Rows of a range of keys; around what cannot be read, by halves down to single keys."""
    waiting = [(low, high)]
    while waiting:
        low, high = waiting.pop()
        with suppress(*READ_ERRORS, OverflowError):
            yield from old.execute(query, [low, high]).fetchall()
            continue
        if low < high:
            middle = (low + high) // 2
            waiting += [(middle + 1, high), (low, middle)]
