"""Finds the image file that a cell of a table means."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nas.data.layout import part_name
from nas.data.table import is_file_like
from nas.data.tree import SUFFIXES, few, list_tree, suffix
from nas.errors import DataError


@dataclass(slots=True)
class FileFinder:
    """Looks files up beside a table: as they are written, then in the folders below it, by name or stem.

    Attributes:
        root: The folder of the table, absolute; all paths found are relative to it.
        is_listed: Whether the folders below had to be looked through.
    """

    root: Path
    is_listed: bool = False
    by_name: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_stem: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def find(self, cell: str, part: str | None = None) -> str | None:
        """The path of the file that a cell means, or None.

        It is relative to the table's folder, or absolute; or it goes on from the folder's name, as paths do
        that were written before a folder was moved. What is not there is looked for in the folders below,
        with the suffixes of images where it has none. Of several, those in a folder named like the split
        count.

        Args:
            cell: The cell.
            part: `train`, `val` or `test`, where that is known.

        Raises:
            DataError: There are several such files.
        """
        path = self.find_as_written(cell)
        if path is not None or not cell:
            return path
        self._list()
        text = cell.replace("\\", "/")
        wanted = str(PurePosixPath(text))
        last = wanted.rpartition("/")[2]
        found = [path for path in self.by_name.get(last, ()) if _ends(path, wanted)]
        if not found and not is_file_like(last):
            found = [path for path in self.by_stem.get(last, ()) if _ends(path[: -len(suffix(path))], wanted)]
        if len(found) > 1 and part is not None:
            found = [path for path in found if _is_of(path, part)] or found
        if len(found) > 1:
            raise DataError(
                f"a file name must mean one file, but {cell!r} may be {few(sorted(found))}: write the folder "
                "too, relative to the table",
                field="data",
            )
        return found[0] if found else None

    def find_as_written(self, cell: str) -> str | None:
        """The path of a file that a cell names in full, without a look at the folders below; or None."""
        if self._is_file(cell):
            return self._relative(cell)
        text = cell.replace("\\", "/")
        return next(
            (self._relative(path) for path in (text, *self._moved(text)) if self._is_file(path)), None
        )

    def images(self) -> set[str]:
        """The paths of all images below the folder, where it was looked through."""
        return {path for paths in self.by_stem.values() for path in paths}

    def _is_file(self, path: str) -> bool:
        try:
            return os.path.isfile(os.path.join(self.root, path))  # noqa: PTH113, PTH118 - a million times
        except ValueError:  # a zero byte
            return False

    def _moved(self, text: str) -> list[str]:
        """What follows the name of the table's folder in a path."""
        parts = text.split("/")
        return ["/".join(parts[place + 1 :]) for place, name in enumerate(parts) if name == self.root.name]

    def _relative(self, path: str) -> str:
        parts = path.split("/")
        if parts[0] and ".." not in parts:  # nearly all are; the rest takes long for a million
            return "/".join(part for part in parts if part not in ("", "."))
        whole = os.path.normpath(self.root / path)
        return Path(os.path.relpath(whole, self.root)).as_posix()

    def _list(self) -> None:
        if self.is_listed:
            return
        self.is_listed = True
        for path in list_tree(self.root).below(""):
            name = path.rpartition("/")[2]
            self.by_name[name].append(path)
            if suffix(name) in SUFFIXES:
                self.by_stem[name[: -len(suffix(name))]].append(path)


def _ends(path: str, wanted: str) -> bool:
    return path == wanted or path.endswith(f"/{wanted}")


def _is_of(path: str, part: str) -> bool:
    """Whether a folder above a file is named like a split."""
    names = (part_name(folder) for folder in path.split("/")[:-1])
    return any(name is not None and name.part == part for name in names)
