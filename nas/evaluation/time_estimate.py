"""How long a trial will take here: a few real steps of a few random candidates, scaled to the schedule."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nas.catalogue import Catalogue
from nas.data.images import ImageData
from nas.objective import Objective
from nas.training.recipe import Recipe
from nas.trial import Say, say_nothing
from search_spaces import Network, build

if TYPE_CHECKING:
    import torch

CANDIDATES = 3
STEPS = 4
DRAWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTime:
    """Seconds of one trial, estimated.

    Attributes:
        seconds: Mean over the candidates.
        lowest: Of the fastest candidate.
        highest: Of the slowest candidate.
        origin: How it was measured, in words.
    """

    seconds: float
    lowest: float
    highest: float
    origin: str


def estimate_trial_time(
    catalogue: Catalogue,
    data: ImageData,
    recipe: Recipe,
    objective: Objective,
    *,
    seed: int = 0,
    threads: int | None = None,
    progress: Say = say_nothing,
) -> TrialTime:
    """Trains a few random candidates within the constraints for a few steps, and scales up.

    What a step takes is measured after one step of warm-up; passes over the search split and for batch-norm
    statistics count as a third of as many training steps (a forward pass without a backward one).

    Args:
        catalogue: Where the candidates come from, and what is known of them.
        data: What they are trained on.
        recipe: The whole schedule.
        objective: Whose constraints the candidates meet, as far as they are known before training.
        seed: Seed of the sample.
        threads: Threads of the CPU that a worker will have; None leaves them as they are.
        progress: Receives progress.

    Raises:
        NasError: The data do not fit, or a candidate cannot be trained.
    """
    import torch

    from nas.devices import choose_device, describe_device, pinned_threads

    used = threads or torch.get_num_threads()
    device = choose_device()
    with pinned_threads(used):
        sample = _sample(catalogue, objective, seed)
        seconds = []
        for number, tokens in enumerate(sample, start=1):
            progress(f"timing {STEPS} training steps of candidate {number} of {len(sample)}")
            network = catalogue.describe(tokens).network
            seconds.append(_seconds(network, data, recipe, device, seed))
    where = describe_device(device)
    where += f", {used} thread{'s' * (used != 1)}" if device.type == "cpu" else ""
    origin = f"measured: {STEPS} steps of each of {len(seconds)} random candidates on {where}, scaled to "
    return TrialTime(
        seconds=statistics.fmean(seconds),
        lowest=min(seconds),
        highest=max(seconds),
        origin=f"{origin}{recipe.steps(len(data.train)):,} steps",
    )


def _seconds(network: Network, data: ImageData, recipe: Recipe, device: torch.device, seed: int) -> float:
    """Seconds that the whole schedule of one candidate would take."""
    from nas.training.norm_statistics import MOST_IMAGES as STATISTICS_IMAGES
    from nas.training.training import train

    images = len(data.train)
    whole = recipe.settled(images)
    batch_size = recipe.batch_for(images)
    epochs = STEPS / max(1, images // batch_size)
    brief = replace(whole, epochs=epochs, warmup_epochs=0.0)
    warm = replace(brief, epochs=epochs / STEPS)
    module = build(network, seed=seed)
    train(module, data, warm, seed=seed, device=device)
    result = train(module, data, brief, seed=seed, device=device)
    forward = len(data.search)
    if whole.batch_norm_statistics == "recomputed":
        forward += min(images, STATISTICS_IMAGES)
    passes = recipe.steps(images) + forward / batch_size / 3
    return result.train_seconds / result.steps * passes


def _sample(catalogue: Catalogue, objective: Objective, seed: int) -> list[tuple[int, ...]]:
    """A few random candidates within the constraints; whatever was drawn last where none turns up."""
    space = catalogue.space
    rng = np.random.default_rng(seed)
    chosen: list[tuple[int, ...]] = []
    tokens = space.sample(rng)
    for _ in range(DRAWS):
        if catalogue.is_feasible(tokens, objective):
            chosen.append(tokens)
        if len(chosen) == CANDIDATES:
            break
        tokens = space.sample(rng)
    return chosen or [tokens]
