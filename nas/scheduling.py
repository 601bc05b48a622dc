"""When the search may propose, in which order results count, and when it is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nas.errors import UsageError
from nas.outcome import TrialOutcome
from nas.study.journal_reading import MOST_AT_ONCE, History
from nas.trial import Job, Result, Status, Trial
from nas.values import real, whole

BATCH_FROM = 16
"""Where at least so many slots are free, the controller is asked for as many trials at once."""

ATTEMPTS = 3
"""A trial that machines lose is tried at most so many times."""

AUTO: Literal["auto"] = "auto"
"""Lets the controller's estimates decide how many trials train finalists again."""

FINAL_REPLICATES = 2
"""How often each finalist is trained again, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a search ends; any limit may be None. Trials that run when a limit is reached are finished.

    Attributes:
        trials: Trials of the study in the end, all runs together.
        max_hours: Wall time of this run.
        patience: Trials in a row without a better reward.
        finalists: The last `2 * finalists` trials train again, with new seeds, what the controller recommends
            by then: for a choice that does not depend on one training. Each takes, of the `finalists`
            recommended at that moment, the one with the fewest replicates. With "auto" what the controller
            believes decides how many trials train which candidates again: see `controllers.finals`.

    Raises:
        UsageError: A limit is not positive, or there is none at all, or finalists leave no trial to search.
    """

    trials: int | None = 100
    max_hours: float | None = None
    patience: int | None = None
    finalists: int | Literal["auto"] = 0

    def __post_init__(self) -> None:
        for name in ("trials", "patience"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else whole(name, value, least=1))
        if self.max_hours is not None:
            object.__setattr__(self, "max_hours", real("max_hours", self.max_hours, above=0))
        if self.trials is None and self.max_hours is None and self.patience is None:
            raise UsageError("a search needs a limit: give trials, max_hours or patience", field="trials")
        if self.finalists != AUTO:
            object.__setattr__(self, "finalists", whole("finalists", self.finalists, least=0))
        self._check_finalists()

    def _check_finalists(self) -> None:
        if self.finalists and self.trials is None:
            raise UsageError(
                f"finalists need to know when a search ends, but got finalists={self.finalists} without "
                "trials: give trials too",
                field="finalists",
            )
        if self.trials is not None and self.fixed_finalists * FINAL_REPLICATES >= self.trials:
            raise UsageError(
                f"`{FINAL_REPLICATES} * finalists < trials` must hold, as each finalist is trained "
                f"{FINAL_REPLICATES} times more, but got finalists={self.finalists} and trials={self.trials}",
                field="finalists",
            )

    @property
    def fixed_finalists(self) -> int:
        """How many finalists there are; 0 where that is not known beforehand."""
        return 0 if self.finalists == "auto" else self.finalists

    def is_final(self, number: int) -> bool:
        """Whether a trial, counted from 0, trains one of a fixed number of finalists again."""
        replicates = self.fixed_finalists * FINAL_REPLICATES
        return bool(replicates) and self.trials is not None and number >= self.trials - replicates

    def spent(self, proposed: int, elapsed_seconds: float, without_gain: int) -> str:
        """The limit that is reached, or nothing."""
        if self.trials is not None and proposed >= self.trials:
            return "trials"
        if self.max_hours is not None and elapsed_seconds >= self.max_hours * 3600:
            return "max_hours"
        if self.patience is not None and without_gain >= self.patience:
            return "patience"
        return ""


@dataclass(slots=True)
class Flow:
    """Trials between proposal and feedback.

    Without `width` results count as they come, and there is room while a worker is idle and everything
    known has been learnt. With `width` W the schedule is fixed: results count in the order of their numbers,
    and proposal k + W follows result k, so that the same trials are proposed however long each takes.

    Attributes:
        slots: Jobs that can run at the same time; the loop asks the executor each time around.
        width: W of the fixed schedule; None where results count as they come.
        proposed: Trials so far, which is also the next number.
        turn: With a width, the number of the next result to count.
        waiting: Trials to be run, in order.
        running: Trials that run, by number.
        busy: Keys of those that run, of which no two are equal.
        settled: Trials whose outcome has not been counted yet, with the result as far as it was seen.
        outcomes: Outcomes by key, for trials with equal keys.
        attempts: Attempts begun, by number of the trial.
        losses: Attempts that a machine lost, by number of the trial.
    """

    slots: int
    width: int | None = None
    proposed: int = 0
    turn: int = 0
    waiting: list[Trial] = field(default_factory=list)
    running: dict[int, Trial] = field(default_factory=dict)
    busy: set[tuple[str, float, int]] = field(default_factory=set)
    settled: dict[int, tuple[Trial, TrialOutcome, Result | None]] = field(default_factory=dict)
    outcomes: dict[tuple[str, float, int], TrialOutcome] = field(default_factory=dict)
    attempts: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    losses: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def restore(self, history: History) -> None:
        """Continues where earlier runs ended: the unfinished waits, the uncounted is settled."""
        counted = set(history.fed_back) | set(history.lost(self.width))
        for trial in history.trials:
            self.proposed += 1
            outcome = history.finished.get(trial.number)
            if outcome is None:
                self.waiting.append(trial)
                continue
            self.settle(trial, outcome, None)
            if trial.number in counted:
                del self.settled[trial.number]
        while self.turn in counted:
            self.turn += 1
        self.attempts.update(history.last_attempt)
        self.losses.update(history.lost_attempts)

    def room(self) -> int:
        """How many trials the controller is to be asked for now, at once; 0 where there is no room.

        One, as long as it keeps up. Where it does not, free slots gather while it is asked, until they are
        `BATCH_FROM`, and then one call fills them. A fixed schedule has one by one, as it says which results
        each proposal follows.
        """
        if self.width is not None:
            return int(self.proposed - self.turn < self.width)
        free = 0 if self.settled else self.slots - len(self.waiting) - len(self.running)
        return min(free, MOST_AT_ONCE) if free >= BATCH_FROM else int(free > 0)

    def add(self, trials: Sequence[Trial]) -> None:
        """Takes new trials."""
        self.proposed += len(trials)
        self.waiting.extend(trials)

    def settle(self, trial: Trial, outcome: TrialOutcome, result: Result | None) -> None:
        """Takes an outcome; the first by key answers all later trials with that key."""
        self.settled[trial.number] = (trial, outcome, result)
        if outcome.status is not Status.LOST:
            self.outcomes.setdefault(trial.key, outcome)

    def count_next(self) -> tuple[Trial, TrialOutcome, Result | None] | None:
        """Takes out the next outcome to count, or None while it is not there."""
        number = next(iter(self.settled), None) if self.width is None else self.turn
        if number is None or number not in self.settled:
            return None
        self.turn += 1
        return self.settled.pop(number)

    def start(self, trial: Trial) -> Job:
        """Counts one more attempt at a trial."""
        self.attempts[trial.number] += 1
        self.running[trial.number] = trial
        self.busy.add(trial.key)
        return trial.job(self.attempts[trial.number])

    def end(self, number: int) -> Trial:
        """Takes out a trial whose attempt has ended."""
        trial = self.running.pop(number)
        self.busy.remove(trial.key)
        return trial

    def lose(self, trial: Trial) -> bool:
        """Counts an attempt that a machine lost; says whether the trial waits for another."""
        may_try_again = self.may_lose(trial)
        self.losses[trial.number] += 1
        if may_try_again:
            self.waiting.insert(0, trial)
        return may_try_again

    def may_lose(self, trial: Trial) -> bool:
        """Whether a trial is tried again where a machine loses the attempt that runs."""
        return self.losses[trial.number] + 1 < ATTEMPTS

    def next_to_run(self) -> Trial | None:
        """Takes out the next trial that can run or be answered; one whose equal is running waits for it."""
        is_full = len(self.running) >= self.slots
        for index, trial in enumerate(self.waiting):
            if trial.key in self.outcomes or not (is_full or trial.key in self.busy):
                return self.waiting.pop(index)
        return None
