"""What a full training will take: steps, time from steps that were measured, memory."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch

from nas.data.images import ImageData
from nas.devices import synchronize
from nas.full_training.augmentation import generators_kept
from nas.full_training.batches import TrainingBatches
from nas.full_training.ranks import OneRank
from nas.full_training.recipe import FullRecipe
from nas.full_training.work import Learns, Work
from nas.training.memory import MemoryMeter
from nas.training.step import WARMUP_STEPS
from nas.training.training import out_of_place
from search_spaces import Network

TIMED_STEPS = 3
FORWARD_SHARE = 1 / 3
"""Of the time of a training step, what an evaluation of as many images takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """A training before it begins.

    Attributes:
        name: What the network is called.
        network: The network, as it is evaluated.
        data: The images.
        recipe: How it is trained.
        metric: What the best weights are chosen by.
        steps: Steps in all.
        steps_an_epoch: Steps of an epoch.
        learning_rate: The peak.
        sizes: Sides of the training images, stage by stage, pixels.
        device: Where, in words.
        workers: Processes that train together.
        precision: What is computed in.
        step_seconds: Measured time of a step, stage by stage; empty where it was not measured.
        seconds: Estimate of the whole; None where nothing was measured.
        memory_bytes: Measured peak memory of a step, without the images; None where it was not measured.
        notes: What was decided on the user's behalf.
        keeps_best: Whether the weights with the best metric are kept.
    """

    name: str
    network: Network
    data: ImageData
    recipe: FullRecipe
    metric: str
    steps: int
    steps_an_epoch: int
    learning_rate: float
    sizes: tuple[int, ...]
    device: str
    workers: int
    precision: str
    step_seconds: tuple[float, ...] = ()
    seconds: float | None = None
    memory_bytes: int | None = None
    notes: tuple[str, ...] = ()
    keeps_best: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Steps that were taken on a copy of the network.

    Attributes:
        step_seconds: Time of a step, stage by stage.
        seconds: Estimate of the whole training, evaluations included.
        memory_bytes: Peak memory of a step, without the images.
    """

    step_seconds: tuple[float, ...]
    seconds: float
    memory_bytes: int


def measure(work: Work, device: torch.device) -> Measured:
    """Takes a few steps of each stage on a copy of the network, and estimates the whole.

    Raises:
        RuntimeError: Memory ran out, as it would in the training.
    """
    recipe, images = work.recipe, len(work.data.train)
    steps = recipe.steps(images)
    with generators_kept():
        batches = TrainingBatches(work.data, recipe, OneRank(device=device), seed=work.seed)
        meter = MemoryMeter(device)  # after the images, which it leaves out
        learner = work.learner(OneRank(device=device))
        with out_of_place(learner.module):
            times = [
                _time_step(
                    learner, batches, min(-(-stage * steps // recipe.stages), steps - 1), meter, device
                )
                for stage in range(recipe.stages)
            ]
        memory = meter.peak_bytes(learner.module, learner.optimizer)
    training = sum(times) / len(times) * steps
    return Measured(
        step_seconds=tuple(times),
        seconds=training + _evaluation_seconds(work, times[-1]),
        memory_bytes=memory,
    )


def _evaluation_seconds(work: Work, step_seconds: float) -> float:
    """Estimate of all evaluations, from a step of the last stage, whose images may be smaller."""
    recipe, resolution = work.recipe, work.data.resolution
    pixels = (resolution / recipe.side(recipe.stages - 1, resolution)) ** 2
    batches = len(work.data.search) / recipe.batch_for(len(work.data.train))
    candidates = 2 if recipe.ema_decay else 1
    evaluations = max(1.0, recipe.epochs / work.options.evaluate_every)
    return evaluations * candidates * batches * step_seconds * pixels * FORWARD_SHARE


def _time_step(
    learner: Learns, batches: TrainingBatches, first: int, meter: MemoryMeter, device: torch.device
) -> float:
    """The shortest of a few steps from `first` on, each with its batch; those before them are warm-up.

    Beside a GPU, steps may be recorded: the last one of the warm-up is then the one that takes long.
    """
    epoch, batch_number = divmod(first, learner.schedule.steps_an_epoch)
    untimed = 1 if device.type == "cpu" else WARMUP_STEPS + 1
    times = []
    before = time.perf_counter()
    for number, batch in enumerate(islice(batches.epoch(epoch, first=batch_number), untimed + TIMED_STEPS)):
        with meter.first_step(learner.module) if number == 0 else nullcontext():
            learner.take(first + number, batch)
        synchronize(device)
        now = time.perf_counter()
        times.append(now - before)
        before = now
    return min(times[untimed:] or times)
