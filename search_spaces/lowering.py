"""The lowering of stages and heads to trees, with what they cost; equal parts are made and added up once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from search_spaces.choices import has_choice
from search_spaces.context import Context, SqueezeExcite
from search_spaces.costs import Cost, Tally, tally_tree
from search_spaces.errors import SpaceError
from search_spaces.ops import Op
from search_spaces.primitives import Chain, Gate, Node, Residual, Shape
from search_spaces.stages import Head, Stage

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
            f"{shape.height} x {shape.width} pixels: raise the resolution or leave out strides",
            field="stride",
        )
    total: Tally | None = None
    for index, context in _contexts(stage, shape, shared, block, blocks):
        one = _tally_block(stage.op, context)
        if one.out.channels != stage.channels:
            raise SpaceError(
                f"block {index} must put out {stage.channels} channels, but puts out {one.out.channels}",
                field="op",
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
    """The place of each block of a stage; the second block's side is known once the first is added up."""
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
            f"returned {node!r}: {remedy}",
            field="op",
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
