"""`nas train`: a network, or the best of a study, trained in full, tested, and exported."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.main import resumable
from nas.config.request import given_options
from nas.data.images import SEARCH_FRACTION, Carving
from nas.errors import UsageError
from nas.report.printing import emit, make_console, write_json

if TYPE_CHECKING:
    from nas.starting_weights import Weights
    from nas.study.study_trial import StudyTrial


def run(arguments: Namespace) -> int:
    """Trains, or tells what it would take."""
    from nas.full_training.display import TrainingDisplay, plan_report, trained_report
    from nas.full_training.options import TrainOptions
    from nas.full_training.recipe import FullRecipe
    from nas.full_training.run import plan
    from nas.full_training.run import run as train
    from nas.full_training.training import FullTraining

    asked = FullTraining(
        network=arguments.what,
        data=_images(arguments),
        recipe=arguments.recipe,
        changes=given_options(arguments, FullRecipe),
        weights=arguments.weights,
        inherits=_slices(arguments),
        download=arguments.download,
        top=arguments.top,
        task=arguments.task,
        metric=arguments.metric,
        resolution=arguments.resolution,
        seed=arguments.seed,
    )
    options = TrainOptions(**given_options(arguments, TrainOptions))
    folder = Path(arguments.out).expanduser()
    with resumable(folder), TrainingDisplay(make_console(to_stderr=arguments.json)) as display:
        if arguments.dry_run:
            found = plan(asked, arguments.out, options=options, watcher=display)
        else:
            trained = train(asked, arguments.out, options=options, watcher=display)
    if arguments.dry_run:
        if arguments.json:
            write_json([plan_report(one).to_data() for one in found])
        return 0
    emit(trained_report(trained), as_json=arguments.json)
    return 0


def _slices(arguments: Namespace) -> Callable[[StudyTrial], Weights] | None:
    """Gives networks the slices of their study's supernet; None where that is not asked for."""
    if not arguments.inherit:
        return None
    if arguments.weights is not None:
        raise UsageError(
            f"networks start from their slices or from other weights, but got --inherit and --weights "
            f"{arguments.weights}: leave one of them out",
            field="inherit",
        )
    from nas.weight_sharing.inherit import slices_of

    return slices_of(arguments.what)


def _require_no_image_options(arguments: Namespace) -> None:
    """Refuses what says how images are read, where the study says which they are.

    Raises:
        UsageError: Something was given.
    """
    for name in ("data_root", "download", "fit", "search_fraction", "split_seed"):
        if name == "download" and arguments.weights is not None:
            continue  # of the weights
        given = getattr(arguments, name)
        if given is not None and given is not False:  # a fraction or a seed of 0 is given too
            raise UsageError(
                f"`{name}` says how the images of `data` are read, but no data were given: give both, or "
                "leave it out to read those of the study as it did",
                field=name,
            )


def _images(arguments: Namespace) -> Any:
    """Where the images are; None where the study says."""
    from nas.full_training.images import ImageSource

    if arguments.data is None:
        _require_no_image_options(arguments)
        return None
    fraction = arguments.search_fraction
    is_split_given = fraction is not None or arguments.split_seed is not None
    carving = Carving(
        seed=arguments.split_seed or 0, search_fraction=SEARCH_FRACTION if fraction is None else fraction
    )
    return ImageSource(
        spec=arguments.data,
        root=arguments.data_root,
        download=arguments.download,
        fit=arguments.fit,
        carving=carving if is_split_given else None,
    )
