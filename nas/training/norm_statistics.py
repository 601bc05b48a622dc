"""Recomputes batch-norm statistics over training images, for trainings too short for them to follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.training.batches import Batches, epoch
from nas.training.step import autocast

MOST_IMAGES = 2_048
"""Training images that the statistics are computed over, at most."""

LEAST_BATCH = 64
"""Images a pass, where there are so many; no backward pass, so they need little memory."""


def recompute_statistics(
    module: nn.Module,
    batches: Batches,
    normalise: Callable[[Tensor], Tensor],
    *,
    images: int,
    batch_size: int,
    device: torch.device,
    precision: Literal["float32", "bfloat16"],
    most: int = MOST_IMAGES,
) -> None:
    """Replaces the running statistics of every batch norm by their mean over batches of training images.

    The images are as they are, without augmentation, in one mixed order that is the same for every candidate.
    Dropout and stochastic depth are off. Leaves the module in evaluation mode; weights stay as they are.

    Args:
        module: The trained module, on the device.
        batches: What it was trained on, on that device.
        normalise: uint8 images to what the module takes.
        images: Number of training images.
        batch_size: Images a step of the training.
        device: Where.
        precision: What the forward pass computes in.
        most: Training images that they are computed over, at most.

    Source: Cai et al., Once-for-All, ICLR 2020, which does the same for each network sliced from a supernet.
    """
    images_a_pass = min(images, most, max(batch_size, LEAST_BATCH))
    passes = max(1, math.ceil(most / images_a_pass))
    # A folder's own order has its classes one after another: a batch of one class has no variance between.
    clean = epoch(batches, images_a_pass, "none", 0, np.random.default_rng(0))
    with _cumulative(module), torch.no_grad(), autocast(device, precision):
        for pixels, _ in islice(clean, passes):
            module(normalise(pixels))


@contextmanager
def _cumulative(module: nn.Module) -> Iterator[None]:
    """Has batch norms alone begin new statistics, as the plain mean over batches."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()
