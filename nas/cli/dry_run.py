"""`nas search --dry-run`: checks everything, samples a few candidates, prints the plan, writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nas.config.prepared import Prepared, earlier_study, prepare_request
from nas.config.request import Request
from nas.config.services import service_reporters
from nas.config.supernet import policy_training
from nas.evaluation.space_profile import Plan, profile_space
from nas.evaluation.time_estimate import TrialTime, estimate_trial_time
from nas.protocols import HasNotes
from nas.report.activity import Activity
from nas.report.plan_report import data_facts, profile_report
from nas.report.printing import MACS, PARAMS, Column, Fact, Table, emit, make_console, write_json
from nas.study.study import open_study
from nas.study.study_folder import has_study
from nas.trial import Say, say_nothing
from nas.values import counted
from nas.weight_sharing.recipe import OWN

if TYPE_CHECKING:
    from nas.report.printing import Report

EXAMPLES = 5
SAMPLES = 20_000
DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How much of a study is still to be done.

    Attributes:
        done: Trials that are finished.
        left: Trials to run.
        comparisons: Trainings of the final comparison, at most.
    """

    done: int
    left: int
    comparisons: int


def dry_run(request: Request) -> int:
    """Prints the plan of a search.

    Raises:
        NasError: The search could not run.
        SpaceError: The space is not valid.
    """
    if request.settings.has_policy:
        return _dry_run_of_policy(request)
    with Activity(make_console(to_stderr=True), "dry run") as activity:
        prepared = prepare_request(request, progress=activity)
        activity("checking candidates")
        prepared.search.check(
            request.folder,
            executor=prepared.executor(),
            enqueue=prepared.enqueued,
            warm_start=earlier_study(request, prepared),
            reporters=service_reporters(request.settings),
        )
        plan = plan_of(request, prepared, outlook_of(request), progress=activity)
    emit(plan, as_json=request.as_json)
    return 0


def _dry_run_of_policy(request: Request) -> int:
    """Prints the plan of the training that comes before the search."""
    from nas.full_training.display import TrainingDisplay, plan_report
    from nas.full_training.options import TrainOptions
    from nas.weight_sharing.training import plan

    with TrainingDisplay(make_console(to_stderr=True)) as display:
        asked = policy_training(request, progress=display.on_step)
        found = plan(asked, request.folder / OWN, options=TrainOptions(), watcher=display)
    if request.as_json:
        write_json(plan_report(found).to_data())
    return 0


def outlook_of(request: Request) -> Outlook:
    """Counts what is done and what is left."""
    done = 0
    if has_study(request.folder):
        states = open_study(request.folder).summary().states
        done = sum(states[name] for name in ("completed", "infeasible", "lost"))
    return Outlook(
        done=done,
        left=max(0, request.settings.trials - done),
        comparisons=request.seeds * (2 + request.randoms),
    )


def plan_of(request: Request, prepared: Prepared, outlook: Outlook, *, progress: Say = say_nothing) -> Report:
    """The report of a dry run."""
    settings = request.settings
    time = _time(prepared, progress) if prepared.trains_by_recipe else None
    progress(f"costing {SAMPLES:,} random candidates")
    plan = Plan(
        trials=outlook.left,
        workers=prepared.workers,
        gpus_per_worker=prepared.gpus_per_worker,
        seconds_per_trial=None if time is None else time.seconds,
        origin=_why_unknown(prepared)
        if time is None
        else f"{time.origin}; {time.lowest:.3g} to {time.highest:.3g} s",
    )
    profile = profile_space(prepared.space, prepared.objective, samples=SAMPLES, seed=settings.seed)
    report = profile_report(
        profile,
        plan,
        title="Dry run: no training is completed, nothing is written",
        facts=_facts(request, prepared, outlook),
    )
    return replace(report, tables=(*report.tables[:-1], _examples(prepared), report.tables[-1]))


def _why_unknown(prepared: Prepared) -> str:
    if prepared.settings.supernet is None:
        return "not known: the evaluator is your own"
    return "not known: a trial is a pass over the images for statistics and one over the search split"


def _time(prepared: Prepared, progress: Say) -> TrialTime:
    return estimate_trial_time(
        prepared.catalogue(),
        prepared.data,
        prepared.recipe,
        prepared.objective,
        seed=prepared.settings.seed,
        threads=1 if prepared.workers > 1 else None,
        progress=progress,
    )


def _facts(request: Request, prepared: Prepared, outlook: Outlook) -> tuple[Fact, ...]:
    settings = request.settings
    state = (
        f"holds a study with {counted(outlook.done, 'trial')} done, {outlook.left} are left"
        if outlook.done
        else "new"
    )
    facts = [
        Fact(key="folder", label="folder", value=str(request.folder), text=f"{request.folder} ({state})"),
        Fact(key="data", label="data", value=str(prepared.data)),
        Fact(key="space", label="space", value=prepared.space.name),
        Fact(key="objective", label="objective", value=prepared.objective.describe()),
        Fact(key="controller", label="controller", value=settings.chosen_controller),
        _training(prepared),
        Fact(key="executor", label="executor", value=settings.executor),
        Fact(
            key="jobs",
            label="jobs",
            value={"trials": outlook.left, "comparison": outlook.comparisons},
            text=f"{counted(outlook.left, 'trial')}, then at most "
            f"{counted(outlook.comparisons, 'training')} for the comparison",
        ),
    ]
    facts += (
        [Fact(key="note", label="note", value=prepared.objective.note)] if prepared.objective.note else []
    )
    evaluator = prepared.search.evaluator
    facts += [
        Fact(key=f"training_note_{number}", label="note", value=text)
        for number, text in enumerate(evaluator.notes if isinstance(evaluator, HasNotes) else (), start=1)
    ]
    recipe = prepared.recipe.settled(len(prepared.data.train)) if prepared.trains_by_recipe else None
    return (*facts, *data_facts(prepared.data, recipe, metric=prepared.objective.goal.metric))


def _training(prepared: Prepared) -> Fact:
    """How each candidate is trained; or the supernet, or the user's own evaluator, that measures them."""
    if prepared.settings.supernet is not None:
        return Fact(key="supernet", label="supernet", value=prepared.settings.supernet)
    if prepared.own_evaluator is not None:
        return Fact(key="evaluator", label="evaluator", value=prepared.own_evaluator.text)
    images = len(prepared.data.train)
    recipe = prepared.recipe.settled(images)
    steps = recipe.steps(images)
    length = f"{counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}, {counted(steps, 'step')}"
    words = f"{length}, {recipe.optimizer}"
    return Fact(key="training", label="training", value=words)


def _examples(prepared: Prepared) -> Table:
    """A few candidates as random search would propose them, within the constraints."""
    rng = np.random.default_rng(prepared.settings.seed)
    catalogue = prepared.catalogue()
    rows = []
    for _ in range(DRAWS):
        tokens = prepared.space.sample(rng)
        price = catalogue.describe(tokens).cost
        if catalogue.is_feasible(tokens, prepared.objective):
            rows.append({"tokens": list(tokens), "macs": price.macs, "params": price.params})
        if len(rows) == EXAMPLES:
            break
    columns = (
        MACS,
        PARAMS,
        Column(key="tokens", heading="tokens", show=lambda tokens: " ".join(map(str, tokens))),
    )
    return Table(key="examples", title="A few random candidates", columns=columns, rows=tuple(rows))
