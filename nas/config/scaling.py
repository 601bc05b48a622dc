"""Makes what a search for the direction of scaling trains with, of a network and settings."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.config.machines import find_machines, make_executor
from nas.config.prepared import make_evaluator
from nas.config.request import given_options, recipe_of
from nas.config.settings import Settings
from nas.data.tree import check_outside
from nas.errors import LatencyError, UsageError
from nas.evaluation.scaling_search import ScalingSetting
from nas.options import options_of
from nas.starting_weights import study_in
from nas.task_objective import judged_by
from nas.training.recipe import Recipe
from nas.trial import Say, say_nothing
from search_spaces import Network
from search_spaces.matching import Price, macs_of

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.full_training.images import ImageSource
    from nas.protocols import Evaluator

SETTINGS = (
    "latency_table",
    *(name for name, one in options_of(Settings).items() if "scale" in one.option.also),
)
"""The settings that `nas scale` takes; others have the names of factors and limits there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedScaling:
    """What settings mean for a search for the direction of scaling.

    Attributes:
        baseline: The network, for these images.
        data: The images at the baseline's side.
        recipe: How every network is trained.
        setting: How networks are trained and what they cost.
    """

    baseline: Network
    data: ImageData
    recipe: Recipe
    setting: ScalingSetting


def scaling_settings(arguments: Namespace, what: str, *, needs_images: bool) -> Settings:
    """What was given; a study whose network is scaled says what was not: its images, split, recipe and seed.

    Raises:
        UsageError: There are no images.
        NasError: The study cannot be read, or a value is out of range.
    """
    folder = Path(what).expanduser()
    study = study_in(folder) if needs_images else None
    is_of_command = study is not None and "recipe" in study.settings
    base = Settings.from_dict(study.settings, folder) if study and is_of_command else Settings()
    given = {name: value for name, value in given_options(arguments).items() if name in SETTINGS}
    recipe = recipe_of(arguments, Recipe.from_json(base.recipe) if base.recipe else None)
    of_images = ("data", "data_root", "task", "search_fraction", "split_seed", "fit")
    kept = (*of_images, "metric", "seed", "trial_timeout_minutes")
    inherited = {name: getattr(base, name) for name in kept}
    settings = Settings(**{**inherited, **given}, recipe=recipe.to_json())
    if needs_images and settings.data is None:
        raise UsageError(
            "networks are trained on images: give --data, such as --data photos/",
            field="data",
        )
    return settings


def prepare_scaling(
    settings: Settings,
    network: Network,
    *,
    out: Path,
    download: bool = False,
    progress: Say = say_nothing,
    later: Say = say_nothing,
) -> PreparedScaling:
    """Loads the images, fits the network to them, and finds the machines.

    Args:
        settings: How networks are trained, and on what.
        network: The network that is scaled.
        out: Folder that will be written, which must not lie among the images.
        download: Whether a data set by name may be downloaded.
        progress: Receives progress.
        later: Receives that images of a further side are read, while networks are trained.

    Raises:
        NasError: Something cannot be found, read or combined.
    """
    check_outside(out, settings.data)
    machines = find_machines(settings)
    progress("loading PyTorch")
    source = image_source(settings, download=download)
    progress(_loading(network.resolution))
    data = source.load(network.resolution, progress)
    baseline = replace(
        network, resolution=data.resolution, num_classes=data.num_classes, in_channels=data.channels
    )
    recipe, objective = Recipe.from_json(settings.recipe), settings.make_objective(data.task)

    def evaluator(side: int) -> Evaluator:
        if side == data.resolution:
            images = data
        else:
            later(_loading(side))
            images = source.load(side, say_nothing)
        return make_evaluator(settings, images, recipe, None, objective=objective)

    first = make_evaluator(settings, data, recipe, None, objective=objective)
    first.check(baseline)
    table = settings.latency_table
    setting = ScalingSetting(
        evaluator=evaluator,
        executor=lambda: make_executor(settings, machines),
        goal=judged_by(objective, data.task),
        settings={
            "data": data.content_digest,
            "split": data.split_fingerprint,
            "recipe": first.recipe.fingerprint,
            "metric": objective.goal.metric,
        },
        price=macs_of if table is None else _latency(table),
        cost_name="macs" if table is None else "predicted_latency_ms",
    )
    return PreparedScaling(baseline=baseline, data=data, recipe=first.recipe, setting=setting)


def _loading(side: int) -> str:
    return f"loading the images at {side} pixels"


def image_source(settings: Settings, *, download: bool) -> ImageSource:
    """The images at whatever side, always with the same split."""
    from nas.full_training.images import ImageSource

    return ImageSource(
        spec=str(settings.data),
        root=settings.data_root,
        download=download,
        task=settings.task,
        fit=settings.fit,
        carving=settings.carving,
    )


def _latency(path: str) -> Price:
    """What a table predicts, which must be able to estimate blocks that it has not measured.

    Raises:
        LatencyError: It cannot be read, or cannot estimate.
    """
    from nas.latency.table.table import LatencyTable

    table = LatencyTable.load(Path(path))
    if table.estimator is None:
        raise LatencyError(
            f"scaled networks have blocks that no table has measured, so the table must estimate them, but "
            f"{path} measured every block of its space: make one with nas latency-table --most-blocks, below "
            "the number of blocks of the space",
            field="latency_table",
        )
    return table.predict
