"""Weights for channels of another number."""

from __future__ import annotations

from torch import Tensor


def for_channels(weight: Tensor, channels: int) -> Tensor:
    """The weights of a first convolution for images with another number of channels.

    Args:
        weight: (outputs, channels, height, width).
        channels: How many the images have.

    Returns:
        For one channel the sums over the channels; for more the channels repeated in turn, and scaled so that
        equal channels give what they gave.

    Source: timm's `adapt_input_conv`.
    """
    has = weight.shape[1]
    if channels == has:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // has), 1, 1)[:, :channels]
    return repeated * (has / channels)
