"""What the built-in spaces share: the checks of their arguments, and a network fitted to images and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from search_spaces.choices import choice
from search_spaces.errors import SpaceError, require_integer, require_one_of
from search_spaces.network import MOST_RESOLUTION, Network
from search_spaces.resnet_ops import ConvPool
from search_spaces.rounding import adapt_strides, round_channels
from search_spaces.scaling import EFFICIENTNET_RULE, Rule, Scaling, apply_scaling

WIDTH_SHARES = (0.75, 1.0, 1.25)
"""What a stage's published channels are multiplied by, where they are open (MnasNet, section 4.1)."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names of the decisions at one place of a space.

    What a layer is (its op, kernel, expansion and the like) is decided at every place, or, in a flat space,
    once for the whole network: there the decision's name is without the place, and so is one decision.
    Channels and layers are decided at every place in both.

    Attributes:
        place: Name of the place, such as "stage3".
        flat: Whether the space is flat.
    """

    place: str
    flat: bool

    def layer(self, what: str) -> str:
        """Name of a decision about what a layer is."""
        return what if self.flat else f"{self.place}.{what}"

    def stage(self, what: str) -> str:
        """Name of a decision about channels or layers."""
        return f"{self.place}.{what}"


def require_known(name: str, value: object, known: Sequence[str]) -> None:
    """Checks that an argument is one of the known words.

    Raises:
        SpaceError: It is not; the message gives the nearest ones.
    """
    if value not in known:
        near = get_close_matches(str(value).lower(), known, n=3, cutoff=0.5)
        words = f": did you mean {' or '.join(near)}?" if near else ""
        raise SpaceError(
            f"`{name}` must be one of {', '.join(known)}, but got {name}={value!r}{words}", field=name
        )


def require_flags(**flags: object) -> None:
    """Checks that arguments are True or False.

    Raises:
        SpaceError: One is not.
    """
    for name, value in flags.items():
        require_one_of(name, value, (True, False))


def require_width(width: object) -> None:
    """Checks what channels are multiplied by.

    Raises:
        SpaceError: It is no number above 0 and at most 16 (NaN fails too).
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 16:
        raise SpaceError(
            f"`0 < width <= 16` must hold, but got width={width!r}: 1.0 is the published width", field="width"
        )


def fit(
    published: Network,
    *,
    resolution: int,
    num_classes: int,
    in_channels: int,
    width: float,
    rule: Rule = EFFICIENTNET_RULE,
) -> Network:
    """A published network for other images: the earliest strides become 1 where the last map would be tiny.

    Where the stem pools, the pooling's stride goes first.

    Args:
        published: The network as published.
        resolution: Side of the square image, pixels.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies the channels.
        rule: How channels are rounded, and whether the head's follow the width.

    Raises:
        SpaceError: An argument is out of range.
    """
    require_width(width)
    require_integer("resolution", resolution, least=1, most=MOST_RESOLUTION)
    scaled = apply_scaling(published, Scaling(width=width), rule=rule)
    op = scaled.stem.op
    pool = op.pool_stride if isinstance(op, ConvPool) else 1
    strides = (pool, scaled.stem.stride, *(stage.stride for stage in scaled.stages))
    pool, first, *rest = adapt_strides(strides, resolution)
    stem = replace(scaled.stem, stride=first)
    if isinstance(op, ConvPool):
        stem = replace(stem, op=replace(op, pool_stride=pool))
    pairs = zip(scaled.stages, rest, strict=True)
    return replace(
        scaled,
        stem=stem,
        stages=tuple(replace(stage, stride=stride) for stage, stride in pairs),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
    )


def open_repeats(layers: int, names: Names, *others: int) -> int:
    """A choice of layers: the published number, one more, one less but at least 1, then any others."""
    return choice(layers, layers + 1, max(1, layers - 1), *others, name=names.stage("repeats"))


def open_channels(
    published: int,
    names: Names,
    *,
    width: float,
    rule: Rule = EFFICIENTNET_RULE,
    shares: Sequence[float] = WIDTH_SHARES,
) -> int:
    """A choice of channels: shares of the published ones at a width, rounded, equal options merged."""
    options = (round_channels(published * width * share, rule.divisor, rule.least_share) for share in shares)
    return choice(*options, name=names.stage("channels"))
