"""Writes files and folders whole, and knows the process that left one unfinished."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from nas.errors import ExportError

CLOCK_SECONDS = 2.0
"""Two readings of when one process started differ by less, also where the system's clock is adjusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process on some machine; its start time distinguishes it from a later one with the same number.

    Attributes:
        host: Name of the machine.
        number: Process id there.
        started: When it started, in seconds since 1970; empty where that is not known. Earlier versions wrote
            the boot's id and the clock ticks since then, with `/` between.
    """

    host: str
    number: int
    started: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it belongs to this machine; only then `is_alive` is meaningful."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it runs on this machine; a zombie, which was killed and not waited for, does not."""
        import psutil

        try:
            process = psutil.Process(self.number)
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
            return self._has_started_at(process.create_time(), psutil.boot_time())
        except psutil.AccessDenied:
            return True  # it runs as another user
        except (psutil.NoSuchProcess, OverflowError, ValueError):
            return False

    def _has_started_at(self, seconds: float, boot: float) -> bool:
        if not self.started:
            return True
        _, is_of_earlier_version, number = self.started.rpartition("/")
        known = float(number)
        if is_of_earlier_version:  # written on Linux
            known = boot + known / os.sysconf("SC_CLK_TCK")
        return abs(seconds - known) < CLOCK_SECONDS

    def __str__(self) -> str:
        return f"process {self.number} on {self.host}"


def this_process() -> Process:
    """The process that asks."""
    import psutil

    number = os.getpid()
    return Process(
        host=socket.gethostname(), number=number, started=str(psutil.Process(number).create_time())
    )


IGNORED = frozenset({"__pycache__"})
"""What loading a bundle's source leaves behind."""

KEPT = "latency-*.json"
"""What was measured of a bundle's network stays with it: each entry names its network by digest."""

ABANDONED_SECONDS = 24 * 3600
"""What another machine's export, or an earlier version's, left for so long is no longer written to."""

_LEFT = re.compile(r"\.(?P<name>.+?)\.(?:(?P<host>[0-9a-f]{6})-(?P<process>\d+)-)?[0-9a-f]{8}\.(?:new|old)")


def write_whole(path: Path, content: str | bytes, *, makes_folder: bool = True) -> Path:
    """Writes a file atomically: after a crash it is the old file or the new one.

    Args:
        path: The file.
        content: What it shall hold.
        makes_folder: Whether its folder is made where it is missing.

    Returns:
        The path.

    Raises:
        OSError: The disk is full or may not be written to, or there is no folder.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    if makes_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        return scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def unfinished(folder: Path, names: str) -> list[Path]:
    """What a kill left in a folder of files that `write_whole` wrote, by a pattern of their names."""
    return list(folder.glob(f".{names}.*.new"))


@contextmanager
def fresh_folder(folder: Path, files: Collection[str], *, is_replaced: bool) -> Iterator[Path]:
    """Yields an empty folder beside the wanted one, and puts it in its place when the block has ended well.

    Args:
        folder: The wanted folder, resolved.
        files: Names that such a folder may hold; one with any other is never replaced.
        is_replaced: Whether a folder with such files may be replaced.

    Raises:
        ExportError: The folder holds something else, or cannot be written.
    """
    clear_leftovers(folder)
    _check_place(folder, files, is_replaced)
    me = this_process()
    mark = f"{_host_mark(me.host)}-{me.number}-{secrets.token_hex(4)}"
    fresh = folder.with_name(f".{folder.name}.{mark}.new")
    old = folder.with_name(f".{folder.name}.{mark}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        yield fresh
        if folder.exists():
            for path in folder.glob(KEPT):
                if path.is_file() and not path.is_symlink():
                    shutil.copy2(path, fresh / path.name)
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be written ({error.strerror or error}): choose a folder that you may write to, "
            "on a disk with free space"
        ) from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(fresh, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Removes what killed exports left beside a folder; puts back a bundle that one had moved aside.

    Only what a dead process left: it has this machine's mark and no such process runs, or it is of this
    folder and nothing in it was written for a day.
    """
    left = [(path, mark) for path in folder.parent.glob(".*") if (mark := _LEFT.fullmatch(path.name))]
    for path, mark in sorted(left, key=lambda one: one[0].suffix != ".old"):
        place = path.with_name(mark["name"])
        if not _is_of_the_dead(mark) and not (place == folder and _is_old(path)):
            continue
        if path.suffix == ".old" and not place.exists():
            path.rename(place)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_of_the_dead(mark: re.Match[str]) -> bool:
    host = this_process().host
    return mark["host"] == _host_mark(host) and not Process(host=host, number=int(mark["process"])).is_alive


def _is_old(path: Path) -> bool:
    try:
        newest = max(one.stat().st_mtime for one in (path, *path.rglob("*")))
    except OSError:
        return False  # another process is at work in it
    return time.time() - newest > ABANDONED_SECONDS


def _host_mark(host: str) -> str:
    return hashlib.sha256(host.encode()).hexdigest()[:6]


def _check_place(folder: Path, files: Collection[str], is_replaced: bool) -> None:
    try:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(f"{folder} must be a folder, but: {reason}; choose another name") from error
    foreign = sorted(name for name in names - set(files) - IGNORED if not fnmatch(name, KEPT))
    if foreign:
        raise ExportError(
            f"{folder} must be new, empty or an exported bundle, but holds {foreign[0]}: choose another one"
        )
    if names and not is_replaced:
        raise ExportError(f"{folder} already holds a bundle: choose another folder, or ask to overwrite it")
