"""`Network`: an architecture as frozen data, its laws and its identity."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from search_spaces.choices import Choice, has_choice
from search_spaces.context import Context, SqueezeExcite
from search_spaces.errors import SpaceError, located, require_fraction, require_integer, require_one_of
from search_spaces.json_form import from_json, to_json
from search_spaces.lowering import digest
from search_spaces.ops import BUILT_IN_OPS, Op, check_op
from search_spaces.primitives import (
    ACTIVATIONS,
    PADDINGS,
    Chain,
    Dropout,
    Flatten,
    GlobalPool,
    Linear,
    Node,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

IN_INPUT = SqueezeExcite()
"""Squeeze-and-excitation of MnasNet and EfficientNet."""

MOST_CHANNELS = 65_536
MOST_REPEATS = 1_000
MOST_RESOLUTION = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks of one op, all alike but for the first, which takes the stride and changes the channels.

    With `repeats=0` the stage is absent: there is no first block, so neither its channels nor its stride
    count, and what follows takes the map as it arrives, at its resolution. `repeats=choice(0, 1, 2)` makes a
    stage optional; its other decisions then exist only where it has blocks. Where the resolution shall shrink
    in any case, the stride belongs into a stage that is always there. The stem is never absent.

    Attributes:
        op: What each block is.
        channels: Output channels of every block.
        repeats: Number of blocks (the papers' layers); 0 leaves the stage out.
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
        require_integer("repeats", self.repeats, least=0, most=MOST_REPEATS)
        require_one_of("stride", self.stride, (1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What follows the last stage: 1x1 convolution, global pooling, hidden layer, dropout, classifier.

    Attributes:
        channels: Output channels of the 1x1 convolution; 0 leaves it out.
        dropout: Rate of dropout before the classifier.
        hidden: Outputs of a linear layer with activation after the pooling (MobileNetV3); 0 leaves it out.
    """

    channels: int = 1280
    dropout: float = 0.2
    hidden: int = 0

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        require_integer("channels", self.channels, least=0, most=MOST_CHANNELS)
        require_fraction("dropout", self.dropout)
        require_integer("hidden", self.hidden, least=0, most=MOST_CHANNELS)

    def layers(self, context: Context, classes: int) -> Chain:
        """The layers from the last feature map to the logits."""
        units: list[tuple[str, Node]] = []
        if self.channels:
            units.extend(context.convolution(self.channels).layers)
        units += [("pool", GlobalPool()), ("flatten", Flatten())]
        if self.hidden:
            units += [("hidden", Linear(features=self.hidden)), ("act2", context.act())]
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
        padding: How strided convolutions are padded: "symmetric", or "same" as in TensorFlow.
        squeeze_excite: How squeeze-and-excitation is made where an op has it.

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
    padding: str = "symmetric"
    squeeze_excite: SqueezeExcite = IN_INPUT

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
        require_one_of("padding", self.padding, PADDINGS)
        if not isinstance(self.stages, tuple) or not self.stages:
            raise SpaceError("`stages` must be a tuple of at least one Stage")
        for name, stage in self.named_stages():
            if not isinstance(stage, Stage):
                raise SpaceError(f"`{name}` must be a Stage, but got {stage!r}")
            with located(name):
                stage.check()
                if name == "stem":
                    require_integer("repeats", stage.repeats, least=1, most=MOST_REPEATS)
        for name, part, kind in (
            ("head", self.head, Head),
            ("squeeze_excite", self.squeeze_excite, SqueezeExcite),
        ):
            if not isinstance(part, kind):
                raise SpaceError(f"`{name}` must be a {kind.__name__}, but got {part!r}")
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
        """Makes a network of values for all its fields that are known to keep their laws; checks nothing."""
        network = object.__new__(cls)
        for name in _FIELDS:
            object.__setattr__(network, name, values[name])
        return network

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


def has_placed_ops(value: object) -> bool:
    """Whether stages, choices and all, hold an op that may ask for its block's number: a user's own."""
    if isinstance(value, Choice):
        return any(map(has_placed_ops, value.options))
    if isinstance(value, tuple):
        return any(map(has_placed_ops, value))
    return has_placed_ops(value.op) if isinstance(value, Stage) else type(value) not in BUILT_IN_OPS


_FIELDS = tuple(field.name for field in fields(Network))
