"""The rows of a journal as they are checked: read as they stand, whatever is in them."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nas.reading import parse_json
from nas.study.journal_tables import columns
from nas.study.problems import Mend, Problem, Severity
from nas.study.seal import finished_seal, proposed_seal, text_seal
from nas.study.stored_values import stored_number

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a journal but for its events.

    Attributes:
        study: The study's row; None where there is none.
        identity: The identity that was written a second time; None where there is none, or it is damaged.
        has_copy: Whether there is a second one, damaged or not.
        trials: By number, in order.
        candidates: By digest.
        attempts: By trial, in order of number.
        measurements: By trial.
        controller: Its row; None where there is none.
        steps: Since the controller's state.
        recommended: In order of rank.
        broken_seals: For each trial whose row was changed, whether its proposal was.
    """

    study: Row | None
    identity: Row | None
    has_copy: bool
    trials: Mapping[int, Row]
    candidates: Mapping[str, Row]
    attempts: Mapping[int, list[Row]]
    measurements: Mapping[int, list[Row]]
    controller: Row | None
    steps: list[Row]
    recommended: list[Row]
    broken_seals: Mapping[int, bool]

    def key(self, number: int) -> tuple[Any, ...]:
        """What trials with one training have in common."""
        return tuple(self.trials[number][name] for name in ("digest", "fidelity", "repeat"))


def read_rows(database: sqlite3.Connection) -> Rows:
    """Reads the rows of an open journal, of this or an earlier version.

    Raises:
        sqlite3.Error: The file is damaged where they are.
    """
    trials = {row["number"]: row for row in _table(database, "trial", "number")}
    has_seals = "finished_seal" in columns(database, "trial")
    copies = _table(database, "identity_copy", "id")
    return Rows(
        study=next(iter(_table(database, "study", "id")), None),
        identity=_identity(copies[0]) if copies else None,
        has_copy=bool(copies),
        trials=trials,
        candidates={row["digest"]: row for row in _table(database, "candidate", "digest")},
        attempts=_by_trial(_table(database, "attempt", "trial, number")),
        measurements=_by_trial(_table(database, "measurement", "trial, metric")),
        controller=next(iter(_table(database, "controller", "id")), None),
        steps=_table(database, "step", "number"),
        recommended=_table(database, "recommendation", "rank"),
        broken_seals=dict(_broken_seals(database, trials)) if has_seals else {},
    )


def _identity(copy: Row) -> Row | None:
    """The second identity, where it is what was written."""
    text = copy["identity_json"]
    if not isinstance(text, str) or copy["seal"] != text_seal(text):
        return None
    found: Row = parse_json(text)
    return found


def _table(database: sqlite3.Connection, table: str, order: str) -> list[Row]:
    names = columns(database, table)
    if not names:
        return []  # the journal is of an earlier version
    cursor = database.execute(f"SELECT * FROM {table} ORDER BY {order}")
    found = [column[0] for column in cursor.description]
    return [dict(zip(found, row, strict=True)) for row in cursor]


def _by_trial(rows: list[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["trial"]].append(row)
    return found


def _broken_seals(database: sqlite3.Connection, trials: Mapping[int, Row]) -> Iterator[tuple[int, bool]]:
    """Trials whose rows are not what they were when they were written; earlier versions wrote no seals."""
    is_sealed = False
    for number, row in trials.items():
        is_sealed |= row["proposed_seal"] is not None
        if not is_sealed:
            if row["finished_seal"] is not None and row["finished_seal"] != finished_seal(database, number):
                yield number, False
        elif row["proposed_seal"] != proposed_seal(database, number):
            yield number, True
        elif is_finished(row) and row["finished_seal"] != finished_seal(database, number):
            yield number, False


def is_finished(row: Row) -> bool:
    """Whether a trial's row says that it is finished."""
    return row["status"] in ("completed", "infeasible", "lost")


def finite(value: object) -> float | None:
    """The finite number in a column; None where there is none."""
    number = stored_number(value)
    return number if number is not None and math.isfinite(number) else None


def of_trial(
    number: int, law: str, found: str, severity: Severity, mend: Mend | None, remedy: str = ""
) -> Problem:
    """A problem of one trial."""
    return Problem(
        law=law,
        where=f"trial {number}",
        found=found,
        severity=severity,
        mend=mend,
        remedy=remedy,
        trial=number,
    )
