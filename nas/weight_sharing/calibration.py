"""Gives a network of a supernet the batch-norm statistics of training images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from nas.data.images import ImageData
from nas.errors import SupernetError
from nas.full_training.batches import resized
from nas.training.accuracy import Normalise
from nas.training.batches import Batches, make_batches
from nas.training.norm_statistics import MOST_IMAGES, recompute_statistics
from nas.values import whole
from nas.weight_sharing.supernet import Supernet
from search_spaces import build

LEAST_IMAGES = 32
"""Training images with which statistics mean anything."""


class Calibration:
    """Cuts networks out of a supernet and computes their batch-norm statistics, as the mean over batches.

    The images are the same for every network, and are not augmented: statistics of a mixture of networks, of
    few images, or ones that depend on the last batches, rank networks by chance.

    Args:
        data: The images that the supernet was trained on.
        device: Where.
        images: How many of the training images; None takes 2,048, or all where there are fewer.
        precision: What the forward pass computes in.

    Attributes:
        images: How many there are.
        batches: The data on the device.

    Raises:
        SupernetError: There are fewer images than that, or too few.

    Source: Guo et al., ECCV 2020; Cai et al., ICLR 2020: 2,000 images for each network.
    """

    def __init__(
        self,
        data: ImageData,
        device: torch.device,
        *,
        images: int | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
        batches: Batches | None = None,
    ) -> None:
        self.images = checked_images(data, images)
        self.batches = make_batches(data, device) if batches is None else batches
        self.device = device
        self.precision: Literal["float32", "bfloat16"] = precision
        self._data = data
        self._normalise = Normalise(data, device)

    def cut(self, supernet: Supernet, tokens: Sequence[int]) -> nn.Module:
        """The module of one network with its slices and statistics, on the device, in evaluation mode.

        It takes images of the data's size, normalised; a network for another size resizes them.
        """
        network = supernet.space.decode(tokens)
        weights = supernet.materialise(tokens)
        if supernet.space.own_types:
            module: nn.Module = build(network, seed=0)
            module.load_state_dict(weights)
        else:
            with torch.device("meta"):
                module = build(network, seed=0)
            module.load_state_dict(weights, assign=True)
        module.to(self.device).to(memory_format=torch.channels_last)
        if network.resolution != self._data.resolution:
            module = nn.Sequential(OrderedDict(resize=Resize(network.resolution), network=module))
        recompute_statistics(
            module,
            self.batches,
            self._normalise,
            images=len(self._data.train),
            batch_size=0,
            device=self.device,
            precision=self.precision,
            most=self.images,
        )
        return module


class Resize(nn.Module):
    """Resizes images (batch, channels, height, width) to a square."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Bilinear, antialiased."""
        return resized(images, self.side)


def checked_images(data: ImageData, images: int | None) -> int:
    """How many training images statistics are computed over.

    Raises:
        SupernetError: There are fewer than asked for, or too few.
    """
    wanted = (
        min(MOST_IMAGES, len(data.train)) if images is None else whole("calibration_images", images, least=0)
    )
    if not LEAST_IMAGES <= wanted <= len(data.train):
        raise SupernetError(
            f"`{LEAST_IMAGES} <= calibration_images <= {len(data.train)}` must hold, but got {wanted}: each "
            f"network's statistics are computed over training images, of which {data.name} has "
            f"{len(data.train)}; give more images, or ask for fewer",
            field="calibration_images",
        )
    return wanted
