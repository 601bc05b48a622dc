"""Writes down in the journal itself which driver may write to it, for where a lock file cannot tell."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from nas.errors import StudyError
from nas.processes import Process, this_process


def claim(database: sqlite3.Connection, path: Path, *, unlocked: str) -> int:
    """Claims the journal for this process, in the transaction that is open.

    A claim is void where its process is dead, is this one, or wrote to another file (this one is a copy). Of
    another machine nobody can tell whether a process is dead there, but that it gave its lock free.

    Args:
        database: The journal.
        path: Its file.
        unlocked: What the lock file said before this process locked it; empty where there was none.

    Returns:
        The number of the claim: whoever finds another in the journal was replaced.

    Raises:
        StudyError: Another driver writes to the study, or may do so.
    """
    row = database.execute("SELECT host, process, started, inode FROM driver").fetchone()
    inode = path.stat().st_ino
    me = this_process()
    if row is not None and row[0] and row[3] == inode:
        other = Process(host=row[0], number=row[1], started=row[2])
        if other.is_here and other.is_alive and other != me:
            raise StudyError(
                f"another search already writes to {path.parent} ({other}): wait for it, stop it, or give "
                "another folder"
            )
        if not other.is_here and unlocked != str(other):
            raise StudyError(
                f"{other} writes to {path.parent}, or was killed while it did, and study.lock cannot tell "
                f"which: if it has ended, remove its claim with {_removal(path)}"
            )
    session = secrets.randbits(62)  # not counted, since a claim that was removed would begin again at 1
    database.execute(
        "INSERT OR REPLACE INTO driver (id, session, host, process, started, inode) "
        "VALUES (1, ?, ?, ?, ?, ?)",
        [session, me.host, me.number, me.started, inode],
    )
    return session


def check_claim(database: sqlite3.Connection, session: int, path: Path) -> None:
    """Checks in the transaction that is open that the claim of this number still holds.

    Raises:
        StudyError: Another driver has claimed the journal since.
    """
    row = database.execute("SELECT session FROM driver").fetchone()
    if row is None or row[0] != session:
        raise StudyError(
            f"another search has taken over {path.parent}: this one stops and writes nothing more to it. "
            "One search at a time writes to a study: wait for the other, or give another folder"
        )


def release_claim(database: sqlite3.Connection, session: int) -> None:
    """Gives the journal free for any process on any machine, unless another has it already."""
    database.execute("UPDATE driver SET host = '' WHERE session = ?", [session])


def _removal(path: Path) -> str:
    code = (
        f"import sqlite3; sqlite3.connect({str(path)!r}, isolation_level=None).execute('DELETE FROM driver')"
    )
    return f'python -c "{code}"'
