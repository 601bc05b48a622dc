"""What `--supernet` means for a search: settings that it says, options that it excludes, the evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config.settings import Settings, flag_of
from nas.errors import ObjectiveError, UsageError
from nas.metrics import METRICS
from nas.objective import Objective
from nas.options import options_of
from nas.task_objective import ALL_METRICS, needed_of_task
from nas.training.recipe import Recipe

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.weight_sharing.evaluator import SharedWeights
    from search_spaces import SearchSpace

OF_TRAININGS = (
    "evaluator",
    "init",
    "is_compiled",
    "rungs",
    "fidelity",
    "reduction_factor",
    "proxy_check",
)
"""Settings that say how candidates are trained, or what of it."""

OF_TRAINED = tuple(
    info.name
    for info in METRICS
    if info.origin == "measured" and info.name not in (*ALL_METRICS, "latency_ms")
)
"""Metrics that are measured while a candidate is trained."""


def asked_of_supernet(folder: str) -> Mapping[str, Any]:
    """The settings of space and images that a supernet was trained with, for those that are not given.

    Raises:
        SupernetError: There is no trained supernet.
    """
    from nas.weight_sharing.stored import read_facts

    origin = read_facts(Path(folder)).origin
    return {} if origin is None else asdict(origin)


def check_supernet_settings(settings: Settings, objective: Objective) -> None:
    """Checks that nothing is asked for beside a supernet that only trainings of candidates have.

    Raises:
        UsageError: An option of the training is given.
        ObjectiveError: The objective needs what is measured of a training.
    """
    if settings.supernet_epochs is not None and not settings.has_policy:
        raise UsageError(
            "--supernet-epochs is an option of --weight-sharing: give it too; nas supernet has --epochs",
            field="supernet_epochs",
        )
    if settings.supernet is None and not settings.has_policy:
        return
    usual, recipe = Recipe(), Recipe.from_json(settings.recipe)
    given = [name for name in OF_TRAININGS if getattr(settings, name) not in (None, False, ())]
    follows = {"epochs": {"rungs"}, "warmup_epochs": {"rungs", "epochs"}}  # what is not given follows others
    for name in options_of(Recipe):
        if getattr(recipe, name) != getattr(usual, name) and not follows.get(name, set()) & {*given}:
            given.append(name)
    given += [name for name in ("compare_random", "compare_seeds") if getattr(settings, name)]
    if given:
        remedy = "leave it out; nas train trains the best in full afterwards"
        if settings.has_policy and "epochs" in given:
            remedy = "give --supernet-epochs for how long the shared weights are trained"
        raise UsageError(
            f"{', '.join(map(flag_of, given))}: in shared weights no candidate is trained, so that "
            f"this means nothing: {remedy}",
            field=given[0],
        )
    needed = [name for name in OF_TRAINED if name in objective.metrics]
    if needed:
        raise ObjectiveError(
            f"the objective needs {', '.join(needed)}, but shared weights measure no training: write it with "
            "macs, params, latency and metrics of the task, or train each candidate",
            field="objective",
        )


def make_shared_weights(
    folder: str, data: ImageData, space: SearchSpace, objective: Objective
) -> SharedWeights:
    """Measures slices of a supernet, with what the objective looks at.

    Raises:
        SupernetError: It is of another space or other images, or cannot be read.
    """
    from nas.weight_sharing.evaluator import SharedWeights

    return SharedWeights(folder, data, space=space, metrics=needed_of_task(objective, data.task))
