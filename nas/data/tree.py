"""Lists every file below a folder once, and says which files and folders are not looked at."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas import conversion
from nas.errors import DataError

# Folders and files that systems and programs leave behind; names that begin with a dot are hidden anyway.
FOREIGN = frozenset(
    {
        *("__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "@sharebin", "@tmp"),
        *("#recycle", "#snapshot", "$recycle.bin", "$extend", "recycler", "system volume information"),
        *("lost+found", "lost.dir", "network trash folder", "temporary items"),
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    }
)
SHOWN = 5

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file or folder that cannot be used, and why.

    Attributes:
        path: Relative to the listed folder, as the system gives it: `printable` makes it printable.
        reason: For a person, such as "Permission denied".
        is_folder: Whether it is a folder, so that what it holds is not used either.
    """

    path: str
    reason: str
    is_folder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files below a folder, each listed once. All paths are relative to the folder, with `/`.

    Attributes:
        root: The folder, absolute.
        folders: The names of each folder's subfolders, ascending; the folder itself is "".
        files: The files of each folder with their sizes in bytes.
        hidden: Hidden and foreign files and folders, which are not looked into.
        skipped: Files and folders that cannot be used.
        repeated: Paths of files and folders that are listed under another path already.
    """

    root: Path
    folders: Mapping[str, Sequence[str]]
    files: Mapping[str, Mapping[str, int]]
    hidden: Sequence[str]
    skipped: Sequence[Skipped]
    repeated: Sequence[str]

    def below(self, folder: str) -> list[str]:
        """Returns the paths of all files at any depth below a folder, in the order of their parts."""
        found = []
        waiting = [folder]
        while waiting:
            where = waiting.pop()
            found += [join(where, name) for name in self.files[where]]
            waiting += [join(where, name) for name in self.folders[where]]
        return sorted(found, key=lambda path: path.split("/"))

    def size(self, path: str) -> int:
        """Returns the size of a file in bytes."""
        folder, _, name = path.rpartition("/")
        return self.files[folder][name]


def list_tree(folder: Path) -> Tree:
    """Lists a folder: links are followed, a file or folder with several paths is listed under one of them.

    A path without links comes before one with links, so a link to a file of the same folder adds nothing, and
    a link to a folder above ends there. Hard links are files of their own.

    Raises:
        DataError: The folder itself cannot be listed.
    """
    walk = _Walk(root=folder.resolve())
    walk.run()
    if walk.skipped and walk.skipped[0].path == "":
        raise DataError(f"{printable(str(folder))} cannot be read: {walk.skipped[0].reason}")
    return Tree(
        root=walk.root,
        folders={path: sorted(names) for path, names in walk.folders.items()},
        files=walk.files,
        hidden=sorted(walk.hidden),
        skipped=sorted(walk.skipped, key=lambda skipped: skipped.path),
        repeated=sorted(walk.repeated),
    )


def join(folder: str, name: str) -> str:
    """Puts a folder and a name together."""
    return f"{folder}/{name}" if folder else name


def is_within(path: str, folder: str) -> bool:
    """Whether a path is that of a folder or lies below it."""
    return not folder or path == folder or path.startswith(f"{folder}/")


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or one that systems and programs leave behind."""
    return name.startswith(".") or name.lower() in FOREIGN


def printable(name: str) -> str:
    r"""Escapes what cannot be printed or stored: line breaks, for instance, or bytes that are not UTF-8."""
    return name if name.isprintable() else "".join(map(_escaped, name))


def few(names: Sequence[str]) -> str:
    """Lists the first five names, and says how many more there are."""
    return conversion.few(names, printable)


def count(things: Sequence[object], noun: str) -> str:
    """Says how many things there are, such as "1 image" and "2,000 images"."""
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


@dataclass(slots=True, kw_only=True)
class _Walk:
    """The state of one listing: paths without links first, then the links that were met."""

    root: Path
    folders: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    seen_folders: set[Identity] = field(default_factory=set)
    seen_files: set[Identity] = field(default_factory=set)
    linked_folders: deque[str] = field(default_factory=deque)
    linked_files: dict[str, os.stat_result] = field(default_factory=dict)

    def run(self) -> None:
        self.seen_folders.update(_identity(above.stat()) for above in (self.root, *self.root.parents))
        self._list("", is_linked=False)
        while self.linked_folders:
            path = self.linked_folders.popleft()
            if self._is_new(path):
                self._attach(path)
                self._list(path, is_linked=True)
            else:
                self.repeated.append(path)
        for path in sorted(self.linked_files):
            self._add_linked(path, self.linked_files[path])

    def _list(self, start: str, *, is_linked: bool) -> None:
        """Lists a folder and its subfolders, and puts links aside."""
        waiting = [start]
        while waiting:
            path = waiting.pop()
            self.folders[path], self.files[path] = [], {}
            try:
                with os.scandir(self.root / path) as entries:
                    met = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self.skipped.append(Skipped(path=path, reason=_reason(error), is_folder=True))
                continue
            for entry in met:
                inner = join(path, entry.name)
                try:
                    self._meet(entry, path, inner, waiting, is_linked=is_linked)
                except OSError as error:
                    self.skipped.append(Skipped(path=inner, reason=_reason(error)))

    def _meet(
        self, entry: os.DirEntry[str], folder: str, path: str, waiting: list[str], *, is_linked: bool
    ) -> None:
        if is_hidden(entry.name):
            self.hidden.append(path)
        elif not _is_utf8(entry.name):
            self.skipped.append(
                Skipped(
                    path=path, reason="its name is not UTF-8", is_folder=entry.is_dir(follow_symlinks=False)
                )
            )
        elif entry.is_dir(follow_symlinks=False):
            if not is_linked or self._is_new(path):
                self._attach(path)
                waiting.append(path)
            else:
                self.repeated.append(path)
            if not is_linked:
                self.seen_folders.add(_identity((self.root / path).stat()))
        elif entry.is_dir():
            self.linked_folders.append(path)
        elif not entry.is_file():
            reason = "a link to nothing" if entry.is_symlink() else "no ordinary file"
            self.skipped.append(Skipped(path=path, reason=reason))
        elif is_linked or entry.is_symlink():
            self.linked_files[path] = (self.root / path).stat()
        else:
            status = entry.stat()
            self.files[folder][entry.name] = status.st_size
            self.seen_files.add(_identity(status))

    def _is_new(self, path: str) -> bool:
        """Whether a folder was not listed before; from now on it was."""
        identity = _identity((self.root / path).stat())
        is_new = identity not in self.seen_folders
        self.seen_folders.add(identity)
        return is_new

    def _attach(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        self.folders[above].append(name)

    def _add_linked(self, path: str, status: os.stat_result) -> None:
        folder, _, name = path.rpartition("/")
        if _identity(status) in self.seen_files:
            self.repeated.append(path)
        else:
            self.files[folder][name] = status.st_size
            self.seen_files.add(_identity(status))


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that Python could not decode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape").decode()
