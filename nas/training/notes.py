"""Says in words what a recipe comes to on so many training images."""

from __future__ import annotations

from collections.abc import Sequence

from nas.training.recipe import MOST_IMAGES, MOST_INITIAL, Recipe

FEW_STEPS = 30
"""Steps below which a training has hardly begun: networks then differ by little but chance."""


def notes_of(trainings: Sequence[tuple[Recipe, int]]) -> tuple[str, ...]:
    """What is worth saying of one training, or of the rungs of a search, each a recipe with its images.

    Of several rungs, the first and the last are spoken of: the trainings that most candidates get, and the
    one that decides.
    """
    if len(trainings) == 1:
        return recipe_notes(*trainings[0])
    first, last = recipe_notes(*trainings[0]), recipe_notes(*trainings[-1])
    return (
        *(f"first rung: {note}" for note in first),
        *(f"last rung: {note}" for note in last),
    )


def recipe_notes(recipe: Recipe, images: int) -> tuple[str, ...]:
    """What follows from the number of training images: batch, batch-norm statistics, few steps."""
    notes = []
    settled, steps = recipe.settled(images), recipe.steps(images)
    if recipe.batch_size is None and settled.batch_size != MOST_IMAGES:
        followed = f"the batch follows the {images:,} training images: {settled.batch_size}"
        notes.append(f"{followed} (batch_size or --batch-size gives another)")
    left = recipe.initial_share(images)
    if settled.batch_norm_statistics == "recomputed":
        why = f", as {_steps(steps)} leave {left:.0%} of the initial ones" if left > MOST_INITIAL else ""
        notes.append(f"batch-norm statistics are recomputed over training images before measuring{why}")
    elif left > MOST_INITIAL:
        notes.append(
            f"{_steps(steps)} leave {left:.0%} of the initial batch-norm statistics, which changes "
            "what is measured: batch_norm_statistics='running' keeps them"
        )
    few = few_steps(steps)
    return (*notes, few) if few else tuple(notes)


def few_steps(steps: int) -> str:
    """A note that a training has too few steps; nothing if it has enough."""
    if steps >= FEW_STEPS:
        return ""
    return (
        f"only {_steps(steps)} a training, but what is measured needs at least {FEW_STEPS} to be meaningful: "
        "more epochs or images would help"
    )


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"
