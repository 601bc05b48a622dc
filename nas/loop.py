"""The search loop: propose, journal, run, journal, keep weights, feed back, journal."""

from __future__ import annotations

from dataclasses import dataclass

from controllers import Controller
from nas.errors import ControllerFailedError
from nas.objective import Objective
from nas.outcome import TrialOutcome, feedback_of, judge, lost_with_weights
from nas.progress_state import ProgressState
from nas.proposals import Source
from nas.protocols import Executor, Reporter
from nas.scheduling import Budget, Flow
from nas.signals import Interruption
from nas.study.checkpoints import CheckpointStore
from nas.study.disk import DiskWatch
from nas.study.journal import Journal
from nas.study.trial_logs import TrialLogs
from nas.trial import Result, Status, Trial

POLL_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Loop:
    """One run of a search, with everything it acts through; made by `nas.search`."""

    source: Source
    controller: Controller
    executor: Executor
    objective: Objective
    journal: Journal
    checkpoints: CheckpointStore
    logs: TrialLogs
    disk: DiskWatch
    reporter: Reporter
    budget: Budget
    flow: Flow
    progress: ProgressState
    ending: str = ""
    dry_at: int = -1

    def run(self) -> str:
        """Runs until the budget is spent, the space is exhausted or a user stops it; says which.

        Raises:
            NasError: Continuing is pointless or impossible; everything finished is in the journal.
        """
        ending, message = "failed", ""
        try:
            with Interruption() as interruption:
                ending = self._search(interruption)
                self.journal.remember(self.controller.state_dict(), self.source.asked)
        except KeyboardInterrupt:
            ending = "interrupted"
        except Exception as error:
            message = str(error)
            raise
        finally:
            try:
                self.journal.end(ending)
                self.journal.recommend(self.source.recommended())
            except ControllerFailedError as error:
                self.tell("nothing_recommended", str(error))
            finally:
                self.reporter.on_end(self.progress.end(ending, message))
        return ending

    def _search(self, interruption: Interruption) -> str:
        while True:
            self.flow.slots = self.executor.slots
            self._propose()
            while (settled := self.flow.count_next()) is not None:
                self._learn(*settled)
                self._propose()
            self._start()
            if not self.flow.running and not self.flow.settled:
                return self.ending
            if self.flow.running:
                self.watch_disk()
                with interruption.breakable():
                    results = self.executor.wait(POLL_SECONDS)
                for result in results:
                    self._settle(result)

    def _propose(self) -> None:
        """Fills the room there is; after an empty answer it asks again only once something was counted."""
        while (room := self.flow.room()) and self.dry_at != self.flow.turn:
            self.ending = self.progress.limit(self.budget, self.flow)
            trials = () if self.ending else self.source.next(self.flow.proposed, room)
            if not trials:
                self.ending = self.ending or "exhausted"
                self.dry_at = self.flow.turn
                return
            if notice := self.source.notice(trials[0]):
                self.tell("finals", notice)
            self.checkpoints.make_room(trial.number for trial in trials)
            self.journal.propose(trials, self.controller.state_dict, self.source.asked)
            self.flow.add(trials)

    def _start(self) -> None:
        """Gives every idle worker a trial; one whose equal is known is answered without running."""
        while (trial := self.flow.next_to_run()) is not None:
            known = self.flow.outcomes.get(trial.key)
            if known is not None:
                self._write(trial, known.copy_for(trial.number), None)
            else:
                job, (weights, missing) = self.flow.start(trial), self.checkpoints.weights_for(trial)
                if missing:
                    self.tell("weights_missing", missing)
                self.journal.start(job)
                self.executor.submit(job, weights)

    def _settle(self, result: Result) -> None:
        """Judges a result; what a machine lost is tried again, the weights worth keeping included."""
        trial = self.flow.end(result.job.trial)
        outcome = judge(trial, result, self.objective)
        fetched = self.checkpoints.fetch(trial, outcome, result, self.executor)
        if fetched.is_gone and self.flow.may_lose(trial):
            result = lost_with_weights(result)
        if result.status is not Status.COMPLETED:
            self.logs.add(result)
        if result.status is Status.LOST:
            self.tell("attempt_lost", f"trial {trial.number}, attempt {result.job.attempt}: {result.message}")
            if self.flow.lose(trial):
                self.journal.lose(result)
                return
        for kind, message in self.progress.news(trial, result):
            self.tell(kind, message)
        self.source.note(trial, outcome)
        if self.checkpoints.place(trial, outcome):
            # The file is there before the journal says so; without it the result still counts.
            outcome, problem = self.checkpoints.save(outcome, fetched)
            if problem:
                self.tell("weights_lost", f"the weights of trial {trial.number} are not kept: {problem}")
        self._write(trial, outcome, result)

    def _write(self, trial: Trial, outcome: TrialOutcome, result: Result | None) -> None:
        dropped = self.checkpoints.unwanted()
        self.journal.finish(outcome, result, dropped=dropped)
        self.checkpoints.drop(dropped)
        self.flow.settle(trial, outcome, result)

    def _learn(self, trial: Trial, outcome: TrialOutcome, result: Result | None) -> None:
        """Reports an outcome; the controller gets it unless it is of a promoted trial."""
        rank, reward = self.progress.count(trial, outcome)
        self.source.count(trial)
        if trial.continues is None:
            self.controller.feedback([feedback_of(trial, outcome, reward, self.objective)])
        self.journal.fed_back(trial.number, reward, rank, self.controller.state_dict, self.source.asked)
        self.progress.rejected = self.source.asked.rejected
        self.reporter.on_trial(self.progress.report(trial, outcome, result, self.flow, self.controller))
        self.progress.check_health(outcome, result)

    def watch_disk(self) -> None:
        """Says where the disk may not last until the end."""
        if low := self.disk.low(max(0, (self.budget.trials or 0) - self.flow.proposed)):
            self.tell("disk_low", low)

    def tell(self, kind: str, message: str) -> None:
        """Writes an event to the journal, and gives it to the reporters."""
        self.journal.note(kind, message)
        self.reporter.on_event(kind, message)
