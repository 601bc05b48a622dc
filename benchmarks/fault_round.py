"""One search that is injured again and again: what was reported of it, and what it lost."""

from __future__ import annotations

import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from fault_checks import (
    changed,
    content,
    differences,
    evaluated_twice,
    failed,
    laws,
    left_over,
    processes,
)
from fault_driver import Driver
from fault_search import Case

import nas

FIRST_LINES = 2_000
"""About so many lines run before the first trial."""

PATIENCE_SECONDS = 30.0
"""Processes that Ray leaves are given so long to end."""


@dataclass(slots=True, kw_only=True)
class Round:
    """One search.

    Attributes:
        root: The round's own folder, with the study, temporary files and the drivers' output in it.
        rng: Chooses moments.
        case: The search.
        share: Of the lines of a whole search, how many pass before an injury at most.
        known: What was reported of each trial: status, reward, tokens, metrics.
        forgiven: Trials of which it was said that their weights are lost, or that end in other words.
        is_same: Whether it must be the search that was not injured, in the end.
        injuries: How many of each kind.
        losses: What was lost, with the kind that was at work.
        named: What injuries of files have cost, and said so: the kind, what, and how many.
        kind: The kind at work.
        driver: One that runs on between two injuries, on Ray.
        planned: Trials whose evaluation is to fail, and the kind.
    """

    root: Path
    rng: Random
    case: Case
    share: float = 0.5
    known: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    forgiven: set[int] = field(default_factory=set)
    is_same: bool = True
    injuries: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    named: list[tuple[str, str, int]] = field(default_factory=list)
    kind: str = ""
    driver: Driver | None = None
    planned: dict[int, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of the study."""
        return Path(self.case.folder)

    @property
    def log(self) -> Path:
        """The drivers' output."""
        return self.root / "driver.log"

    def line(self) -> int:
        """A moment: a line of the search."""
        _, lines = uninjured(self.case)
        if self.rng.random() < 0.2:
            return self.rng.randint(1, FIRST_LINES)
        return self.rng.randint(1, max(FIRST_LINES, int(self.share * lines)))

    def start(self, line: int | None = None, **changes: Any) -> Driver:
        """Begins or continues the search, as a user would."""
        return Driver(replace(self.case, **changes), self.log, line=line)

    def stopped(self, **changes: Any) -> Driver | None:
        """A driver that has stopped at a random line; None where the search was over before."""
        driver = self.start(self.line(), **changes)
        if driver.reaches_line():
            return driver
        self.end(driver)
        return None

    def lose(self, words: str) -> None:
        """Writes a loss down."""
        self.losses.append(f"{self.kind}: {words}")

    def name(self, what: str, count: int) -> None:
        """Writes down what an injury has cost that was named."""
        if count:
            self.named.append((self.kind, what, count))

    def end(self, driver: Driver, *, may_fail: bool = False) -> int:
        """Waits for a driver's end, and learns what it reported."""
        try:
            code = driver.end()
        except TimeoutError as error:
            self.lose(str(error))
            driver.send(signal.SIGKILL)
            code = driver.end()
        for said in driver.said:
            if "trial" in said:
                self._learn(said)
            elif "event" in said and said["event"] in ("weights_lost", "weights_missing"):
                words = said["message"].replace(",", " ").replace(":", " ").split()
                self.forgiven |= {int(word) for word in words if word.isdigit()}
            elif "error" in said and not (said["ours"] and may_fail):
                self.lose(f"it ended with: {said['error'][:300]}")
        return code

    def _learn(self, said: dict[str, Any]) -> None:
        number = said["trial"]
        fact = (said["status"], said["reward"], said["tokens"], said["metrics"])
        before = self.known.get(number, fact)
        if before != fact:
            self.lose(f"trial {number} was reported as {before[:2]}, and then as {fact[:2]}")
        self.known[number] = fact

    def look(self) -> None:
        """Looks whether what was reported is on disk, where nobody writes to it."""
        if self.driver is None and (wrong := changed(self.known, self.folder)):
            self.lose(f"trials {wrong} are not in the journal as they were reported")

    def finish(self) -> None:
        """Continues the search to its end, and looks at everything."""
        if self.driver is not None:
            self.end(self.driver)
            self.driver = None
        driver = self.start()
        self.end(driver)
        endings = [said["ending"] for said in driver.said if "ending" in said]
        if endings != ["trials"]:
            self.lose(f"the last run ended with {endings or 'nothing'}")
            return
        self.look()
        happened = failed(self.folder)
        self.injuries -= Counter(kind for number, kind in self.planned.items() if number not in happened)
        for words in laws(self.folder):
            self.lose(words)
        if self.is_same:
            for number, attempt in evaluated_twice(Path(self.case.ledger)):
                self.lose(f"attempt {attempt} of trial {number} was begun twice")
            wanted, _ = uninjured(self.case)
            for words in differences(content(self.folder), wanted, self.forgiven):
                self.lose(f"other than the uninjured search: {words}")
        for words in left_over(self.folder, self.root / "tmp"):
            self.lose(words)
        found = nas.verify(self.folder)
        for problem in found.problems:
            self.lose(f"nas verify: {problem.where}: {problem.found}")
        self._await_processes()

    def _await_processes(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while (left := processes(self.case.ledger)) and time.monotonic() < until:
            time.sleep(0.5)
        for process in left:
            self.lose(f"the process {process.pid} ({process.name()}) is left over")
            process.kill()


_references: dict[str, tuple[dict[str, Any], int]] = {}


def uninjured(case: Case) -> tuple[dict[str, Any], int]:
    """The journal of the same search without injuries, and how many lines it runs.

    What candidates do at every attempt they do there too.
    """
    always = {number: fault for number, fault in case.faults.items() if fault.endswith("!")}
    plain = Case(
        folder="",
        ledger="",
        seed=case.seed,
        controller=case.controller,
        trials=case.trials,
        width=case.width,
        faults=dict(sorted(always.items())),
        nap_ms=0.0,
        executor="reference",
    )
    if repr(plain) not in _references:
        with tempfile.TemporaryDirectory() as folder:
            _references[repr(plain)] = _searched(plain, Path(folder))
    return _references[repr(plain)]


def _searched(plain: Case, folder: Path) -> tuple[dict[str, Any], int]:
    case = replace(plain, folder=str(folder / "study"), ledger=str(folder / "ledger"))
    driver = Driver(case, folder / "log", line=-1)
    driver.end()
    wrong = [said["error"] for said in driver.said if "error" in said]
    if wrong:
        raise RuntimeError(f"the search fails without injuries: {wrong[0]}")
    return content(Path(case.folder)), driver.said[-1]["lines"]
