"""Owns writing a folder all or nothing: it appears whole, or what was there before stays.

Does not own what is in it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from nas.errors import ExportError

IGNORED = frozenset({"__pycache__"})
"""What loading a bundle's source leaves behind."""

KEPT = "latency-*.json"
"""What was measured of a bundle's network stays with it: each entry names its network by digest."""


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
    _check_place(folder, files, is_replaced)
    mark = secrets.token_hex(4)
    fresh = folder.with_name(f".{folder.name}.{mark}.new")
    old = folder.with_name(f".{folder.name}.{mark}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        yield fresh
        if folder.exists():
            for path in folder.glob(KEPT):
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
