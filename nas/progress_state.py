"""The progress of a search: counts and the best so far, and how both are put into words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from controllers import Controller
from controllers.contract import diagnostics_of, probabilities_of
from nas.events import Best, Counts, SearchEnd, TrialReport
from nas.health import Health
from nas.metrics import Goal
from nas.outcome import TrialOutcome, all_costs, known_costs
from nas.protocols import Clock, SystemClock
from nas.scheduling import Budget, Flow
from nas.study.checkpoints import Entry, entry_of, joined
from nas.study.journal_reading import History
from nas.study.trial_logs import log_name
from nas.trial import Result, Status, Trial


@dataclass(slots=True, kw_only=True)
class ProgressState:
    """Counts outcomes in the order in which they count for the controller.

    Attributes:
        folder: The study's folder.
        total: How many trials the study shall have in the end; None where only time limits it.
        counts: Trials so far.
        rejected: Candidates that broke a known constraint.
        best: The best so far.
        worst_reward: What an infeasible trial is fed back as: the worst finite reward so far, 0 at first.
        goals: Those of the objective.
        without_gain: Trials fed back since the best one, or with several goals since the last one that
            joined the front.
        learnt: Trials fed back.
        clock: The time.
    """

    folder: Path
    total: int | None
    counts: Counts = field(default_factory=Counts)
    rejected: int = 0
    best: Best | None = None
    goals: tuple[Goal, ...] = ()
    worst_reward: float = 0.0
    without_gain: int = 0
    learnt: int = 0
    clock: Clock = field(default_factory=SystemClock)
    _started: float = math.nan
    _health: Health = field(init=False)
    _has_failed: bool = False
    _told: set[str] = field(default_factory=set)
    _front: list[Entry] = field(default_factory=list)
    _unused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._started = self.clock.monotonic()
        self._health = Health(folder=self.folder)

    @property
    def elapsed_seconds(self) -> float:
        """Since this run began."""
        return self.clock.monotonic() - self._started

    def limit(self, budget: Budget, flow: Flow) -> str:
        """The limit of the budget that is reached, or nothing."""
        return budget.spent(flow.proposed, self.elapsed_seconds, self.without_gain)

    def restore(self, history: History, *, width: int | None) -> None:
        """Counts what earlier runs have counted, in the same order; `width` is that of their schedule."""
        for number in (*history.fed_back, *history.lost(width)):
            self.count(history.trials[number], history.finished[number])
        self.rejected = history.asked.rejected

    def count(self, trial: Trial, outcome: TrialOutcome) -> tuple[int | None, float | None]:
        """Counts an outcome.

        Returns:
            Its place among those learnt from, None of a lost one; and the reward that a controller is told of
            it, the worst so far where it has none. None of a lost one, and of one that was promoted: that is
            of another fidelity than what controllers compare.
        """
        name = outcome.status.value
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + 1})
        if outcome.status is Status.LOST:
            return None, None
        self._learn(trial, outcome)
        rank, self.learnt = self.learnt, self.learnt + 1
        if trial.continues is not None:
            return rank, None
        return rank, self.worst_reward if outcome.reward is None else outcome.reward

    def _learn(self, trial: Trial, outcome: TrialOutcome) -> None:
        """Keeps the best and the worst reward, and how long there was no gain."""
        self.without_gain += 1
        if outcome.reward is None or outcome.value is None:
            return
        if trial.continues is None:
            self.worst_reward = (
                outcome.reward if self.best is None else min(self.worst_reward, outcome.reward)
            )
        if len(self.goals) > 1 and self._joins_front(trial, outcome):
            self.without_gain = 0
        rank = (trial.fidelity, outcome.reward)
        if self.best is not None and rank <= (self.best.fidelity, self.best.reward):
            return
        if len(self.goals) < 2:
            self.without_gain = 0
        self.best = Best(
            number=trial.number,
            reward=outcome.reward,
            value=outcome.value,
            macs=trial.cost.macs,
            network=trial.network,
            fidelity=trial.fidelity,
        )

    def _joins_front(self, trial: Trial, outcome: TrialOutcome) -> bool:
        metrics = all_costs(trial.cost, outcome.metrics)
        entry = entry_of(
            trial.number, reward=outcome.reward, metrics=metrics, goals=self.goals, fidelity=trial.fidelity
        )
        if entry is not None:
            self._front = joined(self._front, entry, self.goals)
        return entry in self._front

    def report(
        self, trial: Trial, outcome: TrialOutcome, result: Result | None, flow: Flow, controller: Controller
    ) -> TrialReport:
        """Puts into words what was just counted."""
        is_failure = outcome.status is not Status.COMPLETED
        is_first, self._has_failed = is_failure and not self._has_failed, self._has_failed or is_failure
        return TrialReport(
            trial=trial,
            outcome=outcome,
            log="" if result is None else result.log,
            log_file=self.folder / log_name(trial.number) if is_failure else None,
            is_first_failure=is_first,
            is_best=self.best is not None and self.best.number == trial.number,
            best=self.best,
            counts=replace(self.counts, rejected=self.rejected),
            total=self.total,
            running=len(flow.running),
            seconds=0.0 if result is None else result.seconds,
            elapsed_seconds=self.elapsed_seconds,
            diagnostics=diagnostics_of(controller),
            probabilities=partial(probabilities_of, controller),
            on_front=len(self._front) if any(one.number == trial.number for one in self._front) else None,
        )

    def news(self, trial: Trial, result: Result) -> list[tuple[str, str]]:
        """Kind and text of an event for each thing that a result is the first to say in this run."""
        fresh = [("note", note) for note in result.notes if note not in self._told]
        self._told.update(result.notes)
        unused = self._unused_metrics(trial, result)
        return [*fresh, ("metric_not_used", unused)] if unused else fresh

    def end(self, ending: str, message: str) -> SearchEnd:
        """Puts into words how it ended."""
        return SearchEnd(
            ending=ending,
            message=message,
            counts=replace(self.counts, rejected=self.rejected),
            best=self.best,
            elapsed_seconds=self.elapsed_seconds,
        )

    def _unused_metrics(self, trial: Trial, result: Result) -> str:
        """Names, once each, metrics that are named like the network's own costs and differ from them."""
        own = {metric.name: metric.value for metric in trial.predictions} | known_costs(trial.cost)
        found = {m.name for m in result.metrics if not math.isclose(m.value, own.get(m.name, m.value))}
        new, self._unused = sorted(found - self._unused), self._unused | found
        names = ", ".join(f"{name} (trial {trial.number} has {own[name]:,})" for name in new)
        return names and (
            f"the evaluator measures {names}, which is known before training: the objective and the reports "
            "use the known value, so give the measured one another name"
        )

    def check_health(self, outcome: TrialOutcome, result: Result | None) -> None:
        """Looks at an outcome that was counted; one without a result is copied, or told again.

        Raises:
            SearchStoppedError: Continuing is pointless.
        """
        if result is not None:
            self._health.look(outcome, result, completed=self.counts.completed)
