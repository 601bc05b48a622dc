"""What `nas predict` prints, and its CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nas.data.tree import few, printable
from nas.report.predictions_forms import Form
from nas.report.printing import Column, Fact, Report, Row, Table, unwritable

if TYPE_CHECKING:
    from nas.export.preprocessing import Preprocessing
    from nas.scoring.outputs import Unreadable
    from nas.scoring.predictions import AnyPrediction

MOST_IMAGES = 50
"""Images in the table; with more, only the first are shown."""


class Write(Protocol):
    """Writes the predictions of one batch."""

    def __call__(self, images: Iterable[AnyPrediction]) -> None:
        """Adds their lines."""
        ...


@contextmanager
def csv_writer(path: Path | None, form: Form[Any]) -> Iterator[Write]:
    """Opens a CSV file (UTF-8) that gets a line for every image.

    Lines are written as they come: what is there after an interruption is right as far as it goes.

    Args:
        path: The file; None writes nothing.
        form: How a prediction is written.

    Raises:
        UsageError: The file cannot be written.
    """
    if path is None:
        yield lambda images: None  # noqa: ARG005
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(form.header)
            yield lambda images: writer.writerows(map(form.cells, images))
    except OSError as error:
        raise unwritable(path, error, field="csv") from error


class Tally:
    """What is kept of predictions for the report: the first of them, or all for JSON.

    Args:
        form: How a prediction is written.
        keeps_all: Whether every image is kept.
    """

    def __init__(self, form: Form[Any], *, keeps_all: bool) -> None:
        self.form = form
        self.total = 0
        self.rows: list[Row] = []
        self.drawn: list[Row] = []
        self.unreadable: list[Unreadable] = []
        self._keeps_all = keeps_all

    def add(self, images: Iterable[AnyPrediction], unreadable: Iterable[Unreadable]) -> None:
        """Adds a batch."""
        for one in images:
            self.total += 1
            self.form.add(one)
            if self._keeps_all:
                self.rows.append(self.form.row(one))
            elif len(self.drawn) < MOST_IMAGES:
                self.drawn.append(self.form.drawn(one))
        self.unreadable += unreadable


def predictions_report(
    tally: Tally,
    preprocessing: Preprocessing,
    *,
    bundle: str,
    runtime: str,
    notes: Iterable[str],
    csv_file: Path | None,
) -> Report:
    """Makes the report of `nas predict`.

    Args:
        tally: What was predicted.
        preprocessing: What the network predicts.
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
            Fact(key="task", label="", value=preprocessing.task),
            Fact(key="images", label="images", value=tally.total, text=f"{tally.total:,}"),
            Fact(key="runtime", label="runtime", value=runtime),
            Fact(key="unreadable", label="", value=unreadable),
        ),
        tables=(_image_table(tally), *([tally.form.summary()] if tally.total > 1 else [])),
        notes=tuple(lines),
    )


def _image_table(tally: Tally) -> Table:
    hidden = tally.total - len(tally.drawn)
    return Table(
        key="predictions",
        title="Predictions",
        columns=(Column(key="file", heading="file", show=printable), *tally.form.columns),
        rows=tuple(tally.rows),
        drawn=tuple(tally.drawn),
        notes=(f"{hidden:,} more images: --csv FILE or --json has all",) if hidden and not tally.rows else (),
    )
