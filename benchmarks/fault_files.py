"""The injuries of a study's journal on the disk, each repaired with `nas verify --repair`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_checks import JOURNAL, changed, facts
from fault_kinds import Kind
from fault_round import Round
from fault_search import make_space

import nas
from nas.errors import StudyError


def damaged_pages(one: Round) -> bool:
    """Bits of the journal's file are flipped, a page is half written, or its end is missing."""
    return _damage(one, JOURNAL, lambda data: _injured(data, one.rng))


def damaged_log(one: Round) -> bool:
    """The same of the write-ahead log."""
    return _damage(one, f"{JOURNAL}-wal", lambda data: _injured(data, one.rng))


def deleted_log(one: Round) -> bool:
    """The write-ahead log is deleted, which holds all since the search began or was resumed."""
    return _damage(one, f"{JOURNAL}-wal", lambda _: None)


def _injured(data: bytes, rng: Any) -> bytes:
    page = 4096 * rng.randrange(max(1, len(data) // 4096))
    what = rng.random()
    if what < 0.4:
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        return data
    if what < 0.8:  # sectors of a page were not written
        start, count = page + 512 * rng.randrange(8), 512 * rng.randint(1, 8)
        count = min(count, page + 4096 - start)
        return data[:start] + rng.choice((bytes(count), rng.randbytes(count))) + data[start + count :]
    return data[: rng.choice((page, page + 512, rng.randrange(1, len(data))))]


def _damage(one: Round, name: str, change: Callable[[bytes], bytes | None]) -> bool:
    """Stops the search, injures one of its files, and has the study repaired."""
    driver = one.stopped()
    if driver is None:
        return False
    driver.send(signal.SIGKILL)
    one.end(driver)
    path = one.folder / name
    before = facts(one.folder)
    if not path.is_file() or path.stat().st_size < 4_096 or not before:
        return False
    data = change(path.read_bytes())
    is_without_trace = data is None and one.rng.random() < 0.5
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    if is_without_trace:
        (one.folder / f"{JOURNAL}-shm").unlink(missing_ok=True)
    one.is_same = False
    _repair(one, before, may_be_silent=is_without_trace)
    return True


def _repair(one: Round, before: dict[int, tuple[Any, ...]], *, may_be_silent: bool) -> None:
    """Repairs the study; every trial that is not as it was must be named, or its file."""
    try:
        found = nas.verify(one.folder)
        repaired = nas.verify(one.folder, repair=True, space=make_space())
    except StudyError:  # beyond repair, and said so: the user has to begin again
        one.name("trials of studies beyond repair", len(before))
        one.folder.rename(one.folder.with_name(f"beyond-{len(one.named)}"))
        one.known.clear()
        Path(one.case.ledger).unlink(missing_ok=True)
        one.is_same = True
        return
    wrong = changed(before, one.folder)
    words = " ".join([*(f"{p.where} {p.found}" for p in found.problems), *repaired.repaired])
    trials = {p.trial for p in found.problems}
    is_file = any(p.file.startswith(JOURNAL) and p.severity == "lost" for p in found.problems)
    is_file = is_file or any(
        p.file.startswith("weights/") and "no such trial" in p.found for p in found.problems
    )
    unnamed = [n for n in wrong if not (n in trials or f"trial {n}:" in words or is_file)]
    if unnamed and not may_be_silent:
        one.lose(f"trials {unnamed} are not as they were, and nas verify does not say so: {words[:200]}")
    elif unnamed:
        one.name("trials, not found by nas verify, and run again", len(unnamed))
    else:
        one.name("trials", len(wrong))
    for number in wrong:
        one.known.pop(number, None)


FILE_KINDS = (
    Kind(
        name="pages of study.sqlite flipped, torn or cut off", injure=damaged_pages, weight=50, place="damage"
    ),
    Kind(name="study.sqlite-wal flipped, torn or cut off", injure=damaged_log, weight=30, place="damage"),
    Kind(name="study.sqlite-wal deleted", injure=deleted_log, weight=15, place="damage"),
)
