"""Lists every file below a folder once, and finds the images, by suffix or else by content."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from nas import values
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


def check_outside(out: Path, spec: object) -> None:
    """Checks that a folder to write is not in a folder of images, where it would be taken for a class.

    Args:
        out: The folder to write; it need not exist.
        spec: What the images are: a folder's path, or anything else, which is passed over.

    Raises:
        DataError: It is among the images, and not hidden.
    """
    if not isinstance(spec, str | Path) or not Path(spec).expanduser().is_dir():
        return
    images, place = Path(spec).expanduser().resolve(), out.expanduser().resolve()
    if place.is_relative_to(images) and not any(is_hidden(name) for name in place.relative_to(images).parts):
        raise DataError(
            f"{out} must not be in the folder of images {spec}, where it would be taken for a class: give "
            "another --out",
            field="out",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file or folder that cannot be used, and why.

    Attributes:
        path: Relative to the listed folder, as the system gives it: `printable` makes it printable.
        reason: For users, such as "Permission denied".
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
    return values.few(names, printable)


def count(things: Sequence[object], noun: str) -> str:
    """Says how many things there are, such as "1 image" and "2,000 images"."""
    return values.counted(len(things), noun)


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


# A file with one of these is an image, and a damaged one where it cannot be read.
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Users' images that Pillow, or this build of it, may have no decoder for.
UNCERTAIN_SUFFIXES = frozenset(
    {
        *(".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".jxr"),
        *(".eps", ".svg"),
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
    }
)
# Pillow recognises these formats, but has no decoder for them.
FORMATS_WITHOUT_DECODER = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
PHONE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"heif", b"mif1", b"msf1"})
HEAD_BYTES = 32
WITHOUT_SUFFIX = "without suffix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """The files of a tree by what they are; those with a suffix of `SUFFIXES` are in none of the sets.

    Attributes:
        images: Images that were recognised by their content.
        undecodable: Images that Pillow, as it is installed, has no decoder for.
        others: All other files.
    """

    images: frozenset[str]
    undecodable: frozenset[str]
    others: frozenset[str]

    def is_image(self, path: str) -> bool:
        """Whether a file of the tree is an image that Pillow opens."""
        return path not in self.others and path not in self.undecodable


def find_kinds(tree: Tree) -> Kinds:
    """Looks at the content of the files whose suffix does not say that they are images."""
    unknown = [
        f"{folder}/{name}" if folder else name
        for folder, files in tree.files.items()
        for name in files
        if suffix(name) not in SUFFIXES
    ]
    Image.init()
    with ThreadPoolExecutor(16) as pool:
        judged = list(pool.map(_judge, [tree.root / path for path in unknown]))
    by_answer = {
        answer: frozenset(path for path, each in zip(unknown, judged, strict=True) if each is answer)
        for answer in (True, False, None)
    }
    return Kinds(images=by_answer[True], undecodable=by_answer[None], others=by_answer[False])


def suffix(name: str) -> str:
    """Returns the suffix of a name or path in small letters, with its dot; "" where there is none."""
    name = name.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def describe_others(paths: Sequence[str]) -> tuple[str, ...]:
    """Notes the files that are no images: how many of each suffix, and the first names."""
    if not paths:
        return ()
    return (f"passed over {count(paths, 'file')} without an image ({_by_suffix(paths)}): {few(paths)}",)


def describe_undecodable(paths: Sequence[str]) -> tuple[str, ...]:
    """The warning for images that Pillow has no decoder for."""
    if not paths:
        return ()
    return (
        f"skipped {count(paths, 'image')} that Pillow has no decoder for here ({_by_suffix(paths)}): "
        f"{few(paths)}; convert to JPEG or PNG",
    )


def _by_suffix(paths: Sequence[str]) -> str:
    counts = Counter(suffix(path) or WITHOUT_SUFFIX for path in paths)
    listed = [f"{number:,} {printable(kind)}" for kind, number in counts.most_common(SHOWN)]
    rest = len(paths) - sum(number for _, number in counts.most_common(SHOWN))
    return ", ".join(listed + ([f"{rest:,} of other kinds"] if rest else []))


def _judge(path: Path) -> bool | None:
    """Whether Pillow opens a file as an image; None for an image that it has no decoder for."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    if suffix(path.name) not in Image.registered_extensions() and not _is_accepted(head):
        is_image = False
    else:
        is_image = _opens(path)
    if is_image:
        return True
    is_phone_image = head[4:8] == b"ftyp" and head[8:12] in PHONE_BRANDS
    return None if head and (is_phone_image or suffix(path.name) in UNCERTAIN_SUFFIXES) else False


def _is_accepted(head: bytes) -> bool:
    """Whether a format of Pillow's recognises the first bytes of a file; far faster than opening it."""
    padded = head.ljust(HEAD_BYTES, b"\0")
    answers = (accept(padded) for _, accept in Image.OPEN.values() if accept is not None)
    return any(answer and not isinstance(answer, str) for answer in answers)  # text: why it has no decoder


def _opens(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.format not in FORMATS_WITHOUT_DECODER
    except Exception:  # what Pillow's many formats raise for files that are none of them has no end
        return False
