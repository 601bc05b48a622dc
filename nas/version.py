"""Which version of the package this is, to the letter of its source."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "mnas"
PACKAGES = ("nas", "search_spaces", "controllers")
WORKER_PACKAGES = ("nas", "search_spaces")
"""The packages that run in workers; controllers stay with the driver."""


def package_version() -> str:
    """Version of the installed distribution, or `source` where it runs from a checkout."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "source"


def is_ours(value: object) -> bool:
    """Whether an object is of a class of this project, which keeps the contracts."""
    return not isinstance(value, type) and type(value).__module__.partition(".")[0] in PACKAGES


@cache
def package_fingerprint() -> str:
    """Changes with every change of the source that workers run (16 hex digits)."""
    return source_fingerprint(Path(__file__).resolve().parent.parent)


def source_fingerprint(root: Path) -> str:
    """Fingerprint of the worker packages under a folder."""
    digest = hashlib.sha256()
    for package in WORKER_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
