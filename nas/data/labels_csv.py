"""Reads images whose labels are in a table: a CSV of file names and labels, or one for each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.data.files import read_files
from nas.data.images import Files, Labels, Reading, Wanted
from nas.data.layout import PART_WORDS, PartName, part_name
from nas.data.spec import is_table
from nas.data.splits import LEAST_IMAGES_PER_CLASS, Source
from nas.data.table import Table, read_table
from nas.data.table_columns import find_columns, names_files, split_of
from nas.data.table_files import FileFinder
from nas.data.table_labels import Answers, Row, read_labels
from nas.data.targets import by_name, label_counts
from nas.data.tree import few, printable
from nas.errors import DataError
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TaskName
from nas.trial import Say, say_nothing
from nas.values import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The images of a table, or of one for each split.

    Attributes:
        rows: The images.
        columns: Names of the columns of labels.
        delimiter: What separates cells.
        notes: What was decided on the user's behalf.
        warnings: What the user should look at.
    """

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    delimiter: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def load_table(
    path: Path,
    how: Wanted | Reading,
    *,
    chosen: str = "",
    task: TaskName | None = None,
    resident_bytes: int,
    progress: Say = say_nothing,
) -> Source:
    """Reads the images of a table of file names and labels.

    A column named `split` or the like says which images are `train`, `val` and `test`; else the table's name
    does, and tables beside it that are named alike give the other splits.

    Args:
        path: The table.
        how: What is wanted of the images; or how they are read, for a network that exists.
        chosen: The columns of labels, with commas between them; empty where they are to be found.
        task: What networks are to learn; None infers it from the labels.
        resident_bytes: See `read_files`.
        progress: Receives how many images were read.

    Raises:
        DataError: The table cannot be understood, a file is missing, listed twice with other labels or in two
            splits, or a label is missing or does not fit the task.
    """
    finder = FileFinder(path.parent.resolve())
    is_for_training = isinstance(how, Wanted)
    listing = _list(path, chosen, finder, task, is_for_training=is_for_training)
    listing = _once(listing, task)
    answers = read_labels(listing.rows, listing.columns, delimiter=listing.delimiter, task=task)
    if is_for_training:
        _check_trained(listing.rows, answers, path)
    parts, sizes = _parts(listing.rows, answers.labels, finder.root)
    source = read_files(
        parts,
        how,
        name=printable(path.parent.resolve().name if path.stem in PART_WORDS else path.stem),
        classes=answers.classes,
        sizes=sizes,
        resident_bytes=resident_bytes,
        progress=progress,
        task=answers.task,
        marks=tuple(by_name(answers.task, answers.classes, files.labels) for files in parts.values()),
    )
    for part, files in source.parts.items():
        if not len(files):
            raise DataError(
                f"none of the {len(parts[part]):,} {part} images of {path} can be read: replace them",
                field="data",
            )
    return replace(
        source,
        labels_are_listed=answers.are_listed,
        notes=listing.notes + answers.notes + _looked_up(listing, finder, path) + source.notes,
        warnings=listing.warnings + answers.warnings + source.warnings,
    )


def find_table(folder: Path) -> Path | None:
    """The table of labels in a folder; None where no table there names files.

    Raises:
        DataError: There are several.
    """
    found = []
    finder = FileFinder(folder.resolve())
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".csv", ".tsv") and path.is_file() and not path.name.startswith("."):
            try:
                is_found = names_files(read_table(path), finder)
            except DataError:
                is_found = False
            found += [path] if is_found else []
    trains = [path for path in found if (what := part_name(path.stem)) is not None and what.part == "train"]
    usual = [path for path in trains if not _rest(path)]
    for candidates in (usual, trains, found):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise DataError(
                f"one table of labels must be meant, but {folder} holds "
                f"{few([each.name for each in candidates])}: give one, as in {candidates[0]}",
                field="data",
            )
    return None


def _rest(path: Path) -> tuple[str, ...]:
    what = part_name(path.stem)
    return () if what is None else what.rest


def _list(
    path: Path, chosen: str, finder: FileFinder, task: TaskName | None, *, is_for_training: bool
) -> Listing:
    """The images of a table and of those beside it."""
    what = part_name(path.stem)
    table = read_table(path)
    columns = find_columns(table, chosen, finder, task)
    if columns.split is not None or what is None:
        listing = _rows(table, columns.file, columns.labels, columns.split, "train", finder)
        listing = replace(listing, notes=columns.notes + listing.notes)
    else:
        listing = _of_siblings(path, what, chosen, finder, task)
    given = {row.part for row in listing.rows}
    if is_for_training and "train" not in given:
        raise DataError(
            f"there must be images to train from, but {path} gives {' and '.join(sorted(given))} alone: add "
            "a table or lines for train, or give the table another name",
            field="data",
        )
    return listing


def _of_siblings(
    path: Path, what: PartName, chosen: str, finder: FileFinder, task: TaskName | None
) -> Listing:
    """The images of tables that are named alike, but for the split."""
    tables = _siblings(path, what)
    main = read_table(tables.get("train", path))
    columns = find_columns(main, chosen, finder, task)
    names = [main.columns[place] for place in columns.labels]
    listings, warnings, read = [], [], []
    for part, each in tables.items():
        table = read_table(each)
        if table.has_names and (missing := [name for name in names if name not in table.columns]):
            warnings.append(
                f"skipped {table.name}, which has no column {few(list(map(shown, missing)))}: its "
                f"{len(table.rows):,} images have no labels"
            )
            continue
        own = find_columns(table, ",".join(names) if len(names) > 1 else names[0], finder, task)
        listings.append(_rows(table, own.file, own.labels, None, part, finder))
        read.append(f"{part} from {table.name}")
    note = (f"splits are read by the tables' names: {', '.join(read)}",) if len(read) > 1 else ()
    return Listing(
        rows=tuple(row for listing in listings for row in listing.rows),
        columns=tuple(names),
        delimiter=main.delimiter,
        notes=columns.notes + note,
        warnings=tuple(warnings),
    )


def _siblings(path: Path, what: PartName) -> dict[str, Path]:
    """The table of each split beside a table that is named after one."""
    by_part: dict[str, list[tuple[tuple[int, int], Path]]] = {}
    for other in sorted(path.parent.iterdir()):
        named = part_name(other.stem) if is_table(other) and other.is_file() else None
        if named is not None and named.rest == what.rest:
            by_part.setdefault(named.part, []).append((named.rank, other))
    tables = {}
    for part in PART_WORDS:
        ranked = sorted(by_part.get(part, []))
        if part == what.part:
            tables[part] = path
        elif ranked:
            if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
                raise DataError(
                    f"one table must hold the {part} split, but {few([each.name for _, each in ranked])} are "
                    f"beside {path}: rename all but one",
                    field="data",
                )
            tables[part] = ranked[0][1]
    return tables


def _rows(
    table: Table, file: int, labels: Sequence[int], split: int | None, part: str, finder: FileFinder
) -> Listing:
    """The images of one table.

    Raises:
        DataError: A file is not there.
    """
    rows, missing = [], []
    for cells, line in zip(table.rows, table.lines, strict=True):
        own = part if split is None else split_of(cells[split]) or part
        path = finder.find(cells[file], own)
        where = f"{table.name} line {line}"
        if path is None:
            missing.append(f"{printable(cells[file])!r} ({where})")
        else:
            rows.append(Row(path=path, part=own, cells=tuple(cells[place] for place in labels), line=where))
    if missing:
        are = "is not there" if len(missing) == 1 else "are not there"
        raise DataError(
            f"every image of {table.name} must be a file, relative to {finder.root} or below it, but "
            f"{len(missing):,} of {len(table.rows):,} {are}: {few(missing)}; correct the names, add the "
            "files or remove the lines",
            field="data",
        )
    return Listing(
        rows=tuple(rows),
        columns=tuple(table.columns[place] for place in labels),
        delimiter=table.delimiter,
    )


def _once(listing: Listing, task: TaskName | None) -> Listing:
    """Lists every image once, in the order of names; several lines may each give a label for multilabel.

    Raises:
        DataError: An image is in two splits, or has other labels in another line.
    """
    met: dict[str, Row] = {}
    repeated, added = [], []
    for row in listing.rows:
        first = met.setdefault(row.path, row)
        if first is row:
            continue
        if first.part != row.part:
            raise DataError(
                f"an image must be in one split, but {printable(row.path)} is in {first.part} ({first.line}) "
                f"and in {row.part} ({row.line}): remove one of the lines",
                field="data",
            )
        if row.cells == first.cells or set(row.cells) <= set(first.further):
            repeated.append(printable(row.path))
        elif task == MULTILABEL and len(row.cells) == 1:
            met[row.path] = replace(first, further=(*first.further, *row.cells))
            added.append(printable(row.path))
        else:
            raise _contradiction(first, row)
    notes = listing.notes
    if repeated:
        repeat = "1 line repeats" if len(repeated) == 1 else f"{len(repeated):,} lines repeat"
        notes += (f"{repeat} an image and its labels: {few(repeated)}",)
    if added:
        add = "1 line adds" if len(added) == 1 else f"{len(added):,} lines add"
        notes += (f"{add} a label to an image of an earlier line: {few(added)}",)
    return replace(listing, rows=tuple(sorted(met.values(), key=lambda row: row.path)), notes=notes)


def _contradiction(first: Row, second: Row) -> DataError:
    """The error for two lines that label one image otherwise."""
    both = (", ".join(each.cells) for each in (first, second))
    remedy = (
        ", or give --task multilabel if an image may have several labels" if len(first.cells) == 1 else ""
    )
    return DataError(
        f"an image must have the same labels in every line, but {printable(first.path)} has "
        f"{' and '.join(map(shown, both))} ({first.line}, {second.line}): remove one of the lines{remedy}",
        field="data",
    )


def _check_trained(rows: Sequence[Row], answers: Answers, path: Path) -> None:
    """Checks that every class or label has training images.

    Raises:
        DataError: One is in another split alone, or classes may be numbers.
    """
    if answers.task == REGRESSION:
        return
    if answers.task == CLASSIFICATION:
        _check_meant(answers, path)
    is_trained = np.array([row.part == "train" for row in rows])
    counts = label_counts(answers.task, answers.classes, answers.labels)
    learned = label_counts(answers.task, answers.classes, answers.labels[is_trained])
    for place in np.flatnonzero((np.array(counts) > 0) & (np.array(learned) == 0)).tolist():
        has = answers.labels == place if answers.task == CLASSIFICATION else answers.labels[:, place] > 0
        row = rows[int(np.flatnonzero(has)[0])]
        raise DataError(
            f"every label must be learned from training images, but {shown(answers.classes[place])} is in "
            f"{row.part} alone ({row.line}): correct it, add training images of it, or remove the line",
            field="data",
        )


def _check_meant(answers: Answers, path: Path) -> None:
    """Refuses classes of too few images where the cells may mean something else."""
    counts = label_counts(CLASSIFICATION, answers.classes, answers.labels)
    rarest = min(range(len(counts)), key=lambda place: counts[place])
    if answers.doubt and counts[rarest] < LEAST_IMAGES_PER_CLASS:
        raise DataError(
            f"each class needs at least {LEAST_IMAGES_PER_CLASS} images, but of the {len(counts):,} classes "
            f"read from {path}, {shown(answers.classes[rarest])} has {counts[rarest]}: {answers.doubt}",
            field="task",
        )


def _parts(rows: Sequence[Row], labels: Labels, root: Path) -> tuple[dict[str, Files], dict[str, int]]:
    """The files of each split, and their sizes in bytes."""
    parts = {}
    for part in PART_WORDS:
        places = np.array([place for place, row in enumerate(rows) if row.part == part], dtype=np.int64)
        if len(places):
            paths = tuple(rows[place].path for place in places.tolist())
            parts[part] = Files(root=str(root), paths=paths, labels=labels[places])
    sizes = {path: (root / path).stat().st_size for files in parts.values() for path in files.paths}
    return parts, sizes


def _looked_up(listing: Listing, finder: FileFinder, path: Path) -> tuple[str, ...]:
    """Notes that files were looked for in the folders below, and which of their images are not listed."""
    if not finder.is_listed:
        return ()
    first = listing.rows[0].path
    notes = [f"file names are looked up below {printable(str(path.parent))}; the first is {printable(first)}"]
    left = sorted(finder.images() - {row.path for row in listing.rows})
    if left:
        notes.append(f"passed over {len(left):,} images below that no line names: {few(left)}")
    return tuple(notes)
