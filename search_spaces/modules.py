"""Owns `build`: the fold that makes an `nn.Module` of a network.

Does not own what the layers are (the ops say) nor how they are trained.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from search_spaces.network import Network, lower
from search_spaces.primitives import Chain, Gate, Node, Residual, Shape, out_shape


def chain(**layers: nn.Module) -> nn.Sequential:
    """Layers one after another; the names are the state-dict keys."""
    return nn.Sequential(OrderedDict(layers))


class ResidualBlock(nn.Module):
    """`x + body(x)`; in training the body is left out for a share of the images (stochastic depth)."""

    def __init__(self, body: nn.Module, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.body = body
        self.drop_rate = drop_rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (batch, channels, height, width) to the same shape."""
        update: torch.Tensor = self.body(x)
        if self.training and self.drop_rate > 0:
            kept = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device)
            update = update * kept.bernoulli_(1 - self.drop_rate) / (1 - self.drop_rate)
        return x + update


class GatedBlock(nn.Module):
    """`x * body(x)`: squeeze-and-excitation, one factor a channel."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (batch, channels, height, width) to the same shape."""
        gated: torch.Tensor = x * self.body(x)
        return gated


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


def tree_module(node: Node, shape: Shape) -> nn.Module:
    """The module of one tree for an input of the given shape."""
    match node:
        case Chain(layers):
            modules: dict[str, nn.Module] = {}
            for name, layer in layers:
                modules[name] = tree_module(layer, shape)
                shape = out_shape(layer, shape)
            return chain(**modules)
        case Residual(body, drop_rate):
            return ResidualBlock(tree_module(body, shape), drop_rate)
        case Gate(body):
            return GatedBlock(tree_module(body, shape))
        case _:
            return node.at(shape).call.module()


def build(network: Network, *, seed: int | None = None) -> nn.Sequential:
    """Makes the module of a network, freshly initialised, in training mode.

    It maps images (batch, in_channels, resolution, resolution) to logits (batch, num_classes); other image
    sizes work as far as the strides allow. Its children are `stem`, `stage1` ..., `head`.

    Args:
        network: What to build.
        seed: Seed of the initialisation, which then leaves the global generator alone; None draws from it.

    Raises:
        SpaceError: The network cannot be lowered.

    Source: initialisation as in the EfficientNet code: convolutions normal with variance 2 over the fan-out
    of their group, linear layers uniform within 1 over the root of the outputs, biases zero.
    """
    if seed is None:
        return _build(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(network)


def _build(network: Network) -> nn.Sequential:
    module = chain(**{part.name: tree_module(part.node, part.in_shape) for part in lower(network)})
    initialise(module)
    return module
