"""Reads a table of text: CSV with commas, semicolons or tabs, with or without names of its columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.data.tree import SUFFIXES, printable, suffix
from nas.errors import DataError
from nas.reading import read_bytes
from nas.values import shown

DELIMITERS = ("\t", ",", ";", "|")
"""Separators of columns; the first one that gives every line as many cells is taken."""

MOST_TABLE, MOST_CELLS = 256 * 2**20, 20_000_000
"""Bytes and cells of a table; 1.3 million images of ImageNet with their labels are 80 MB."""

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

FILE_WORDS = (
    *("file", "filename", "filepath", "path", "image", "imagefile", "imagefilename", "imagepath"),
    *("imagename", "imageid", "img", "imgfile", "imgpath", "imgname", "imgid", "fname", "picture", "photo"),
    *("images", "files", "filenames", "id", "idcode", "name"),
)
"""Names of a column of file names, the plainest first; small letters and digits alone count."""

LABEL_WORDS = (
    *("label", "labels", "class", "classes", "classname", "classid", "target", "targets"),
    *("category", "categories", "tag", "tags"),
)
"""Names of a column of labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The cells of a table, without surrounding spaces.

    Attributes:
        path: Its file.
        columns: Names of the columns; their places, from 1, where the file does not name them.
        has_names: Whether the file names its columns.
        rows: The cells, row by row.
        lines: The line of the file that each row ends on, from 1.
        delimiter: What separates cells.
    """

    path: Path
    columns: tuple[str, ...]
    has_names: bool
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    delimiter: str

    @property
    def name(self) -> str:
        """The file's name, printable."""
        return printable(self.path.name)

    def column(self, place: int) -> list[str]:
        """The cells of a column."""
        return [row[place] for row in self.rows]


def plain(name: str) -> str:
    """A name as small letters and digits alone, for comparison."""
    return "".join(character for character in name.lower() if character.isalnum())


def read_table(path: Path) -> Table:
    """Reads a table.

    Raises:
        DataError: It cannot be read, is no UTF-8 text, is empty, or its lines differ in their cells' number.
    """
    text = _read_text(path)
    delimiter, rows, lines = _parse(path, text)
    has_names = _names_columns(rows)
    columns = rows[0] if has_names else tuple(str(place + 1) for place in range(len(rows[0])))
    if has_names:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise _error(
            path, "must hold a line for each image, but holds names of columns alone: add the images"
        )
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise _error(path, f"must name each column once, but {shown(repeated[0])} is there twice: rename one")
    return Table(
        path=path,
        columns=columns,
        has_names=has_names,
        rows=tuple(rows),
        lines=tuple(lines),
        delimiter=delimiter,
    )


def _error(path: Path, what: str) -> DataError:
    return DataError(f"{printable(str(path))} {what}", field="data")


def _read_text(path: Path) -> str:
    try:
        data = read_bytes(path, MOST_TABLE)
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror or error}") from error
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # a spreadsheet's Unicode text
    encoding = "utf-16" if is_wide else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(
            path, f"must be UTF-8 text, but line {line} is not: save it as UTF-8 CSV, or export it as CSV"
        ) from error
    if "\0" in text:
        raise _error(path, "must be text, but holds zero bytes: export it as UTF-8 CSV")
    if not text.strip():
        raise _error(path, "must hold a line for each image, but is empty: write file names and labels")
    return text


Rows = tuple[list[tuple[str, ...]], list[int]]


def _parse(path: Path, text: str) -> tuple[str, list[tuple[str, ...]], list[int]]:
    """The separator, the rows that hold anything, and the line that each ends on."""
    candidates = DELIMITERS if path.suffix.lower() in (".csv", ".tsv") else (*DELIMITERS, " ")
    read: dict[str, Rows] = {}
    problem = ""
    for delimiter in candidates:
        try:
            read[delimiter] = _split(text, delimiter)
        except csv.Error as error:
            problem = problem or str(error)
    if not any(rows for rows, _ in read.values()) and not problem:
        raise _error(path, "must hold a line for each image, but has separators alone: write names")
    read = {each: found for each, found in read.items() if found[0]}
    even = [each for each, (rows, _) in read.items() if len(rows[0]) > 1 and _is_even(rows)]
    if even:
        chosen = next((each for each in even if _has_files(read[each][0])), even[0])
        return chosen, *read[chosen]
    if problem:
        raise _error(path, f"must be a table, but {problem}: check the quotes")
    wide = max(read, key=lambda each: len(read[each][0][0]))
    rows, lines = read[wide]
    cells = len(rows[0])
    if _is_even(rows):
        return wide, rows, lines  # of one column
    other = next(place for place, row in enumerate(rows) if len(row) != cells)
    raise _error(
        path,
        f"must have as many cells in every line, but line {lines[0]} has {cells} and line {lines[other]} has "
        f'{len(rows[other])}: quote cells that hold {shown(wide)}, as in "a{wide}b"',
    )


def _split(text: str, delimiter: str) -> Rows:
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    cells: list[str] = []
    count = 0
    try:
        for cells in reader:
            count += len(cells)
            if count > MOST_CELLS:
                raise csv.Error(f"it has more than {MOST_CELLS:,} cells")
            row = tuple(cell.strip() for cell in cells)
            if any(row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num} cannot be read ({error})") from error
    if any("\n" in cell for cell in cells) and text.count('"') % 2:
        raise csv.Error("a quoted cell does not end")
    return rows, lines


def _is_even(rows: Sequence[Sequence[str]]) -> bool:
    return all(len(row) == len(rows[0]) for row in rows)


def is_file_like(cell: str) -> bool:
    """Whether a cell ends as the names of image files do."""
    return suffix(cell.replace("\\", "/")) in SUFFIXES


def _has_files(rows: Sequence[Sequence[str]]) -> bool:
    return any(is_file_like(cell) for cell in rows[-1])


def _names_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: it holds no file name and, but for known names, no number."""
    first = rows[0]
    if any(map(is_file_like, first)):
        return False
    if any(plain(cell) in FILE_WORDS for cell in first):
        return True
    return not any(NUMBER.fullmatch(cell) for cell in first)
