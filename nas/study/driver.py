"""Keeps a study to one driver at a time: by a lock on its folder, and by a claim in its journal."""

from __future__ import annotations

import secrets
import sqlite3
import warnings
from pathlib import Path

from nas.errors import StudyError
from nas.io import Process, this_process
from nas.study.study_folder import LOCK_NAME

SIGNATURE_FROM = 1
"""Where the signature begins in the lock file: on Windows the byte that is locked cannot be read."""

_held: set[Path] = set()
"""Folders locked by this process, which a file system without locks would let it lock again."""


class FolderLock:
    """Makes sure that one driver at a time works on a study.

    The system gives the lock free when the process ends, however it ends. On a file system without locks it
    stops no other driver: there the claim in the journal does.

    Attributes:
        unlocked: Who had the lock last, as the file said before; empty in a new study, and without locks.

    Raises:
        StudyError: Another driver has the study.
        OSError: The file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout

        self._folder = folder.resolve()
        self._path = self._folder / LOCK_NAME
        if self._folder in _held:
            raise StudyError(f"a search in this process already writes to {folder}: wait for it to end")
        self._path.touch()
        holder = self._signature()  # read first, as some versions of filelock empty the file that they open
        self._lock = FileLock(self._path, thread_local=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # filelock would fall back to a lock that outlives a kill
                self._lock.acquire(blocking=False)
        except Timeout:
            raise StudyError(
                f"another search already writes to {folder} ({holder or 'it does not say which'}): wait "
                "for it, stop it, or give another folder"
            ) from None
        except (OSError, NotImplementedError, UserWarning):
            holder = ""
        self.unlocked = holder
        _held.add(self._folder)

    def sign(self) -> None:
        """Writes down who has the lock, once there is a journal: an empty lock file is of no study yet."""
        with self._path.open("r+b", buffering=0) as file:
            file.seek(SIGNATURE_FROM)
            file.write(f"{this_process()}\n".encode())
            file.truncate()

    def release(self) -> None:
        """Gives the study free; safe to call twice."""
        if self._folder in _held:
            _held.discard(self._folder)
            self._lock.release()

    def _signature(self) -> str:
        """Who signed last; empty where an earlier version did, whose kind of lock this one does not see."""
        with self._path.open("rb", buffering=0) as file:
            file.seek(SIGNATURE_FROM)
            text = file.read(200).decode(errors="replace").strip()
        return text if text.startswith("process ") else ""


def claim(database: sqlite3.Connection, path: Path, *, unlocked: str) -> int:
    """Claims the journal for this process, in the transaction that is open.

    A claim is void where its process is dead, is this one, or wrote to another file (this one is a copy).
    This machine cannot know whether a process of another one is dead, but whether its lock is free.

    Args:
        database: The journal.
        path: Its file.
        unlocked: What the lock file said before this process locked it; empty where there was none.

    Returns:
        The number of the claim: a driver that finds another number in the journal was replaced.

    Raises:
        StudyError: Another driver writes to the study, or may do so.
    """
    row = database.execute("SELECT host, process, started, inode FROM driver").fetchone()
    inode = path.stat().st_ino
    me = this_process()
    if row is not None and row[0] and row[3] == inode:
        other = Process(host=row[0], number=row[1], started=row[2])
        if other.is_here and other.number != me.number and other.is_alive:
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


def check_place(path: Path, inode: int) -> None:
    """Checks that the journal is where it was opened: SQLite goes on writing to a file that was deleted.

    Raises:
        StudyError: It was moved or deleted.
    """
    try:
        is_there = path.stat().st_ino == inode
    except OSError:
        is_there = False
    if not is_there:
        raise StudyError(
            f"{path} was moved or deleted while the search wrote to it: put it back, or repeat the command "
            "with its new folder, to continue. Everything finished is in it"
        )


def release_claim(database: sqlite3.Connection, session: int) -> None:
    """Gives the journal free for any process on any machine, unless another has it already."""
    database.execute("UPDATE driver SET host = '' WHERE session = ?", [session])


def _removal(path: Path) -> str:
    code = (
        f"import sqlite3; sqlite3.connect({str(path)!r}, isolation_level=None).execute('DELETE FROM driver')"
    )
    return f'python -c "{code}"'
