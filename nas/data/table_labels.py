"""Turns the cells of label columns into labels: classes, 0 and 1 for each label, or numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.data.images import Labels
from nas.data.table import NUMBER, plain
from nas.data.table_columns import FLAG_WORDS, MOSTLY, are_flags
from nas.data.targets import class_order
from nas.data.tree import few, printable
from nas.errors import DataError
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TaskName
from nas.values import shown

MISSING = frozenset({"", "nan", "n/a", "#n/a", "<na>", "null"})
"""Cells without a value, as spreadsheets and pandas write them; in small letters."""

SURE_SEPARATORS = ("|", ";")
MANY_NUMBERS = 20
"""Different whole numbers from which on it is said that they may be numbers to predict."""

SHARED = 0.25
"""Share of the words between commas that other cells have too, from which on commas separate labels."""

MANY_CLASSES = 10
"""Classes that are whole numbers from which on a class of too few images is taken for a number to predict."""

MOST_DIGITS = 18
WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
WITH_UNIT = re.compile(r"[+-]?\d+([.,]\d+)?\s*(?P<unit>[^\W\d_]{1,4}|[%‰°$€£])")
DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image of a table.

    Attributes:
        path: Its file, relative to the folder of the table.
        part: The split it is in: `train`, `val` or `test`.
        cells: The cells of the columns of labels.
        line: Where it was written, such as `labels.csv line 7`.
        further: The cells of other lines of the image, where several labels come in as many lines.
    """

    path: str
    part: str
    cells: tuple[str, ...]
    line: str
    further: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What the images of a table are labelled with.

    Attributes:
        task: What networks learn to predict.
        classes: Names of classes, labels or columns.
        labels: A row for each image, see `nas.data.images.Labels`.
        notes: What was decided on the user's behalf.
        warnings: What the user should look at.
        are_listed: Whether each image lists the labels it has, so that one that none lists is on no image.
        doubt: What else the cells may mean, with the remedy: for classes that have too few images.
    """

    task: TaskName
    classes: tuple[str, ...]
    labels: Labels
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    are_listed: bool = False
    doubt: str = ""


def read_labels(
    rows: Sequence[Row], columns: Sequence[str], *, delimiter: str, task: TaskName | None
) -> Answers:
    """Reads the labels of all images.

    Args:
        rows: The images.
        columns: Names of the columns of labels.
        delimiter: What separates the cells of the table.
        task: What networks are to learn; None infers it from the cells, and says so.

    Raises:
        DataError: A label is missing, or does not fit the task; or the task is not clear.
    """
    if len(columns) > 1:
        return _several_columns(rows, columns, delimiter, task)
    if any(row.further for row in rows):
        return _in_lines(rows, columns[0], delimiter)
    separator = _separator(rows, columns[0], delimiter, task)
    if separator is not None:
        return _separated(rows, columns[0], separator)
    pointed = _with_points(rows, delimiter, task)
    if task == REGRESSION or (task is None and _means_numbers(pointed)):
        return _numbers(pointed, columns, has_commas=pointed is not rows, is_asked=task == REGRESSION)
    if task == MULTILABEL:
        if all(row.cells[0].lower() in FLAG_WORDS for row in rows):
            return _flags(rows, columns)
        _refuse_numbers(pointed, columns[0])
        return _separated(rows, columns[0], " ")
    return _classes(rows, columns[0])


def _error(what: str, field: str = "data") -> DataError:
    return DataError(what, field=field)


def _require_values(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Refuses cells without a value."""
    missing = [
        (row, column)
        for row in rows
        for column, cell in zip(columns, row.cells, strict=True)
        if cell.lower() in MISSING
    ]
    if missing:
        row, column = missing[0]
        more = f", as have {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise _error(
            f"every image must have a label, but {row.line} ({printable(row.path)}) has "
            f"{shown(row.cells[columns.index(column)])} in the column {shown(column)}{more}: fill it in, or "
            "remove the line"
        )


def _several_columns(
    rows: Sequence[Row], columns: Sequence[str], delimiter: str, task: TaskName | None
) -> Answers:
    _require_values(rows, columns)
    if task is None and are_flags([cell for row in rows for cell in row.cells]):
        task = CLASSIFICATION if _are_one_hot(rows) else MULTILABEL
    if task == CLASSIFICATION:
        if not _are_one_hot(rows):
            raise _error(
                f"several columns are classes only where every image has one 1 among 0, but those of "
                f"{few(list(map(shown, columns)))} do not: choose one column, or give another task",
                "task",
            )
        return _one_hot(rows, columns)
    if task == MULTILABEL:
        return _flags(rows, columns)
    pointed = _with_points(rows, delimiter, task)
    return _numbers(pointed, columns, has_commas=pointed is not rows, is_asked=task == REGRESSION)


def _flag(cell: str) -> float | None:
    return 0.0 if cell == "-1" else FLAG_WORDS.get(cell.lower())


def _are_one_hot(rows: Sequence[Row]) -> bool:
    flags = [[_flag(cell) for cell in row.cells] for row in rows]
    return all(row.count(1.0) == 1 and None not in row for row in flags)


def _one_hot(rows: Sequence[Row], columns: Sequence[str]) -> Answers:
    """Classes, sorted as those of one column are."""
    classes = tuple(sorted(columns, key=class_order))
    names = [next(n for n, cell in zip(columns, row.cells, strict=True) if _flag(cell) == 1) for row in rows]
    return Answers(
        task=CLASSIFICATION,
        classes=classes,
        labels=np.array([classes.index(name) for name in names], dtype=np.int64),
        doubt=(
            "every image has one 1 in these columns; give --task multilabel if they are labels of their own"
        ),
        notes=(
            f"task: classification, as every image has one 1 in the columns {few(list(columns))}; "
            "--task multilabel reads them as labels of their own",
        ),
    )


def _flags(rows: Sequence[Row], columns: Sequence[str]) -> Answers:
    """0 and 1 in a column for each label."""
    is_signed = {cell for row in rows for cell in row.cells} == {"-1", "1"}
    labels = np.empty((len(rows), len(columns)), dtype=np.float32)
    for place, row in enumerate(rows):
        for column, cell in enumerate(row.cells):
            value = _flag(cell) if is_signed else FLAG_WORDS.get(cell.lower())
            if value is None:
                raise _error(
                    f"columns of labels must hold 0 and 1, but {row.line} has {shown(cell)} in the column "
                    f"{shown(columns[column])}: correct it, or give --task regression for numbers"
                )
            labels[place, column] = value
    signed = ", of which -1 is read as 0" if is_signed else ""
    return Answers(
        task=MULTILABEL,
        classes=tuple(columns),
        labels=labels,
        notes=(f"task: multilabel, with 0 and 1 in the columns {few(list(columns))}{signed}",),
    )


def _separator(rows: Sequence[Row], column: str, delimiter: str, task: TaskName | None) -> str | None:
    """What separates the labels of one image in a cell; None where a cell is one label."""
    if task not in (None, MULTILABEL):
        return None
    cells = [row.cells[0] for row in rows]
    for separator in SURE_SEPARATORS:
        if any(separator in cell for cell in cells):
            return separator
    if not any("," in cell for cell in cells):
        return None
    if task == MULTILABEL or all(_is_list(cell) for cell in cells):
        return ","
    if all(DECIMAL_COMMA.fullmatch(cell) for cell in cells):
        if delimiter != ",":
            return None  # a spreadsheet's decimal comma
        raise _error(
            f"a comma must be clear, but those of the column {shown(column)}, such as {cells[0]!r}, may be "
            "decimal commas or separate labels: write decimal points, or give --task multilabel",
            "task",
        )
    return "," if _share_words(cells) else None


def _share_words(cells: Sequence[str]) -> bool:
    """Whether words between commas come back in other cells, as labels do and parts of one name do not."""
    words = Counter(word for cell in set(cells) for word in set(_words(cell, ",")))
    return sum(times > 1 for times in words.values()) >= SHARED * len(words)


def _is_list(cell: str) -> bool:
    return cell.startswith("[") and cell.endswith("]")


def _words(cell: str, separator: str) -> list[str]:
    """The labels in a cell; a list of Python's loses its brackets and quotes."""
    if _is_list(cell):
        cell = cell[1:-1]
        return [word for part in cell.split(separator) if (word := part.strip().strip("'\"").strip())]
    return [word for part in cell.split(separator) if (word := part.strip())]


def _refuse_numbers(rows: Sequence[Row], column: str) -> None:
    """Refuses numbers that are not whole as names of labels."""
    if _means_numbers(rows):
        cell = next(row.cells[0] for row in rows if _is_fraction(row.cells[0]))
        raise _error(
            f"labels of multilabel must be words, or 0 and 1, but the column {shown(column)} holds numbers "
            f"such as {cell}: give --task regression to predict them, or choose another column",
            "task",
        )


def _in_lines(rows: Sequence[Row], column: str, delimiter: str) -> Answers:
    """Several labels of an image in as many lines, and perhaps several in a cell too."""
    cells = [cell for row in rows for cell in (*row.cells, *row.further)]
    every = [Row(path="", part="", cells=(cell,), line="") for cell in cells]
    separator = _separator(every, column, delimiter, MULTILABEL)
    _refuse_numbers(every, column)
    words = [
        [word for cell in (*row.cells, *row.further) for word in _cell_words(cell, separator)] for row in rows
    ]
    between = "" if separator is None else f", with {separator!r} between those of one line"
    how = f"as images have labels in several lines of the column {shown(column)}{between}"
    return _several(rows, column, words, how)


def _separated(rows: Sequence[Row], column: str, separator: str) -> Answers:
    """Several labels in a cell."""
    words = [_cell_words(row.cells[0], separator) for row in rows]
    how = f"with one label for each image in the column {shown(column)}"
    if any(len(every) > 1 for every in words):
        named = "spaces" if separator == " " else repr(separator)
        how = f"as the column {shown(column)} holds several labels with {named} between"
    return _several(rows, column, words, how)


def _cell_words(cell: str, separator: str | None) -> list[str]:
    """The labels in a cell, of which an empty one has none; without a separator it is one label."""
    if cell.lower() in MISSING:
        return []
    return [cell] if separator is None else _words(cell, separator)


def _several(rows: Sequence[Row], column: str, words: Sequence[Sequence[str]], how: str) -> Answers:
    """Labels of which each image has any number, from the words of each."""
    classes = tuple(sorted({word for every in words for word in every}, key=class_order))
    if not classes:
        raise _error(f"the column {shown(column)} must hold labels, but every cell is empty: fill them in")
    places = {name: place for place, name in enumerate(classes)}
    labels = np.zeros((len(rows), len(classes)), dtype=np.float32)
    for place, every in enumerate(words):
        labels[place, [places[word] for word in every]] = 1
    bare = [printable(row.path) for row, every in zip(rows, words, strict=True) if not every]
    warnings = (
        (f"{len(bare):,} images have no label and count as having none of them: {few(bare)}",) if bare else ()
    )
    return Answers(
        task=MULTILABEL,
        classes=classes,
        labels=labels,
        notes=(f"task: multilabel, {how}",),
        warnings=warnings + _case_warning(classes),
        are_listed=True,
    )


def _with_points(rows: Sequence[Row], delimiter: str, task: TaskName | None) -> Sequence[Row]:
    """Writes decimal points for commas where all cells are numbers and commas separate nothing else."""
    cells = [cell for row in rows for cell in row.cells if cell.lower() not in MISSING]
    if delimiter == "," and task != REGRESSION:
        return rows
    if not any("," in cell for cell in cells) or not all(DECIMAL_COMMA.fullmatch(cell) for cell in cells):
        return rows
    return [replace(row, cells=tuple(cell.replace(",", ".") for cell in row.cells)) for row in rows]


def _means_numbers(rows: Sequence[Row]) -> bool:
    """Whether the cells of a column are numbers to predict: some are not whole, and few are no numbers."""
    cells = [row.cells[0] for row in rows if row.cells[0].lower() not in MISSING]
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell)]
    return any(map(_is_fraction, numbers)) and len(numbers) >= MOSTLY * len(cells)


def _is_fraction(cell: str) -> bool:
    return NUMBER.fullmatch(cell) is not None and WHOLE.fullmatch(cell) is None


def _numbers(rows: Sequence[Row], columns: Sequence[str], *, has_commas: bool, is_asked: bool) -> Answers:
    """Numbers to predict; `is_asked` says that a user asked for them."""
    _require_values(rows, columns)
    labels = np.empty((len(rows), len(columns)), dtype=np.float32)
    for place, row in enumerate(rows):
        for column, cell in enumerate(row.cells):
            with np.errstate(over="ignore"):
                value = np.float32(cell) if NUMBER.fullmatch(cell) else np.float32(math.nan)
            if not np.isfinite(value):
                law = (
                    "labels of a regression must be finite numbers"
                    if is_asked or len(columns) == 1
                    else "several columns of labels must all hold 0 and 1, or finite numbers"
                )
                raise _error(
                    f"{law}, but {row.line} has {shown(cell)} in the column {shown(columns[column])}: "
                    "correct it, or give --task classification and one column for classes"
                )
            labels[place, column] = value
    of = "column" if len(columns) == 1 else "columns"
    return Answers(
        task=REGRESSION,
        classes=tuple(columns),
        labels=labels,
        notes=(
            f"task: regression of the numbers in the {of} {few(list(columns))}; images are not mirrored, as "
            "numbers may tell left from right",
            *(["commas in numbers are read as decimal points"] if has_commas else []),
        ),
    )


def _classes(rows: Sequence[Row], column: str) -> Answers:
    _require_values(rows, [column])
    cells = [row.cells[0] for row in rows]
    are_whole = all(map(_is_class_number, cells))
    names = [str(int(cell.partition(".")[0])) for cell in cells] if are_whole else cells
    classes = tuple(sorted(set(names), key=class_order))
    places = {name: place for place, name in enumerate(classes)}
    kind = "whole numbers" if are_whole else "text"
    notes = [f"task: classification by the column {shown(column)} of {kind}, {len(classes):,} classes"]
    warnings = []
    if are_whole and len(classes) >= MANY_NUMBERS:
        warnings.append(
            f"the column {shown(column)} holds {len(classes):,} different whole numbers, which are read as "
            "classes: give --task regression if they are numbers to predict"
        )
    splits = [(",", "commas"), (" ", "spaces")] if plain(column) in ("labels", "tags") else [(",", "commas")]
    unit = _shared_unit(classes)
    if unit:
        warnings.append(
            f"cells such as {cells[0]!r} are read as names of classes: if they are numbers to predict, write "
            f"them without {unit!r}"
        )
    split = next((word for sign, word in splits if any(sign in name for name in classes)), None)
    if split:
        notes.append(
            f"a cell with {split} is read as the name of one class; --task multilabel takes it apart"
        )
    return Answers(
        task=CLASSIFICATION,
        classes=classes,
        labels=np.array([places[name] for name in names], dtype=np.int64),
        notes=tuple(notes),
        warnings=(*warnings, *_case_warning(classes)),
        doubt=(
            "whole numbers are read as classes; give --task regression if they are numbers to predict"
            if are_whole and len(classes) >= MANY_CLASSES
            else ""
        ),
    )


def _shared_unit(classes: Sequence[str]) -> str:
    """The unit behind the number in every cell, as in `50%` and `3.5 kg`; empty where there is none."""
    found = [WITH_UNIT.fullmatch(name) for name in classes]
    units = {match["unit"] for match in found if match is not None}
    return units.pop() if None not in found and len(units) == 1 else ""


def _is_class_number(cell: str) -> bool:
    """Whether a cell is a whole number, and no code such as 007."""
    digits = cell.lstrip("+-").partition(".")[0]
    return WHOLE.fullmatch(cell) is not None and len(digits) <= MOST_DIGITS and str(int(digits)) == digits


def _case_warning(classes: Sequence[str]) -> tuple[str, ...]:
    """Warns of labels that differ in capitals or signs alone."""
    by_plain: dict[str, list[str]] = {}
    for name in classes:
        by_plain.setdefault(" ".join(name.lower().split()), []).append(name)
    alike = [" and ".join(map(shown, names)) for names in by_plain.values() if len(names) > 1]
    return (f"labels that differ in capitals or spaces alone are two: {few(alike)}",) if alike else ()
