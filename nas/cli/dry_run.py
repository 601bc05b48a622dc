"""`nas search --dry-run`: everything checked, a few candidates sampled, the plan printed, no file made."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.catalogue import Catalogue
from nas.config.prepared import Prepared, read_enqueued
from nas.config.request import Request, prepare_request
from nas.contract import check_given
from nas.controller_factory import earlier_results, make_controller
from nas.errors import StudyError
from nas.evaluation.space_profile import Plan, profile_space
from nas.evaluation.time_estimate import estimate_trial_time
from nas.report.activity import Activity
from nas.report.data_facts import data_facts
from nas.report.plan_report import profile_report
from nas.report.printing import Column, Fact, Table, emit, make_console, show_count
from nas.scheduling import Budget
from nas.search import checked_evaluator, identity_of, provenance_of
from nas.search_arguments import check_plan
from nas.study.study import open_study
from nas.study.study_folder import check_parts, has_study
from nas.trial import Say, say_nothing

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
        SpaceError: The space breaks one of its laws.
    """
    with Activity(make_console(to_stderr=True), "dry run") as activity:
        prepared = prepare_request(request, progress=activity)
        activity("checking candidates")
        networks = read_enqueued(request.settings.enqueue, prepared.space)
        settings, catalogue = prepared.settings, prepared.catalogue()
        check_plan(
            catalogue,
            prepared.objective,
            Budget(trials=settings.trials, max_hours=settings.max_hours, patience=settings.patience),
            enqueue=networks,
            finalists=settings.finalists,
            rungs=prepared.rungs,
            seed=settings.seed,
            deterministic=settings.is_deterministic,
        )
        check_given(prepared.space, executor=prepared.executor())
        check_study(request, prepared, catalogue)
        check_writable(request.folder)
        plan = plan_of(request, prepared, outlook_of(request), progress=activity)
    emit(plan, as_json=request.as_json)
    return 0


def check_study(request: Request, prepared: Prepared, catalogue: Catalogue) -> None:
    """Checks that the study in the folder, and the one to learn from, are of what is asked for.

    Raises:
        StudyError: One of them is of something else.
    """
    settings, space, objective = prepared.settings, prepared.space, prepared.objective
    evaluator = checked_evaluator(
        space,
        objective,
        data=None,
        evaluator=prepared.evaluator(),
        recipe=prepared.recipe,
        rungs=prepared.rungs,
        probe=prepared.probe,
        deterministic=settings.is_deterministic,
        say=say_nothing,
    )
    controller = make_controller(
        settings.controller,  # type: ignore[arg-type]  # checked by the option
        catalogue,
        objective,
        seed=settings.seed,
        noise=prepared.accuracy_noise,
    )
    identity = identity_of(
        catalogue,
        evaluator,
        objective,
        controller,
        rungs=prepared.rungs,
        seed=settings.seed,
        width=prepared.executor().slots if settings.is_deterministic else None,
    )
    provenance = provenance_of(space, evaluator)
    if has_study(request.folder):
        study = open_study(request.folder)
        same = identity.at_width_of(study.identity)
        same.check_same(study.identity, request.folder, told=study.provenance, tells=provenance)
    if request.warm_start is not None:
        earlier = open_study(request.warm_start, space=space)
        earlier_results(earlier, identity, catalogue, objective, provenance=provenance)


def check_writable(folder: Path) -> None:
    """Checks that a study's folder can be written, or made where it is missing; writes nothing.

    Raises:
        StudyError: It cannot.
    """
    check_parts(folder)
    absolute = folder.absolute()
    there = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not there.is_dir():
        raise StudyError(f"the folder {folder} cannot be written: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StudyError(f"the folder {folder} cannot be written: {there} may not be written to")


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
    threads = 1 if prepared.workers > 1 else None
    time = estimate_trial_time(
        prepared.catalogue(),
        prepared.data,
        prepared.recipe,
        prepared.objective,
        seed=settings.seed,
        threads=threads,
        progress=progress,
    )
    progress(f"costing {SAMPLES:,} random candidates")
    plan = Plan(
        trials=outlook.left,
        workers=prepared.workers,
        gpus_per_worker=prepared.gpus_per_worker,
        seconds_per_trial=time.seconds,
        origin=f"{time.origin}; {time.lowest:.3g} to {time.highest:.3g} s",
    )
    profile = profile_space(prepared.space, prepared.objective, samples=SAMPLES, seed=settings.seed)
    report = profile_report(
        profile,
        plan,
        title="Dry run: nothing is trained to the end, nothing is written",
        facts=_facts(request, prepared, outlook),
    )
    return replace(report, tables=(*report.tables[:-1], _examples(prepared), report.tables[-1]))


def _facts(request: Request, prepared: Prepared, outlook: Outlook) -> tuple[Fact, ...]:
    settings = request.settings
    state = (
        f"holds a study with {outlook.done} trials done, {outlook.left} are left" if outlook.done else "new"
    )
    images = len(prepared.data.train)
    recipe = prepared.recipe.settled(images)
    steps = recipe.steps(images)
    training = f"{recipe.epochs:g} epochs, batch {recipe.batch_size}, {steps:,} steps, {recipe.optimizer}"
    facts = [
        Fact(key="folder", label="folder", value=str(request.folder), text=f"{request.folder} ({state})"),
        Fact(key="data", label="data", value=str(prepared.data)),
        Fact(key="space", label="space", value=prepared.space.name),
        Fact(key="objective", label="objective", value=prepared.objective.describe()),
        Fact(key="controller", label="controller", value=settings.controller),
        Fact(key="training", label="training", value=training),
        Fact(key="executor", label="executor", value=settings.executor),
        Fact(
            key="jobs",
            label="jobs",
            value={"trials": outlook.left, "comparison": outlook.comparisons},
            text=f"{outlook.left} trials, then at most {outlook.comparisons} trainings for the comparison",
        ),
    ]
    facts += (
        [Fact(key="note", label="note", value=prepared.objective.note)] if prepared.objective.note else []
    )
    facts += [
        Fact(key=f"training_note_{number}", label="note", value=text)
        for number, text in enumerate(prepared.evaluator().notes, start=1)
    ]
    return (*facts, *data_facts(prepared.data, recipe))


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
        Column(key="macs", heading="macs", show=show_count, is_number=True),
        Column(key="params", heading="params", show=show_count, is_number=True),
        Column(key="tokens", heading="tokens", show=lambda tokens: " ".join(map(str, tokens))),
    )
    return Table(key="examples", title="A few random candidates", columns=columns, rows=tuple(rows))
