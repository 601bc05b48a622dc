"""Tells which files are images: by suffix where that says so, by content elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nas.data.tree import SHOWN, Tree, count, few, printable

# A file with one of these is an image, and a damaged one where it cannot be read.
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# People's images that Pillow, or this build of it, may have no decoder for.
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
    """Words the warning for images that Pillow has no decoder for."""
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
