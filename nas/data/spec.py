"""How users spell what data they mean: a path, a name, or a table with its columns of labels."""

from __future__ import annotations

import re
from pathlib import Path

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
"""Files that are read as tables of file names and labels."""

_WITH_COLUMNS = re.compile(
    rf"(.+(?:{'|'.join(map(re.escape, TABLE_SUFFIXES))})):(.*)", re.IGNORECASE | re.DOTALL
)


def split_columns(spec: str | Path) -> tuple[Path, str]:
    """Takes `labels.csv:age,height` apart into the file and its columns, empty text where none are named."""
    path = Path(spec).expanduser()
    found = _WITH_COLUMNS.fullmatch(str(path))
    if found is None or path.exists():
        return path, ""
    return Path(found[1]), found[2]


def is_table(path: Path) -> bool:
    """Whether a path is named like a table of file names and labels."""
    return path.suffix.lower() in TABLE_SUFFIXES


def looks_like_path(spec: str) -> bool:
    """Whether a text can only be a path, also where there is no such file."""
    return (
        "/" in spec
        or "\\" in spec
        or spec.startswith((".", "~"))
        or spec.endswith(".npz")
        or is_table(split_columns(spec)[0])
    )
