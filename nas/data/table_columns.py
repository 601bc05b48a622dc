"""Finds out which column of a table holds the files, which the split, and which the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from nas.data.layout import part_name
from nas.data.table import FILE_WORDS, LABEL_WORDS, NUMBER, Table, is_file_like, plain
from nas.data.table_files import FileFinder
from nas.data.tree import few, printable
from nas.errors import DataError
from nas.tasks import REGRESSION, TaskName
from nas.values import shown

SPLIT_WORDS = (
    "split",
    "subset",
    "partition",
    "datasplit",
    "set",
    "dataset",
    "part",
    "phase",
    "usage",
    "fold",
)
SURE_SPLIT_WORDS = SPLIT_WORDS[:4]
"""Names of a column that can be nothing but the split, so that every word in it must name one."""

SAMPLED_ROWS = 20
MOSTLY = 0.9
"""Share of the cells of a column that say what it holds; the others are mistakes, which are refused."""

FLAG_WORDS = {
    **dict.fromkeys(("1", "1.0", "1.", "true", "yes"), 1.0),
    **dict.fromkeys(("0", "0.0", "0.", "false", "no"), 0.0),
}
"""Words for 1 and 0 in a column that says whether an image has a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The places of the columns that are used, from 0.

    Attributes:
        file: Names of files.
        labels: Labels.
        split: Names of splits; None where no column says them.
        notes: What was decided on the user's behalf.
    """

    file: int
    labels: tuple[int, ...]
    split: int | None
    notes: tuple[str, ...]


def find_columns(table: Table, chosen: str, finder: FileFinder, task: TaskName | None) -> Columns:
    """Finds the columns of a table.

    Args:
        table: The table.
        chosen: The columns of labels by name, with commas between them; empty where they are to be found.
        finder: Looks for files.
        task: What networks are to learn, where it was said.

    Raises:
        DataError: There is no column of files, or it is not clear which columns are labels.
    """
    if len(table.columns) == 1:
        raise _error(
            table,
            f"must have a column of file names and one of labels, but its lines hold one cell, such as "
            f"{shown(table.rows[0][0])}: separate the columns by commas, semicolons or tabs",
        )
    file = _file_column(table, finder)
    split = _split_column(table, file)
    others = [place for place in range(len(table.columns)) if place not in (file, split)]
    if not others:
        raise _error(table, "must have a column of labels, but holds file names alone: add one")
    labels = _named_columns(table, chosen, others) if chosen else _label_columns(table, others, task)
    left_out = [
        printable(table.columns[place]) or "a column without name" for place in others if place not in labels
    ]
    notes = []
    if left_out:
        read = few([printable(table.columns[place]) for place in labels])
        word = "column" if len(labels) == 1 else "columns"
        notes.append(f"labels are read from the {word} {read} of {table.name}; passed over {few(left_out)}")
    return Columns(file=file, labels=labels, split=split, notes=tuple(notes))


def names_files(table: Table, finder: FileFinder) -> bool:
    """Whether a column of a table names files that are there."""
    return bool(_naming_files(table, finder))


def _error(table: Table, what: str, field: str = "data") -> DataError:
    return DataError(f"{printable(str(table.path))} {what}", field=field)


def _naming_files(table: Table, finder: FileFinder) -> list[int]:
    """The columns most of whose cells are files that are there: as written, or else below the table."""
    step = max(1, len(table.rows) // SAMPLED_ROWS)
    found = []
    for is_there in (
        lambda cell: finder.find_as_written(cell) is not None,
        lambda cell: _is_below(cell, finder),
    ):
        for place in range(len(table.columns)):
            cells = table.column(place)[::step]
            if 2 * sum(map(is_there, cells)) > len(cells):
                found.append(place)
        if found:
            break
    return found


def _is_below(cell: str, finder: FileFinder) -> bool:
    try:
        return finder.find(cell) is not None
    except DataError:  # several files
        return True


def _file_column(table: Table, finder: FileFinder) -> int:
    places = range(len(table.columns))
    known = [place for place in places if plain(table.columns[place]) in FILE_WORDS and table.has_names]
    found = _naming_files(table, finder)
    like = [place for place in places if any(map(is_file_like, table.column(place)))]
    for candidates in (
        [place for place in found if place in known],
        found,
        [p for p in like if p in known],
        like,
        known,
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            return _plainest(table, candidates)
    raise _error(
        table,
        f"must have a column of file names, but none of {_columns(table)} names files that are there: name "
        "the column `file`, and write the names relative to the table",
    )


def _plainest(table: Table, places: Sequence[int]) -> int:
    """The column of several that most plainly names files: by its name, else by names that do not repeat."""
    words = [plain(table.columns[place]) for place in places]
    ranked = sorted(
        (
            FILE_WORDS.index(word) if word in FILE_WORDS else len(FILE_WORDS),
            -len(set(table.column(place))),
            place,
        )
        for word, place in zip(words, places, strict=True)
    )
    if ranked[0][:2] == ranked[1][:2]:
        both = few([shown(table.columns[place]) for place in places])
        raise _error(table, f"must have one column of file names, but {both} all hold some: name one `file`")
    return ranked[0][2]


def _split_column(table: Table, file: int) -> int | None:
    """The column that names the split of each image, where there is one."""
    for word in SPLIT_WORDS:
        for place, name in enumerate(table.columns):
            if plain(name) != word or place == file or not table.has_names:
                continue
            is_part = [split_of(cell) is not None for cell in table.column(place)]
            if all(is_part):
                return place
            if any(is_part) or (word in SURE_SPLIT_WORDS and len(table.columns) > 2):
                row = is_part.index(False)
                raise _error(
                    table,
                    f"must say train, val or test in the column {shown(name)}, but line {table.lines[row]} "
                    f"has {shown(table.rows[row][place])}: correct it, or rename a column that is no split",
                )
    return None


def split_of(cell: str) -> str | None:
    """The split that a word means, `train`, `val` or `test`; None for another."""
    what = part_name(cell)
    return what.part if what is not None and not what.rest else None


def _named_columns(table: Table, chosen: str, others: Sequence[int]) -> tuple[int, ...]:
    """The columns that a user chose: one whose name holds commas comes before several."""
    by_name = {table.columns[place]: place for place in range(len(table.columns))}
    names = [chosen] if chosen.strip() in by_name else chosen.split(",")
    places = []
    for name in map(str.strip, names):
        same = [place for each, place in by_name.items() if plain(each) == plain(name)]
        place = by_name[name] if name in by_name else same[0] if len(same) == 1 and plain(name) else None
        if place is None:
            near = get_close_matches(name, list(by_name), n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"its columns are {_columns(table)}"
            raise _error(table, f"must have the column of labels {shown(name)}, but has none: {remedy}")
        if place not in others:
            raise _error(
                table,
                f"must have labels in the column {shown(name)}, but it holds the names of files or splits: "
                f"give another of {few([shown(table.columns[each]) for each in others])}",
            )
        places.append(place)
    if len(set(places)) < len(places):
        raise _error(
            table, f"must be given each column of labels once, but got {shown(chosen)}: leave out one"
        )
    return tuple(places)


def _label_columns(table: Table, others: Sequence[int], task: TaskName | None) -> tuple[int, ...]:
    """The columns of labels, where their names or all of their cells leave no doubt."""
    named = [place for place in others if plain(table.columns[place]) in LABEL_WORDS and table.has_names]
    for candidates in (others, named):
        if len(candidates) == 1:
            return (candidates[0],)
    kept = [place for place in others if not _is_index(table, place)]
    if len(kept) == 1:
        return (kept[0],)
    if kept and (_are_flags(table, kept) or _are_numbers(table, kept, task)):
        return tuple(kept)
    there = few([shown(table.columns[place]) for place in others])
    example = next(table.columns[place] for place in named or kept or others)
    raise _error(
        table,
        f"must make clear which columns are labels, but has {there} beside the file names: say which, as in "
        f"{table.name}:{printable(example)}",
    )


def _is_index(table: Table, place: int) -> bool:
    """Whether a column without a name of its own counts the lines, as pandas writes it."""
    name = table.columns[place].lower()
    if name not in ("", "index") and not name.startswith("unnamed:"):
        return False
    cells = table.column(place)
    return all(map(str.isdecimal, cells)) and len(set(cells)) == len(cells)


def _are_flags(table: Table, places: Sequence[int]) -> bool:
    return are_flags([cell for place in places for cell in table.column(place)])


def are_flags(cells: Sequence[str]) -> bool:
    """Whether cells say 0 and 1, but for a few mistakes; or all of them -1 and 1."""
    known = sum(cell.lower() in FLAG_WORDS for cell in cells)
    return known >= MOSTLY * len(cells) or set(cells) == {"-1", "1"}


def _are_numbers(table: Table, places: Sequence[int], task: TaskName | None) -> bool:
    """Whether columns are numbers to predict: all of them, and each with one that is not whole."""
    for place in places:
        cells = table.column(place)
        if table.delimiter != ",":  # what spreadsheets write where the decimal sign is a comma
            cells = [cell.replace(",", ".") for cell in cells]
        if not all(NUMBER.fullmatch(cell) for cell in cells):
            return False
        if task != REGRESSION and all(float(cell).is_integer() for cell in cells):
            return False
    return task in (None, REGRESSION)


def _columns(table: Table) -> str:
    return few([shown(name) for name in table.columns])
