"""`nas.search`: the short form of `nas.Search`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from controllers import Controller
from nas.catalogue import PREDICTED, Tokens
from nas.contract import check_members, check_space, listed_reporters
from nas.controller import ControllerOptions
from nas.data.images import ImageData
from nas.errors import ObjectiveError, UsageError
from nas.evaluators import Probed
from nas.execution.executors import DEFAULT_EXECUTOR, ExecutorOptions
from nas.objective import KINDS, Objective
from nas.proposals import Replicate
from nas.protocols import Evaluator, Executor, LatencyPredictor, Probe, Reporter
from nas.reporters import Reporters
from nas.resumption import recipe_for
from nas.rungs import Rungs
from nas.scheduling import Budget
from nas.search import Search, folder_of
from nas.spaces import image_side
from nas.study.study import Study
from nas.task_objective import needed_of_task, objective_of_task
from nas.training.recipe import Recipe
from nas.trial import Progress, Say
from nas.values import flag, instance, real, whole
from search_spaces import Network, SearchSpace

LatencySource = LatencyPredictor | Probe
"""Where latencies come from: predicted from a table before training, or measured beside it."""


def search(
    space: SearchSpace,
    *,
    out: Path | str,
    data: ImageData | Path | str | None = None,
    evaluator: Evaluator | None = None,
    objective: Objective | str | None = None,
    metric: str | None = None,
    target_macs: float | None = None,
    controller: Controller | ControllerOptions | str | None = None,
    trials: int | None = None,
    budget: Budget | None = None,
    recipe: Recipe | None = None,
    rungs: Rungs | None = None,
    init: Path | str | None = None,
    latency: LatencySource | None = None,
    executor: Executor | ExecutorOptions | str = DEFAULT_EXECUTOR,
    workers: int = 1,
    seed: int = 0,
    deterministic: bool = False,
    enqueue: Iterable[Network | Tokens | Replicate] = (),
    warm_start: Study | None = None,
    reporters: Sequence[Reporter] = (),
) -> Study:
    """Searches a space, or continues the search in `out`, and returns the study: the short form of `Search`.

    Args:
        space: What can be built.
        out: The study's folder; a study that is there is continued.
        data: Images to train on: a folder, a `.npz` pack, a torchvision name, or loaded by `nas.load_data`.
        evaluator: What measures candidates instead of training them on `data`.
        objective: What is maximised; by default `metric`, or `Objective.hard` of it and the target.
        metric: A metric of the data's task, such as `balanced_accuracy`, or of the evaluator; by default what
            the objective names, else the task's first (see `nas.tasks.TASKS`).
        target_macs: Multiply-adds aimed at, in place of an objective.
        controller: Who chooses; by default `controllers.Default`, which needs the fewest trials.
        trials: How many trials the study has in the end, earlier runs included; by default those of `Budget`.
        budget: All that ends a search, in place of `trials`.
        recipe: How to train on `data`.
        rungs: See `Search`.
        init: Weights of a trained network that candidates start from where their layers match, as
            `nas.initial_weights` takes them.
        latency: A table that predicts latencies, or a probe that measures them beside each training. An
            objective that needs `latency_ms` has one by default, on the device that trains.
        executor: Who runs trials: a name of `nas.execution.executors.EXECUTORS`, one of them with options, or
            one made by the caller.
        workers: How many trials run at the same time, where an executor is named without options.
        seed: Seed of everything.
        deterministic: Fixes the schedule, so that the same seed gives the same study.
        enqueue: Candidates of the user's own, tried first.
        warm_start: An earlier study to learn from.
        reporters: Who shows the search.

    Raises:
        NasError: Something is wrong, or continuing is pointless; all that is finished is in the journal.
    """
    folder = folder_of(out)
    check_space(space)
    instance("recipe", recipe, (Recipe, type(None)), "give nas.Recipe(...)")
    budget = _budget(trials, budget)
    instance("objective", objective, (Objective, str, type(None)), "give nas.Objective or arithmetic as text")
    target = None if target_macs is None else real("target_macs", target_macs, above=0)
    instance("metric", metric, (str, type(None)), "give its name")
    terms = Objective.of(objective, targets={"macs": target})
    predictor, probe = _latency(latency)
    runner = _executor(executor, workers)
    reporter = Reporters(listed_reporters(reporters))

    def say(text: str) -> None:
        reporter.on_progress(Progress(text=text))

    images = _images(space, data, evaluator, say)
    goal = objective_of_task(
        terms,
        None if images is None else images.task,
        metric=metric,
        is_written=objective is not None and objective not in KINDS,
    )
    _check_predicted(goal, predictor)
    measure, events = _evaluator(
        goal,
        images=images,
        evaluator=evaluator,
        recipe=recipe_for(recipe, folder),
        rungs=rungs,
        init=init,
        probe=probe,
        deterministic=flag("deterministic", deterministic),
        say=say,
    )
    described = Search(
        space,
        evaluator=measure,
        objective=goal,
        controller=ControllerOptions() if controller is None else cast(Any, controller),
        budget=budget,
        rungs=rungs,
        predictor=predictor,
        seed=seed,
        deterministic=deterministic,
    )
    return described.run(
        folder, executor=runner, enqueue=enqueue, warm_start=warm_start, reporters=reporters, events=events
    )


def _budget(trials: int | None, budget: Budget | None) -> Budget:
    """The budget, or one of so many trials."""
    if budget is None:
        return Budget() if trials is None else Budget(trials=trials)
    if trials is not None:
        raise UsageError(
            f"give trials or a budget, but got both: put trials={trials} into the budget", field="trials"
        )
    return budget


def _check_predicted(objective: Objective, predictor: LatencyPredictor | None) -> None:
    """Refuses a table beside an objective that goes by what is measured, as it would change nothing."""
    if predictor is None or "latency_ms" not in objective.metrics or PREDICTED in objective.metrics:
        return
    raise ObjectiveError(
        f"a latency table predicts {PREDICTED}, but the objective goes by latency_ms, which is measured: "
        f"write {PREDICTED} in the objective, or leave the table out",
        field="latency",
    )


def _latency(source: LatencySource | None) -> tuple[LatencyPredictor | None, Probe | None]:
    """The source as what it is: a predictor has `predict`, a probe has `measure`."""
    if source is None:
        return None, None
    if hasattr(source, "measure"):
        check_members("the latency probe", source, Probe, field="latency")
        return None, cast(Probe, source)
    check_members("the latency table", source, LatencyPredictor, field="latency")
    return source, None


def _executor(executor: Executor | ExecutorOptions | str, workers: int) -> Executor:
    count = whole("workers", workers, least=1)
    if isinstance(executor, str):
        executor = ExecutorOptions(executor, workers=count)
    return executor.make() if isinstance(executor, ExecutorOptions) else executor


def _images(
    space: SearchSpace, data: ImageData | Path | str | None, evaluator: Evaluator | None, say: Say
) -> ImageData | None:
    """The images to train on, loaded where they are not; None where an evaluator is given."""
    if (data is None) == (evaluator is None):
        given = "neither" if data is None else "both"
        raise UsageError(
            f"a search needs data to train on or an evaluator, but got {given}: give one of them",
            field="data",
        )
    if data is None:
        return None
    from nas.data.loading import load_data

    if isinstance(data, Path | str):
        say("loading the images")
        return load_data(str(data), resolution=image_side(space), progress=say)
    instance("data", data, (ImageData,), "give a path, or what nas.load_data or nas.from_arrays returns")
    return data


def _evaluator(
    objective: Objective,
    *,
    images: ImageData | None,
    evaluator: Evaluator | None,
    recipe: Recipe,
    rungs: Rungs | None,
    init: Path | str | None,
    probe: Probe | None,
    deterministic: bool,
    say: Say,
) -> tuple[Evaluator, list[tuple[str, str]]]:
    """The evaluator given, or proxy training on the images, and what there is to tell of these."""
    if images is None:
        if init is not None:
            raise UsageError(
                "`init` is what our own training starts from, but an evaluator is given: leave one of them "
                "out",
                field="init",
            )
        own = cast(Evaluator, evaluator)
        return (own if probe is None else Probed(own, probe)), []
    from nas.latency.probe import LatencyProbe
    from nas.starting_weights import initial_weights
    from nas.training.proxy import ProxyEvaluator

    if probe is None and LatencyProbe.is_needed_for(objective):
        probe = LatencyProbe()
    weights = None
    if init is not None:
        say("reading the weights to start from")
        weights, images = initial_weights(init, images)
    trained = ProxyEvaluator(
        images,
        recipe.without_probes() if deterministic else recipe,
        metrics=needed_of_task(objective, images.task),
        rungs=rungs,
        init=weights,
    )
    events = [("data_note", note) for note in images.notes]
    events += [("data_warning", warning) for warning in images.warnings]
    return (trained if probe is None else Probed(trained, probe)), events
