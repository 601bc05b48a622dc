"""Lines that the reports of several tasks have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, cast

from nas.report.printing import Fact, Table, show_accuracy

if TYPE_CHECKING:
    from nas.scoring.calibration import ConfidenceBin


def score_fact(key: str, label: str, value: float | None, none: str = "none", said: str = "") -> Fact:
    """A score with four digits and what is said of it; or why there is none."""
    text = none if value is None else f"{show_accuracy(value)}{said}"
    return Fact(key=key, label=label, value=value, text=text)


def interval_fact(key: str, interval: tuple[float, float] | None) -> Fact:
    """The interval of a score, for JSON alone."""
    return Fact(key=f"{key}_interval", label="", value=None if interval is None else list(interval))


def calibration_facts(error: float, bins: Sequence[ConfidenceBin]) -> tuple[Fact, ...]:
    """The expected calibration error; in JSON also the bins that it is of."""
    text = f"{error:.4f}, expected, {len(bins)} bins"
    return (
        Fact(key="calibration_error", label="calibration error", value=error, text=text),
        Fact(key="reliability", label="", value=[asdict(one) for one in bins]),
    )


def more_in_csv(count: int, what: str) -> tuple[str, ...]:
    """Says how many mistakes are not shown."""
    return (f"{count:,} more {what}: --top N, or --csv for all",) if count > 0 else ()


def only_worst(table: Table, *, by: str, most: int, title: str, what: str) -> Table:
    """The table with its worst rows alone, where there are more of them than so many; JSON has all.

    Args:
        table: With the names in its first column.
        by: The score that is low in the worst rows; rows without it are not shown.
        most: Rows to show.
        title: With `{}` for their number.
        what: What the rows are of, in the plural.
    """
    if len(table.rows) <= most:
        return table
    name = table.columns[0].key
    known = [row for row in table.rows if row[by] is not None]
    worst = sorted(known, key=lambda row: (cast(float, row[by]), str(row[name])))[:most]
    return replace(
        table,
        title=title.format(len(worst)),
        drawn=tuple(worst),
        notes=(f"{len(table.rows) - len(worst):,} more {what}: --json has all",),
    )
