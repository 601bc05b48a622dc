"""The accuracy of a network on a split, each image normalised as in training."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from nas.data.images import ImageData, SplitName
from nas.devices import choose_device
from nas.errors import DataError
from nas.training.batches import Batches, make_batches
from nas.training.step import autocast
from nas.trial import Cause, InfeasibleError


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

    Files that can no longer be read do not count.

    Raises:
        InfeasibleError: A logit is not finite, though the training loss may have been.
        DataError: Too many images can no longer be read.
    """
    right, seen = count_right(
        module,
        data,
        split,
        device=choose_device(str(device)),
        batch_size=batch_size,
        precision=precision,
        batches=batches,
    )
    if seen == 0:
        raise DataError(
            f"no image of the {split} split of {data.name} can be read: is its folder still there?"
        )
    return right / seen


def count_right(
    module: nn.Module,
    data: ImageData,
    split: SplitName,
    *,
    device: torch.device,
    batch_size: int,
    precision: Literal["float32", "bfloat16"],
    batches: Batches | None = None,
) -> tuple[int, int]:
    """Counts the images of a split that a module classifies rightly, and those that were read.

    Raises:
        InfeasibleError: A logit is not finite.
        DataError: Too many images can no longer be read.
    """
    module.to(device).eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    seen = 0
    is_finite = torch.ones((), dtype=torch.bool, device=device)
    normalise = Normalise(data, device)
    ready = batches if batches is not None else make_batches(data, device)
    with torch.inference_mode():
        for images, labels in ready.scan(split, batch_size):
            with autocast(device, precision):
                logits = module(normalise(images))
            right += (logits.argmax(1) == labels).sum()
            seen += len(labels)
            is_finite &= logits.isfinite().all()
    if not is_finite:
        raise InfeasibleError(
            Cause.DIVERGED, f"the logits on the {split} split must be finite, but some are not"
        )
    return int(right), seen


class Statistics(Protocol):
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""

    @property
    def mean(self) -> tuple[float, ...]:
        """One for each channel."""
        ...

    @property
    def std(self) -> tuple[float, ...]:
        """One for each channel."""
        ...


class Normalise:
    """Brings uint8 images to zero mean and unit deviation, float32, channels last."""

    def __init__(self, data: Statistics, device: torch.device) -> None:
        shape = (1, len(data.mean), 1, 1)
        self._mean = 255 * torch.tensor(data.mean, device=device).view(shape)
        self._scale = 1 / (255 * torch.tensor(data.std, device=device).view(shape))

    def __call__(self, images: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) in 0..255 to the same shape."""
        return images.float().sub_(self._mean).mul_(self._scale).contiguous(memory_format=torch.channels_last)
