"""The PyTorch modules that networks need beside those of `torch.nn`, and how weights start.

Exported source holds the very text of what stands here, so it uses nothing but `math`, `OrderedDict`,
`torch` and `nn`.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn


def chain(**layers: nn.Module) -> nn.Sequential:
    """Layers one after another; the names are the state-dict keys."""
    return nn.Sequential(OrderedDict(layers))


class ResidualBlock(nn.Module):
    """`shortcut(x) + body(x)`; in training the body is left out for a share of the images (stochastic depth).

    Without a shortcut of its own that is `x + body(x)`.
    """

    def __init__(self, body: nn.Module, drop_rate: float = 0.0, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.drop_rate = drop_rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (batch, channels, height, width) to the shape that body and shortcut give."""
        update: torch.Tensor = self.body(x)
        if self.training and self.drop_rate > 0:
            kept = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device)
            update = update * kept.bernoulli_(1 - self.drop_rate) / (1 - self.drop_rate)
        return update + (x if self.shortcut is None else self.shortcut(x))


class GatedBlock(nn.Module):
    """`x * body(x)`: squeeze-and-excitation, one factor a channel."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (batch, channels, height, width) to the same shape."""
        gated: torch.Tensor = x * self.body(x)
        return gated


class SameConv2d(nn.Conv2d):
    """Convolution that pads as TensorFlow's "SAME" does: an odd pixel of padding goes right and below.

    The padding depends on the size of the input, so it is worked out at every call.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (batch, channels, height, width) to (batch, channels, height / stride, width / stride)."""
        pads: list[int] = []
        for side, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads = [total // 2, total - total // 2, *pads]
        out: torch.Tensor = self._conv_forward(nn.functional.pad(x, pads), self.weight, self.bias)
        return out


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Initialises as the EfficientNet code does: variance 2 over the fan-out of a group, zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(layer.out_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
