"""How scaled numbers become whole: channels, layers, and the strides that suit a small image."""

from __future__ import annotations

import math

LEAST_MAP = 4
"""Side of the last feature map, pixels, below which early strides are dropped."""


def round_channels(channels: float, divisor: int = 8, least_share: float = 0.9) -> int:
    """Rounds to the nearest multiple of the divisor, at least one, keeping at least the least share.

    Args:
        channels: The number to round.
        divisor: What the result is a multiple of.
        least_share: Share of `channels` that the result must reach, else one divisor is added: 0.9 in
            EfficientNet's and the MobileNets' code, 0 in EfficientNetV2's.

    Source: `round_filters` of the EfficientNet and `_make_divisible` of the MobileNet code.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < least_share * channels else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Layers of a stage at a depth multiplier, rounded up.

    Source: `round_repeats` of the EfficientNet code.
    """
    return math.ceil(depth * repeats)


def adapt_strides(strides: tuple[int, ...], resolution: int, least_map: int = LEAST_MAP) -> tuple[int, ...]:
    """Sets the earliest strides to 1 until the last feature map has at least `least_map` pixels a side.

    A network made for 224 pixels divides by 32 and would leave one pixel of a 32-pixel image; with this
    it divides by 8 and leaves 4 (so do the CIFAR versions of the published networks).
    """
    adapted = list(strides)
    for index, stride in enumerate(strides):
        if math.ceil(resolution / math.prod(adapted)) >= least_map:
            break
        adapted[index] = 1 if stride > 1 else stride
    return tuple(adapted)
