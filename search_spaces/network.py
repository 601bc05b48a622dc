"""Owns `Network`: an architecture as frozen data, its laws, its identity, and its lowering to trees.

Does not own open values (`search_spaces.space`) nor the text form (`search_spaces.json_form`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Self

from search_spaces.choices import has_choice
from search_spaces.costs import Cost, tree_cost
from search_spaces.errors import SpaceError, require_fraction, require_integer, require_one_of
from search_spaces.json_form import from_json, to_json
from search_spaces.ops import Context, Op, check_op
from search_spaces.primitives import (
    ACTIVATIONS,
    Chain,
    Dropout,
    Flatten,
    Gate,
    GlobalPool,
    Linear,
    Node,
    Residual,
    Shape,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_CHANNELS = 65_536
MOST_REPEATS = 1_000
MOST_RESOLUTION = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks of one op, all alike but for the first, which takes the stride and changes the channels.

    Attributes:
        op: What each block is.
        channels: Output channels of every block.
        repeats: Number of blocks (the papers' layers).
        stride: Step of the first block, 1 or 2.
    """

    op: Op
    channels: int
    repeats: int = 1
    stride: int = 1

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range or the op breaks its own law."""
        check_op(self.op)
        require_integer("channels", self.channels, least=1, most=MOST_CHANNELS)
        require_integer("repeats", self.repeats, least=1, most=MOST_REPEATS)
        require_one_of("stride", self.stride, (1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What follows the last stage: 1x1 convolution, global pooling, dropout, classifier.

    Attributes:
        channels: Output channels of the 1x1 convolution; 0 leaves it out.
        dropout: Rate of dropout before the classifier.
    """

    channels: int = 1280
    dropout: float = 0.2

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        require_integer("channels", self.channels, least=0, most=MOST_CHANNELS)
        require_fraction("dropout", self.dropout)

    def layers(self, context: Context, classes: int) -> Chain:
        """The layers from the last feature map to the logits."""
        units: list[tuple[str, Node]] = []
        if self.channels:
            units.extend(context.convolution(self.channels).layers)
        units += [("pool", GlobalPool()), ("flatten", Flatten())]
        if self.dropout:
            units.append(("dropout", Dropout(rate=self.dropout)))
        units.append(("classifier", Linear(features=classes)))
        return Chain(tuple(units))


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A convolutional classifier: a stem, stages, and a head.

    Attributes:
        stem: The first layers; usually one strided convolution.
        stages: The stages in order.
        head: From the last map to the logits.
        resolution: Side of the square input image, pixels.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        activation: One of `search_spaces.primitives.ACTIVATIONS`.
        norm_eps: Added to the variance by batch normalisation.
        norm_momentum: Weight of the newest batch in running statistics, as PyTorch means it.
        drop_path_rate: Rate of stochastic depth, growing linearly with depth up to this.

    Raises:
        SpaceError: No choice is left in the fields and one of them breaks its law.
    """

    stem: Stage
    stages: tuple[Stage, ...]
    head: Head
    resolution: int
    num_classes: int
    in_channels: int = 3
    activation: str = "swish"
    norm_eps: float = 1e-3
    norm_momentum: float = 0.01
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        if not has_choice(self):
            self.check()

    def check(self) -> None:
        """Checks every field, and the laws of stem, stages, ops and head.

        Raises:
            SpaceError: A law is broken; the message names stage and field.
        """
        require_integer("resolution", self.resolution, least=1, most=MOST_RESOLUTION)
        require_integer("num_classes", self.num_classes, least=1, most=10_000_000)
        require_integer("in_channels", self.in_channels, least=1, most=MOST_CHANNELS)
        require_one_of("activation", self.activation, tuple(ACTIVATIONS))
        require_fraction("norm_eps", self.norm_eps)
        require_fraction("norm_momentum", self.norm_momentum)
        require_fraction("drop_path_rate", self.drop_path_rate)
        if not isinstance(self.stages, tuple) or not self.stages:
            raise SpaceError("`stages` must be a tuple of at least one Stage")
        for name, stage in self.named_stages():
            if not isinstance(stage, Stage):
                raise SpaceError(f"`{name}` must be a Stage, but got {stage!r}")
            with _located(name):
                stage.check()
        with _located("head"):
            self.head.check()

    def named_stages(self) -> Iterable[tuple[str, Stage]]:
        """The stem and the stages with the names they have in the module."""
        yield "stem", self.stem
        for number, stage in enumerate(self.stages, start=1):
            yield f"stage{number}", stage

    @property
    def digest(self) -> str:
        """Identity of the network: equal for all descriptions that mean the same layers (16 hex digits)."""
        text = repr(self.in_channels) + repr(self.resolution)
        parts = "".join(part.digest for part in lower(self))
        return hashlib.sha256((text + parts).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The network as JSON text, ops named as `module:Class`."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str, op_types: Iterable[type[Op]] = ()) -> Self:
        """Reads what `to_json` wrote; runs and imports nothing that the text names.

        Args:
            text: The JSON.
            op_types: The user's own op classes that may occur, beside the built-in ones.

        Raises:
            SpaceError: It is no JSON, has missing or unknown fields, an unknown op, or breaks a law.
        """
        return from_json(cls, text, tuple(op_types), "network")


class _located:  # noqa: N801 - reads as a statement
    """Adds the place to a SpaceError raised inside."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, SpaceError):
            raise SpaceError(f"{error} in {self.place}") from None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One lowered part of a network: the stem, a stage or the head.

    Parts that repeat among networks are made, costed and digested once.

    Attributes:
        name: Its name in the module.
        node: Its layers.
        in_shape: Shape of its input.
        out_shape: Shape of its output.
        cost: What it costs.
    """

    name: str
    node: Node
    in_shape: Shape
    out_shape: Shape
    cost: Cost

    @cached_property
    def digest(self) -> str:
        """Identity of its layers and their names."""
        return hashlib.sha256(f"{self.name}:{canonical_text(self.node)}".encode()).hexdigest()


def lower(network: Network) -> tuple[Part, ...]:
    """Says the network's layers: stem, stages and head, each as a tree with its input shape.

    Raises:
        SpaceError: An op does not fit where it stands; the message names the stage.
    """
    if has_choice(network):
        raise SpaceError("a template with open choices has no layers: decode it with SearchSpace first")
    parts: list[Part] = []
    shape = Shape(network.in_channels, network.resolution, network.resolution)
    blocks = sum(stage.repeats for _, stage in network.named_stages())
    block = 0
    for name, stage in network.named_stages():
        context = _context(network, stage, shape, block, blocks)
        with _located(name):
            parts.append(_lower_stage(name, stage, context))
            shape = parts[-1].out_shape
        block += stage.repeats
    head = _context(network, Stage(op=network.stem.op, channels=1), shape, block, blocks)
    parts.append(_lower_head(network.head, head, network.num_classes))
    return tuple(parts)


def _context(network: Network, stage: Stage, shape: Shape, block: int, blocks: int) -> Context:
    return Context(
        in_channels=shape.channels,
        out_channels=stage.channels,
        stride=stage.stride,
        resolution=shape.height,
        block=block,
        blocks=blocks,
        activation=network.activation,
        norm_eps=network.norm_eps,
        norm_momentum=network.norm_momentum,
        drop_path_rate=network.drop_path_rate,
    )


@lru_cache(maxsize=65_536)
def _lower_stage(name: str, stage: Stage, first: Context) -> Part:
    in_shape = shape = Shape(first.in_channels, first.resolution, first.resolution)
    total = Cost()
    layers: list[tuple[str, Node]] = []
    context = first
    for index in range(stage.repeats):
        node = stage.op.layers(context)
        block_cost, shape = tree_cost(node, shape)
        if shape.channels != stage.channels:
            raise SpaceError(
                f"block {index} must put out {stage.channels} channels, but puts out {shape.channels}"
            )
        total += block_cost
        layers.append((f"block{index}", node))
        block = first.block + index + 1
        context = replace(first, in_channels=stage.channels, stride=1, resolution=shape.height, block=block)
    return Part(name=name, node=Chain(tuple(layers)), in_shape=in_shape, out_shape=shape, cost=total)


@lru_cache(maxsize=65_536)
def _lower_head(head: Head, context: Context, classes: int) -> Part:
    in_shape = Shape(context.in_channels, context.resolution, context.resolution)
    node = head.layers(context, classes)
    total, shape = tree_cost(node, in_shape)
    return Part(name="head", node=node, in_shape=in_shape, out_shape=shape, cost=total)


def canonical_text(node: Node) -> str:
    """A text that is equal for equal trees, in every process and on every machine."""
    match node:
        case Chain(layers):
            return f"chain({','.join(f'{name}={canonical_text(layer)}' for name, layer in layers)})"
        case Residual(body, drop_rate):
            return f"residual({canonical_text(body)},{drop_rate!r})"
        case Gate(body):
            return f"gate({canonical_text(body)})"
        case _:
            return _leaf_text(node)


@lru_cache(maxsize=65_536)
def _leaf_text(leaf: object) -> str:
    return f"{type(leaf).__module__}:{leaf!r}"


def cost(network: Network) -> Cost:
    """Exact cost of a network for one image, without torch.

    Equal to fvcore's count of convolutions and linear layers in eval mode.

    Raises:
        SpaceError: The network cannot be lowered, for instance because channels do not divide.
    """
    total = Cost()
    for part in lower(network):
        total += part.cost
    return total
