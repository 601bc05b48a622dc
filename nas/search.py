"""`search`: puts a study together from what the user gives, runs it, and returns it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, cast

from controllers import Controller
from nas.catalogue import Catalogue, LatencyPredictor, Tokens
from nas.checked_controller import CheckedController
from nas.contract import check_given
from nas.controller_factory import ControllerName, earlier_results, make_controller
from nas.conversion import as_text
from nas.data.description import DataDescription
from nas.data.images import ImageData
from nas.errors import ExecutorError, NasError, ObjectiveError
from nas.execution.inline_executor import InlineExecutor
from nas.export.preprocessing import Preprocessing
from nas.loop import Loop
from nas.objective import Objective
from nas.probing import Probed
from nas.progress_state import ProgressState
from nas.proposals import Repeat, Source
from nas.reporters import Reporter, Reporters, SearchStart
from nas.resumption import count_deaths, recipe_for, restore, with_predictions
from nas.rungs import Halving, Rungs
from nas.scheduling import Budget, Flow
from nas.search_arguments import Numbers, check_kinds, check_plan
from nas.study.checkpoints import CheckpointStore
from nas.study.differences import LATENCY_TABLE
from nas.study.journal import Journal
from nas.study.journal_schema import Identity, Provenance
from nas.study.study import Study
from nas.training.recipe import Recipe
from nas.trial import Evaluator, Executor, Probe, Progress, Say, watch
from search_spaces import Network, SearchSpace

ExecutorName = Literal["ray", "inline"]


def search(
    space: SearchSpace,
    *,
    data: ImageData | Path | str | None = None,
    evaluator: Evaluator | None = None,
    controller: Controller | ControllerName = "dyna",
    objective: Objective | str | None = None,
    target_macs: float | None = None,
    trials: int | None = 100,
    max_hours: float | None = None,
    patience: int | None = None,
    executor: Executor | ExecutorName = "ray",
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    out: Path | str,
    seed: int = 0,
    deterministic: bool = False,
    enqueue: Iterable[Network | Tokens | Repeat] = (),
    warm_start: Study | None = None,
    finalists: int = 0,
    rungs: Rungs | None = None,
    latency_table: LatencyPredictor | None = None,
    probe: Probe | None = None,
    accuracy_noise: float | None = None,
    recipe: Recipe | None = None,
    reporters: Sequence[Reporter] = (),
    keep_best: int = 3,
    settings: Mapping[str, object] | None = None,
) -> Study:
    """Searches a space, or continues the search in `out`, and returns the study.

    Ctrl-C and SIGTERM end it cleanly: the study is returned as it is, and the same call continues it.

    Args:
        space: What can be built.
        data: Images to train on: a folder, a `.npz` pack, a torchvision name, or loaded by `nas.load_data`.
        evaluator: What measures candidates instead of training them on `data`.
        controller: Who chooses: a name, or a controller made by the caller; by default
            `controllers.Default`, which needs the fewest trials.
        objective: What is maximised, or arithmetic such as `accuracy * (latency/5ms)^-0.07`; by default
            the accuracy, or `Objective.hard` of the target.
        target_macs: Multiply-adds aimed at, in place of an objective.
        trials: How many trials the study has in the end, earlier runs included; None is no limit.
        max_hours: How long this run proposes new candidates.
        patience: Ends the search after so many trials without a better reward.
        executor: Who runs trials: a name, or an executor made by the caller.
        workers: How many trials run at the same time on Ray.
        gpus_per_worker: Share of a GPU, or number of GPUs, that each Ray worker holds.
        out: The study's folder; a study that is there is continued.
        seed: Seed of everything: the controller's choices, each trial's training.
        deterministic: Fixes the schedule, so that the same seed gives the same study.
        enqueue: Candidates of the user's own, tried first.
        warm_start: An earlier study of the same space, measured in the same way: the controller learns from
            its trials before the first one of this study, whatever their objective was.
        finalists: The last `2 * finalists` trials train again, with new seeds, what the controller
            recommends by then: for a choice that does not rest on one training.
        rungs: Trains every candidate on the first rung only, and the best of each rung on to the next, from
            its weights. Each rung's training counts as a trial; the controller hears of the first rung.
        latency_table: Predicts every candidate's latency on a device: the cost `predicted_latency_ms`, known
            before anything is trained.
        probe: Measures every candidate beside its training, `latency_ms` say. An objective that needs latency
            has one by default, on the device that trains.
        accuracy_noise: Standard deviation of one measured accuracy, a fraction, as `nas proxy-check` finds
            it; for controllers that reckon with noise. None leaves them to estimate it.
        recipe: How to train on `data`.
        reporters: Who shows the search.
        keep_best: Weights are kept of so many trials with the highest rewards, and of the Pareto front.
        settings: How the search was asked for; stored for the command line.

    Raises:
        NasError: Something given is wrong, or going on is pointless; everything finished is in the journal.
    """
    check_kinds(
        out=out,
        objective=objective,
        enqueue=enqueue,
        warm_start=warm_start,
        rungs=rungs,
        recipe=recipe,
        settings=settings,
    )
    numbers = Numbers(
        target_macs=target_macs,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        seed=seed,
        deterministic=deterministic,
        accuracy_noise=accuracy_noise,
        keep_best=keep_best,
    ).checked()
    seed, deterministic = numbers.seed, numbers.deterministic
    runner = (
        _executor(executor, numbers.workers, numbers.gpus_per_worker)
        if isinstance(executor, str)
        else executor
    )
    check_given(
        space,
        controller=None if isinstance(controller, str) else controller,
        evaluator=evaluator,
        probe=probe,
        executor=runner,
        reporters=reporters,
        latency_table=latency_table,
    )
    budget = Budget(trials=trials, max_hours=max_hours, patience=patience)
    trials = budget.trials
    goal = _objective(objective, numbers.target_macs)
    catalogue = Catalogue(space, latency_table)
    first, finals = check_plan(
        catalogue,
        goal,
        budget,
        enqueue=enqueue,
        finalists=finalists,
        rungs=rungs,
        seed=seed,
        deterministic=deterministic,
    )
    everybody = Reporters(reporters)

    def say(text: str) -> None:
        everybody.on_progress(Progress(text=text))

    measure = checked_evaluator(
        space,
        goal,
        data=data,
        evaluator=evaluator,
        recipe=recipe_for(recipe, Path(out)),
        rungs=rungs,
        probe=probe,
        deterministic=deterministic,
        say=say,
    )
    made = (
        make_controller(controller, catalogue, goal, seed=seed, noise=numbers.accuracy_noise)
        if isinstance(controller, str)
        else controller
    )
    width = runner.slots if deterministic else None
    identity = identity_of(catalogue, measure, goal, made, rungs=rungs, seed=seed, width=width)
    chooser = made if isinstance(controller, str) else CheckedController(made, space.cardinalities)
    watch(runner, everybody.on_progress)
    provenance = provenance_of(space, measure)
    known = (
        ()
        if warm_start is None
        else earlier_results(warm_start, identity, catalogue, goal, provenance=provenance)
    )
    with (
        closing(runner),
        closing(
            Journal(
                Path(out),
                identity,
                provenance=provenance,
                settings=settings,
                in_process=getattr(runner, "is_in_process", False),
            )
        ) as journal,
    ):
        everybody.note = journal.note
        say("reading the study")
        history = with_predictions(journal.history(space), catalogue)
        halving = None if rungs is None else Halving(rungs, trials)
        loop = Loop(
            source=Source(
                catalogue,
                chooser,
                goal,
                seed=seed,
                enqueued=first,
                finals=finals,
                halving=halving,
                helps_out=isinstance(controller, str),
                history=history,
            ),
            controller=chooser,
            executor=runner,
            objective=goal,
            journal=journal,
            checkpoints=CheckpointStore(
                journal.folder,
                metrics=goal.metrics or ("macs",),
                best=numbers.keep_best,
                held=frozenset if halving is None else halving.held,
            ),
            reporter=everybody,
            budget=budget,
            flow=Flow(slots=runner.slots, width=journal.identity.deterministic_workers),
            progress=ProgressState(folder=journal.folder, total=trials),
        )
        swept = restore(loop, history, halving, known)
        loop.reporter.on_start(_start(loop, space, identity, measure))
        for kind, message in (*swept.messages(), *_data_messages(data, measure, journal)):
            loop.tell(kind, message)
        count_deaths(loop, history)
        if loop.flow.waiting or not loop.progress.limit(budget, loop.flow):
            runner.start(space, measure)
        loop.run()
    return Study(out, space=space)


def _objective(objective: Objective | str | None, target_macs: float | None) -> Objective:
    if objective is not None and target_macs is not None:
        raise ObjectiveError(
            f"give an objective or target_macs, but got both: put {target_macs:,.12g} into the objective"
        )
    goal = Objective.parse(objective) if isinstance(objective, str) else objective
    if goal is None:
        goal = Objective() if target_macs is None else Objective.hard("macs", target_macs)
    return goal


def checked_evaluator(
    space: SearchSpace,
    objective: Objective,
    *,
    data: ImageData | Path | str | None,
    evaluator: Evaluator | None,
    recipe: Recipe,
    rungs: Rungs | None,
    probe: Probe | None,
    deterministic: bool,
    say: Say,
) -> Evaluator:
    """The evaluator given, or proxy training on the data given, checked against the space."""
    if (data is None) == (evaluator is None):
        given = "neither" if data is None else "both"
        raise NasError(f"a search needs data to train on or an evaluator, but got {given}: give one of them")
    if evaluator is None:
        from nas.data.loading import load_data
        from nas.latency.probe import LatencyProbe
        from nas.training.proxy import ProxyEvaluator

        resolution = space.template.resolution
        images = data
        if isinstance(data, Path | str):
            say("loading the images")
            images = load_data(str(data), resolution=resolution, progress=say)
        if probe is None and "latency_ms" in objective.metrics:
            probe = LatencyProbe()
        evaluator = ProxyEvaluator(
            cast(ImageData, images),
            recipe.without_probes() if deterministic else recipe,
            fidelity="epochs" if rungs is None else rungs.fidelity,
            rungs=(1.0,) if rungs is None else rungs.shares,
        )
    if probe is not None:
        evaluator = Probed(evaluator, probe)
    check = getattr(evaluator, "check", None)
    if check is not None:
        check(space.decode((0,) * len(space.cardinalities)))
    return evaluator


def _executor(name: str, workers: int, gpus_per_worker: float) -> Executor:
    if name == "ray":
        from nas.execution.ray_executor import RayExecutor

        return RayExecutor(workers, gpus_per_worker=gpus_per_worker)
    if name == "inline":
        return InlineExecutor()
    raise ExecutorError(f"there is no executor {name!r}: choose ray or inline")


def identity_of(
    catalogue: Catalogue,
    evaluator: Evaluator,
    objective: Objective,
    controller: Controller,
    *,
    rungs: Rungs | None,
    seed: int,
    width: int | None,
) -> Identity:
    """What makes the study what it is; our own evaluator says its parts, another only the whole."""
    images, recipe = _images(evaluator), _recipe(evaluator)
    table = "" if catalogue.latency is None else LATENCY_TABLE + catalogue.latency.fingerprint
    measured = [as_text(evaluator.fingerprint, "an evaluator's fingerprint")]
    measured += [] if rungs is None else [rungs.fingerprint]
    return Identity(
        space=catalogue.space.fingerprint,
        data="" if images is None else images.fingerprint,
        split="" if images is None else images.split_fingerprint,
        recipe="" if recipe is None else recipe.fingerprint,
        evaluator="; ".join(measured) + table,
        objective=objective.to_json(),
        controller=type(controller).__qualname__,
        seed=seed,
        deterministic_workers=width,
    )


def provenance_of(space: SearchSpace, evaluator: Evaluator) -> Provenance:
    """Where a study of a space comes from, in words."""
    images, recipe = _images(evaluator), _recipe(evaluator)
    return Provenance(
        space_name=space.name,
        data_text="" if images is None else str(images),
        recipe_json="" if recipe is None else recipe.to_json(),
        preprocessing_json="" if images is None else Preprocessing.of(images).to_json(),
        data_json="" if images is None else DataDescription.of(images).to_json(),
    )


def _images(evaluator: Evaluator) -> ImageData | None:
    """The images that an evaluator trains on, where it says so as ours does."""
    images = getattr(evaluator, "data", None)
    return images if isinstance(images, ImageData) else None


def _recipe(evaluator: Evaluator) -> Recipe | None:
    recipe = getattr(evaluator, "recipe", None)
    return recipe if isinstance(recipe, Recipe) else None


def _data_messages(data: object, evaluator: Evaluator, journal: Journal) -> list[tuple[str, str]]:
    """Events of a new study on what was decided about its images, and on what was not used of them.

    None where the caller made the evaluator: whoever loaded the images has their notes and warnings.
    """
    images = _images(evaluator)
    if data is None or images is None or journal.is_resumed:
        return []
    notes = [("data_note", note) for note in images.notes]
    return notes + [("data_warning", warning) for warning in images.warnings]


def _start(loop: Loop, space: SearchSpace, identity: Identity, evaluator: Evaluator) -> SearchStart:
    return SearchStart(
        folder=loop.journal.folder,
        space_name=space.name,
        decisions=space.decisions,
        objective=loop.objective.describe(),
        note=loop.objective.note,
        controller=identity.controller,
        trials=loop.budget.trials,
        workers=loop.executor.slots,
        is_resumed=loop.journal.is_resumed,
        counts=loop.progress.counts,
        best=loop.progress.best,
        training_notes=tuple(getattr(evaluator, "notes", ())),
    )
