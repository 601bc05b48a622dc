"""`train`: networks trained in full, the best of them tested once and exported with the measured weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from nas.data.images import ImageData
from nas.devices import choose_device, describe_device
from nas.errors import TrainingError
from nas.evaluation.agreement import Agreement, agreement_of
from nas.folders import ARCHITECTURE, RUN
from nas.full_training.checkpoint import Checkpoint, check_identity, read_checkpoint
from nas.full_training.fitting import failures_explained, fit
from nas.full_training.images import ImageSource
from nas.full_training.options import TrainOptions
from nas.full_training.plan import TrainingPlan, measure
from nas.full_training.ranks import OneRank, Ranks
from nas.full_training.recipe import FullRecipe
from nas.full_training.results import Fitted, Trained, finish, plain, write_json
from nas.full_training.tensorboard import CurveLog
from nas.full_training.training import FullTraining, Training, study_note
from nas.full_training.work import Fit, TrainingProgress, Work
from nas.io import write_whole
from nas.reading import read_json
from nas.starting_weights import Weights, study_in
from nas.study.study import Study
from nas.tasks import TaskName
from nas.values import few
from search_spaces import Network, cost

STOP_SECONDS = 60.0
"""How long several ranks have for a checkpoint after Ctrl-C."""

RECIPE, RANKING, LOCK = "recipe.toml", "ranking.json", "training.lock"


class Watcher(Protocol):
    """Receives the progress of full trainings."""

    def on_step(self, text: str) -> None:
        """Something that may last begins."""
        ...

    def on_plan(self, plan: TrainingPlan) -> None:
        """A training is about to begin, or to continue."""
        ...

    def on_progress(self, progress: TrainingProgress) -> None:
        """The training has come so far."""
        ...


class Unwatched:
    """A watcher that shows nothing."""

    def on_step(self, text: str) -> None:
        """Does nothing."""

    def on_plan(self, plan: TrainingPlan) -> None:
        """Does nothing."""

    def on_progress(self, progress: TrainingProgress) -> None:
        """Does nothing."""


def train(
    network: Network | Study | str | Path,
    *,
    data: str | Path | ImageSource | ImageData | None = None,
    out: str | Path,
    recipe: str | Path | FullRecipe | None = None,
    weights: Weights | str | Path | None = None,
    download: bool = False,
    top: int = 1,
    task: TaskName | None = None,
    metric: str | None = None,
    resolution: int | None = None,
    seed: int = 0,
    options: TrainOptions | None = None,
    watcher: Watcher | None = None,
) -> Trained:
    """Trains a network in full, or continues; the best weights on the search split are tested and exported.

    The folder then holds `bundle/`, `curves.png`, `recipe.toml` and `result.json`. The same call continues a
    training that was stopped, from its last checkpoint. On a CPU the weights are then those of an
    uninterrupted training, to the bit. The test split is looked at once, by the exported weights alone.

    Args:
        network: What is trained; see `FullTraining` for this and all up to the seed.
        data: The images.
        out: Folder to write.
        recipe: How.
        weights: What to start from.
        download: Whether weights by timm's name may be downloaded.
        top: How many of a study's networks are trained; the best of them on the search split is tested.
        task: What networks learn to predict.
        metric: What the best epoch, weights and network are chosen by, on the search split.
        resolution: Side of the images in pixels.
        seed: Of everything random.
        options: Devices, workers, checkpoints.
        watcher: Receives the progress.

    Raises:
        NasError: Network, images, recipe and weights do not fit together, or something cannot be read or
            written; `field` names the argument.
    """
    asked = FullTraining(
        network=network,
        data=data,
        recipe=recipe,
        weights=weights,
        download=download,
        top=top,
        task=task,
        metric=metric,
        resolution=resolution,
        seed=seed,
    )
    return run(asked, out, options=options or TrainOptions(), watcher=watcher or Unwatched())


def run(asked: FullTraining, out: str | Path, *, options: TrainOptions, watcher: Watcher) -> Trained:
    """Does what `train` says.

    Raises:
        NasError: As `train`.
    """
    trainings = asked.prepare(out, workers=options.workers, say=watcher.on_step)
    choose_device(options.device)
    folder = Path(out).expanduser()
    with locked(folder):
        found = [(one, *_fit(one, options, watcher)) for one in trainings]
        # Equal ones stay in the order of the study.
        ranked = sorted(found, key=lambda one: -one[1].best.reward)
        ranking = tuple(fitted for _, fitted, _ in ranked)
        if len(ranking) > 1:
            write_json(folder / RANKING, [plain(fitted) for fitted in ranking])
        training, best, checkpoint = ranked[0]
        agreement = _agreement(ranked)
        return finish(
            folder, training, best, checkpoint, ranking, options, watcher.on_step, agreement=agreement
        )


def _agreement(ranked: Sequence[tuple[Training, Fitted, Checkpoint]]) -> Agreement | None:
    """How far the trainings agree with the shared weights that their study was searched in, on its images."""
    trials = [training.start.trial for training, _, _ in ranked]
    first = trials[0]
    if len(trials) < 2 or first is None or not first.has_shared_weights:
        return None
    study = study_in(first.folder)
    if study is None or study_note(study, ranked[0][0].data, first.network):
        return None
    alone = {
        trial.digest: fitted.best.value
        for trial, (_, fitted, _) in zip(trials, ranked, strict=True)
        if trial is not None and fitted.best.metric == trial.quality_metric
    }
    return agreement_of(study, alone)


def plan(
    asked: FullTraining, out: str | Path, *, options: TrainOptions, watcher: Watcher
) -> tuple[TrainingPlan, ...]:
    """What `run` would take, a plan for each network; the watcher is told of each. Writes nothing.

    Raises:
        NasError: As `train`.
    """
    found = []
    for training in asked.prepare(out, workers=options.workers, say=watcher.on_step):
        watcher.on_step("measuring a few steps")
        found.append(_plan(training, _work(training, options), options))
        watcher.on_plan(found[-1])
    return tuple(found)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second process from training in the same folder.

    Raises:
        TrainingError: One does, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrainingError(
            f"another process trains in {folder}: wait for it, or give another --out", field="out"
        ) from error
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written: {error.strerror or error}", field="out") from error
    try:
        yield
    finally:
        lock.release()


def _work(training: Training, options: TrainOptions) -> Fit:
    """The training as the plain data that every rank runs; a precision that was chosen before stays."""
    path, identity = training.folder / RUN, training.identity
    known = read_run(path)
    if known is not None:
        check_identity(path, known["identity"], identity, _changes(known, training.recipe))
    return Fit.of(training, options, chosen=None if known is None else known["precision"])


def _changes(known: Mapping[str, Any], recipe: FullRecipe) -> str:
    """How the recipe of a training that is there differs from the one that is asked for, in words."""
    there, here = known.get("recipe", {}), asdict(recipe)
    differing = [name for name in here if name != "name" and name in there and there[name] != here[name]]
    return few([f"{name} is {_shown(there[name])} there, {_shown(here[name])} here" for name in differing])


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_run(path: Path) -> dict[str, Any] | None:
    """What the run before wrote down; None where there was none."""
    if not path.exists():
        return None
    try:
        known: dict[str, Any] = read_json(path)
        if not {"identity", "precision"} <= set(known):
            raise ValueError("it has no identity")
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}): restore it, or give another --out", field="out"
        ) from error
    return known


def _fit(training: Training, options: TrainOptions, watcher: Watcher) -> tuple[Fitted, Checkpoint]:
    """Trains one network to the end, or reads what was trained before; of its tensors the best are kept."""
    work = _work(training, options)
    done = read_checkpoint(work.folder, work.identity)
    steps = training.recipe.steps(len(training.data.train))
    if done is None or done.state.step < steps:
        _begin(training, work)
        watcher.on_step("measuring a few steps")
        watcher.on_plan(_plan(training, work, options))
        done = train_work(work, watcher, first_step=0 if done is None else done.state.step + 1)
    best = done.state.best
    if best is None:
        raise TrainingError(
            f"no weights of {training.start.name} gave finite outputs on the search split: give a lower "
            "learning_rate, or precision=float32, and another --out",
            field="learning_rate",
        )
    counted = cost(training.start.network)
    fitted = Fitted(
        label=training.start.name,
        folder=training.folder,
        best=best,
        macs=counted.macs,
        params=counted.params,
        seconds=done.state.seconds,
        notes=done.state.notes,
    )
    return fitted, replace(done, tensors={}, numbers={})


def _begin(training: Training, work: Fit) -> None:
    """Writes down what is trained, before the first step."""
    facts = {
        "name": training.start.name,
        "identity": work.identity,
        "precision": work.precision,
        "task": training.data.task,
        "metric": training.metric,
        "seed": training.seed,
        "recipe": asdict(training.recipe),
        "data": str(training.data),
        "notes": list(training.notes),
    }
    try:
        training.folder.mkdir(parents=True, exist_ok=True)
        write_whole(training.folder / RECIPE, training.recipe.to_toml())
        write_whole(training.folder / ARCHITECTURE, training.start.network.to_json() + "\n")
        write_json(training.folder / RUN, facts)
    except OSError as error:
        raise TrainingError(
            f"{training.folder} cannot be written: {error.strerror or error}", field="out"
        ) from error


def train_work(work: Work, watcher: Watcher, *, first_step: int) -> Checkpoint:
    """Trains to the end, by this process or by several; the evaluations go to TensorBoard.

    Args:
        work: What is trained.
        watcher: Receives the progress.
        first_step: The step that comes next.

    Raises:
        NasError: As `fit`.
    """
    options = work.options
    device = choose_device(options.device)
    with closing(CurveLog(work.folder, first_step=first_step)) as log:

        def tell(progress: TrainingProgress) -> None:
            if progress.row is not None:
                log.add(progress.row)
            watcher.on_progress(progress)

        if options.workers == 1:
            return fit(work, OneRank(device=device), tell)
        from nas.full_training.ray_launch import launch

        launch(
            partial(_train_rank, work),
            workers=options.workers,
            folder=work.folder,
            on_gpus=device.type == "cuda",
            cpus_per_worker=options.cpus_per_worker,
            address=options.address,
            stop_seconds=STOP_SECONDS,
            tell=tell,
            say=watcher.on_step,
        )
    done = read_checkpoint(work.folder, work.identity)
    if done is None:
        raise TrainingError(
            f"the ranks ended without a checkpoint in {work.folder}: give a folder that every node sees",
            field="out",
        )
    return done


def _train_rank(work: Work, ranks: Ranks, tell: Callable[[TrainingProgress], None]) -> None:
    fit(work, ranks, tell)


def _plan(training: Training, work: Fit, options: TrainOptions) -> TrainingPlan:
    """What the training will take; of several ranks, the time is not known before it began."""
    recipe, images = training.recipe, len(training.data.train)
    device = choose_device(options.device)
    notes = training.notes
    measured = None
    if options.workers == 1:
        with failures_explained(work, device):
            measured = measure(work, device)
    else:
        notes = (*notes, "the time is told when the ranks have begun")
    return TrainingPlan(
        name=training.start.name,
        network=training.start.network,
        data=training.data,
        recipe=recipe,
        metric=training.metric,
        steps=recipe.steps(images),
        steps_an_epoch=recipe.steps_an_epoch(images),
        learning_rate=recipe.peak_rate(images),
        sizes=tuple(recipe.side(stage, training.data.resolution) for stage in range(recipe.stages)),
        device=describe_device(device),
        workers=options.workers,
        precision=work.precision,
        step_seconds=() if measured is None else measured.step_seconds,
        seconds=None if measured is None else measured.seconds,
        memory_bytes=None if measured is None else measured.memory_bytes,
        notes=notes,
    )
