"""Makes a `Search` of settings, with its images, space, evaluator and executor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nas.catalogue import Catalogue
from nas.config.machines import find_machines, make_executor
from nas.config.own_parts import find_evaluator, make_controller, make_own_evaluator
from nas.config.request import Request
from nas.config.settings import LATENCY, Settings, flag_of
from nas.config.shared_weights import check_supernet_settings, make_shared_weights
from nas.data.tree import check_outside
from nas.errors import SpaceArgumentError, UsageError
from nas.evaluators import Probed
from nas.objective import Objective
from nas.options import options_of
from nas.own_files import Own
from nas.protocols import Evaluator, Executor
from nas.rungs import FIDELITY, REDUCTION_FACTOR, Rungs
from nas.scheduling import Budget
from nas.search import Search
from nas.spaces import SpaceSource, find_space
from nas.study.journal_reading import read_begun
from nas.study.study import Study, open_study
from nas.task_objective import judged_by, needed_of_task
from nas.training.recipe import Recipe
from nas.trial import Say, say_nothing
from search_spaces import Network, SearchSpace, SpaceError

if TYPE_CHECKING:
    from nas.data.images import ImageData, SplitName
    from nas.latency.probe import LatencyProbe
    from nas.latency.table.table import LatencyTable
    from nas.training.initial_weights import InitialWeights
    from nas.training.proxy import ProxyEvaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What settings mean, made real.

    Attributes:
        settings: What was asked for.
        search: The search.
        data: The images in their three splits.
        recipe: How each candidate is trained, as it was asked for; the evaluator's has all decided.
        own_evaluator: The user's own, which measures candidates in place of the training; None for ours.
        modules: The user's own modules, sent to workers by value.
        workers: Trainings at the same time.
        gpus_per_worker: Share of a GPU each holds.
        latency_table: Predicts latencies; None where there is none.
        probe: Measures latency beside each training; None where the objective needs none.
        init: Weights that candidates start from; None where they start from fresh ones.
    """

    settings: Settings
    search: Search
    data: ImageData
    recipe: Recipe
    own_evaluator: Own | None = None
    modules: tuple[ModuleType, ...]
    workers: int
    gpus_per_worker: float
    latency_table: LatencyTable | None = None
    probe: LatencyProbe | None = None
    init: InitialWeights | None = None

    @property
    def space(self) -> SearchSpace:
        """The space, made for these images."""
        return self.search.space

    @property
    def objective(self) -> Objective:
        """What is maximised."""
        return self.search.objective

    @property
    def trains_by_recipe(self) -> bool:
        """Whether candidates are trained by the recipe."""
        return self.own_evaluator is None and self.settings.supernet is None

    @property
    def enqueued(self) -> tuple[Network, ...]:
        """The user's own candidates, then those of a policy, for half of the trials at most.

        Raises:
            SpaceArgumentError: One is no architecture, or is not in the space; names the file.
        """
        own = read_enqueued(self.settings.enqueue, self.space)
        if not self.settings.has_policy:
            return own
        from nas.weight_sharing.training import read_draws

        drawn = read_draws(Path(str(self.settings.supernet)))[: max(1, self.settings.trials // 2)]
        return (*own, *map(self.space.decode, drawn))

    def catalogue(self) -> Catalogue:
        """What is known of the space's candidates before training."""
        return Catalogue(self.space, self.latency_table)

    def evaluator(self, split: SplitName = "search") -> ProxyEvaluator:
        """Trains whole by the recipe and measures what the objective needs on a split.

        Raises:
            DataError: The training split is smaller than a batch.
        """
        return make_evaluator(
            self.settings, self.data, self.recipe, None, objective=self.objective, split=split, init=self.init
        )

    def test_evaluator(self) -> Evaluator | None:
        """Measures on the test split; None for a supernet, or where the user's evaluator takes no `split`.

        Raises:
            NasError: It cannot be made.
        """
        if self.settings.supernet is not None:
            return None
        if self.own_evaluator is None:
            return self.evaluator("test")
        if not self.own_evaluator.takes("split"):
            return None
        return make_own_evaluator(self.own_evaluator, self.data, self.recipe, None, "test")

    def executor(self) -> Executor:
        """A new executor as the settings say.

        Raises:
            ExecutorError: A number is out of range.
        """
        return make_executor(
            self.settings,
            (self.workers, self.gpus_per_worker),
            probe_gpus=1.0 if self.probe is not None and self.probe.is_cuda else 0.0,
            modules=self.modules,
        )


def prepare(
    settings: Settings, *, download: bool = False, width: int | None = None, progress: Say = say_nothing
) -> Prepared:
    """Loads the images, makes the space for them, and checks that all of it fits together.

    Args:
        settings: What was asked for.
        download: Whether a data set by name may be downloaded.
        width: Workers of a fixed schedule that runs already; None where there is none.
        progress: Receives progress.

    Raises:
        NasError: Something cannot be found, read or combined.
        SpaceError: The space is not valid.
    """
    check_supernet_settings(settings, settings.make_objective())
    recipe = Recipe.from_json(settings.recipe)
    recipe = recipe.without_probes() if settings.is_deterministic else recipe
    source, own = find_space(str(settings.space)), find_evaluator(settings)
    progress("loading PyTorch")
    workers, gpus = find_machines(settings, width)
    data = load_images(settings, source, download=download, progress=progress)
    objective = settings.make_objective(data.task)
    init = None
    if settings.init is not None:
        from nas.starting_weights import initial_weights

        progress("reading the weights to start from")
        init, data = initial_weights(settings.init, data, download=download)
    progress("making the space for them")
    space = make_space(settings, source, data)
    table = None if settings.latency_table is None else read_table(settings.latency_table, space)
    rungs, probe = make_rungs(settings, recipe, data.resolution), make_probe(settings, objective)
    evaluator: Evaluator
    if settings.supernet is not None:
        progress("reading the supernet")
        evaluator = make_shared_weights(settings.supernet, data, space, objective)
    elif own is not None:
        evaluator = make_own_evaluator(own, data, recipe, rungs, "search")
    else:
        evaluator = make_evaluator(settings, data, recipe, rungs, objective=objective, init=init)
    noise = find_noise(settings, recipe, data, objective)
    search = Search(
        space,
        evaluator=evaluator if probe is None else Probed(evaluator, probe),
        objective=objective,
        controller=make_controller(settings, Catalogue(space, table), objective, noise=noise),
        budget=Budget(**{limit.name: getattr(settings, limit.name) for limit in fields(Budget)}),
        rungs=rungs,
        predictor=table,
        seed=settings.seed,
        deterministic=settings.is_deterministic,
    )
    return Prepared(
        settings=settings,
        search=search,
        data=data,
        recipe=recipe,
        own_evaluator=own,
        modules=(*source.modules, *([] if own is None else [own.module])),
        workers=workers,
        gpus_per_worker=gpus,
        latency_table=table,
        probe=probe,
        init=init,
    )


def prepare_request(request: Request, *, progress: Say = say_nothing) -> Prepared:
    """Makes what the request needs; a study with a fixed schedule keeps its number of workers.

    Raises:
        NasError: Something cannot be found, read or combined.
        SpaceError: The space is not valid.
    """
    check_outside(request.folder, request.settings.data)
    begun = read_begun(request.folder)
    width = None if begun is None else begun[0].deterministic_workers
    return prepare(request.settings, download=request.download, width=width, progress=progress)


def earlier_study(request: Request, prepared: Prepared) -> Study | None:
    """The study to learn from first, where one is named."""
    return None if request.warm_start is None else open_study(request.warm_start, space=prepared.space)


def make_evaluator(
    settings: Settings,
    data: ImageData,
    recipe: Recipe,
    rungs: Rungs | None,
    *,
    objective: Objective,
    split: SplitName = "search",
    init: InitialWeights | None = None,
) -> ProxyEvaluator:
    """Trains by the recipe, on rungs or whole, and measures what the objective needs on a split.

    Raises:
        DataError: The training split is smaller than a batch.
        RecipeError: The recipe is of another task.
    """
    from nas.training.proxy import ProxyEvaluator

    return ProxyEvaluator(
        data,
        recipe,
        split=split,
        metrics=needed_of_task(objective, data.task),
        rungs=rungs,
        init=init,
        stepping="compiled" if settings.is_compiled else "auto",
    )


def make_rungs(settings: Settings, recipe: Recipe, resolution: int) -> Rungs | None:
    """The rungs that the settings ask for; None where they ask for none.

    Raises:
        UsageError: An option of rungs is given without `rungs`.
        RecipeError: They do not rise, or do not end at the whole training.
    """
    if not settings.rungs:
        for name in ("fidelity", "reduction_factor"):
            if getattr(settings, name) is not None:
                raise UsageError(f"{flag_of(name)} is an option of rungs: give --rungs too", field=name)
        return None
    fidelity = settings.fidelity or FIDELITY
    whole = {"epochs": recipe.epochs, "resolution": float(resolution), "data": 1.0}[fidelity]
    return Rungs.of(
        fidelity,
        settings.rungs,
        whole=whole,
        reduction_factor=settings.reduction_factor or REDUCTION_FACTOR,
    )


def make_probe(settings: Settings, objective: Objective) -> LatencyProbe | None:
    """The latency probe that the objective needs; None where it needs none.

    Raises:
        UsageError: An option of the latency is given, but the objective does not use it.
        LatencyError: A setting is out of range.
    """
    from nas.latency.probe import LatencyProbe

    if not LatencyProbe.is_needed_for(objective):
        for name, one in options_of(Settings).items():
            is_of_probe = one.option.group == LATENCY and name != "latency_table"
            if is_of_probe and getattr(settings, name) is not None:
                raise UsageError(
                    f"{flag_of(name)} is an option of measured latency, which the objective does not use: "
                    "give --target-latency or --max-latency without a latency table, or leave it out",
                    field=name,
                )
        return None
    given: dict[str, Any] = {
        "device": settings.latency_device,
        "batch": settings.latency_batch,
        "threads": settings.latency_threads,
    }
    return LatencyProbe(**{name: value for name, value in given.items() if value is not None})


def find_noise(settings: Settings, recipe: Recipe, data: ImageData, objective: Objective) -> float | None:
    """The noise of what the objective maximises, as given or from a proxy check; None if unknown.

    Raises:
        UsageError: Both are given, or the check is of another training than the first rung.
        StudyError: The check cannot be used for this recipe and these images.
    """
    if settings.proxy_check is None:
        return settings.accuracy_noise
    if settings.accuracy_noise is not None:
        raise UsageError(
            f"the noise must be given once, but --accuracy-noise is {settings.accuracy_noise:g} and "
            f"--proxy-check is {settings.proxy_check}: leave one of them out",
            field="accuracy_noise",
        )
    if settings.rungs:
        raise UsageError(
            f"--proxy-check {settings.proxy_check} has the noise of whole trainings, but with --rungs the "
            "controller sees the first rung, which is noisier: give its noise with --accuracy-noise",
            field="proxy_check",
        )
    from nas.evaluation.proxy_check import read_noise

    metric = judged_by(objective, data.task).metric
    settled = recipe.settled(len(data.train))
    return read_noise(settings.proxy_check, recipe=settled, data=data, metric=metric).noise


def make_space(settings: Settings, source: SpaceSource, data: ImageData) -> SearchSpace:
    """The space for these images.

    Raises:
        SpaceArgumentError: A ready-made space is for others.
        SpaceError: The space is not valid.
    """
    return source.make(
        resolution=data.resolution,
        num_classes=data.num_classes,
        in_channels=data.channels,
        width=settings.width,
    )


def read_table(path: str, space: SearchSpace) -> LatencyTable:
    """The latency table in a file, which must be of the space.

    Raises:
        LatencyError: It cannot be read, or is of another space.
    """
    from nas.latency.table.table import LatencyTable

    table = LatencyTable.load(Path(path))
    table.require_space(space)
    return table


def load_images(
    settings: Settings, source: SpaceSource, *, download: bool = False, progress: Say = say_nothing
) -> ImageData:
    """Loads the images at the resolution that was asked for, or that a ready-made space needs."""
    from nas.data.loading import load_data

    if settings.resolution is not None and source.resolution not in (None, settings.resolution):
        raise SpaceArgumentError(
            f"the space {settings.space} is made for {source.resolution} pixels, but --resolution is "
            f"{settings.resolution}: leave it out",
            field="resolution",
        )
    progress("loading the images")
    return load_data(
        str(settings.data),
        task=settings.task,
        root=settings.data_root,
        download=download,
        resolution=settings.resolution or source.resolution,
        search_fraction=settings.carving.search_fraction,
        seed=settings.carving.seed,
        fit=settings.fit,
        progress=progress,
    )


def read_enqueued(files: Sequence[tuple[str, str]], space: SearchSpace) -> tuple[Network, ...]:
    """Reads the user's own candidates: where each came from, and its JSON text.

    Raises:
        SpaceArgumentError: One is no architecture, or is not in the space; names the file.
    """
    networks = []
    for path, text in files:
        try:
            network = Network.from_json(text, space.op_types)
            space.encode(network)
        except SpaceError as error:
            raise SpaceArgumentError(f"--enqueue {path}: {error}") from error
        networks.append(network)
    return tuple(networks)
