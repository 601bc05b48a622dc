"""What must hold of an injured study, looked at with SQLite alone: no code of the search is asked."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from fault_driver import MARK
from fault_search import weights_of

JOURNAL = "study.sqlite"
FINISHED = ("completed", "infeasible", "lost")

CONTENT = {
    "trial": "number, digest, tokens_json, origin, proposal_number, log_prob, repeat, seed, fidelity, "
    "continues, status, cause, reward, copied_from, weights_file, feedback_rank, feedback_reward, "
    "proposed_seal, finished_seal, message",
    "candidate": "digest, macs, params, activations, network_json",
    "measurement": "trial, metric, value, unit, environment",
    "controller": "proposals, feedbacks, rejected, state_json, steps, asked",
    "recommendation": "rank, digest",
}
"""All that two equal searches must agree on: everything but times, attempts and events."""

Rows = list[tuple[Any, ...]]


class Copy:
    """The journal of a study as it lies on the disk, with its log; looking changes nothing there."""

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for name in (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-journal"):
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, Path(scratch) / name)
            self._database = sqlite3.connect(":memory:")
            with closing(sqlite3.connect(Path(scratch) / JOURNAL)) as copy:
                copy.backup(self._database)

    def rows(self, query: str) -> Rows:
        """The answer to a query."""
        return self._database.execute(query).fetchall()

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def facts(folder: Path) -> dict[int, tuple[Any, ...]]:
    """What the journal says of each finished trial: status, reward, tokens and metrics."""
    if not (folder / JOURNAL).is_file() or not (folder / JOURNAL).stat().st_size:
        return {}
    with Copy(folder) as copy:
        if not copy.rows("SELECT 1 FROM sqlite_master WHERE name = 'trial'"):
            return {}
        measured: dict[int, list[list[Any]]] = {}
        for trial, metric, value in copy.rows("SELECT trial, metric, value FROM measurement ORDER BY 1, 2"):
            measured.setdefault(trial, []).append([metric, value])
        return {
            number: (status, reward, json.loads(tokens), measured.get(number, []))
            for number, status, reward, tokens in copy.rows(
                "SELECT number, status, reward, tokens_json FROM trial"
            )
            if status in FINISHED
        }


def changed(known: Mapping[int, tuple[Any, ...]], folder: Path) -> list[int]:
    """Trials that were reported and are not in the journal as they were reported."""
    found = facts(folder)
    return sorted(number for number, said in known.items() if found.get(number) != said)


def failed(folder: Path) -> set[int]:
    """Trials with an attempt that did not complete."""
    with Copy(folder) as copy:
        return {trial for (trial,) in copy.rows("SELECT trial FROM attempt WHERE status <> 'completed'")}


def deaths(folder: Path) -> int:
    """How often the process of the search ended during one trial, at most, of those not finished."""
    if not facts(folder):
        return 0
    with Copy(folder) as copy:
        counts = copy.rows(
            "SELECT count(*) FROM attempt JOIN trial ON trial.number = attempt.trial WHERE trial.status "
            "NOT IN ('completed', 'infeasible', 'lost') AND attempt.status IN ('lost', 'running') "
            "AND coalesce(attempt.cause, '') <> 'interrupted' GROUP BY trial"
        )
    return max((count for (count,) in counts), default=0)


def laws(folder: Path) -> Iterator[str]:
    """The laws that a study breaks which has ended, a sentence each."""
    with Copy(folder) as copy:
        if (answer := copy.rows("PRAGMA integrity_check")) != [("ok",)]:
            yield f"the database is damaged: {answer[0][0]}"
            return
        numbers = [number for (number,) in copy.rows("SELECT number FROM trial ORDER BY number")]
        if numbers != list(range(len(numbers))):
            yield f"the trials are numbered {numbers}"
        yield from _attempts(copy)
        yield from _feedback(copy)
        yield from _weights(copy, folder)


def _attempts(copy: Copy) -> Iterator[str]:
    attempts: dict[int, list[tuple[int, str]]] = {}
    for trial, number, status in copy.rows("SELECT trial, number, status FROM attempt ORDER BY 1, 2"):
        attempts.setdefault(trial, []).append((number, status))
    for trial, status, copied, cause in copy.rows("SELECT number, status, copied_from, cause FROM trial"):
        made = attempts.get(trial, [])
        if [number for number, _ in made] != list(range(1, len(made) + 1)):
            yield f"the attempts of trial {trial} are {made}"
        ends = Counter(end for _, end in made)
        if ends["running"]:
            yield f"an attempt of trial {trial} runs, though the search has ended"
        settled = ends["completed"] + ends["infeasible"]
        wanted = int(status in ("completed", "infeasible") and copied is None)
        gave_up = status == "infeasible" and cause == "worker_died"
        if settled != wanted and not (gave_up and not settled):
            yield f"trial {trial} is {status}, but {settled} of its attempts settled it"


def _feedback(copy: Copy) -> Iterator[str]:
    ranks = copy.rows("SELECT feedback_rank FROM trial WHERE feedback_rank IS NOT NULL ORDER BY 1")
    if [rank for (rank,) in ranks] != list(range(len(ranks))):
        yield "the ranks of feedback have gaps"
    for trial, status, reward, rank in copy.rows("SELECT number, status, reward, feedback_rank FROM trial"):
        if status in ("completed", "infeasible") and rank is None:
            yield f"trial {trial} is {status}, but was not fed back"
        if status == "lost" and rank is not None:
            yield f"trial {trial} was lost, but was fed back"
        if (status == "completed") != (reward is not None):
            yield f"trial {trial} is {status}, but its reward is {reward}"
        if status not in FINISHED:
            yield f"trial {trial} is {status}, though the search has ended"


def _weights(copy: Copy, folder: Path) -> Iterator[str]:
    named = dict(copy.rows("SELECT weights_file, tokens_json FROM trial WHERE weights_file IS NOT NULL"))
    files = [path.name for path in (folder / "weights").glob("*") if not is_kept(path.name)]
    there = {f"weights/{name}" for name in files}
    if gone := sorted(set(named) - there):
        yield f"weights that the journal names are not there: {gone}"
    if unknown := sorted(there - set(named)):
        yield f"weights are there that the journal does not name: {unknown}"
    for name in there & set(named):
        if (folder / name).read_bytes() != weights_of(tuple(json.loads(named[name]))):
            yield f"{name} is not what was trained"


def content(folder: Path) -> dict[str, Rows]:
    """What two equal searches agree on."""
    with Copy(folder) as copy:
        return {
            table: sorted(copy.rows(f"SELECT {names} FROM {table}"), key=repr)
            for table, names in CONTENT.items()
        }


def differences(found: Mapping[str, Rows], wanted: Mapping[str, Rows], forgiven: set[int]) -> Iterator[str]:
    """Where a journal is not that of the search that was not injured.

    Args:
        found: Its content.
        wanted: That of the other.
        forgiven: Trials whose message may be another, or whose weights were named as lost.
    """
    for table, names in CONTENT.items():
        columns = [name.strip() for name in names.split(",")]
        ours, theirs = [_plain(one, table, columns, forgiven) for one in (found[table], wanted[table])]
        if len(ours) != len(theirs):
            yield f"{table} has {len(ours)} rows in place of {len(theirs)}"
        for mine, other in zip(ours, theirs, strict=False):
            if mine != other:
                at = [name for name, a, b in zip(columns, mine, other, strict=True) if a != b]
                values = [(a, b) for a, b in zip(mine, other, strict=True) if a != b]
                yield f"{table}, row of {mine[0]}: {', '.join(at)} differ: {str(values)[:200]}"
                break


def _plain(rows: Rows, table: str, columns: list[str], forgiven: set[int]) -> Rows:
    if table != "trial":
        return rows
    blank = {columns.index("message"), columns.index("weights_file")}
    return [
        tuple("" if place in blank and row[0] in forgiven else value for place, value in enumerate(row))
        for row in rows
    ]


ALLOWED = (JOURNAL, "study.lock", "weights", "logs")


def is_kept(name: str) -> bool:
    """Whether a file is one that a repair or a resume says that it keeps."""
    return ".before-repair-" in name or "set-aside-" in name or ".old-" in name


def left_over(folder: Path, scratch: Path) -> Iterator[str]:
    """Files that nothing needs, in the study's folder and among temporary ones.

    Whoever reads a study last has SQLite leave an empty log there, with its index.
    """
    is_read = (folder / f"{JOURNAL}-wal").is_file() and not (folder / f"{JOURNAL}-wal").stat().st_size
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if is_read and name in (f"{JOURNAL}-wal", f"{JOURNAL}-shm"):
            continue
        is_ours = name in ALLOWED or name.startswith(("logs/trial-", "weights/trial-"))
        if not (is_ours or is_kept(name)) or name.endswith((".new", ".partial")):
            yield f"the file {name} is left over"
    for path in scratch.iterdir():
        if path.name not in ("ray", "torchinductor_root"):
            yield f"the temporary file {path.name} is left over"


def processes(mark: str) -> list[psutil.Process]:
    """Processes that a round has started and that run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def evaluated_twice(ledger: Path) -> list[tuple[int, int]]:
    """Attempts that were begun more than once, by trial and number."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    counts = Counter((trial, attempt) for trial, attempt, *_ in map(json.loads, lines))
    return sorted(pair for pair, count in counts.items() if count > 1)
