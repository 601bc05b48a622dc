"""Owns the training loop that every candidate goes through, and the accuracy of a trained network.

Does not own the recipe's values (`nas.training.recipe`), the batches (`nas.training.batches`) or trials
(`nas.training.proxy`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.data.images import ImageData, SplitName
from nas.errors import DataError
from nas.training.batches import Augment, Batches, make_batches
from nas.training.measurement import MemoryMeter, choose_device, prefers_bf16, release_memory, synchronize
from nas.training.recipe import Recipe
from nas.trial import Cause, InfeasibleError


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
    """

    accuracy: float
    split: SplitName
    loss: float
    steps: int
    train_seconds: float
    images_per_second: float
    peak_memory_bytes: int
    precision: Literal["float32", "bfloat16"]

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

    Raises:
        InfeasibleError: The loss is no longer finite, or there is not enough memory.
        DataError: The training split is smaller than a batch.
    """
    where = choose_device(str(device))
    check_batch(data, recipe)
    precision = settle_precision(recipe, where)
    try:
        with _seeded(seed, where):
            ready = batches if batches is not None else make_batches(data, where)
            loss, seconds, peak = _train(module, data, recipe, where, ready, seed)
            accuracy = evaluate_accuracy(
                module,
                data,
                split,
                device=where,
                batch_size=recipe.batch_size,
                precision=precision,
                batches=ready,
            )
            steps = recipe.steps(len(data.train))
            return TrainingResult(
                accuracy=accuracy,
                split=split,
                loss=loss,
                steps=steps,
                train_seconds=seconds,
                images_per_second=steps * recipe.batch_size / seconds,
                peak_memory_bytes=peak,
                precision=precision,
            )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"out of memory on {where} at batch size {recipe.batch_size}: {str(error).splitlines()[0]}"
    # Outside the handler, whose exception held on to every tensor of the failed step.
    for parameter in module.parameters():
        parameter.grad = None
    module.cpu()
    release_memory(where)
    raise InfeasibleError(Cause.OUT_OF_MEMORY, message)


def evaluate_accuracy(
    module: nn.Module,
    data: ImageData,
    split: SplitName,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
    precision: Literal["float32", "bfloat16"] = "float32",
    batches: Batches | None = None,
) -> float:
    """Measures the share of a split's images that a module classifies rightly; leaves it in evaluation mode.

    Raises:
        InfeasibleError: A logit is not finite, though the training loss may have been.
    """
    where = choose_device(str(device))
    module.to(where).eval()
    right = torch.zeros((), dtype=torch.int64, device=where)
    is_finite = torch.ones((), dtype=torch.bool, device=where)
    normalise = Normalise(data, where)
    ready = batches if batches is not None else make_batches(data, where)
    with torch.inference_mode():
        for images, labels in ready.scan(split, batch_size):
            with _autocast(where, precision):
                logits = module(normalise(images))
            right += (logits.argmax(1) == labels).sum()
            is_finite &= logits.isfinite().all()
    if not is_finite:
        raise InfeasibleError(
            Cause.DIVERGED, f"the logits on the {split} split must be finite, but some are not"
        )
    return int(right) / len(data.split(split))


class Normalise:
    """Brings uint8 images to zero mean and unit deviation, float32, channels last."""

    def __init__(self, data: ImageData, device: torch.device) -> None:
        shape = (1, data.channels, 1, 1)
        self._mean = 255 * torch.tensor(data.mean, device=device).view(shape)
        self._scale = 1 / (255 * torch.tensor(data.std, device=device).view(shape))

    def __call__(self, images: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) in 0..255 to the same shape."""
        return images.float().sub_(self._mean).mul_(self._scale).contiguous(memory_format=torch.channels_last)


def check_batch(data: ImageData, recipe: Recipe) -> None:
    """Checks that there is at least one whole batch to learn from.

    Raises:
        DataError: There is not.
    """
    if len(data.train) < recipe.batch_size:
        raise DataError(
            f"the training split of {data.name} must hold at least one batch of {recipe.batch_size} images, "
            f"but has {len(data.train)}: add images or make batch_size smaller"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an exception means that memory ran out: of CUDA, cuBLAS, the CPU allocator or Python."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def _train(
    module: nn.Module, data: ImageData, recipe: Recipe, device: torch.device, batches: Batches, seed: int
) -> tuple[float, float, int]:
    """Trains in place; returns the last epoch's mean loss, wall time (s) and peak memory (bytes)."""
    rng = np.random.default_rng(seed)
    precision = settle_precision(recipe, device)
    augment = settle_augmentation(recipe, data)
    steps = recipe.steps(len(data.train))
    meter = MemoryMeter(device)
    module.to(device).to(memory_format=torch.channels_last)
    module.train()
    set_batch_norm_momentum(module, recipe.batch_norm_momentum)
    optimizer = make_optimizer(module, recipe)
    normalise = Normalise(data, device)
    synchronize(device)
    started = time.perf_counter()
    step, loss = 0, float("nan")
    while step < steps:
        total = torch.zeros((), device=device)
        first = step
        epoch = batches.epoch(recipe.batch_size, augment, recipe.crop_padding, rng)
        for images, labels in islice(epoch, steps - step):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step, steps)
            with meter.first_step(module) if step == 0 else nullcontext(), _autocast(device, precision):
                logits = module(normalise(images)).float()
                value = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            torch.autograd.backward(value)
            optimizer.step()
            total += value.detach()
            step += 1
        loss = total.item() / (step - first)  # the only wait for the device, once an epoch
        if not math.isfinite(loss):
            raise InfeasibleError(
                Cause.DIVERGED, f"the loss must stay finite, but is {loss} after {step} steps"
            )
    synchronize(device)
    return loss, time.perf_counter() - started, meter.peak_bytes(module, optimizer)


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Makes the recipe's optimiser; weight decay acts on tensors of two or more dimensions only."""
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            foreach=True,
        )
    return torch.optim.RMSprop(
        groups, lr=recipe.learning_rate, alpha=0.9, eps=1e-3, momentum=recipe.momentum, foreach=True
    )


def set_batch_norm_momentum(module: nn.Module, momentum: float) -> None:
    """Sets how fast every batch norm's running statistics follow the batches."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum


def settle_precision(recipe: Recipe, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Resolves `auto` by measuring, once in a process, which is faster on the device."""
    if recipe.precision == "auto":
        return "bfloat16" if prefers_bf16(device) else "float32"
    return recipe.precision


def settle_augmentation(recipe: Recipe, data: ImageData) -> Augment:
    """Resolves `auto` by whether the data's labels outlive a mirror."""
    if recipe.augmentation == "auto":
        return "crop_flip" if data.mirrors else "crop"
    return recipe.augmentation


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the generators that dropout draws from, and puts them back at the end."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
