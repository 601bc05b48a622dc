"""Whether a search is worth continuing: failures that are hardly the fault of the candidates end it."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from nas.errors import SearchStoppedError
from nas.outcome import TrialOutcome
from nas.scheduling import ATTEMPTS
from nas.study.trial_logs import log_name
from nas.trial import Cause, Result, Status
from nas.values import bounded

FAILURES_AT_FIRST = 5
"""When so many trials have failed and none has completed, continuing is pointless."""

BROKEN_AT_FIRST = 50
"""When so many trials were measured and every one broke a constraint, hardly any candidate keeps it."""

LOSSES_IN_A_ROW = 5
"""When machines lose so many trials in a row, continuing would lose the rest."""

ALIKE_IN_A_ROW = 20
"""When so many trials in a row fail alike, something else than the candidates has broken."""

RECENT, ALIKE_OF_RECENT = 50, 45
"""The same where a few still complete, such as on the one machine that is sound."""

SHOWN_LOG = 5_000
"""Characters of a log in an error; its file has all of it."""

VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")
"""Addresses and numbers, in which messages of one error differ."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial that failed.

    Attributes:
        number: The trial's number.
        kind: Equal for trials that fail alike.
    """

    number: int
    kind: str


@dataclass(slots=True, kw_only=True)
class Health:
    """Looks at the outcomes of one run, in the order in which they count; earlier runs do not matter.

    Attributes:
        folder: The study's folder.
    """

    folder: Path
    _at_first: list[int] = field(default_factory=list)
    _broken_at_first: int = 0
    _lost: list[int] = field(default_factory=list)
    _recent: deque[Failed | None] = field(default_factory=lambda: deque(maxlen=RECENT))

    def look(self, outcome: TrialOutcome, result: Result, *, completed: int) -> None:
        """Takes in an outcome.

        Args:
            outcome: The outcome.
            result: What it was judged from.
            completed: Trials of the study that have completed so far, those of earlier runs included.

        Raises:
            SearchStoppedError: The first several trials all failed or all broke a constraint, machines lose
                one after another, or nearly all of late fail alike.
        """
        self._look_at_first(outcome, result, completed)
        if outcome.status is Status.LOST:
            self._lost.append(outcome.number)
            if len(self._lost) >= LOSSES_IN_A_ROW:
                raise SearchStoppedError(
                    f"machines lost {len(self._lost)} trials in a row, each {ATTEMPTS} times: look at the "
                    f"workers and start again to continue; {self._details(self._lost[0], outcome, result)}"
                )
            return  # it says nothing of candidates
        self._lost.clear()
        self._look_for_alike(outcome, result)

    def _look_at_first(self, outcome: TrialOutcome, result: Result, completed: int) -> None:
        # What broke a constraint was measured, so that nothing but the candidate fails.
        is_over = outcome.cause is Cause.CONSTRAINT
        self._broken_at_first = 0 if completed else self._broken_at_first + is_over
        if completed or self._broken_at_first:
            self._at_first.clear()
        else:
            self._at_first.append(outcome.number)
        if len(self._at_first) >= FAILURES_AT_FIRST:
            raise SearchStoppedError(
                f"the first {len(self._at_first)} trials of this run all failed, which is hardly the fault "
                "of the candidates: fix the cause and start again to continue; "
                f"{self._details(self._at_first[0], outcome, result)}"
            )
        if is_over and self._broken_at_first >= BROKEN_AT_FIRST:
            raise SearchStoppedError(
                f"the first {self._broken_at_first} trials that were measured in this run all broke a "
                f"constraint: relax it, or start again to continue; the last one: {outcome.message}"
            )

    def _look_for_alike(self, outcome: TrialOutcome, result: Result) -> None:
        kind = kind_of(outcome, result)
        self._recent.append(Failed(outcome.number, kind) if kind else None)
        alike = [one for one in self._recent if one is not None and one.kind == kind]
        latest = list(self._recent)[-ALIKE_IN_A_ROW:]
        is_row = len(latest) == ALIKE_IN_A_ROW and set(latest) <= set(alike)
        if not kind or not (is_row or len(alike) >= ALIKE_OF_RECENT):
            return
        count = f"the last {ALIKE_IN_A_ROW}" if is_row else f"{len(alike)} of the last {len(self._recent)}"
        raise SearchStoppedError(
            f"{count} trials failed alike, which is hardly the fault of the candidates: fix the cause and "
            "start again to continue; they count as infeasible, so give more trials to make up for them. "
            "Where the candidates are at fault, let the evaluator raise nas.InfeasibleError with words of "
            f"its own, which stops no search; {self._details(alike[0].number, outcome, result)}"
        )

    def _details(self, first: int, outcome: TrialOutcome, result: Result) -> str:
        """The first trial with its log, and what is known of the last."""
        log = bounded(result.log, SHOWN_LOG)
        place = self.folder / log_name(first)
        words = f"the first was trial {first}, with the log {place}; the last one: {outcome.message}\n{log}"
        return words.rstrip()


def kind_of(outcome: TrialOutcome, result: Result) -> str:
    """What trials that fail alike have in common; empty for one that is no failure of this sort.

    A candidate that was measured and is over a limit, and one of which the evaluator says in words of its own
    that it is at fault, tell nothing of anything else.
    """
    if outcome.status is not Status.INFEASIBLE or outcome.cause is Cause.CONSTRAINT or result.is_expected:
        return ""
    return VARYING.sub("#", outcome.message) if outcome.cause is Cause.ERROR else str(outcome.cause)
