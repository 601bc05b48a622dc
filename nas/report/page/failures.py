"""Trials that did not complete, why, and what their logs say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nas.report.page.parts import Absent, Block, Code, Section, Words
from nas.report.page.source import Source
from nas.report.trial_tables import failure_table
from nas.study.study_trial import StudyTrial
from nas.trial import Status

KEY, TITLE = "failures", "Failures"

MOST_LOGS, MOST_LETTERS = 20, 6_000
"""Logs on a page, and letters of each, the last ones."""

MOST_EVENTS = 50


def failures(source: Source) -> Section | Absent:
    """What failed."""
    study = source.study
    found = [trial for trial in study.trials if trial.status in (Status.INFEASIBLE, Status.LOST)]
    events = study.events
    if not found and not events:
        return Absent(key=KEY, title=TITLE, reason="every trial that ended has completed")
    causes = Counter(trial.cause.value.replace("_", " ") for trial in found if trial.cause is not None)
    words = ", ".join(f"{cause} {count}" for cause, count in causes.most_common())
    lead = f"{len(found):,} of {len(study.trials):,} trials gave no result" + (
        f": {words}." if words else "."
    )
    blocks: list[Block] = []
    if found:
        blocks += [failure_table(found), *_logs(found)]
    if events:
        lines = "\n".join(f"{when}  {kind}: {message}" for when, kind, message in events[-MOST_EVENTS:])
        title = f"What else happened ({len(events):,} events)"
        title += f", the last {MOST_EVENTS}" * (len(events) > MOST_EVENTS)
        blocks.append(Code(title=title, text=lines, is_folded=True))
    return Section(key=KEY, title=TITLE, lead=lead, blocks=tuple(blocks))


def _logs(found: list[StudyTrial]) -> list[Block]:
    logs = [(trial, path) for trial in found if (path := trial.log_file) is not None]
    blocks: list[Block] = [
        Code(title=f"Log of trial {trial.number}", text=_last(path), is_folded=True)
        for trial, path in logs[:MOST_LOGS]
    ]
    if len(logs) > MOST_LOGS:
        folder = logs[0][1].parent
        blocks.append(Words(lines=(f"{len(logs) - MOST_LOGS:,} more logs are in {folder}.",)))
    return blocks


def _last(path: Path) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MOST_LETTERS))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    return text if size <= MOST_LETTERS else f"[the last {MOST_LETTERS:,} bytes of {path}]\n{text}"
