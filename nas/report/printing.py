"""How results look: reports of facts and tables, drawn for users or written as JSON from the same data.

Numbers keep their full value in JSON and are shortened for users only.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import UsageError
from nas.io import write_whole
from nas.metrics import show_metric as show_metric
from nas.report.streams import json_output, tolerate
from nas.units import show_accuracy as show_accuracy
from nas.units import show_bytes as show_bytes
from nas.units import show_count as show_count
from nas.units import show_seconds as show_seconds
from nas.units import show_share as show_share
from nas.values import harmless

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        key: Name of the value in a row, and in JSON.
        heading: What users read above it.
        show: Formats a value; None in a row is always drawn as a dash.
        is_number: Whether it is set flush right.
    """

    key: str
    heading: str
    show: Callable[[Any], str] = str
    is_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a title.

    Attributes:
        key: Its name in JSON.
        title: What users read above it.
        columns: What is drawn; values of a row without a column are in JSON only.
        rows: The values.
        drawn: Rows for users where they are fewer than those in JSON; None draws `rows`.
        notes: Lines drawn below.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    drawn: tuple[Row, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line `label  text`, and its value in JSON.

    Attributes:
        key: Its name in JSON.
        label: What users read in front of it; empty where the value is in JSON only.
        value: The value in JSON.
        text: The value for users; the value itself by default.
    """

    key: str
    label: str
    value: Any
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a command has to say.

    Attributes:
        title: First line.
        facts: Lines of label and value.
        tables: Tables below them.
        notes: Lines at the end.
    """

    title: str
    facts: tuple[Fact, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """The same as JSON values: facts by key, tables as lists of rows by key, notes."""
        data: dict[str, Any] = {fact.key: fact.value for fact in self.facts}
        data |= {table.key: [dict(row) for row in table.rows] for table in self.tables}
        notes = [*(note for table in self.tables for note in table.notes), *self.notes]
        return data | ({"notes": notes} if notes else {})


def emit(report: Report, *, as_json: bool, console: Console | None = None) -> None:
    """Prints a report to standard output, drawn for users or as one JSON object."""
    if as_json:
        write_json(report.to_data())
        return
    draw(report, console or make_console())


def save_json(report: Report, path: Path) -> Path:
    """Writes a report into a file, as the JSON that `emit` prints.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        return write_whole(path, json.dumps(plain(report.to_data()), indent=1) + "\n")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}): choose another --out", field="out"
        ) from error


def write_json(data: object) -> None:
    """Prints one JSON value to standard output; numbers that JSON has no word for become null."""
    output = json_output()
    text = json.dumps(plain(data), indent=2, ensure_ascii=False)
    if harmless(text) != text:
        text = json.dumps(plain(data), indent=2)
    try:
        text.encode(output.encoding or "utf-8")
    except UnicodeEncodeError:  # an ASCII terminal, or a file's name that is no text
        text = json.dumps(plain(data), indent=2)
    output.write(text + "\n")
    output.flush()


def plain(value: object) -> object:
    """A value as JSON takes it: numbers that it has no word for are null, other things are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def unwritable(path: Path, error: OSError, *, field: str) -> UsageError:
    """The mistake of a file that cannot be written, which an option names."""
    return UsageError(
        f"{path} cannot be written ({error.strerror or error}): give a file in a folder that you may "
        "write to",
        field=field,
    )


def make_console(*, to_stderr: bool = False) -> Console:
    """A console without markup or guessing, at least 100 columns wide where it is not a terminal.

    What would change the terminal is shown escaped: every text that users read passes through here.
    """
    from rich.console import Console
    from rich.segment import Segment

    tolerate(sys.stderr if to_stderr else sys.stdout)

    class Harmless(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(harmless(segment.text), segment.style)

    console = Harmless(stderr=to_stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = max(120, console.width)
    return console


def draw(report: Report, console: Console) -> None:
    """Draws a report for users."""
    from rich.text import Text

    if report.title:
        console.print(Text(report.title, style="bold"))
    draw_facts(report.facts, console)
    for table in report.tables:
        console.print()
        draw_table(table, console)
    for note in report.notes:
        console.print(Text(note), soft_wrap=False)


def draw_facts(facts: tuple[Fact, ...], console: Console) -> None:
    """Draws label and value in two columns, long values wrapped in theirs."""
    from rich.table import Table as Grid
    from rich.text import Text

    shown = [fact for fact in facts if fact.label]
    if not shown:
        return
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for fact in shown:
        text = fact.text if fact.text is not None else str(fact.value)
        grid.add_row(fact.label, Text(text))
    console.print(grid)


def draw_table(table: Table, console: Console) -> None:
    """Draws one table with its notes."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    console.print(Text(table.title, style="bold"))
    rows = table.rows if table.drawn is None else table.drawn
    if not rows:
        console.print(Text("  none", style="dim"))
    else:
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
        for column in table.columns:
            grid.add_column(
                column.heading,
                justify="right" if column.is_number else "left",
                no_wrap=column.is_number,
                overflow="fold",
            )
        for row in rows:
            style = "green" if row.get("is_best") else ""
            cells = [_cell(column, row.get(column.key)) for column in table.columns]
            grid.add_row(*(Text(cell) for cell in cells), style=style)
        console.print(grid)
    for note in table.notes:
        console.print(Text(note, style="dim"))


def _cell(column: Column, value: object) -> str:
    return "–" if value is None else column.show(value)  # noqa: RUF001  # a dash, not a minus


TRIAL = Column(key="trial", heading="trial", is_number=True)
REWARD = Column(key="reward", heading="reward", show=show_accuracy, is_number=True)
FIDELITY = Column(key="fidelity", heading="fidelity", show=lambda share: f"{share:.3g}", is_number=True)
"""Columns of tables of trials."""

MACS = Column(key="macs", heading="macs", show=show_count, is_number=True)
PARAMS = Column(key="params", heading="params", show=show_count, is_number=True)
"""Columns that most tables of networks have."""
