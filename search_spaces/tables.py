"""Tables of a network for reading: stage by stage, and layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from search_spaces.costs import VALUE_BYTES, Tally
from search_spaces.network import Network, lower
from search_spaces.ops import op_label
from search_spaces.primitives import Chain, Gate, Layer, Node, Residual, Shape, out_shape
from search_spaces.stages import Head


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
        activations: Values that its convolutions and linear layers put out.
        peak_bytes: Most bytes of feature maps alive while it runs, its input included (one image, float32).
        arithmetic_intensity: Multiply-adds for each byte that its layers read or write.
    """

    stage: str
    operator: str
    resolution: int
    channels: int
    layers: int
    macs: int
    params: int
    activations: int
    peak_bytes: int
    arithmetic_intensity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer of a network: a leaf of its trees.

    Attributes:
        name: Its name in the module, the prefix of its state-dict keys.
        layer: The PyTorch call that makes it.
        in_shape: Shape of its input, for one image.
        out_shape: Shape of its output.
        macs: Multiply-adds.
        params: Parameters.
        activations: Values put out, if it is a convolution or linear layer.
        traffic_bytes: Bytes it reads and writes, for one image in float32: input, output and weights.
    """

    name: str
    layer: str
    in_shape: Shape
    out_shape: Shape
    macs: int
    params: int
    activations: int
    traffic_bytes: int


def describe(network: Network) -> tuple[Row, ...]:
    """The network stage by stage, in the manner of EfficientNet's Table 1 (Tan & Le, ICML 2019).

    A stage without blocks has no row.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    words: Iterable[tuple[str, int, int]] = [
        *((op_label(stage.op), stage.channels, stage.repeats) for _, stage in network.present_stages()),
        (_head_words(network.head), network.num_classes, 1),
    ]
    return tuple(
        Row(
            stage=part.name,
            operator=operator,
            resolution=part.in_shape.height,
            channels=channels,
            layers=layers,
            macs=part.tally.macs,
            params=part.tally.params,
            activations=part.tally.activations,
            peak_bytes=VALUE_BYTES * (part.in_shape.elements + part.tally.peak),
            arithmetic_intensity=_intensity(part.tally),
        )
        for part, (operator, channels, layers) in zip(lower(network), words, strict=True)
    )


def describe_layers(network: Network) -> tuple[LayerRow, ...]:
    """The network layer by layer, in the order in which they run.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    return tuple(
        LayerRow(
            name=name,
            layer=layer.call.source(),
            in_shape=shape,
            out_shape=layer.out,
            macs=layer.macs,
            params=layer.params,
            activations=layer.out.elements if layer.macs else 0,
            traffic_bytes=VALUE_BYTES * (shape.elements + layer.out.elements + layer.params + layer.buffers),
        )
        for part in lower(network)
        for name, shape, layer in _leaves(part.name, part.node, part.in_shape)
    )


def _head_words(head: Head) -> str:
    words = [f"Conv1x1 to {head.channels}"] if head.channels else []
    words += ["Pool", *([f"FC to {head.hidden}"] if head.hidden else []), "FC"]
    return ", ".join(words)


def _intensity(tally: Tally) -> float:
    return tally.macs / (VALUE_BYTES * tally.traffic) if tally.traffic else 0.0


def _leaves(name: str, node: Node, shape: Shape) -> Iterator[tuple[str, Shape, Layer]]:
    match node:
        case Chain(layers):
            for word, layer in layers:
                yield from _leaves(f"{name}.{word}", layer, shape)
                shape = out_shape(layer, shape)
        case Residual(body, _, shortcut):
            yield from _leaves(f"{name}.body", body, shape)
            if shortcut is not None:
                yield from _leaves(f"{name}.shortcut", shortcut, shape)
        case Gate(body):
            yield from _leaves(f"{name}.body", body, shape)
        case _:
            yield name, shape, node.at(shape)
