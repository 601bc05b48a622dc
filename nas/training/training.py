"""The training loop that every candidate goes through, and what is measured of the trained network."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import nn

from nas.data.images import ImageData, SplitName
from nas.devices import choose_device, release_memory, synchronize
from nas.errors import DataError, RecipeError
from nas.metrics import metric_info
from nas.tasks import CLASSIFICATION, REGRESSION, TASKS
from nas.training.accuracy import Normalise, evaluate
from nas.training.batches import Batches, make_batches
from nas.training.epoch_progress import EpochProgress
from nas.training.losses import chance_loss, make_loss
from nas.training.memory import MemoryMeter
from nas.training.moves import Augment
from nas.training.norm_statistics import recompute_statistics
from nas.training.optimizers import make_optimizer
from nas.training.precision import choose_precision
from nas.training.recipe import Recipe
from nas.training.step import Step, Stepping, StepReport, StepWork, make_step
from nas.trial import Cause, InfeasibleError, Say, say_nothing

HOPELESS_LOSS = 1.02
"""Times the loss of a network that gives the same outputs for every image."""

HOPELESS_FROM_EPOCH = 2
"""The first whole epoch after the warm-up that is judged, counted from 1."""

HOPELESS_FROM_STEP = 100
"""Steps before which no epoch is judged: good networks may need some, and so few are soon over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        metrics: What was measured on the split, by name.
        split: The split they were measured on.
        loss: Mean training loss of the last epoch.
        steps: Optimiser steps.
        train_seconds: Wall time of the training, without evaluation.
        images_per_second: Training images a second.
        peak_memory_bytes: Peak memory of the training, without the data set (see `MemoryMeter`).
        precision: What the forward pass computed in.
        step: How the steps were taken.
    """

    metrics: Mapping[str, float]
    split: SplitName
    loss: float
    steps: int
    train_seconds: float
    images_per_second: float
    peak_memory_bytes: int
    precision: Literal["float32", "bfloat16"]
    step: StepReport = field(default_factory=StepReport)

    @property
    def train_step_ms(self) -> float:
        """Mean time of a step, the first ones included."""
        return 1000 * self.train_seconds / self.steps


def train(
    module: nn.Module,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    device: str | torch.device = "auto",
    split: SplitName = "search",
    metrics: Sequence[str] = (),
    batches: Batches | None = None,
    stepping: Stepping = "auto",
    progress: Say = say_nothing,
) -> TrainingResult:
    """Trains a module in place and measures it.

    The same seed on the same machine with the same number of threads gives the same weights on a CPU.

    Args:
        module: (batch, channels, resolution, resolution) -> (batch, outputs), logits or standardised
            numbers; moved to the device.
        data: What to learn.
        recipe: How.
        seed: Seed of the images' order, their augmentation, and dropout; initialisation is the caller's.
        device: Where.
        split: Where metrics are measured; `test` is for the final comparison alone.
        metrics: What is measured there; by default the first of the task's metrics.
        batches: The data on that device, where they are there already.
        stepping: How steps are taken: `auto` replays a CUDA graph where that pays, `eager` never does,
            and `compiled` has `torch.compile` work first, which only a long training wins back.
        progress: Receives the epochs.

    Raises:
        InfeasibleError: The loss is no longer finite or stays above chance (see `check_loss`), or memory
            ran out.
        DataError: The training split is smaller than a batch, or a metric is none of the task.
        RecipeError: The recipe is of another task.
    """
    where = choose_device(str(device))
    check_batch(data, recipe)
    check_task(data, recipe)
    settled = recipe.settled(len(data.train))
    settled = replace(settled, precision=settle_precision(settled, where))
    try:
        with _seeded(seed, where):
            training = _Training(
                module=module,
                data=data,
                recipe=settled,
                device=where,
                batches=batches if batches is not None else make_batches(data, where),
                stepping=stepping,
                progress=progress,
            )
            return training.run(seed, split, metrics or TASKS[data.task].metrics[:1])
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        batch_size = recipe.batch_for(len(data.train))
        message = f"out of memory on {where} at batch size {batch_size}: {str(error).splitlines()[0]}"
    # Outside the handler, whose exception held on to every tensor of the failed step.
    for parameter in module.parameters():
        parameter.grad = None
    module.cpu()
    release_memory(where)
    raise InfeasibleError(Cause.OUT_OF_MEMORY, message)


def check_batch(data: ImageData, recipe: Recipe) -> None:
    """Checks that there is at least one whole batch to learn from.

    Raises:
        DataError: There is not.
    """
    batch_size = recipe.batch_for(len(data.train))
    if len(data.train) < batch_size:
        raise DataError(
            f"the training split of {data.name} must hold at least one batch of {batch_size} images, "
            f"but has {len(data.train)}: add images, or leave batch_size out: it then follows "
            "the data"
        )


def check_task(data: ImageData, recipe: Recipe) -> None:
    """Checks that what a recipe says of classes or numbers is of the data's task.

    Raises:
        RecipeError: It is of another.
    """
    if recipe.class_weights == "balanced" and data.task == REGRESSION:
        law = "class_weights='balanced' needs classes or labels"
    elif recipe.sampling == "balanced" and data.task != CLASSIFICATION:
        law = "sampling='balanced' needs one class for each image"
    elif recipe.regression_loss == "squared" and data.task != REGRESSION:
        law = "regression_loss='squared' needs numbers to predict"
    elif data.task == REGRESSION and recipe.label_smoothing not in (0, Recipe().label_smoothing):
        # The default has no meaning there either, but was not asked for.
        law = f"label_smoothing={recipe.label_smoothing:g} needs classes or labels to spread probability over"
    else:
        return
    field = law.partition("=")[0]
    raise RecipeError(f"{law}, but the task of {data.name} is {data.task}: leave {field} out", field=field)


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an exception means that memory ran out: of CUDA, cuBLAS, the CPU allocator or Python."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def check_loss(loss: float, *, data: ImageData, recipe: Recipe, first: int, end: int) -> None:
    """Checks that an epoch's mean training loss leaves a reason to continue.

    It must be finite. From the second whole epoch after the warm-up on, and from step 100 on, it must be
    at most 1.02 times that of outputs which are the same for every image (see `chance_loss`), and
    1/sqrt(images of an epoch): a mean over few images scatters.

    Args:
        loss: Mean over the steps of the epoch.
        data: What is learnt.
        recipe: How.
        first: Step, counted from 0, with which the epoch began.
        end: Step after its last.

    Raises:
        InfeasibleError: The loss does not.
    """
    if not math.isfinite(loss):
        raise InfeasibleError(Cause.DIVERGED, f"the loss must stay finite, but is {loss} after {end} steps")
    per_epoch = len(data.train) // recipe.batch_for(len(data.train))
    whole_epochs = end / per_epoch - math.ceil(recipe.warmup_epochs)
    is_judged = end - first == per_epoch and end >= HOPELESS_FROM_STEP and whole_epochs >= HOPELESS_FROM_EPOCH
    chance = chance_loss(data, recipe.loss) if is_judged else 0.0
    images = per_epoch * recipe.batch_for(len(data.train))
    most = HOPELESS_LOSS * chance + 1 / math.sqrt(images)
    if chance > 0 and loss > most:
        raise InfeasibleError(
            Cause.DIVERGED,
            f"`mean loss of an epoch <= {HOPELESS_LOSS:g} * {chance:.4g} + 1/sqrt({images}) = {most:.4g}` "
            f"must hold from the second epoch after the warm-up on, but it is {loss:.4g} after {end} steps, "
            f"and {chance:.4g} is that of the same outputs for every image: the network has learned "
            "nothing; try a lower learning_rate or a longer warm-up",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """Mean loss of the last epoch, wall time, peak memory, and how steps were taken."""

    loss: float
    seconds: float
    peak_bytes: int
    step: StepReport


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """A module with all that its training needs; the recipe has everything decided."""

    module: nn.Module
    data: ImageData
    recipe: Recipe
    device: torch.device
    batches: Batches
    stepping: Stepping
    progress: Say

    @property
    def steps(self) -> int:
        return self.recipe.steps(len(self.data.train))

    @property
    def batch_size(self) -> int:
        return self.recipe.batch_for(len(self.data.train))

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        return settle_precision(self.recipe, self.device)

    def run(self, seed: int, split: SplitName, names: Sequence[str]) -> TrainingResult:
        """Trains, and measures metrics on a split."""
        trained = self._train(seed)
        self._recompute_statistics()
        self.progress(
            f"measuring {' and '.join(metric_info(name).label for name in names)} on the {split} split"
        )
        metrics = evaluate(
            self.module,
            self.data,
            split,
            names,
            device=self.device,
            batch_size=self.batch_size,
            precision=self.precision,
            batches=self.batches,
        )
        return TrainingResult(
            metrics=metrics,
            split=split,
            loss=trained.loss,
            steps=self.steps,
            train_seconds=trained.seconds,
            images_per_second=self.steps * self.batch_size / trained.seconds,
            peak_memory_bytes=trained.peak_bytes,
            precision=self.precision,
            step=trained.step,
        )

    def _train(self, seed: int) -> _Trained:
        """Trains in place."""
        per_epoch = len(self.data.train) // self.batch_size
        announce = EpochProgress(self.progress, steps=self.steps, per_epoch=per_epoch)
        meter = MemoryMeter(self.device)
        self.module.to(self.device).to(memory_format=torch.channels_last)
        self.module.train()
        set_batch_norm_momentum(self.module, self.recipe.batch_norm_momentum)
        optimizer = make_optimizer(self.module, self.recipe)
        synchronize(self.device)
        started = time.perf_counter()
        with out_of_place(self.module):
            take_step = prepare_step(
                self.module,
                optimizer,
                self.data,
                self.recipe,
                self.device,
                self.batches,
                stepping=self.stepping,
            )
            loss = self._take_steps(take_step, meter, announce, np.random.default_rng(seed))
        synchronize(self.device)
        trained = _Trained(
            loss=loss,
            seconds=time.perf_counter() - started,
            peak_bytes=meter.peak_bytes(self.module, optimizer),
            step=take_step.report,
        )
        optimizer.zero_grad(set_to_none=True)  # gradients hold on to the memory of a graph
        return trained

    def _take_steps(
        self, take_step: Step, meter: MemoryMeter, announce: EpochProgress, rng: np.random.Generator
    ) -> float:
        """Takes all steps; returns the mean loss of the last epoch."""
        recipe, steps = self.recipe, self.steps
        augment = settle_augmentation(recipe, self.data)
        done, loss = 0, float("nan")
        while done < steps:
            first = done
            draws = self.batches.draws(self.batch_size, augment, recipe.crop_padding, rng, recipe.sampling)
            for draw in islice(draws, steps - done):
                announce(done)
                with meter.first_step(self.module) if done == 0 else nullcontext():
                    take_step(draw, recipe.learning_rate_at(done, steps))
                done += 1
            loss = take_step.take_loss() / (done - first)  # the only wait for the device, once an epoch
            check_loss(loss, data=self.data, recipe=recipe, first=first, end=done)
        return loss

    def _recompute_statistics(self) -> None:
        if self.recipe.batch_norm_statistics != "recomputed":
            return
        self.progress("recomputing batch-norm statistics")
        recompute_statistics(
            self.module,
            self.batches,
            Normalise(self.data, self.device),
            images=len(self.data.train),
            batch_size=self.batch_size,
            device=self.device,
            precision=self.precision,
        )


def prepare_step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: ImageData,
    recipe: Recipe,
    device: torch.device,
    batches: Batches,
    *,
    stepping: Stepping = "auto",
) -> Step:
    """Puts together what one step of training a module by a recipe does, and how it is taken."""
    make_work = partial(
        StepWork,
        optimizer=optimizer,
        read=batches.read,
        normalise=Normalise(data, device),
        device=device,
        loss=make_loss(data, recipe.loss, device),
        precision=settle_precision(recipe, device),
    )
    return make_step(module, make_work, steps=recipe.steps(len(data.train)), device=device, stepping=stepping)


@contextmanager
def out_of_place(module: nn.Module) -> Iterator[None]:
    """Has activations write to new memory, and puts it back at the end.

    The backward pass of these needs their input: done in place they would copy it first.
    """
    kinds = (nn.SiLU, nn.Hardswish, nn.Mish)
    layers = [layer for layer in module.modules() if isinstance(layer, kinds) and layer.inplace]
    for layer in layers:
        layer.inplace = False
    try:
        yield
    finally:
        for layer in layers:
            layer.inplace = True


def set_batch_norm_momentum(module: nn.Module, momentum: float) -> None:
    """Sets how fast every batch norm's running statistics follow the batches."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum


def settle_precision(recipe: Recipe, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Resolves `auto` to what is faster on the device (`nas.training.precision`)."""
    if recipe.precision == "auto":
        return choose_precision(device).precision
    return recipe.precision


def settle_augmentation(recipe: Recipe, data: ImageData) -> Augment:
    """Resolves `auto`: images are mirrored where that keeps their classes; it may change numbers."""
    if recipe.augmentation == "auto":
        return "crop_flip" if data.mirrors and data.task != REGRESSION else "crop"
    return recipe.augmentation


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the generators that dropout draws from, and puts them back at the end."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
