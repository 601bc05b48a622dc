"""Defines a search space with its own op and its own layer; searching it takes about two minutes.

    nas search --data mnist5k --space examples/own_op.py:space --trials 8 --out runs/own-op

An op is a frozen dataclass that returns its layers; a layer returns its output shape, cost and module.
Cost, training and the exported source are derived from that.
"""

from dataclasses import dataclass

import torch
from torch import nn

from search_spaces import Context, Conv, Head, MBConv, Network, Op, SearchSpace, SpaceError, Stage, choice
from search_spaces.primitives import Call, Chain, Layer, Node, Shape


class ChannelShuffle(nn.Module):
    """Interleaves the groups of channels (ShuffleNet; Zhang et al., CVPR 2018)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (batch, channels, height, width) to the same shape."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """A layer that keeps the shape, costs no multiply-adds and has no parameters."""

    groups: int

    def at(self, shape: Shape) -> Layer:
        return Layer(out=shape, call=Call(ChannelShuffle, (self.groups,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleConv:
    """An op: grouped 3x3 convolution, then channel shuffle."""

    groups: int = 2

    def check(self) -> None:
        if self.groups not in (1, 2, 4):
            raise SpaceError(f"`groups in (1, 2, 4)` must hold, but got groups={self.groups}")

    def layers(self, context: Context) -> Node:
        unit = context.convolution(context.out_channels, 3, stride=context.stride, groups=self.groups)
        return context.skip(Chain((*unit.layers, ("shuffle", Shuffle(groups=self.groups)))), "identity")


def op() -> Op:
    """A new choice for one stage; the same choice object in two stages would tie their decisions."""
    mbconv = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(2, 4), se_ratio=choice(0.0, 0.25))
    return choice(ShuffleConv(groups=choice(2, 4)), mbconv)


def space(resolution: int, num_classes: int, in_channels: int) -> SearchSpace:
    """Receives the shape of the images; a SearchSpace in place of this function works too."""
    stages = (
        Stage(op=op(), channels=16),
        Stage(op=op(), channels=choice(24, 32), repeats=choice(1, 2), stride=2),
        Stage(op=op(), channels=48, repeats=choice(1, 2), stride=2),
    )
    template = Network(
        stem=Stage(op=Conv(), channels=16, stride=2),
        stages=stages,
        head=Head(channels=128),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    return SearchSpace(template, name="shuffle")
