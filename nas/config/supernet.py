"""The training of a supernet as `nas supernet` is asked for it, with its images and the space for them."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.config.prepared import load_images, make_space, read_table
from nas.config.request import Request, given_options
from nas.config.settings import Settings
from nas.config.shared_weights import check_supernet_settings
from nas.data.tree import check_outside
from nas.errors import UsageError
from nas.full_training.recipe import FullRecipe
from nas.options import options_of
from nas.spaces import find_space
from nas.trial import Say, say_nothing
from nas.weight_sharing.recipe import OWN

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.weight_sharing.stored import Origin
    from nas.weight_sharing.training import SupernetTraining


def supernet_training(arguments: Namespace, folder: Path, *, progress: Say = say_nothing) -> SupernetTraining:
    """The training of a supernet as options ask for it, with its images and the space made for them.

    Args:
        arguments: Those of `nas supernet`.
        folder: Where to train.
        progress: Receives progress.

    Raises:
        NasError: Something is missing, or cannot be found or read.
        SpaceError: The space is not valid.
    """
    known = [name for name, one in options_of(Settings).items() if "supernet" in one.option.also]
    given = given_options(arguments)
    settings = Settings(**{name: given[name] for name in known if name in given})
    if settings.data is None or settings.space is None:
        raise UsageError(
            "a supernet is of a space, and is trained on images: give both, for instance --data photos/ "
            "--space mnasnet",
            field="data" if settings.data is None else "space",
        )
    check_outside(folder, settings.data)
    source = find_space(settings.space)
    progress("loading PyTorch")
    from nas.weight_sharing.training import SupernetTraining

    data = load_images(settings, source, download=arguments.download, progress=progress)
    return SupernetTraining(
        space=make_space(settings, source, data),
        data=data,
        origin=_origin(settings, data),
        sampling=arguments.paths,
        kernels=arguments.kernels,
        recipe=arguments.recipe,
        changes=given_options(arguments, FullRecipe),
        random_paths=arguments.random_paths,
        calibration_images=arguments.calibration_images,
        seed=settings.seed,
    )


def policy_training(request: Request, *, progress: Say = say_nothing) -> SupernetTraining:
    """The training of shared weights together with a policy, for a search that asks for one.

    Args:
        request: Of the search.
        progress: Receives progress.

    Raises:
        NasError: Something is missing, or cannot be found, read or combined.
        SpaceError: The space is not valid.
    """
    settings = request.settings
    check_supernet_settings(settings, settings.make_objective())
    check_outside(request.folder, settings.data)
    source = find_space(str(settings.space))
    progress("loading PyTorch")
    from nas.weight_sharing.training import SupernetTraining

    data = load_images(settings, source, download=request.download, progress=progress)
    space = make_space(settings, source, data)
    table = None if settings.latency_table is None else read_table(settings.latency_table, space)
    return SupernetTraining(
        space=space,
        data=data,
        origin=_origin(settings, data),
        sampling="uniform",
        changes={} if settings.supernet_epochs is None else {"epochs": settings.supernet_epochs},
        seed=settings.seed,
        objective=settings.make_objective(data.task),
        predictor=table,
    )


def in_own_supernet(request: Request) -> Request:
    """The request as a search in the shared weights that were trained for it."""
    return replace(request, settings=replace(request.settings, supernet=str(request.folder / OWN)))


def _origin(settings: Settings, data: ImageData) -> Origin:
    """What the space and the images were asked for by."""
    from nas.weight_sharing.stored import Origin

    return Origin(
        space=str(settings.space),
        width=settings.width,
        data=str(settings.data),
        data_root=settings.data_root,
        task=data.task,
        resolution=data.resolution,
        fit=settings.fit,
        search_fraction=settings.search_fraction,
        split_seed=settings.carving.seed,
    )
