"""Owns `search`: puts a study together from what the user gives, runs it, and returns it.

Does not own any of the parts, and decides nothing once the loop runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from controllers import Controller, ControllerError, Feedback, Outcome, Proposal
from nas.candidates import Catalogue, Finals, Repeat, Source, Tokens, require_feasible, wishes
from nas.data.images import ImageData
from nas.errors import ExecutorError, NasError, ObjectiveError, StudyError
from nas.execution.inline_executor import InlineExecutor
from nas.export.preprocessing import Preprocessing
from nas.loop import Loop
from nas.objective import KNOWN_METRICS, Objective
from nas.reporting import Reporter, Reporters, SearchStart
from nas.schedule import Budget, Flow
from nas.standing import Standing
from nas.studies.journal import Journal
from nas.studies.journal_reading import History
from nas.studies.journal_schema import Identity, Provenance
from nas.studies.keeper import Keeper
from nas.studies.study import Study
from nas.training.recipe import Recipe
from nas.trial import Evaluator, Executor, Status
from search_spaces import Network, SearchSpace

ControllerName = Literal["dyna", "reinforce", "ppo", "evolution", "local", "nsga2", "random"]
ExecutorName = Literal["ray", "inline"]


def search(
    space: SearchSpace,
    *,
    data: ImageData | Path | str | None = None,
    evaluator: Evaluator | None = None,
    controller: Controller | ControllerName = "dyna",
    objective: Objective | None = None,
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
        objective: What is maximised; by default the accuracy, or `Objective.hard` of the target.
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
        recipe: How to train on `data`.
        reporters: Who shows the search.
        keep_best: Weights are kept of so many trials with the highest rewards, and of the Pareto front.
        settings: How the search was asked for; stored for the command line.

    Raises:
        NasError: Something given is wrong, or going on is pointless; everything finished is in the journal.
    """
    budget = Budget(trials=trials, max_hours=max_hours, patience=patience)
    goal = _objective(objective, target_macs, deterministic=deterministic)
    first = wishes(space, goal, enqueue)
    finals = Finals.of(finalists, trials)
    require_feasible(space, goal, seed=seed)
    measure = _evaluator(
        space, goal, data=data, evaluator=evaluator, recipe=recipe, deterministic=deterministic
    )
    catalogue = Catalogue(space)
    chooser = (
        make_controller(controller, catalogue, goal, seed=seed) if isinstance(controller, str) else controller
    )
    runner = _executor(executor, workers, gpus_per_worker) if isinstance(executor, str) else executor
    width = runner.slots if deterministic else None
    identity = _identity(space, measure, goal, chooser, seed=seed, width=width)
    known = () if warm_start is None else earlier_results(warm_start, identity, space, goal)
    with (
        closing(runner),
        closing(
            Journal(Path(out), identity, provenance=_provenance(space, measure), settings=settings)
        ) as journal,
    ):
        history = journal.history(space)
        loop = Loop(
            source=Source(
                catalogue,
                chooser,
                goal,
                seed=seed,
                enqueued=first,
                finals=finals,
                helps_out=isinstance(controller, str),
                history=history,
            ),
            controller=chooser,
            executor=runner,
            objective=goal,
            journal=journal,
            keeper=Keeper(journal.folder, metric=next(iter(goal.metrics), "macs"), best=keep_best),
            reporter=Reporters(reporters),
            budget=budget,
            flow=Flow(slots=runner.slots, width=journal.identity.deterministic_workers),
            standing=Standing(folder=journal.folder, total=trials),
        )
        _restore(loop, history, known)
        loop.reporter.on_start(_start(loop, space, identity))
        if loop.flow.waiting or not loop.standing.limit(budget, loop.flow):
            runner.start(space, measure)
        loop.run()
    return Study(out, space=space)


def make_controller(
    name: ControllerName, catalogue: Catalogue, objective: Objective, *, seed: int
) -> Controller:
    """Makes a controller for a space, that never repeats a candidate and never proposes one too dear.

    It is told the known costs of the objective, or macs where there is none; and how the reward follows from
    accuracy and costs, where no cost has to be measured.

    Raises:
        ControllerError: There is no controller of this name.
    """
    import controllers

    kinds = {
        "dyna": "Dyna",
        "reinforce": "Reinforce",
        "ppo": "PPO",
        "evolution": "RegularizedEvolution",
        "local": "LocalSearch",
        "nsga2": "NSGA2",
        "random": "RandomSearch",
    }
    if name not in kinds:
        raise ControllerError(f"there is no controller {name!r}: choose one of {', '.join(kinds)}")

    metrics = tuple(metric for metric in objective.metrics if metric in KNOWN_METRICS) or ("macs",)
    limits = {metric: (0.0, upper) for metric, upper in objective.known_limits.items()}

    def feasible(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return catalogue.space.are_within(
            rows,
            macs=limits.get("macs"),
            params=limits.get("params"),
            activations=limits.get("activations"),
        )

    def costs(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        table = catalogue.space.costs(rows)
        return np.stack([table[metric] for metric in metrics], axis=1).astype(np.float64)

    def reward(
        accuracies: npt.NDArray[np.float64], table: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        return objective.rewards(accuracies, dict(zip(metrics, table.T, strict=True)))

    return cast(
        Controller,
        getattr(controllers, kinds[name])(
            catalogue.space.cardinalities,
            catalogue.space.conditions,
            seed=seed,
            key=catalogue.digest,
            feasible=feasible if limits else None,
            costs=costs,
            reward=None if set(objective.measured_metrics) else reward,
        ),
    )


def earlier_results(
    study: Study, identity: Identity, space: SearchSpace, objective: Objective
) -> list[tuple[Proposal, Outcome]]:
    """What an earlier study found out, as results for a controller under this study's objective.

    Raises:
        StudyError: It searched another space, or measured in another way, or lacks a cost that is needed.
    """
    for name in ("space", "data", "split", "recipe", "evaluator"):
        ours, theirs = getattr(identity, name), getattr(study.identity, name)
        if ours != theirs:
            raise StudyError(
                f"a warm start needs results that can be compared, but the {name} of {study.folder} is "
                f"{theirs or 'none'} and is {ours or 'none'} here: start without it, or search as it did"
            )
    results = []
    for trial in study.trials:
        tokens = space.canonical(trial.tokens)
        if trial.status is Status.INFEASIBLE:
            results.append((Proposal(tokens), Outcome(status="infeasible")))
        elif trial.status is Status.COMPLETED and trial.accuracy is not None and trial.copied_from is None:
            try:
                broken = objective.broken(trial.costs)
                reward = objective.reward(trial.accuracy, trial.costs)
            except ObjectiveError as error:
                raise StudyError(
                    f"trial {trial.number} of {study.folder} cannot be judged: {error}"
                ) from error
            outcome = Outcome(reward, accuracy=trial.accuracy, status="infeasible" if broken else "completed")
            results.append((Proposal(tokens), outcome))
    return results


def _objective(objective: Objective | None, target_macs: float | None, *, deterministic: bool) -> Objective:
    if objective is not None and target_macs is not None:
        raise ObjectiveError(
            f"give an objective or target_macs, but got both: put {target_macs:,.12g} into the objective"
        )
    goal = objective
    if goal is None:
        goal = Objective() if target_macs is None else Objective.hard("macs", target_macs)
    if deterministic and goal.timed_metrics:
        raise ObjectiveError(
            f"a deterministic search cannot depend on times, but the objective looks at "
            f"{', '.join(goal.timed_metrics)}: use macs or params, or leave deterministic out"
        )
    return goal


def _evaluator(
    space: SearchSpace,
    objective: Objective,
    *,
    data: ImageData | Path | str | None,
    evaluator: Evaluator | None,
    recipe: Recipe | None,
    deterministic: bool,
) -> Evaluator:
    """The evaluator given, or proxy training on the data given, checked against the space."""
    if (data is None) == (evaluator is None):
        given = "neither" if data is None else "both"
        raise NasError(f"a search needs data to train on or an evaluator, but got {given}: give one of them")
    if evaluator is None:
        from nas.data.loading import load_data
        from nas.training.measurement import LatencyProbe
        from nas.training.proxy import ProxyEvaluator

        resolution = space.template.resolution
        images = load_data(str(data), resolution=resolution) if isinstance(data, Path | str) else data
        probe = LatencyProbe() if "latency_ms" in objective.metrics else None
        way = recipe if recipe is not None else Recipe()
        way = way.without_probes() if deterministic else way
        evaluator = ProxyEvaluator(cast(ImageData, images), way, measure_latency=probe)
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


def _identity(
    space: SearchSpace,
    evaluator: Evaluator,
    objective: Objective,
    controller: Controller,
    *,
    seed: int,
    width: int | None,
) -> Identity:
    """What makes the study what it is; our own evaluator says its parts, another only the whole."""
    images, recipe = _images(evaluator), _recipe(evaluator)
    return Identity(
        space=space.fingerprint,
        data="" if images is None else images.fingerprint,
        split="" if images is None else images.split_fingerprint,
        recipe="" if recipe is None else recipe.fingerprint,
        evaluator=evaluator.fingerprint,
        objective=objective.to_json(),
        controller=type(controller).__qualname__,
        seed=seed,
        deterministic_workers=width,
    )


def _provenance(space: SearchSpace, evaluator: Evaluator) -> Provenance:
    images, recipe = _images(evaluator), _recipe(evaluator)
    return Provenance(
        space_name=space.name,
        data_text="" if images is None else str(images),
        recipe_json="" if recipe is None else recipe.to_json(),
        preprocessing_json="" if images is None else Preprocessing.of(images).to_json(),
    )


def _images(evaluator: Evaluator) -> ImageData | None:
    """The images that an evaluator trains on, where it says so as ours does."""
    images = getattr(evaluator, "data", None)
    return images if isinstance(images, ImageData) else None


def _recipe(evaluator: Evaluator) -> Recipe | None:
    recipe = getattr(evaluator, "recipe", None)
    return recipe if isinstance(recipe, Recipe) else None


def _restore(loop: Loop, history: History, known: Feedback) -> None:
    """Brings everything to where earlier runs ended; a new study starts from what is known of others."""
    loop.flow.restore(history)
    loop.standing.restore(history)
    for number, verdict in history.finished.items():
        loop.keeper.place(history.trials[number], verdict)
    loop.journal.forget_weights(loop.keeper.sweep())
    if history.controller_state is not None:
        try:
            loop.controller.load_state_dict(history.controller_state)
        except ControllerError as error:
            raise StudyError(f"{loop.journal.folder} holds a study of another controller: {error}") from error
        except KeyError as error:
            raise StudyError(
                f"{loop.journal.folder} was searched by an earlier version of mnas, whose controllers "
                f"remembered less (there is no {error}): go on with that version, or begin a new study with "
                "this one as its warm start"
            ) from error
    elif known:
        loop.controller.feedback(known)


def _start(loop: Loop, space: SearchSpace, identity: Identity) -> SearchStart:
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
        counts=loop.standing.counts,
        best=loop.standing.best,
    )
