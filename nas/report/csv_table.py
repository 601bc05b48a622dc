"""Writes rows as CSV that spreadsheets and pandas read back."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from nas.values import harmless

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\n")
"""A spreadsheet takes a cell that begins with one of these for a formula, and runs it."""


def write_csv(rows: Sequence[Mapping[str, object]], names: Iterable[str], output: TextIO) -> None:
    """Writes a line of names and a line for each row; None and NaN are empty cells.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, numbers never; control
    characters are escaped.

    Args:
        rows: The rows.
        names: Names of the columns, in order.
        output: Where to.
    """
    listed = list(names)
    table = csv.writer(output, lineterminator="\n")
    table.writerow([_cell(name) for name in listed])
    table.writerows([_cell(row[name]) for name in listed] for row in rows)
    output.flush()


def _cell(value: object) -> object:
    if isinstance(value, str):
        # Python 3.11 does not quote a lone carriage return.
        text = harmless(value.replace("\r\n", "\n").replace("\r", "\n"))
        return f"'{text}" if text.lstrip(" ").startswith(FORMULA_SIGNS) else text
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value
