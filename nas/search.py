"""`Search`: one value that describes a search, checks it and runs it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from controllers import Controller, Feedback
from controllers.finals import HasBeliefs
from nas.catalogue import Catalogue, Tokens
from nas.contract import check_given, check_members, export_notes
from nas.controller import CheckedController, ControllerOptions, earlier_results
from nas.errors import ObjectiveError, RecipeError, UsageError
from nas.events import SearchStart
from nas.identity import check_folder, identity_of, provenance_of
from nas.loop import Loop
from nas.objective import Objective
from nas.progress_state import ProgressState
from nas.proposals import Enqueued, Replicate, Source, enqueued_candidates, require_feasible
from nas.protocols import (
    ChecksNetworks,
    ChecksReady,
    Clock,
    Evaluator,
    Executor,
    HasNotes,
    LatencyPredictor,
    NamesMetrics,
    Reporter,
    SystemClock,
)
from nas.reporters import Reporters
from nas.resumption import count_deaths, restore, say_what_changed, with_predictions
from nas.rungs import Halving, Rungs
from nas.scheduling import AUTO, Budget, Flow
from nas.study.checkpoints import CheckpointStore
from nas.study.disk import DiskWatch
from nas.study.identity import Identity, Provenance
from nas.study.journal import Journal
from nas.study.study import Study
from nas.study.trial_logs import TrialLogs
from nas.trial import Progress
from nas.values import flag, instance, seed_of, shown, whole
from search_spaces import Network, SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A search that was checked, with everything that `run` needs; made by `Search.check`.

    Attributes:
        catalogue: What is known of the space's candidates before training.
        controller: The controller, made for this space and objective.
        enqueued: The user's own candidates, as tokens.
        identity: What makes the study the same study.
        provenance: The identity as text for users.
        earlier: Results of an earlier study that the controller starts from.
    """

    catalogue: Catalogue
    controller: Controller
    enqueued: tuple[Enqueued, ...]
    identity: Identity
    provenance: Provenance
    earlier: Feedback


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that decides what a search finds. `check` finds what is wrong; `run` searches.

    Attributes:
        space: What can be built; may be positional.
        evaluator: What measures candidates.
        objective: What is maximised, or the same as text, which is read.
        controller: Options of one of our controllers, its name alone, or the user's own controller.
        budget: When the search ends.
        rungs: Trains every candidate on the first rung only, and promotes the best of each rung to the
            next, from its weights. The training on each rung counts as a trial; the controller gets results
            of the first rung only.
        predictor: Predicts every candidate's latency, the cost `predicted_latency_ms`, before training.
        seed: Seed of everything: the controller's choices, each trial's training.
        deterministic: Fixes the schedule, so that the same seed gives the same study.
        keep_best: Weights are kept of so many trials with the highest rewards, and of the Pareto front.

    Raises:
        NasError: A value is of the wrong kind or out of range.
    """

    space: SearchSpace = field(kw_only=False)
    evaluator: Evaluator
    objective: Objective = field(default_factory=Objective)
    controller: Controller | ControllerOptions = field(default_factory=ControllerOptions)
    budget: Budget = field(default_factory=Budget)
    rungs: Rungs | None = None
    predictor: LatencyPredictor | None = None
    seed: int = 0
    deterministic: bool = False
    keep_best: int = 3

    def __post_init__(self) -> None:
        none = type(None)
        instance("objective", self.objective, (Objective, str), "give nas.Objective or a formula as text")
        instance("budget", self.budget, (Budget,), "give nas.Budget(...)")
        instance("rungs", self.rungs, (Rungs, none), "make it with nas.Rungs.of(...)")
        _given("evaluator", self.evaluator, Evaluator)
        _given("controller", self.controller, Controller)
        objective, controller = self.objective, self.controller
        changed = {
            "objective": Objective.parse(objective) if isinstance(objective, str) else objective,
            "controller": ControllerOptions(controller) if isinstance(controller, str) else controller,
            "seed": seed_of(self.seed),
            "deterministic": flag("deterministic", self.deterministic),
            "keep_best": whole("keep_best", self.keep_best, least=0),
        }
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    def check(
        self,
        out: Path | str | None = None,
        *,
        executor: Executor | None = None,
        enqueue: Iterable[Network | Tokens | Replicate] = (),
        warm_start: Study | None = None,
        reporters: Sequence[Reporter] = (),
    ) -> Plan:
        """Finds everything that can be wrong before anything runs; writes nothing. `run` begins with it.

        Args:
            out: The study's folder; None skips its checks.
            executor: Runs trials; None skips its checks.
            enqueue: Candidates of the user's own, tried first.
            warm_start: An earlier study to learn from.
            reporters: Show the search.

        Raises:
            NasError: The search could not run; `field` names what is wrong.
        """
        own = None if isinstance(self.controller, ControllerOptions) else self.controller
        check_given(
            self.space,
            controller=own,
            evaluator=self.evaluator,
            executor=executor,
            reporters=reporters,
            predictor=self.predictor,
        )
        instance(
            "warm_start", warm_start, (Study, type(None)), "open the study first with nas.open_study(folder)"
        )
        catalogue = Catalogue(self.space, self.predictor)
        catalogue.check_predicts(self.objective)
        names = self.evaluator.measures if isinstance(self.evaluator, NamesMetrics) else ()
        self.objective.check_searchable(measured=names or None)
        self._check_schedule()
        enqueued = enqueued_candidates(catalogue, self.objective, _listed(enqueue))
        require_feasible(catalogue, self.objective, seed=self.seed)
        if isinstance(self.evaluator, ChecksNetworks):
            self.evaluator.check(self.space.decode((0,) * len(self.space.cardinalities)))
        for reporter in reporters:
            if isinstance(reporter, ChecksReady):
                reporter.check_ready()
        controller = self._made(catalogue)
        identity = identity_of(
            catalogue,
            self.evaluator,
            self.objective,
            controller=type(controller).__qualname__,
            rungs=self.rungs,
            seed=self.seed,
            width=executor.slots if self.deterministic and executor is not None else None,
        )
        provenance = provenance_of(self.space, self.evaluator)
        if out is not None:
            check_folder(folder_of(out), identity, provenance)
        return Plan(
            catalogue=catalogue,
            controller=controller if own is None else CheckedController(own, self.space.cardinalities),
            enqueued=enqueued,
            identity=identity,
            provenance=provenance,
            earlier=()
            if warm_start is None
            else earlier_results(warm_start, identity, catalogue, self.objective, provenance=provenance),
        )

    def _made(self, catalogue: Catalogue) -> Controller:
        """The controller, made for this space and objective where it is one of ours."""
        found = self.controller
        if isinstance(found, ControllerOptions):
            found = found.make(catalogue, self.objective, seed=self.seed, trials=self.budget.trials)
        if self.budget.finalists == AUTO and not isinstance(found, HasBeliefs):
            raise UsageError(
                f"finalists='auto' needs a controller that has `beliefs`, but {type(found).__qualname__} has "
                "none: define it (controllers.finals.HasBeliefs), or give a number of finalists",
                field="finalists",
            )
        return found

    def _check_schedule(self) -> None:
        """Checks that budget, rungs and a fixed schedule go together."""
        if self.deterministic and self.objective.timed_metrics:
            raise ObjectiveError(
                f"a deterministic search cannot depend on times, but the objective uses "
                f"{', '.join(self.objective.timed_metrics)}: use macs or params, or leave deterministic out",
                field="objective",
            )
        self._check_front()
        if self.rungs is None:
            return
        self.rungs.check_trials(self.budget.trials)
        if self.deterministic:
            raise RecipeError(
                "a deterministic search cannot have rungs, as the promoted candidate depends on which is "
                "measured first: leave the rungs or deterministic out",
                field="rungs",
            )
        if self.budget.finalists:
            raise RecipeError(
                "a search with rungs chooses its winner on the last rung, so it has no finalists, but got "
                f"finalists={self.budget.finalists!r} too: leave one of them out",
                field="finalists",
            )

    def _check_front(self) -> None:
        """Checks that an objective with several goals is given nothing that goes by one reward."""
        given = {"rungs": self.rungs is not None, "finalists": bool(self.budget.finalists)}
        names = [name for name, is_given in given.items() if is_given]
        if self.objective.is_front and names:
            raise UsageError(
                f"{names[0]} choose by one reward, but {self.objective.describe()!r} has "
                f"{len(self.objective.goals)} goals: leave them out, or combine the goals, such as "
                "accuracy * macs^-0.07",
                field=names[0],
            )

    def run(
        self,
        out: Path | str,
        *,
        executor: Executor,
        enqueue: Iterable[Network | Tokens | Replicate] = (),
        warm_start: Study | None = None,
        reporters: Sequence[Reporter] = (),
        settings: Mapping[str, object] | None = None,
        events: Iterable[tuple[str, str]] = (),
        clock: Clock | None = None,
    ) -> Study:
        """Searches, or continues the search in `out`, and returns the study.

        Ctrl-C and SIGTERM end it cleanly: the study is returned as it is, and the same call continues it.

        Args:
            out: The study's folder; a study that is there is continued.
            executor: Runs trials; closed at the end.
            enqueue: Candidates of the user's own, tried first.
            warm_start: An earlier study of the same space and measurements: the controller learns from its
                trials before the first one of this study; its objective may be another.
            reporters: Show the search.
            settings: The options of the command line, as JSON values; stored for a resume.
            events: Kind and message of the first events of a new study.
            clock: The clock of time limits and of the journal; None is this machine's.

        Raises:
            NasError: Something is wrong, or continuing is pointless; all that is finished is in the journal.
        """
        folder = folder_of(out)
        instance("settings", settings, (Mapping, type(None)), "give a dict of JSON values")
        clock = SystemClock() if clock is None else clock
        check_members("the clock", clock, Clock, field="clock")
        _given("executor", executor, Executor)
        events = tuple(events)
        plan = self.check(
            folder, executor=executor, enqueue=enqueue, warm_start=warm_start, reporters=reporters
        )
        reporter = Reporters(reporters)
        executor.watch(reporter.on_progress)
        journal = Journal(
            folder,
            plan.identity,
            provenance=plan.provenance,
            settings=settings,
            in_process=executor.is_in_process,
            clock=clock,
        )
        with closing(executor), closing(journal):
            reporter.note = journal.note
            reporter.on_progress(Progress(text="reading the study"))
            history = with_predictions(journal.history(self.space), plan.catalogue)
            halving = None if self.rungs is None else Halving(self.rungs, self.budget.trials)
            source = Source(
                plan.catalogue,
                plan.controller,
                self.objective,
                seed=self.seed,
                budget=self.budget,
                enqueued=plan.enqueued,
                halving=halving,
                helps_out=isinstance(self.controller, ControllerOptions),
                history=history,
            )
            loop = self._loop(source, plan.controller, executor, journal, reporter, halving, clock)
            swept = restore(loop, history, halving, plan.earlier)
            reporter.on_start(self._start(loop, plan))
            for kind, message in (*swept.messages(), *(() if journal.is_resumed else events)):
                loop.tell(kind, message)
            journal.forget_weights(swept.missing)  # once that is said: a kill in between says it twice
            say_what_changed(loop, history)
            count_deaths(loop, history)
            if loop.flow.waiting or not loop.progress.limit(self.budget, loop.flow):
                loop.watch_disk()
                executor.start(self.space, self.evaluator)
            loop.run()
        return Study(folder, space=self.space)

    def _loop(
        self,
        source: Source,
        controller: Controller,
        executor: Executor,
        journal: Journal,
        reporter: Reporters,
        halving: Halving | None,
        clock: Clock,
    ) -> Loop:
        checkpoints = CheckpointStore(
            journal.folder,
            goals=self.objective.front,
            best=self.keep_best,
            halving=halving,
        )
        return Loop(
            source=source,
            controller=controller,
            executor=executor,
            objective=self.objective,
            journal=journal,
            checkpoints=checkpoints,
            logs=TrialLogs(journal.folder),
            disk=DiskWatch(folder=journal.folder, clock=clock.monotonic),
            reporter=reporter,
            budget=self.budget,
            flow=Flow(slots=executor.slots, width=journal.identity.deterministic_workers),
            progress=ProgressState(
                folder=journal.folder,
                total=self.budget.trials,
                goals=self.objective.goals,
                clock=clock,
            ),
        )

    def _start(self, loop: Loop, plan: Plan) -> SearchStart:
        return SearchStart(
            folder=loop.journal.folder,
            space_name=self.space.name,
            decisions=self.space.decisions,
            objective=self.objective.describe(),
            note=self.objective.note,
            metric=self.objective.goal.metric,
            controller=plan.identity.controller,
            trials=self.budget.trials,
            workers=loop.executor.slots,
            is_resumed=loop.journal.is_resumed,
            counts=loop.progress.counts,
            best=loop.progress.best,
            training_notes=(
                *(self.evaluator.notes if isinstance(self.evaluator, HasNotes) else ()),
                *export_notes(self.evaluator),
            ),
        )


def _given(name: str, value: object, protocol: type) -> None:
    """Refuses None, which `check_given` takes for what is left out."""
    if value is None:
        check_members(f"the {name}", value, protocol, field=name)


def folder_of(out: Path | str) -> Path:
    """The study's folder; raises `UsageError` where it is no path."""
    instance("out", out, (str, os.PathLike), "give the path of the study's folder")
    if not os.fspath(out):
        raise UsageError("`out` must name a folder, but got out='': give a path such as runs/a", field="out")
    return Path(out)


def _listed(enqueue: object) -> Iterable[Network | Tokens | Replicate]:
    if isinstance(enqueue, str | bytes | Mapping | Network) or not isinstance(enqueue, Iterable):
        raise UsageError(
            "`enqueue` must be a list of candidates, each a network, its tokens, or nas.Replicate, but got "
            f"enqueue={shown(enqueue)}: put it in a list",
            field="enqueue",
        )
    return enqueue
