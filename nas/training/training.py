"""The training loop that every candidate goes through, and the accuracy of a trained network."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nas.data.images import ImageData, SplitName
from nas.devices import choose_device, release_memory, synchronize
from nas.errors import DataError
from nas.training.accuracy import Normalise, evaluate_accuracy
from nas.training.batches import Batches, make_batches
from nas.training.epoch_progress import EpochProgress
from nas.training.memory import MemoryMeter
from nas.training.moves import Augment
from nas.training.norm_statistics import recompute_statistics
from nas.training.optimizers import make_optimizer
from nas.training.precision import choose_precision
from nas.training.recipe import Recipe
from nas.training.step import Step, Stepping, StepReport, StepWork, make_step
from nas.trial import Cause, InfeasibleError, Say, say_nothing

HOPELESS_LOSS = 1.02
"""Times ln(classes), the loss of a network that gives every class the same probability."""

HOPELESS_FROM_EPOCH = 2
"""The first whole epoch after the warm-up that is judged, counted from 1."""

HOPELESS_FROM_STEP = 100
"""Steps before which no epoch is judged: good networks may need some, and so few are soon over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        accuracy: Share of the split's images that are classified rightly.
        split: The split it was measured on.
        loss: Mean training loss of the last epoch.
        steps: Optimiser steps.
        train_seconds: Wall time of the training, without evaluation.
        images_per_second: Training images a second.
        peak_memory_bytes: Peak memory of the training, without the data set (see `MemoryMeter`).
        precision: What the forward pass computed in.
        step: How the steps were taken.
    """

    accuracy: float
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
    batches: Batches | None = None,
    stepping: Stepping = "auto",
    progress: Say = say_nothing,
) -> TrainingResult:
    """Trains a module in place and measures its accuracy.

    The same seed on the same machine with the same number of threads gives the same weights on a CPU.

    Args:
        module: (batch, channels, resolution, resolution) -> (batch, classes) logits; moved to the device.
        data: What to learn.
        recipe: How.
        seed: Seed of the images' order, their augmentation, and dropout; initialisation is the caller's.
        device: Where.
        split: Where the accuracy is measured; `test` is for the final comparison alone.
        batches: The data on that device, where they are there already.
        stepping: How steps are taken: `auto` replays a CUDA graph where that pays, `eager` never does,
            and `compiled` has `torch.compile` work first, which only a long training wins back.
        progress: Receives the epochs.

    Raises:
        InfeasibleError: The loss is no longer finite or stays above chance (see `check_loss`), or memory
            ran out.
        DataError: The training split is smaller than a batch.
    """
    where = choose_device(str(device))
    check_batch(data, recipe)
    recipe = recipe.settled(len(data.train))
    batch_size = recipe.batch_for(len(data.train))
    precision = settle_precision(recipe, where)
    try:
        with _seeded(seed, where):
            ready = batches if batches is not None else make_batches(data, where)
            trained = _train(module, data, recipe, where, ready, seed, stepping, progress)
            if recipe.batch_norm_statistics == "recomputed":
                progress("recomputing batch-norm statistics")
                recompute_statistics(
                    module,
                    ready,
                    Normalise(data, where),
                    images=len(data.train),
                    batch_size=batch_size,
                    device=where,
                    precision=precision,
                )
            progress(f"measuring the accuracy on the {split} split")
            accuracy = evaluate_accuracy(
                module,
                data,
                split,
                device=where,
                batch_size=batch_size,
                precision=precision,
                batches=ready,
            )
            steps = recipe.steps(len(data.train))
            return TrainingResult(
                accuracy=accuracy,
                split=split,
                loss=trained.loss,
                steps=steps,
                train_seconds=trained.seconds,
                images_per_second=steps * batch_size / trained.seconds,
                peak_memory_bytes=trained.peak_bytes,
                precision=precision,
                step=trained.step,
            )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
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


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an exception means that memory ran out: of CUDA, cuBLAS, the CPU allocator or Python."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def check_loss(loss: float, *, data: ImageData, recipe: Recipe, first: int, end: int) -> None:
    """Checks that an epoch's mean training loss leaves a reason to continue.

    It must be finite. From the second whole epoch after the warm-up on, and from step 100 on, it must be
    at most 1.02 ln(classes) + 1/sqrt(images of an epoch): what knows nothing has ln(classes), with or without
    label smoothing, and a mean over few images scatters.

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
    images = per_epoch * recipe.batch_for(len(data.train))
    most = HOPELESS_LOSS * math.log(data.num_classes) + 1 / math.sqrt(images)
    if is_judged and data.num_classes > 1 and loss > most:
        raise InfeasibleError(
            Cause.DIVERGED,
            f"`mean loss of an epoch <= {HOPELESS_LOSS:g} ln({data.num_classes}) + 1/sqrt({images}) = "
            f"{most:.4g}` must hold from the second epoch after the warm-up on, but it is {loss:.4g} after "
            f"{end} steps: the "
            "network has learned nothing; try a lower learning_rate or a longer warm-up",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """Mean loss of the last epoch, wall time, peak memory, and how steps were taken."""

    loss: float
    seconds: float
    peak_bytes: int
    step: StepReport


def _train(
    module: nn.Module,
    data: ImageData,
    recipe: Recipe,
    device: torch.device,
    batches: Batches,
    seed: int,
    stepping: Stepping,
    progress: Say,
) -> _Trained:
    """Trains in place."""
    rng = np.random.default_rng(seed)
    augment = settle_augmentation(recipe, data)
    steps = recipe.steps(len(data.train))
    batch_size = recipe.batch_for(len(data.train))
    announce = EpochProgress(progress, steps=steps, per_epoch=len(data.train) // batch_size)
    meter = MemoryMeter(device)
    module.to(device).to(memory_format=torch.channels_last)
    module.train()
    set_batch_norm_momentum(module, recipe.batch_norm_momentum)
    optimizer = make_optimizer(module, recipe)
    synchronize(device)
    started = time.perf_counter()
    done, loss = 0, float("nan")
    with out_of_place(module):
        take_step = prepare_step(module, optimizer, data, recipe, device, batches, stepping=stepping)
        while done < steps:
            first = done
            draws = batches.draws(batch_size, augment, recipe.crop_padding, rng)
            for draw in islice(draws, steps - done):
                announce(done)
                with meter.first_step(module) if done == 0 else nullcontext():
                    take_step(draw, recipe.learning_rate_at(done, steps))
                done += 1
            loss = take_step.take_loss() / (done - first)  # the only wait for the device, once an epoch
            check_loss(loss, data=data, recipe=recipe, first=first, end=done)
    synchronize(device)
    trained = _Trained(
        loss=loss,
        seconds=time.perf_counter() - started,
        peak_bytes=meter.peak_bytes(module, optimizer),
        step=take_step.report,
    )
    optimizer.zero_grad(set_to_none=True)  # gradients hold on to the memory of a graph
    return trained


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
        loss=partial(functional.cross_entropy, label_smoothing=recipe.label_smoothing),
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
    """Resolves `auto` by whether the data's labels outlive a mirror."""
    if recipe.augmentation == "auto":
        return "crop_flip" if data.mirrors else "crop"
    return recipe.augmentation


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the generators that dropout draws from, and puts them back at the end."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
