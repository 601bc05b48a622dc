"""What `nas verify` says of a study."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from nas.report.printing import Column, Fact, Report, Table
from nas.study.problems import Problem, Severity, Verification

MOST_DRAWN = 30
"""Problems drawn; JSON has all of them."""

COLUMNS = (
    Column(key="where", heading="where"),
    Column(key="severity", heading="severity"),
    Column(key="found", heading="found"),
    Column(key="does", heading="what can be done"),
)


def verify_report(found: Verification) -> Report:
    """The report of a check, and of a repair where one was made."""
    counts = Counter(one.severity for one in found.problems)
    words = ", ".join(f"{counts[one]} {one.value}" for one in Severity if counts[one])
    is_sound = found.is_sound
    verdict = "sound: no law is broken" if is_sound else f"{len(found.problems)} problems: {words}"
    facts = [
        Fact(key="folder", label="study", value=str(found.folder)),
        Fact(key="is_sound", label="result", value=is_sound, text=verdict),
        Fact(key="trials", label="trials", value=found.trials, text=_count(found.trials)),
        Fact(key="is_running", label="", value=found.is_running),
        Fact(
            key="beside",
            label="beside it",
            value=list(found.beside),
            text=", ".join(found.beside) or "nothing",
        ),
        Fact(key="kept", label="", value=None if found.kept is None else str(found.kept)),
        Fact(key="repaired", label="", value=list(found.repaired)),
        Fact(key="unchecked", label="", value=list(found.unchecked)),
    ]
    rows = tuple(_row(one) for one in found.problems)
    more = f"{len(rows) - MOST_DRAWN} more are in --json" if len(rows) > MOST_DRAWN else ""
    table = Table(
        key="problems",
        title="problems" if not found.repaired else "problems that are left",
        columns=COLUMNS,
        rows=rows,
        drawn=rows[:MOST_DRAWN],
        notes=(more,) if more else (),
    )
    return Report(title="", facts=tuple(facts), tables=(table,), notes=_notes(found))


def _count(trials: int | None) -> str:
    return "they cannot be read" if trials is None else str(trials)


def _row(problem: Problem) -> dict[str, Any]:
    data = asdict(problem)
    del data["key"]
    does = f"repair: {problem.mend.value}" if problem.mend is not None else problem.remedy
    return data | {
        "severity": problem.severity.value,
        "mend": None if problem.mend is None else problem.mend.value,
        "does": does,
    }


def _notes(found: Verification) -> tuple[str, ...]:
    notes = [f"repaired: {one}" for one in found.repaired]
    if found.kept is not None:
        notes.append(f"a copy of the file as it was: {found.kept}")
    if found.is_running:
        notes.append("a search writes to this study: only its journal is checked, and a repair must wait")
    notes += [f"not checked: {one}" for one in found.unchecked]
    if any(one.mend is not None for one in found.problems) and not found.repaired:
        notes.append(f"repair it with: nas verify {found.folder} --repair   (a copy of the file is kept)")
    if found.repaired:
        notes.append(f"continue the search with: nas resume {found.folder}")
    return tuple(notes)
