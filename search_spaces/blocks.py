"""The blocks of networks: the units that the networks of a space are put together from, each found once."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.costs import Tally, tally_tree
from search_spaces.errors import SpaceError
from search_spaces.lowering import Part, canonical_text
from search_spaces.ops import op_label
from search_spaces.part_sums import inference_parts
from search_spaces.primitives import Chain, Dropout, Gate, Layer, Node, Residual, Shape, out_shape
from search_spaces.stages import Head, Stage

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

MOST_LISTED = 20_000
"""Candidates of a space that are all looked at, where its parts cannot be."""

SAMPLED = 2_000
"""Candidates that are looked at in their place where there are more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a network: the stem, a block of a stage, or the head, on its input.

    Attributes:
        key: Identity: equal for equal layers on equal inputs, in every process (16 hex digits). Layers that
            inference leaves out (dropout, stochastic depth) do not count.
        stage: The part it was found in.
        words: What reports show: the op, its channels and stride. Another version of an op keeps its words
            and changes its key.
        part: Its layers, input shape and costs, to be built alone with `build_part`.
    """

    key: str
    stage: str
    words: str
    part: Part

    @property
    def in_shape(self) -> Shape:
        """Shape of its input."""
        return self.part.in_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBlocks:
    """The distinct blocks of a space.

    Attributes:
        blocks: Each once, in the order of networks.
        is_complete: Whether there are no others; False where networks had to be drawn to find them.
        origin: How they were found, in words.
    """

    blocks: tuple[Block, ...]
    is_complete: bool
    origin: str


def blocks_of(part: Part) -> tuple[Block, ...]:
    """The blocks of a part; those without layers, which cost nothing, are left out."""
    if not isinstance(part.made_of, Stage):
        return (_block(part.name, part.name, part.node, part.in_shape, part.made_of, 1),)
    found: list[Block] = []
    shape, stride = part.in_shape, part.made_of.stride
    layers = part.node.layers if isinstance(part.node, Chain) else ((part.name, part.node),)
    for name, node in layers:
        if node != Chain(()):
            found.append(_block(part.name, f"{part.name}.{name}", node, shape, part.made_of, stride))
            shape = found[-1].part.out_shape
        stride = 1
    return tuple(found)


def find_blocks(space: SearchSpace, *, seed: int = 0) -> FoundBlocks:
    """Finds the distinct blocks of all networks of a space, without decoding all networks.

    Where a part depends on its own decisions and on what reaches it, the parts are walked and the list is
    complete (and may hold a block that occurs in no network, where one decision reaches several parts).
    Else all networks are looked at where there are few; else networks are drawn, and some may be missing.

    Args:
        space: The space.
        seed: Seed of the draws.

    Raises:
        SpaceError: No network of the space can be built.
    """
    parts = space.distinct_parts()
    if parts is not None:
        return FoundBlocks(blocks=_distinct(parts), is_complete=True, origin="all parts of the space")
    if math.prod(space.cardinalities) <= MOST_LISTED:
        every = itertools.product(*(range(count) for count in space.cardinalities))
        candidates: Iterable[tuple[int, ...]] = {space.canonical(tokens): None for tokens in every}
        origin, is_complete = f"all {space.size:,} networks of the space", True
    else:
        drawn = space.sample_many(np.random.default_rng(seed), SAMPLED)
        candidates = [tuple(row) for row in drawn.tolist()]
        origin, is_complete = f"{SAMPLED:,} random networks of the space (seed {seed})", False
    blocks = _distinct(_parts_of(space, candidates))
    if not blocks:
        raise SpaceError(f"no network of the space {space.name!r} can be built")
    return FoundBlocks(blocks=blocks, is_complete=is_complete, origin=origin)


def leaves_of(node: Node, shape: Shape) -> Iterator[tuple[Node, Shape, Layer]]:
    """The layers of a tree as they run, each with its input's shape and what it is on that."""
    match node:
        case Chain(layers):
            for _, layer in layers:
                yield from leaves_of(layer, shape)
                shape = out_shape(layer, shape)
        case Residual(body, _, shortcut):
            yield from leaves_of(body, shape)
            if shortcut is not None:
                yield from leaves_of(shortcut, shape)
        case Gate(body):
            yield from leaves_of(body, shape)
        case _:
            yield node, shape, node.at(shape)


def _parts_of(space: SearchSpace, candidates: Iterable[tuple[int, ...]]) -> Iterator[Part]:
    for tokens in candidates:
        try:
            yield from inference_parts(space.decode(tokens))
        except SpaceError:  # the combination is not valid: it is no network, and has no blocks
            continue


def _distinct(parts: Iterable[Part]) -> tuple[Block, ...]:
    found: dict[str, Block] = {}
    for part in parts:
        for block in blocks_of(part):
            found.setdefault(block.key, block)
    return tuple(found.values())


def _block(
    stage: str, name: str, node: Node, shape: Shape, made_of: Stage | Head | None, stride: int
) -> Block:
    key, at_rest, tally = _identity(node, shape)
    part = Part(name=name, node=at_rest, in_shape=shape, tally=tally, made_of=made_of)
    return Block(key=key, stage=stage, words=_words(stage, shape, tally.out, made_of, stride), part=part)


@lru_cache(maxsize=65_536)
def _identity(node: Node, shape: Shape) -> tuple[str, Node, Tally]:
    """A block's key, its layers in inference, and what they cost."""
    at_rest = _at_rest(node)
    text = f"{shape.channels} x {shape.height} x {shape.width};{canonical_text(at_rest)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16], at_rest, tally_tree(at_rest, shape)


def _at_rest(node: Node) -> Node:
    """A tree without what only training needs: dropout, and the rates of stochastic depth."""
    match node:
        case Chain(layers):
            kept = ((name, _at_rest(layer)) for name, layer in layers if not isinstance(layer, Dropout))
            return Chain(tuple(kept))
        case Residual(body, _, shortcut):
            beside = None if shortcut is None else _at_rest(shortcut)
            return replace(node, body=_at_rest(body), drop_rate=0.0, shortcut=beside)
        case Gate(body):
            return Gate(_at_rest(body))
        case _:
            return node


def _words(stage: str, shape: Shape, out: Shape, made_of: Stage | Head | None, stride: int) -> str:
    if isinstance(made_of, Stage):
        step = f", stride {stride}" if stride > 1 else ""
        return f"{op_label(made_of.op)}, {shape.channels} to {out.channels} channels{step}"
    return f"{stage}, {shape.channels} channels to {out.channels} values"
