"""The metrics of a network on a split, each image normalised as in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from nas.data.images import ImageData, SplitName
from nas.devices import choose_device
from nas.errors import DataError
from nas.task_metrics import interval_of, measure
from nas.tasks import CLASSIFICATION, REGRESSION
from nas.tested_weights import TestedWeights
from nas.training.batches import Batches, make_batches
from nas.training.losses import Unit
from nas.training.step import autocast
from nas.trial import Cause, InfeasibleError


def evaluate(
    module: nn.Module,
    data: ImageData,
    split: SplitName,
    names: Sequence[str],
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
    precision: Literal["float32", "bfloat16"] = "float32",
    batches: Batches | None = None,
) -> dict[str, float]:
    """Measures metrics of a module on a split; leaves it in evaluation mode.

    Files that can no longer be read do not count.

    Args:
        module: Normalised images to logits, or to standardised numbers.
        data: The images.
        split: Which of them.
        names: Metrics of the data's task, see `nas.tasks.TASKS`.
        device: Where.
        batch_size: Images a pass.
        precision: What the forward pass computes in.
        batches: The data on that device, where they are there already.

    Raises:
        InfeasibleError: An output is not finite, though the training loss may have been.
        DataError: Too many images can no longer be read, or a metric is not defined on these images.
    """
    outputs, labels = gather(
        module,
        data,
        split,
        device=choose_device(str(device)),
        batch_size=batch_size,
        precision=precision,
        batches=batches,
    )
    if not len(labels):
        raise DataError(
            f"no image of the {split} split of {data.name} can be read: is its folder still there?"
        )
    return measure(data.task, names, outputs, labels)


def evaluate_accuracy(
    module: nn.Module,
    data: ImageData,
    split: SplitName,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> float:
    """Measures the share of a split's images that a module classifies rightly; see `evaluate`."""
    return evaluate(module, data, split, ("accuracy",), device=device, batch_size=batch_size)["accuracy"]


def gather(
    module: nn.Module,
    data: ImageData,
    split: SplitName,
    *,
    device: torch.device,
    batch_size: int,
    precision: Literal["float32", "bfloat16"],
    batches: Batches | None = None,
) -> tuple[Tensor, Tensor]:
    """Gathers what a module gives for a whole split, and its labels; leaves it in evaluation mode.

    Files that can no longer be read are left out.

    Returns:
        float32 of shape (images, outputs), logits or numbers in the labels' own unit, and the labels of
        these images, both on the device.

    Raises:
        InfeasibleError: An output is not finite.
        DataError: Too many images can no longer be read.
    """
    module.to(device).eval()
    normalise = Normalise(data, device)
    ready = batches if batches is not None else make_batches(data, device)
    outputs = [torch.zeros((0, data.num_classes), device=device)]
    labels = [torch.from_numpy(data.train.labels[:0].copy()).to(device)]
    with torch.inference_mode():
        for images, batch_labels in ready.scan(split, batch_size):
            with autocast(device, precision):
                outputs.append(module(normalise(images)).float())
            labels.append(batch_labels)
        every = torch.cat(outputs)
        if not bool(every.isfinite().all()):
            what = "numbers" if data.task == REGRESSION else "logits"
            raise InfeasibleError(
                Cause.DIVERGED, f"the {what} on the {split} split must be finite, but some are not"
            )
        restored = Unit(data, device).restored(every) if data.task == REGRESSION else every
    return restored, torch.cat(labels)


def measure_tested(
    module: nn.Module,
    data: ImageData,
    names: Sequence[str],
    *,
    trial: int | None,
    digest: str,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> TestedWeights:
    """Measures weights on the test split, with intervals; files that can no longer be read do not count.

    Args:
        module: With the weights.
        data: The images.
        names: Metrics of the task; of classes, the accuracy is always counted.
        trial: The trial whose weights they are; None for those of a full training.
        digest: Their identity.
        device: Where.
        batch_size: Images a pass.

    Raises:
        InfeasibleError: An output is not finite.
        DataError: Too many images can no longer be read, or a metric is not defined on these images.
    """
    outputs, labels = gather(
        module,
        data,
        "test",
        device=choose_device(str(device)),
        batch_size=batch_size,
        precision="float32",
    )
    if not len(labels):
        raise DataError(f"no image of the test split of {data.name} can be read any more", field="data")
    others = [name for name in names if name != "accuracy"]
    found = {name: interval_of(data.task, name, outputs, labels) for name in others}
    return TestedWeights(
        trial=trial,
        digest=digest,
        right=int((outputs.argmax(1) == labels).sum()) if data.task == CLASSIFICATION else None,
        images=len(labels),
        metrics=measure(data.task, others, outputs, labels),
        intervals={name: interval for name, interval in found.items() if interval is not None},
    )


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
