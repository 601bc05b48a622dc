"""What the task of the images asks of a recipe and of a metric, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Collection

import torch

from nas.data.images import ImageData, Part
from nas.errors import DataError, RecipeError
from nas.full_training.recipe import FullRecipe
from nas.study.study import Study
from nas.task_metrics import measure_if_defined
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, TOP, check_metrics

LEFT_OUT = {
    "label_smoothing": "it spreads probability over classes",
    "cutmix": "a part of an image does not have that part of a number",
}
"""What is left out where numbers are predicted, and why."""


def recipe_of_task(
    recipe: FullRecipe, data: ImageData, given: Collection[str] = ()
) -> tuple[FullRecipe, tuple[str, ...]]:
    """Returns the recipe without what has no meaning for the task of the images, and notes of what that is.

    Args:
        recipe: Of any task.
        data: The images.
        given: Fields that were asked for by name: one that has no meaning there is then an error.

    Raises:
        RecipeError: A field that was asked for has no meaning for the task.
    """
    _check_balance(recipe, data)
    meaningless = {}
    if data.task != REGRESSION:
        meaningless["regression_loss"] = "it compares numbers"
    if data.task == REGRESSION:
        meaningless["loss"] = "numbers have a regression_loss"
    elif data.task == MULTILABEL and recipe.loss != "binary_cross_entropy":
        meaningless["loss"] = "labels have one sigmoid each, loss=binary_cross_entropy"
    used = {}
    if data.task == REGRESSION:
        used = {name: why for name, why in LEFT_OUT.items() if getattr(recipe, name)}
    for name, why in {**meaningless, **used}.items():
        if name in given:
            raise RecipeError(
                f"{name} must have a meaning for {data.task}, the task of {data.name}, but {why}: leave it "
                "out",
                field=name,
            )
    notes = tuple(f"the {name} of {recipe.name} is left out, as {why}" for name, why in used.items())
    if data.task == REGRESSION:
        notes += _views_note(recipe)
    return recipe.changed(**dict.fromkeys(used, 0.0)), notes


def _views_note(recipe: FullRecipe) -> tuple[str, ...]:
    """Says which views of images may have other numbers than the images."""
    changes = {
        "auto_augment": bool(recipe.auto_augment),
        "crop": recipe.crop == "resized",
        "flip": recipe.flip in ("random", "alternating"),
    }
    used = [f"{name}={getattr(recipe, name)}" for name, is_used in changes.items() if is_used]
    if not used:
        return ()
    return (
        f"{recipe.name} trains on views ({', '.join(used)}) that are turned, cut or recoloured with the "
        "numbers of the whole image: where these would be others, give auto_augment=none, crop=none or "
        "flip=none",
    )


def _check_balance(recipe: FullRecipe, data: ImageData) -> None:
    """Checks that there are classes where they are to be balanced."""
    is_weighted = recipe.class_weights == "balanced"
    if is_weighted and data.task == REGRESSION:
        field, law = "class_weights", "needs classes or labels"
    elif recipe.sampling == "balanced" and data.task != CLASSIFICATION:
        field, law = "sampling", "needs one class for each image"
    elif is_weighted and data.task == CLASSIFICATION and recipe.loss != "cross_entropy":
        raise RecipeError(
            f"class_weights=balanced needs loss=cross_entropy, but {recipe.name} has loss={recipe.loss}: "
            "give that loss, or sampling=balanced in place of weights",
            field="class_weights",
        )
    else:
        return
    raise RecipeError(
        f"{field}=balanced {law}, but the task of {data.name} is {data.task}: leave it out", field=field
    )


def metric_of_task(wanted: str | None, data: ImageData, study: Study | None) -> str:
    """The metric that the best weights are chosen by: that of the study's objective, or the task's first.

    Args:
        wanted: The metric that is asked for; None is the default.
        data: The images.
        study: Where the network is from; None where it is from no study.

    Raises:
        DataError: The task has no such metric, or it is not defined on the search or the test split.
    """
    known = TASKS[data.task].metrics
    searched = None if study is None else study.objective.goal.metric
    metric = wanted or (searched if searched in known else known[0])
    check_metrics(data.task, [metric])
    if metric == "top5" and data.num_classes <= TOP:
        raise DataError(
            f"top5 needs more than {TOP} classes, or it is 1 for every network, but {data.name} has "
            f"{data.num_classes}: take accuracy",
            field="metric",
        )
    for split, part in (("search", data.search), ("test", data.test)):
        if not is_defined(metric, part, data):
            raise DataError(
                f"{metric} must be defined on the {len(part):,} images of the {split} split of {data.name}, "
                "but their labels are too much alike: give more images, or another metric "
                f"({', '.join(known)})",
                field="metric",
            )
    return metric


def is_telling(metric: str, part: Part, data: ImageData) -> bool:
    """Whether a metric of some images says anything: it is defined there, and not 1 for whatever network."""
    return is_defined(metric, part, data) and not (metric == "top5" and data.num_classes <= TOP)


def is_defined(metric: str, part: Part, data: ImageData) -> bool:
    """Whether a metric has a value on images with such labels, whatever a network says of them."""
    outputs = torch.zeros(len(part), data.num_classes)
    return measure_if_defined(data.task, metric, outputs, torch.from_numpy(part.labels)) is not None
