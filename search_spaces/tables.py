"""Owns the table of a network that people read, stage by stage.

Does not own drawing it: `nas` prints and draws rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.lowering import lower
from search_spaces.network import Network
from search_spaces.ops import op_label


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a network's table.

    Attributes:
        stage: Its name in the module.
        operator: The op, as the papers write it.
        resolution: Side of the stage's *input*, pixels, as in EfficientNet's Table 1.
        channels: Output channels.
        layers: Number of blocks.
        macs: Multiply-adds of the stage.
        params: Parameters of the stage.
    """

    stage: str
    operator: str
    resolution: int
    channels: int
    layers: int
    macs: int
    params: int


def describe(network: Network) -> tuple[Row, ...]:
    """The network stage by stage, in the manner of EfficientNet's Table 1 (Tan & Le, ICML 2019)."""
    head = f"Conv1x1 to {network.head.channels}, Pool, FC" if network.head.channels else "Pool, FC"
    words: Iterable[tuple[str, int, int]] = [
        *((op_label(stage.op), stage.channels, stage.repeats) for _, stage in network.named_stages()),
        (head, network.num_classes, 1),
    ]
    return tuple(
        Row(
            stage=part.name,
            operator=operator,
            resolution=part.in_shape.height,
            channels=channels,
            layers=layers,
            macs=part.cost.macs,
            params=part.cost.params,
        )
        for part, (operator, channels, layers) in zip(lower(network), words, strict=True)
    )
