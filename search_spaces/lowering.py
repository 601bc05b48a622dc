"""The lowering of a network to trees, part by part, and folds over the whole: digest, cost, memory.

Parts that repeat among networks are made, added up and digested once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from search_spaces.choices import has_choice
from search_spaces.context import Context, SqueezeExcite
from search_spaces.costs import Cost, Memory, Tally, memory_of, tally_tree
from search_spaces.errors import SpaceError, located
from search_spaces.ops import Op
from search_spaces.primitives import Chain, Gate, Node, Residual, Shape

if TYPE_CHECKING:
    from search_spaces.network import Head, Network, Stage

Surroundings = tuple[str, float, float, float, str, SqueezeExcite]
"""What all parts of a network share: the last fields of a `Context`, in its order."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One lowered part of a network: the stem, a stage or the head.

    Attributes:
        name: Its name in the module.
        node: Its layers.
        in_shape: Shape of its input.
        tally: What it costs.
        made_of: The stage or head that says its layers; parts with equal layers are equal whatever that is.
    """

    name: str
    node: Node
    in_shape: Shape
    tally: Tally
    made_of: Stage | Head | None = field(default=None, compare=False, repr=False)

    @property
    def out_shape(self) -> Shape:
        """Shape of its output."""
        return self.tally.out

    @property
    def cost(self) -> Cost:
        """What it costs."""
        return self.tally.cost

    @cached_property
    def text(self) -> str:
        """Its layers in order, equal for equal layers; blocks without layers leave no trace."""
        blocks = self.node.layers if isinstance(self.node, Chain) else (("", self.node),)
        return "".join(f"{canonical_text(block)};" for _, block in blocks if block != Chain(()))


def lower(network: Network) -> tuple[Part, ...]:
    """Says the network's layers: stem, stages with blocks, and head, each as a tree with its input shape.

    Raises:
        SpaceError: An op does not fit where it stands; the message names the stage.
    """
    parts: list[Part] = []
    shape = image_shape(network)
    shared = surroundings(network)
    has_drop_path = bool(network.drop_path_rate)
    for name, stage, block, blocks in _placed_stages(network, has_drop_path=has_drop_path):
        with located(name):
            parts.append(lower_stage(name, stage, shape, shared, block, blocks))
        shape = parts[-1].out_shape
    with located("head"):
        parts.append(lower_head(network.head, shape, shared, network.num_classes))
    return tuple(parts)


def tally(network: Network) -> Tally:
    """Adds up a network on one image, without making its trees where a stage is known.

    Raises:
        SpaceError: An op does not fit where it stands; the message names the stage.
    """
    shape = image_shape(network)
    shared = surroundings(network)
    total: Tally | None = None
    for name, stage, block, blocks in _placed_stages(network, has_drop_path=False):
        try:
            part = tally_stage(stage, shape, shared, block, blocks)
        except SpaceError as error:
            raise SpaceError(f"{error} in {name}") from None
        total = part if total is None else total.then(part)
        shape = part.out
    with located("head"):
        head = tally_head(network.head, shape, shared, network.num_classes)
    return head if total is None else total.then(head)


def cost(network: Network) -> Cost:
    """Exact cost of a network for one image, without torch.

    Equal to fvcore's count of convolutions and linear layers in eval mode.

    Raises:
        SpaceError: The network cannot be lowered, for instance because channels do not divide.
    """
    return tally(network).cost


def memory(network: Network) -> Memory:
    """What a network holds in memory, in inference and in training, without torch.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    return memory_of(tally(network), image_shape(network))


def digest(network: Network) -> str:
    """Identity of a network: equal for all descriptions that mean the same layers (16 hex digits).

    Which stage a block stands in does not count, so a layer left out first and one left out later are one.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    image = f"{network.in_channels} x {network.resolution};"
    layers = "".join(part.text for part in lower(network))
    return hashlib.sha256((image + layers).encode()).hexdigest()[:16]


def image_shape(network: Network) -> Shape:
    """Shape of the input image."""
    return Shape(network.in_channels, network.resolution, network.resolution)


def surroundings(network: Network) -> Surroundings:
    """What all parts of the network share."""
    return (
        network.activation,
        network.norm_eps,
        network.norm_momentum,
        network.drop_path_rate,
        network.padding,
        network.squeeze_excite,
    )


def _placed_stages(network: Network, *, has_drop_path: bool) -> Iterator[tuple[str, Stage, int, int]]:
    """The stem and the stages that have blocks, each with the number of its first block and of all blocks.

    Blocks count from the first stage; the stem is none. Where nothing depends on a block's number it is 0 of
    1, so that equal stages of different networks are one: costs do not depend on stochastic depth.
    """
    stages = network.stages
    has_place = has_drop_path or network.has_placed_ops
    block, blocks = 0, 1
    if has_place:
        if has_choice(stages):
            raise SpaceError(OPEN)
        blocks = sum(stage.repeats for stage in stages)
    for name, stage in network.present_stages():
        if name == "stem":
            yield name, stage, 0, 1
        else:
            yield name, stage, block, blocks
            block += stage.repeats if has_place else 0


MOST_SUM = 10**16
"""Multiply-adds, parameters or values of one part beyond which a description is a mistake."""

OPEN = "a template with open choices has no layers: decode it with SearchSpace first"


@lru_cache(maxsize=262_144)
def tally_stage(stage: Stage, shape: Shape, shared: Surroundings, block: int, blocks: int) -> Tally:
    """Adds up a stage on its input; one without blocks costs nothing and puts out its input.

    Raises:
        SpaceError: The op does not fit.
    """
    if has_choice((stage, tuple(shape), shared)):
        raise SpaceError(OPEN)
    if stage.repeats == 0:
        return Tally(shape)
    if stage.stride > min(shape.height, shape.width):
        raise SpaceError(
            f"`stride <= side of the input` must hold, but got stride={stage.stride} for an input of "
            f"{shape.height} x {shape.width} pixels: raise the resolution or leave out strides"
        )
    total: Tally | None = None
    for index, context in _contexts(stage, shape, shared, block, blocks):
        one = _tally_block(stage.op, context)
        if one.out.channels != stage.channels:
            raise SpaceError(
                f"block {index} must put out {stage.channels} channels, but puts out {one.out.channels}"
            )
        total = one if total is None else total.then(one)
    assert total is not None, "one without blocks was answered above"
    return _require_sane(total)


def _require_sane(total: Tally) -> Tally:
    """Refuses sums that no machine could hold, and that arrays of integers could not either."""
    largest = max(total.macs, total.params, total.training, total.traffic)
    if largest > MOST_SUM:
        raise SpaceError(
            f"the sums of a part must stay below {MOST_SUM:.0e}, but got {total.macs:.3g} multiply-adds and "
            f"{total.params:.3g} parameters: use fewer channels, layers or pixels"
        )
    return total


def _contexts(
    stage: Stage, shape: Shape, shared: Surroundings, block: int, blocks: int
) -> Iterator[tuple[int, Context]]:
    """Where each block of a stage stands; the second block's side is known once the first is added up."""
    first = Context(shape.channels, stage.channels, stage.stride, shape.height, block, blocks, *shared)
    yield 0, first
    if stage.repeats > 1:
        side = _tally_block(stage.op, first).out.height
        later = Context(stage.channels, stage.channels, 1, side, block, blocks, *shared)
        for index in range(1, stage.repeats):
            yield index, replace(later, block=block + index) if blocks > 1 else later


@lru_cache(maxsize=65_536)
def _node_of(op: Op, context: Context) -> Node:
    node = op.layers(context)
    if not isinstance(node, Chain | Residual | Gate) and not callable(getattr(node, "at", None)):
        remedy = "end it with `return`" if node is None else "return one of these"
        raise SpaceError(
            f"`layers(context)` of {type(op).__name__} must return a layer, Chain, Residual or Gate, but "
            f"returned {node!r}: {remedy}"
        )
    return node


@lru_cache(maxsize=65_536)
def _tally_block(op: Op, context: Context) -> Tally:
    shape = Shape(context.in_channels, context.resolution, context.resolution)
    return tally_tree(_node_of(op, context), shape)


@lru_cache(maxsize=65_536)
def lower_stage(name: str, stage: Stage, shape: Shape, shared: Surroundings, block: int, blocks: int) -> Part:
    """Says the layers of a stage on its input.

    Raises:
        SpaceError: The op does not fit.
    """
    total = tally_stage(stage, shape, shared, block, blocks)
    layers = tuple(
        (f"block{index}", _node_of(stage.op, context))
        for index, context in _contexts(stage, shape, shared, block, blocks)
    )
    return Part(name=name, node=Chain(layers), in_shape=shape, tally=total, made_of=stage)


def _head_layers(head: Head, shape: Shape, shared: Surroundings, classes: int) -> Chain:
    return head.layers(Context(shape.channels, classes, 1, shape.height, 0, 1, *shared), classes)


@lru_cache(maxsize=65_536)
def tally_head(head: Head, shape: Shape, shared: Surroundings, classes: int) -> Tally:
    """Adds up a head on the last feature map."""
    if has_choice((head, tuple(shape), shared, classes)):
        raise SpaceError(OPEN)
    return _require_sane(tally_tree(_head_layers(head, shape, shared, classes), shape))


@lru_cache(maxsize=65_536)
def lower_head(head: Head, shape: Shape, shared: Surroundings, classes: int) -> Part:
    """Says the layers of a head on the last feature map."""
    total = tally_head(head, shape, shared, classes)
    layers = _head_layers(head, shape, shared, classes)
    return Part(name="head", node=layers, in_shape=shape, tally=total, made_of=head)


def canonical_text(node: Node) -> str:
    """A text that is equal for equal trees, in every process and on every machine."""
    match node:
        case Chain(layers):
            return f"chain({','.join(f'{name}={canonical_text(layer)}' for name, layer in layers)})"
        case Residual(body, drop_rate, shortcut):
            beside = "" if shortcut is None else f",{canonical_text(shortcut)}"
            return f"residual({canonical_text(body)},{drop_rate!r}{beside})"
        case Gate(body):
            return f"gate({canonical_text(body)})"
        case _:
            return _leaf_text(node)


@lru_cache(maxsize=65_536)
def _leaf_text(leaf: object) -> str:
    return f"{type(leaf).__module__}:{leaf!r}"
