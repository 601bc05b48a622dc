"""`Stage` and `Head`: the parts of a network as frozen data."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.choices import Choice
from search_spaces.context import Context
from search_spaces.errors import require_fraction, require_integer, require_one_of
from search_spaces.ops import BUILT_IN_OPS, Op, check_op
from search_spaces.primitives import Chain, Dropout, Flatten, GlobalPool, Linear, Node

MOST_CHANNELS = 65_536
MOST_REPEATS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks of one op, all equal but for the first, which takes the stride and changes the channels.

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
        """Raises `SpaceError` where a field is out of range or the op refuses its own."""
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


def has_placed_ops(value: object) -> bool:
    """Whether stages, choices and all, hold an op that may ask for its block's number: a user's own."""
    if isinstance(value, Choice):
        return any(map(has_placed_ops, value.options))
    if isinstance(value, tuple):
        return any(map(has_placed_ops, value))
    return has_placed_ops(value.op) if isinstance(value, Stage) else type(value) not in BUILT_IN_OPS
