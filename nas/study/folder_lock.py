"""Locks a study's folder, so that one driver at a time writes to it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from nas.errors import StudyError
from nas.processes import this_process
from nas.study.study_folder import LOCK_NAME

_held: set[Path] = set()
"""Folders locked by this process: a record lock does not stop the process that has it already."""


class FolderLock:
    """Makes sure that one driver at a time works on a study.

    A POSIX record lock on a file of its own: the system drops it when the process ends however it ends,
    and neither forked nor spawned children inherit it. On a file system without locks it stops nobody: there
    the claim in the journal does (`nas.study.driver_claim`).

    Attributes:
        unlocked: What the file said before: who had the lock last; empty in a new study.

    Raises:
        StudyError: Another driver has the study.
        OSError: The file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        path = self._folder / LOCK_NAME
        if self._folder in _held:
            raise StudyError(f"a search in this process already writes to {folder}: wait for it to end")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(self._descriptor)
                raise StudyError(
                    f"another search already writes to {folder} ({holder or 'it has just begun'}): wait "
                    "for it, stop it, or give another folder"
                ) from None
            holder = ""
        self.unlocked = holder
        _held.add(self._folder)

    def sign(self) -> None:
        """Writes down who has the lock, once there is a journal: an empty lock file is of no study yet."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{this_process()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the study free; safe to call twice."""
        if self._folder in _held:
            _held.discard(self._folder)
            os.close(self._descriptor)
