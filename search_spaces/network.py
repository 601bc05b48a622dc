"""`Network`: an architecture as frozen data, and what follows from it: layers, cost, memory and identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from search_spaces.choices import has_choice
from search_spaces.context import SqueezeExcite
from search_spaces.costs import Cost, Memory, Tally, memory_of
from search_spaces.errors import SpaceError, located, require_fraction, require_integer, require_one_of
from search_spaces.json_form import from_json, to_json
from search_spaces.lowering import OPEN, Part, Surroundings, lower_head, lower_stage, tally_head, tally_stage
from search_spaces.ops import Op
from search_spaces.primitives import ACTIVATIONS, PADDINGS, Shape
from search_spaces.stages import MOST_CHANNELS, MOST_REPEATS, Head, Stage, has_placed_ops

IN_INPUT = SqueezeExcite()
"""Squeeze-and-excitation of MnasNet and EfficientNet."""

MOST_RESOLUTION = 8_192


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
        padding: How strided convolutions are padded: "symmetric", or "same" as in TensorFlow.
        squeeze_excite: How squeeze-and-excitation is made where an op has it.

    Raises:
        SpaceError: No choice is left in the fields and one of them is not valid.
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
    padding: str = "symmetric"
    squeeze_excite: SqueezeExcite = IN_INPUT

    def __post_init__(self) -> None:
        if not has_choice(self):
            self.check()

    def check(self) -> None:
        """Checks every field, and those of stem, stages, ops and head.

        Raises:
            SpaceError: A field is not valid; the message names it and its stage.
        """
        require_integer("resolution", self.resolution, least=1, most=MOST_RESOLUTION)
        require_integer("num_classes", self.num_classes, least=1, most=10_000_000)
        require_integer("in_channels", self.in_channels, least=1, most=MOST_CHANNELS)
        require_one_of("activation", self.activation, tuple(ACTIVATIONS))
        require_fraction("norm_eps", self.norm_eps)
        require_fraction("norm_momentum", self.norm_momentum)
        require_fraction("drop_path_rate", self.drop_path_rate)
        require_one_of("padding", self.padding, PADDINGS)
        if not isinstance(self.stages, tuple) or not self.stages:
            raise SpaceError("`stages` must be a tuple of at least one Stage", field="stages")
        for name, stage in self.named_stages():
            if not isinstance(stage, Stage):
                raise SpaceError(f"`{name}` must be a Stage, but got {stage!r}", field=name)
            with located(name):
                stage.check()
                if name == "stem":
                    require_integer("repeats", stage.repeats, least=1, most=MOST_REPEATS)
        for name, part, kind in (
            ("head", self.head, Head),
            ("squeeze_excite", self.squeeze_excite, SqueezeExcite),
        ):
            if not isinstance(part, kind):
                raise SpaceError(f"`{name}` must be a {kind.__name__}, but got {part!r}", field=name)
            with located(name):
                part.check()

    def named_stages(self) -> Iterable[tuple[str, Stage]]:
        """The stem and the stages with the names they have in the module."""
        yield "stem", self.stem
        for number, stage in enumerate(self.stages, start=1):
            yield f"stage{number}", stage

    def present_stages(self) -> Iterable[tuple[str, Stage]]:
        """Those of the named stages that have blocks; an absent one leaves a gap in the numbers."""
        return ((name, stage) for name, stage in self.named_stages() if stage.repeats != 0)

    @property
    def has_placed_ops(self) -> bool:
        """Whether a stage has an op that may ask for its block's number: any of the user's own."""
        return has_placed_ops(self.stages)

    @property
    def digest(self) -> str:
        """Identity of the network: equal for all descriptions that mean the same layers (16 hex digits)."""
        return digest(self)

    @classmethod
    def of_checked(cls, values: Mapping[str, Any]) -> Self:
        """Makes a network of values for all its fields that are known to be valid; checks nothing."""
        network = object.__new__(cls)
        for name in _FIELDS:
            object.__setattr__(network, name, values[name])
        return network

    def to_json(self, *, indent: int | None = 1) -> str:
        """The network as JSON text, ops named as `module:Class`.

        Args:
            indent: Spaces of each level; None writes one line without any, a quarter shorter.
        """
        return to_json(self, indent=indent)

    @classmethod
    def from_json(cls, text: str, op_types: Iterable[type[Op]] = ()) -> Self:
        """Reads what `to_json` wrote; runs and imports nothing that the text names.

        Args:
            text: The JSON.
            op_types: The user's own op classes that may occur, beside the built-in ones.

        Raises:
            SpaceError: It is no JSON, has missing or unknown fields, an unknown op, or is not valid.
        """
        return from_json(cls, text, tuple(op_types), "network")


_FIELDS = tuple(field.name for field in fields(Network))


def lower(network: Network) -> tuple[Part, ...]:
    """Says the network's layers: stem, stages with blocks, and head, each as a tree with its input shape.

    Raises:
        SpaceError: An op does not fit in its place; the message names the stage.
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
        SpaceError: An op does not fit in its place; the message names the stage.
    """
    shape = image_shape(network)
    shared = surroundings(network)
    total: Tally | None = None
    for name, stage, block, blocks in _placed_stages(network, has_drop_path=False):
        try:
            part = tally_stage(stage, shape, shared, block, blocks)
        except SpaceError as error:
            raise SpaceError(f"{error} in {name}", field=error.field) from None
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

    The stage of a block does not count, so a layer left out first and one left out later are one.

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
