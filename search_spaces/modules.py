"""`build` and `build_part`: the fold that makes an `nn.Module` of a network, or of one part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import nn

from search_spaces.errors import SpaceError
from search_spaces.layers import GatedBlock, ResidualBlock, chain, initialise
from search_spaces.lowering import Part
from search_spaces.network import Network, cost, lower
from search_spaces.primitives import Chain, Gate, Node, Residual, Shape, out_shape

MOST_PARAMS = 10**10
"""Parameters beyond which building is refused, before any memory is taken: 40 GB in float32."""


EXACT_SIDE = 4096
"""Side of an image that every step of a network divides, so that the steps show in the sides of the maps."""


def tree_module(node: Node, shape: Shape) -> nn.Module:
    """The module of one tree for an input of the given shape."""
    match node:
        case Chain(layers):
            modules: dict[str, nn.Module] = {}
            for name, layer in layers:
                modules[name] = tree_module(layer, shape)
                shape = out_shape(layer, shape)
            return chain(**modules)
        case Residual(body, drop_rate, shortcut):
            beside = None if shortcut is None else tree_module(shortcut, shape)
            return ResidualBlock(tree_module(body, shape), drop_rate, beside)
        case Gate(body):
            return GatedBlock(tree_module(body, shape))
        case _:
            return node.at(shape).call.module()


class Features(nn.Module):
    """A network without its head, as a backbone: `build(network, features=True)`.

    It loads the state dict of the whole network too, whose head it leaves out.

    Args:
        network: The network.
        parts: The modules of its stem and stages, by name in the order in which they run.

    Attributes:
        channels: Channels of each map, by the name of the part that puts it out.
        strides: Step of each map in pixels of the image: its side is the image's divided by this, rounded up.
    """

    def __init__(self, network: Network, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        lowered = {part.name: part for part in lower(replace(network, resolution=EXACT_SIDE))}
        self.channels = {name: lowered[name].out_shape.channels for name in parts}
        self.strides = {name: EXACT_SIDE // lowered[name].out_shape.height for name in parts}
        self.register_load_state_dict_pre_hook(_leave_out_head)  # type: ignore[no-untyped-call]  # torch's

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps images (batch, in_channels, height, width) to the map of each part by name.

        A map has the shape (batch, channels, height / stride, width / stride), sides rounded up.
        """
        maps = {}
        for name, part in self.named_children():
            x = maps[name] = part(x)
        return maps


def _leave_out_head(_: nn.Module, state_dict: dict[str, Any], prefix: str, *__: object) -> None:
    for name in [name for name in state_dict if name.startswith(f"{prefix}head.")]:
        del state_dict[name]


@overload
def build(
    network: Network, *, seed: int | None = None, features: Literal[False] = False
) -> nn.Sequential: ...


@overload
def build(network: Network, *, seed: int | None = None, features: Literal[True]) -> Features: ...


def build(network: Network, *, seed: int | None = None, features: bool = False) -> nn.Sequential | Features:
    """Makes the module of a network, freshly initialised, in training mode.

    It maps images (batch, in_channels, resolution, resolution) to logits (batch, num_classes); other image
    sizes work as far as the strides allow. Its children are `stem`, `stage1` ..., `head`.

    Args:
        network: What to build.
        seed: Seed of the initialisation, which then leaves the global generator alone; None draws from it.
        features: Leaves out the head: the module puts out the map of the stem and of each stage by name, and
            has its `channels` and `strides`.

    Raises:
        SpaceError: The network cannot be lowered.

    Source: initialisation as in the EfficientNet code: convolutions normal with variance 2 over the fan-out
    of their group, linear layers uniform within 1 over the root of the outputs, biases zero.
    """
    _require_few(cost(network).params)
    with _seeded(seed):
        module = chain(**{part.name: tree_module(part.node, part.in_shape) for part in lower(network)})
        initialise(module)
    if features:
        return Features(network, {name: part for name, part in module.named_children() if name != "head"})
    return module


def build_part(part: Part, *, seed: int | None = None) -> nn.Module:
    """Makes the module of one part or block of a network alone, freshly initialised, in training mode.

    It maps feature maps (batch, channels, height, width) of the part's `in_shape` to its output.

    Args:
        part: What to build: a part of `lower`, or the `part` of a block.
        seed: Seed of the initialisation, which then leaves the global generator alone; None draws from it.

    Raises:
        SpaceError: It has more parameters than a machine holds.
    """
    _require_few(part.cost.params)
    with _seeded(seed):
        module = tree_module(part.node, part.in_shape)
        initialise(module)
    return module


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _require_few(params: int) -> None:
    if params > MOST_PARAMS:
        raise SpaceError(
            f"`parameters <= {MOST_PARAMS:.0e}` must hold for a network that is built, but got {params:,}: "
            "use fewer channels or layers"
        )
