"""Owns what can be built: networks as data, spaces of them, their exact costs, modules and source.

Does not own who chooses (`controllers`) nor training and measuring (`nas`). Importing this loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.choices import choice
from search_spaces.context import Context, SqueezeExcite
from search_spaces.costs import Cost, Memory
from search_spaces.decisions import Decision
from search_spaces.errors import SpaceError
from search_spaces.families import efficientnet, mnasnet, small
from search_spaces.lowering import Part, cost, lower, memory
from search_spaces.network import Head, Network, Stage
from search_spaces.ops import Conv, DepthwiseSeparable, FusedMBConv, Identity, MBConv, Op
from search_spaces.references import reference, reference_names
from search_spaces.resnet_ops import BasicBlock, Bottleneck, ConvPool
from search_spaces.rounding import adapt_strides, round_channels, round_repeats
from search_spaces.scaling import (
    EFFICIENTNET_LITE_RULE,
    EFFICIENTNET_RULE,
    EFFICIENTNET_V2_RULE,
    MNASNET_RULE,
    MOBILENET_V2_RULE,
    Member,
    Rule,
    Scaling,
    apply_scaling,
    coefficient_grid,
    compound,
    largest_phi,
    member,
    scale,
)
from search_spaces.source import to_source
from search_spaces.space import SearchSpace
from search_spaces.tables import LayerRow, Row, describe, describe_layers

if TYPE_CHECKING:
    from torch import nn


def build(network: Network, *, seed: int | None = None) -> nn.Sequential:
    """Makes the module of a network, freshly initialised, in training mode.

    It maps images (batch, in_channels, resolution, resolution) to logits (batch, num_classes). Its children
    are `stem`, `stage1`, ..., `head`.

    Args:
        network: What to build.
        seed: Seed of the initialisation, which then leaves the global generator alone; None draws from it.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    from search_spaces.modules import build as build_module

    return build_module(network, seed=seed)


__all__ = [
    "EFFICIENTNET_LITE_RULE",
    "EFFICIENTNET_RULE",
    "EFFICIENTNET_V2_RULE",
    "MNASNET_RULE",
    "MOBILENET_V2_RULE",
    "BasicBlock",
    "Bottleneck",
    "Context",
    "Conv",
    "ConvPool",
    "Cost",
    "Decision",
    "DepthwiseSeparable",
    "FusedMBConv",
    "Head",
    "Identity",
    "LayerRow",
    "MBConv",
    "Member",
    "Memory",
    "Network",
    "Op",
    "Part",
    "Row",
    "Rule",
    "Scaling",
    "SearchSpace",
    "SpaceError",
    "SqueezeExcite",
    "Stage",
    "adapt_strides",
    "apply_scaling",
    "build",
    "choice",
    "coefficient_grid",
    "compound",
    "cost",
    "describe",
    "describe_layers",
    "efficientnet",
    "largest_phi",
    "lower",
    "member",
    "memory",
    "mnasnet",
    "reference",
    "reference_names",
    "round_channels",
    "round_repeats",
    "scale",
    "small",
    "to_source",
]
