"""Tests whether a folder has a study, and refuses a study without its journal."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from enum import Enum
from pathlib import Path

from nas.errors import StudyError
from nas.folders import RUN, holds_supernet
from nas.study.journal_tables import has_tables

FILE_NAME = "study.sqlite"
LOCK_NAME = "study.lock"
LOG_NAME, SHARED_NAME, ROLLBACK_NAME = (f"{FILE_NAME}-{suffix}" for suffix in ("wal", "shm", "journal"))

PARTS = ("weights", "logs", "export", "tensorboard")
"""Folders of a study; one with anything in it says that there was a study."""

FILES = (LOCK_NAME, "comparison.json", "search.png", "winner.png")
"""Files of a study; one that is not empty says that there was a study."""

_MAGIC = b"SQLite format 3\0"
_LEAF_OF_TABLE = 13


class _Main(Enum):
    """What the journal's main file is, as far as its first bytes say."""

    MISSING = "is missing"
    EMPTY = "is empty"
    WITHOUT_TABLES = "has no tables yet"
    FILLED = "holds something"


def has_study(folder: Path) -> bool:
    """Whether a folder holds a journal; otherwise it is free for a new study. Nothing is touched.

    Raises:
        StudyError: It is no folder, it holds a training or a bundle, or what is left of a study whose journal
            is missing, emptied, or lacks its `-wal` file.
    """
    try:
        _check_folder(folder)
        _check_file(folder / FILE_NAME)
        # Files are listed first: a search that makes its journal at this moment does not count as damaged.
        left = _left(folder)
        return _has_journal(folder, left)
    except OSError as error:
        raise StudyError(f"the folder {folder} cannot be read: {error}") from error


def _has_journal(folder: Path, left: list[str]) -> bool:
    path, log = folder / FILE_NAME, folder / LOG_NAME
    main = _main_file(path)
    if main is _Main.FILLED:
        return True
    if main is _Main.WITHOUT_TABLES and log.exists():
        if _log_has_tables(path):
            return True
    elif main is _Main.WITHOUT_TABLES:
        raise StudyError(
            f"{path} is a journal whose tables are still in {LOG_NAME}, which is missing beside it: copy "
            f"{LOG_NAME} from where {FILE_NAME} comes from, or give another folder. Nothing here was changed"
        )
    else:
        left += [name for name in (LOG_NAME, SHARED_NAME, ROLLBACK_NAME) if _is_filled(folder / name)]
    held = _other(folder)
    if held is not None:
        raise StudyError(f"{folder} must be the folder of a search, but holds {held}: give another folder")
    if not left:
        return False
    missing = f"{path} {main.value}"
    if main is _Main.MISSING and LOG_NAME not in left:
        missing += f", and so is {LOG_NAME}"
    beside = f" and {LOG_NAME} beside it" if LOG_NAME in left else f", with its {LOG_NAME} if there is one"
    raise StudyError(
        f"{missing}, but {folder} holds what is left of a study: {', '.join(left)}. To continue that study, "
        f"put {FILE_NAME} back{beside}; to begin another, give another folder or move these away. Nothing "
        "here was changed"
    )


def _other(folder: Path) -> str | None:
    """What else of ours a folder holds."""
    if holds_supernet(folder):
        return "a supernet"
    if (folder / RUN).is_file():
        return "a training of nas train"
    return "a bundle" if (folder / "weights.safetensors").is_file() else None


def check_parts(folder: Path) -> None:
    """Checks that whatever is there already under a study's names can be written to.

    Raises:
        StudyError: There is a file in place of a folder, or a folder in place of a file.
    """
    for name in PARTS:
        _check_folder(folder / name)
    _check_file(folder / LOCK_NAME)


def _check_folder(path: Path) -> None:
    if os.path.lexists(path) and not path.is_dir():
        kind = "a link to nothing" if not path.exists() else "a file"
        raise StudyError(f"{path} must be a folder, but is {kind}: move it away, or give another folder")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise StudyError(f"{path} must be a file, but is a folder: move it away, or give another folder")


def _left(folder: Path) -> list[str]:
    parts = [f"{name}/" for name in PARTS if (folder / name).is_dir() and any((folder / name).iterdir())]
    return parts + [name for name in FILES if _is_filled(folder / name)]


def _is_filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _main_file(path: Path) -> _Main:
    if not path.exists():
        return _Main.MISSING
    with path.open("rb") as file:
        start = file.read(108)
    if not start:
        return _Main.EMPTY
    # https://www.sqlite.org/fileformat.html: bytes 60 and 68 are user_version and application_id; at 100
    # begins the root of the table of tables, with its kind and the number of its rows.
    is_ours_or_foreign = start[60:64] != bytes(4) or start[68:72] != bytes(4)
    has_rows = start[100:101] != bytes([_LEAF_OF_TABLE]) or start[103:105] != bytes(2)
    if not start.startswith(_MAGIC) or is_ours_or_foreign or has_rows:
        return _Main.FILLED
    is_write_ahead = start[18:19] == b"\2"
    return _Main.WITHOUT_TABLES if is_write_ahead else _Main.EMPTY


def _log_has_tables(path: Path) -> bool:
    """Whether the `-wal` file beside a main file without tables holds them; only reads."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as database:
            return has_tables(database)
    except sqlite3.Error:
        return True  # opening the journal raises the error
