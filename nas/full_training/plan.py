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
from nas.full_training.feed import Feed
from nas.full_training.fitting import Fit
from nas.full_training.ranks import OneRank
from nas.full_training.recipe import FullRecipe
from nas.full_training.trainee import Trainee
from nas.training.memory import MemoryMeter
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
    """

    name: str
    network: Network
    data: ImageData
    recipe: FullRecipe
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


def measure(work: Fit, device: torch.device) -> Measured:
    """Takes a few steps of each stage on a copy of the network, and estimates the whole.

    Raises:
        RuntimeError: Memory ran out, as it would in the training.
    """
    recipe, images = work.recipe, len(work.data.train)
    steps = recipe.steps(images)
    with generators_kept():
        meter = MemoryMeter(device)
        trainee = work.trainee(OneRank(device=device))
        feed = Feed(work.data, recipe, OneRank(device=device), seed=work.seed)
        with out_of_place(trainee.module):
            times = [
                _time_step(trainee, feed, -(-stage * steps // recipe.stages), meter, device)
                for stage in range(recipe.stages)
            ]
        memory = meter.peak_bytes(trainee.module, trainee.optimizer)
    evaluated = len(work.data.search) * (2 if recipe.ema_decay else 1) / recipe.batch_for(images)
    evaluating = recipe.epochs / work.evaluate_every * evaluated * times[-1] * FORWARD_SHARE
    training = sum(times) / len(times) * steps
    return Measured(step_seconds=tuple(times), seconds=training + evaluating, memory_bytes=memory)


def _time_step(trainee: Trainee, feed: Feed, first: int, meter: MemoryMeter, device: torch.device) -> float:
    """The shortest of a few steps from `first` on, each with its batch; the one before them is warm-up."""
    epoch, batch_number = divmod(first, trainee.course.steps_an_epoch)
    times = []
    before = time.perf_counter()
    for number, batch in enumerate(islice(feed.epoch(epoch, first=batch_number), 1 + TIMED_STEPS)):
        with meter.first_step(trainee.module) if number == 0 else nullcontext():
            trainee.take(first + number, batch)
        synchronize(device)
        now = time.perf_counter()
        times.append(now - before)
        before = now
    return min(times[1:] or times)
