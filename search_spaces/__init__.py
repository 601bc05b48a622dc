"""What can be built: networks as data, spaces of them, their exact costs, modules and source.

Imports run one way: primitives, context, ops, stages, lowering, network, what folds a network (cost tables,
notation, scaling, source), space, families. Importing this loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from search_spaces.blocks import Block, FoundBlocks, blocks_of, find_blocks
from search_spaces.choices import choice
from search_spaces.context import Context, SqueezeExcite
from search_spaces.costs import Cost, Memory
from search_spaces.decisions import Decision
from search_spaces.directions import DIRECTIONS, Direction, find_direction, lattice
from search_spaces.errors import SpaceError
from search_spaces.families import (
    efficientnet,
    efficientnet_v2,
    mnasnet,
    mobilenet_v3,
    nas_bench_macro,
    resnet,
    small,
)
from search_spaces.lowering import Part
from search_spaces.matching import Matched, largest, match
from search_spaces.network import Network, cost, lower, memory
from search_spaces.notation import parse, to_strings
from search_spaces.ops import Conv, DepthwiseSeparable, FusedMBConv, Identity, MBConv, Op
from search_spaces.part_sums import PartSums, inference_parts
from search_spaces.references import reference, reference_names
from search_spaces.resnet_ops import BasicBlock, Bottleneck, ConvPool
from search_spaces.rounding import adapt_strides, round_channels, round_repeats
from search_spaces.scaled import LatticeMembers, distinct, lattice_members, scale
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
    compound,
    largest_phi,
    member,
)
from search_spaces.source import to_source
from search_spaces.space import SearchSpace
from search_spaces.stages import Head, Stage
from search_spaces.tables import LayerRow, Row, describe, describe_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from search_spaces.modules import Features


@overload
def build(
    network: Network, *, seed: int | None = None, features: Literal[False] = False
) -> nn.Sequential: ...


@overload
def build(network: Network, *, seed: int | None = None, features: Literal[True]) -> Features: ...


def build(network: Network, *, seed: int | None = None, features: bool = False) -> nn.Sequential | Features:
    """Makes the module of a network, freshly initialised, in training mode.

    It maps images (batch, in_channels, resolution, resolution) to logits (batch, num_classes). Its children
    are `stem`, `stage1`, ..., `head`. With `features` it is a backbone: it has no head, maps images of any
    size to a dict of the maps (batch, channels, height / stride, width / stride) of stem and stages by name,
    has their `channels` and `strides` by name, and loads the state dict of the whole network too.

    Args:
        network: What to build.
        seed: Seed of the initialisation, which then leaves the global generator alone; None draws from it.
        features: Whether the maps of the stages are put out, in place of the logits.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    from search_spaces.modules import build as build_module

    return build_module(network, seed=seed, features=True) if features else build_module(network, seed=seed)


def build_part(part: Part, *, seed: int | None = None) -> nn.Module:
    """Makes the module of one part or block of a network alone, freshly initialised, in training mode.

    It maps feature maps (batch, channels, height, width) of the part's `in_shape` to its output.

    Args:
        part: What to build: a part of `lower`, or the `part` of a block.
        seed: Seed of the initialisation, which then leaves the global generator alone; None draws from it.

    Raises:
        SpaceError: It has more parameters than a machine holds.
    """
    from search_spaces.modules import build_part as build_module

    return build_module(part, seed=seed)


def load_weights(
    module: nn.Module, state_dict: Mapping[str, torch.Tensor], *, with_classifier: bool = True
) -> Mapping[str, str]:
    """Copies weights of ours, timm's or torchvision's into a module: all of them, or none if one is wrong.

    A state dict with the module's own names is read by name; any other is matched layer by layer, in the
    order in which they run. Build `reference(name, like="timm")`, or `like="torchvision"`, or
    `reference("tf_...")`, to compute what theirs does: padding and eps are not among the weights.

    Args:
        module: What `build` makes.
        state_dict: Tensors by name, as `state_dict()` of a module gives them.
        with_classifier: False leaves the last linear layer as it is, and needs none that fits it in the state
            dict: for other classes.

    Returns:
        Where each of the module's tensors was copied from: the name in the state dict by our name.

    Raises:
        SpaceError: `state_dict` is empty or maps not only names to tensors; a tensor has no counterpart, or
            another shape, or a type that is no floating-point one, or values that are not finite. The module
            is as it was.
    """
    from search_spaces.weights import load_weights as load

    return load(module, state_dict, with_classifier=with_classifier)


__all__ = [
    "DIRECTIONS",
    "EFFICIENTNET_LITE_RULE",
    "EFFICIENTNET_RULE",
    "EFFICIENTNET_V2_RULE",
    "MNASNET_RULE",
    "MOBILENET_V2_RULE",
    "BasicBlock",
    "Block",
    "Bottleneck",
    "Context",
    "Conv",
    "ConvPool",
    "Cost",
    "Decision",
    "DepthwiseSeparable",
    "Direction",
    "FoundBlocks",
    "FusedMBConv",
    "Head",
    "Identity",
    "LatticeMembers",
    "LayerRow",
    "MBConv",
    "Matched",
    "Member",
    "Memory",
    "Network",
    "Op",
    "Part",
    "PartSums",
    "Row",
    "Rule",
    "Scaling",
    "SearchSpace",
    "SpaceError",
    "SqueezeExcite",
    "Stage",
    "adapt_strides",
    "apply_scaling",
    "blocks_of",
    "build",
    "build_part",
    "choice",
    "compound",
    "cost",
    "describe",
    "describe_layers",
    "distinct",
    "efficientnet",
    "efficientnet_v2",
    "find_blocks",
    "find_direction",
    "inference_parts",
    "largest",
    "largest_phi",
    "lattice",
    "lattice_members",
    "load_weights",
    "lower",
    "match",
    "member",
    "memory",
    "mnasnet",
    "mobilenet_v3",
    "nas_bench_macro",
    "parse",
    "reference",
    "reference_names",
    "resnet",
    "round_channels",
    "round_repeats",
    "scale",
    "small",
    "to_source",
    "to_strings",
]
