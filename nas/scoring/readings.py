"""Writes into a bundle's card that its network was tried on a test split, so that many readings show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from nas.export.opened import OpenBundle
from nas.io import write_whole
from nas.reading import read_text
from nas.scoring.by_task import AnyScores

HEADING = "## Readings of the test split"
INTRODUCTION = (
    "Each row is one evaluation of these weights on a test split. One reading is an estimate for new images; "
    "where something was chosen by several, the best of them flatters."
)


def note_reading(opened: OpenBundle, scores: AnyScores) -> tuple[str, ...]:
    """Appends a row to the card; returns a warning where it cannot be written.

    The card is written whole: after a crash it is the one before or the one after.
    """
    row = {
        "date (UTC)": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "data": scores.data,
        "split": scores.split,
        "images": f"{scores.images:,}",
        **dict(scores.headline),
        "runtime": scores.runtime,
    }
    try:
        write_whole(opened.card, _with_row(read_text(opened.card), row))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        return (f"this reading of the test split could not be written into {opened.card} ({reason})",)
    return ()


def _with_row(card: str, row: Mapping[str, str]) -> str:
    """The card with a row more; the section is the last one, or is made there."""
    line = _line(row.values())
    head, heading, section = card.partition(f"{HEADING}\n")
    if not heading:
        rule = _line(["---"] * len(row))
        return f"{card.rstrip()}\n\n{HEADING}\n\n{INTRODUCTION}\n\n{_line(row)}\n{rule}\n{line}\n"
    section, next_heading, rest = section.partition("\n## ")
    return f"{head}{heading}{section.rstrip()}\n{line}\n{next_heading}{rest}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in cells)} |"
