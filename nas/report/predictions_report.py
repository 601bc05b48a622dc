"""What `nas predict` prints, and its CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nas.data.tree import few, printable
from nas.report.printing import (
    Column,
    Fact,
    Report,
    Row,
    Table,
    show_accuracy,
    show_count,
    unwritable_csv,
)

if TYPE_CHECKING:
    from nas.scoring.predicting import Prediction
    from nas.scoring.top_classes import Unreadable

MOST_IMAGES = 50
"""Images in the table; with more, only the first are shown."""

MOST_CLASSES = 20
"""Classes in the table of counts."""


class Write(Protocol):
    """Writes the predictions of one batch."""

    def __call__(self, images: Iterable[Prediction]) -> None:
        """Adds their lines."""
        ...


@contextmanager
def csv_writer(path: Path | None, top: int) -> Iterator[Write]:
    """Opens a CSV file (UTF-8) that gets a line for every image: file, class, probability, class, ...

    Lines are written as they come: what is there after an interruption is right as far as it goes.

    Args:
        path: The file; None writes nothing.
        top: Classes of each image.

    Raises:
        UsageError: The file cannot be written.
    """
    if path is None:
        yield lambda images: None  # noqa: ARG005
        return
    header = ["file", "class", "probability"]
    header += [f"{name}_{place}" for place in range(2, top + 1) for name in ("class", "probability")]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            yield lambda images: writer.writerows(map(_cells, images))
    except OSError as error:
        raise unwritable_csv(path, error) from error


def _cells(one: Prediction) -> list[str]:
    pairs = zip(one.classes, one.probabilities, strict=True)
    return [printable(one.file), *(cell for name, p in pairs for cell in (name, f"{p:.6f}"))]


class Tally:
    """What is kept of predictions for the report: the first of them, or all for JSON, and counts.

    Args:
        keeps_all: Whether every image is kept.
    """

    def __init__(self, *, keeps_all: bool) -> None:
        self._keeps_all = keeps_all
        self.images: list[Prediction] = []
        self.unreadable: list[Unreadable] = []
        self.classes: Counter[str] = Counter()

    def add(self, images: Iterable[Prediction], unreadable: Iterable[Unreadable]) -> None:
        """Adds a batch."""
        for one in images:
            self.classes[one.label] += 1
            if self._keeps_all or len(self.images) < MOST_IMAGES:
                self.images.append(one)
        self.unreadable += unreadable

    @property
    def total(self) -> int:
        """Images that were read."""
        return self.classes.total()


def predictions_report(
    tally: Tally, *, bundle: str, runtime: str, notes: Iterable[str], csv_file: Path | None
) -> Report:
    """Makes the report of `nas predict`.

    Args:
        tally: What was predicted.
        bundle: Folder of the network.
        runtime: What ran it.
        notes: What was passed over.
        csv_file: Where all predictions were written.
    """
    total = len(tally.unreadable) + tally.total
    lines = [f"note: {note}" for note in notes]
    if tally.unreadable:
        named = few([f"{one.name} ({one.reason})" for one in tally.unreadable])
        lines.append(f"WARNING: {len(tally.unreadable):,} of {total:,} images cannot be read: {named}")
    lines += [f"wrote {csv_file}"] if csv_file is not None else []
    unreadable = [{"file": one.name, "reason": one.reason} for one in tally.unreadable]
    return Report(
        title="",
        facts=(
            Fact(key="bundle", label="network", value=bundle),
            Fact(key="images", label="images", value=tally.total, text=f"{tally.total:,}"),
            Fact(key="runtime", label="runtime", value=runtime),
            Fact(key="unreadable", label="", value=unreadable),
        ),
        tables=(_image_table(tally), *([_count_table(tally)] if tally.total > 1 else [])),
        notes=tuple(lines),
    )


def _image_table(tally: Tally) -> Table:
    rows = tuple(_row(one) for one in tally.images)
    hidden = tally.total - min(len(rows), MOST_IMAGES)
    return Table(
        key="predictions",
        title="Predictions",
        columns=(
            Column(key="file", heading="file", show=printable),
            Column(key="class", heading="class", show=printable),
            Column(key="probability", heading="probability", show=show_accuracy, is_number=True),
            *([Column(key="others", heading="then", show=printable)] if _has_others(tally) else []),
        ),
        rows=rows,
        drawn=rows[:MOST_IMAGES],
        notes=(f"{hidden:,} more images: --csv FILE or --json has all",) if hidden else (),
    )


def _has_others(tally: Tally) -> bool:
    return any(len(one.classes) > 1 for one in tally.images)


def _row(one: Prediction) -> Row:
    pairs = [*zip(one.classes, one.probabilities, strict=True)]
    row: dict[str, object] = {
        "file": one.file,
        "class": one.label,
        "probability": one.probability,
        "top": [{"class": name, "probability": value} for name, value in pairs],
        "others": ", ".join(f"{name} {value:.4f}" for name, value in pairs[1:]),
    }
    return row


def _count_table(tally: Tally) -> Table:
    rows = tuple({"class": name, "images": number} for name, number in tally.classes.most_common())
    hidden = len(rows) - MOST_CLASSES
    return Table(
        key="counts",
        title="Images by class",
        columns=(
            Column(key="class", heading="class", show=printable),
            Column(key="images", heading="images", show=show_count, is_number=True),
        ),
        rows=rows,
        drawn=rows[:MOST_CLASSES],
        notes=(f"{hidden:,} more classes",) if hidden > 0 else (),
    )
