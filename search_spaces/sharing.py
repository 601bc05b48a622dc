"""Which layers of a space's networks share weights: a key for each layer, and the largest of each key.

A layer is shared by its place: the part, the block, the op's class and the path within the block. Channels
are prefixes of the largest layer's, kernels its centre or weights of their own. Skips do not count: a block
with one shares its weights with the same block without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from search_spaces.errors import SpaceError
from search_spaces.lowering import Part, Surroundings, lower_head, lower_stage
from search_spaces.network import image_shape, lower, surroundings
from search_spaces.ops import Op
from search_spaces.primitives import (
    BatchNorm,
    Call,
    Chain,
    Convolution,
    Gate,
    Layer,
    Leaf,
    Linear,
    Node,
    Residual,
    Shape,
    out_shape,
)
from search_spaces.slots import Slot
from search_spaces.stages import Stage

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

Kernels = Literal["own", "cropped"]
"""Each size of a kernel has weights of its own, as in TuNAS, or is the centre of the largest, as in OFA."""

MOST_VARIANTS = 500_000
"""Variants of one part, counted for each shape that reaches it, that are looked at."""

SAMPLED = 20_000
"""Networks that are looked at where a choice is among whole tuples of stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLeaf:
    """A layer with weights, in its place in one network.

    Attributes:
        name: Its name in the module that `build` makes, such as `stage1.block0.body.expand.conv`.
        key: The layer whose weights it has a slice of, such as `stage1/block0/MBConv/expand/conv`.
        call: A layer of its size with such weights; padding, stride and the like do not count.
        ends_residual: Whether it is the last normalisation of a block with a skip.
    """

    name: str
    key: str
    call: Call
    ends_residual: bool = False


def shared_leaves(part: Part, kernels: Kernels = "own") -> tuple[SharedLeaf, ...]:
    """The layers of a part that have weights, in the order in which they run.

    Args:
        part: A part of `lower(network)`.
        kernels: How kernels of different sizes share weights.
    """
    if not isinstance(part.made_of, Stage):
        return tuple(
            _placed(one, part.name, part.name) for one in _leaves_of(part.node, part.in_shape, kernels)
        )
    op = _op_name(part.made_of.op)
    found: list[SharedLeaf] = []
    shape = part.in_shape
    assert isinstance(part.node, Chain), "a stage is a chain of blocks"
    for block, node in part.node.layers:
        name, key = f"{part.name}.{block}", f"{part.name}/{block}/{op}"
        found += (_placed(one, name, key) for one in _leaves_of(node, shape, kernels))
        shape = out_shape(node, shape)
    return tuple(found)


@lru_cache(maxsize=8)
def shared_layers(space: SearchSpace, kernels: Kernels = "own") -> Mapping[str, Call]:
    """The layers whose weights all networks of a space share: for each key the largest in every dimension.

    Args:
        space: The space.
        kernels: How kernels of different sizes share weights.

    Raises:
        SpaceError: No network can be built, or a part has more variants than can be looked at.
    """
    found: dict[str, Call] = {}
    for part in _every_part(space):
        for leaf in shared_leaves(part, kernels):
            known = found.get(leaf.key)
            found[leaf.key] = leaf.call if known is None else _merged(known, leaf.call)
    if not found:
        raise SpaceError(f"no network of the space {space.name!r} can be built")
    return dict(sorted(found.items(), key=lambda item: _in_order(item[0])))


def _in_order(key: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts keys as networks run: the stem, stage2 before stage10, the head."""
    first, *rest = key.split("/")
    rank = {"stem": 0, "head": 2}.get(first, 1)
    return ((rank, *_split_number(first)), *((0, *_split_number(word)) for word in rest))


def _split_number(word: str) -> tuple[int, str]:
    letters = word.rstrip("0123456789")
    return int(word[len(letters) :] or 0), letters


def _placed(leaf: SharedLeaf, name: str, key: str) -> SharedLeaf:
    return replace(leaf, name=f"{name}{leaf.name}", key=f"{key}{leaf.key}")


def _op_name(op: Op) -> str:
    """The class of an op, by which blocks that differ in kind are told apart."""
    general = getattr(op, "general", None)
    kind = type(op if general is None else general())
    is_ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return kind.__name__ if is_ours else f"{kind.__module__}:{kind.__qualname__}".replace(".", "_")


@lru_cache(maxsize=65_536)
def _leaves_of(node: Node, shape: Shape, kernels: Kernels) -> tuple[SharedLeaf, ...]:
    """The layers of a tree that have weights; names and keys are relative to it, a separator first."""
    found: list[SharedLeaf] = []
    match node:
        case Chain(layers):
            sizes = ""  # what a normalisation follows: each kernel that has its own weights has its own norm
            for step, layer in layers:
                if isinstance(layer, BatchNorm):
                    one = SharedLeaf(name="", key=sizes, call=_norm(shape))
                    found.append(_placed(one, f".{step}", f"/{step}"))
                else:
                    inner = _leaves_of(layer, shape, kernels)
                    found += (_placed(one, f".{step}", f"/{step}") for one in inner)
                    if isinstance(layer, Convolution):
                        sizes = inner[0].key
                shape = out_shape(layer, shape)
        case Residual(body, _, shortcut):
            found += _ending(_placed(one, ".body", "") for one in _leaves_of(body, shape, kernels))
            if shortcut is not None:
                inner = _leaves_of(shortcut, shape, kernels)
                found += (_placed(one, ".shortcut", "/shortcut") for one in inner)
        case Gate(body):
            found += (_placed(one, ".body", "") for one in _leaves_of(body, shape, kernels))
        case _:
            found += _leaf(node, shape, kernels)
    return tuple(found)


def _ending(leaves: Iterable[SharedLeaf]) -> Iterator[SharedLeaf]:
    """Leaves of a residual block's body, the last normalisation of which is marked."""
    listed = list(leaves)
    norms = [index for index, leaf in enumerate(listed) if leaf.call.layer == "BatchNorm2d"]
    for index, leaf in enumerate(listed):
        yield replace(leaf, ends_residual=True) if norms[-1:] == [index] else leaf


def _norm(shape: Shape) -> Call:
    return Call("BatchNorm2d", (shape.channels,))


def _leaf(leaf: Leaf, shape: Shape, kernels: Kernels) -> tuple[SharedLeaf, ...]:
    """One layer, if it has weights or anything else that is stored."""
    layer = leaf.at(shape)
    if not layer.params and not layer.buffers:
        return ()
    match leaf:
        case Convolution():
            key, call = _convolution(leaf, shape, layer, kernels)
        case BatchNorm():
            key, call = "", _norm(shape)
        case Linear():
            is_vector = shape.height == shape.width == 1
            key = "" if is_vector else f"/{shape.height}x{shape.width}"
            call = Call("Linear", (shape.elements, leaf.features))
        case _:
            key, call = _exactly(layer.call), layer.call
    return (SharedLeaf(name="", key=key, call=call),)


def _convolution(conv: Convolution, shape: Shape, layer: Layer, kernels: Kernels) -> tuple[str, Call]:
    """What tells a convolution apart from others in its place, and its weights as a layer."""
    is_depthwise = conv.groups == shape.channels == conv.channels and conv.groups > 1
    if conv.groups > 1 and not is_depthwise:
        return _exactly(layer.call), layer.call  # slices of channels would move some to other groups
    kind = "depthwise" if is_depthwise else "" if conv.kernel_size == 1 else "full"
    size = conv.kernel_size if kind and kernels == "own" else ""
    kwargs = (("groups", conv.groups), ("bias", conv.bias))
    call = Call("Conv2d", (shape.channels, conv.channels, conv.kernel_size), kwargs)
    return f"/{kind}{size}" if kind else "", call


def _exactly(call: Call) -> str:
    """A key that only equal layers have."""
    return f"/{call.type.__name__}_{hashlib.sha256(call.source().encode()).hexdigest()[:8]}"


def _merged(one: Call, other: Call) -> Call:
    """The smallest layer of which both are slices."""
    if one == other:
        return one
    sizes: Any = zip(one.args, other.args, strict=True)
    flags: Any = zip(one.kwargs, other.kwargs, strict=True)
    args = tuple(max(pair) for pair in sizes)
    kwargs = tuple((name, max(value, another)) for (name, value), (_, another) in flags)
    return Call(one.layer, args, kwargs)


class _State(NamedTuple):
    """What a part is told by those before it."""

    shape: Shape
    shared: Surroundings
    classes: int


def _every_part(space: SearchSpace) -> Iterator[Part]:
    """Every part of the networks of a space; where one decision reaches several, some of no network too.

    The numbers of blocks are left out: no op of ours says other layers for another number.
    """
    slots, counts = space.slots, space.cardinalities
    if not slots.has_stages:
        yield from _parts_of_networks(space)
        return
    sample = slots.network([0] * len(counts))
    states: dict[_State, None] = {}
    for values in _values("the network", slots.shared, counts):
        with suppress(SpaceError):
            network = replace(sample, **dict(zip(slots.shared_names, values, strict=True)))
            states[_State(image_shape(network), surroundings(network), network.num_classes)] = None
    places = [("stem", slots.stem), *((f"stage{n}", slot) for n, slot in enumerate(slots.stages, start=1))]
    for name, slot in places:
        after: dict[_State, None] = {}
        for stage, state in product(_values(name, slot, counts), states):
            with suppress(SpaceError):
                stage.check()
                if stage.repeats:
                    part = lower_stage(name, stage, state.shape, state.shared, 0, 1)
                    yield part
                after[state._replace(shape=part.out_shape) if stage.repeats else state] = None
        states = after
    for head, state in product(_values("head", slots.head, counts), states):
        with suppress(SpaceError):
            head.check()
            yield lower_head(head, state.shape, state.shared, state.classes)


def _values(name: str, slot: Slot, counts: Sequence[int]) -> tuple[Any, ...]:
    """The different values of a place of the template, unchecked."""
    ranges = [range(counts[index]) for index in slot.indices]
    variants = math.prod(map(len, ranges))
    if variants > MOST_VARIANTS:
        raise SpaceError(
            f"`variants of a part <= {MOST_VARIANTS:,}` must hold for weights to be shared, but {name} has "
            f"{variants:,}: leave decisions out, or split the stage",
            field="space",
        )
    made = (slot.make(dict(zip(slot.indices, tokens, strict=True))) for tokens in product(*ranges))
    return tuple(dict.fromkeys(made))


def _parts_of_networks(space: SearchSpace) -> Iterator[Part]:
    """The parts of all networks where there are few, else of random ones."""
    if space.size <= SAMPLED:
        tokens: Iterable[Sequence[int]] = product(*map(range, space.cardinalities))
    else:
        tokens = space.sample_many(np.random.default_rng(0), SAMPLED).tolist()
    for one in tokens:
        with suppress(SpaceError):
            yield from lower(space.decode(one))
