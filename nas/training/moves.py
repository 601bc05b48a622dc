"""Random shifts and mirrorings of a batch of images: drawn on the host, done on the device."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Augment = Literal["none", "crop", "crop_flip"]

Draw = tuple[Tensor, ...]
"""What one training batch is read from, on the device: the same shapes for every batch of a training."""


def draw_moves(count: int, augment: Augment, padding: int, rng: np.random.Generator) -> Tensor:
    """Draws a shift down, a shift right (both in -padding..padding) and a flip (0 or 1) for each image.

    Returns:
        int64 of shape (count, 3).
    """
    moves: npt.NDArray[np.int64] = rng.integers(-padding, padding + 1, size=(count, 3))
    moves[:, 2] = rng.integers(0, 2, size=count) if augment == "crop_flip" else 0
    return torch.from_numpy(moves)


def move(images: Tensor, chosen: Tensor, moves: Tensor) -> Tensor:
    """Gathers images shifted and flipped; what a shift uncovers mirrors the image's edge (reflect padding).

    Args:
        images: uint8 of shape (count, channels, height, width).
        chosen: int64 of shape (batch,), indices into the images.
        moves: int64 of shape (batch, 3), as `draw_moves` gives them.

    Returns:
        uint8 of shape (batch, channels, height, width).
    """
    channels, height, width = images.shape[1:]
    rows = reflect(torch.arange(height, device=images.device) + moves[:, 0:1], height)
    columns = reflect(torch.arange(width, device=images.device) + moves[:, 1:2], width)
    columns = torch.where(moves[:, 2:3] == 1, width - 1 - columns, columns)
    every_channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return images[
        chosen[:, None, None, None], every_channel, rows[:, None, :, None], columns[:, None, None, :]
    ]


def reflect(index: Tensor, size: int) -> Tensor:
    """Maps places beyond the edge of so many pixels to those that mirror them there."""
    return (size - 1 - (size - 1 - index.abs()).abs()).clamp_(0, size - 1)
