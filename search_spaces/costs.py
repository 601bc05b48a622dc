"""What a network costs, counted without building it and without torch: work, size and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from search_spaces.errors import SpaceError
from search_spaces.primitives import Chain, Gate, Layer, Node, Residual, Shape

VALUE_BYTES = 4
"""Bytes of a value: float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Exact costs for one image.

    Attributes:
        macs: Multiply-adds of convolutions and linear layers, biases free. The papers call these FLOPS.
        params: Trained parameters.
        activations: Values that convolutions and linear layers put out (Radosavovic et al., CVPR 2020, 3.1).
    """

    macs: int = 0
    params: int = 0
    activations: int = 0

    @property
    def activation_bytes(self) -> int:
        """Bytes of the activations in float32."""
        return VALUE_BYTES * self.activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a network keeps in memory, by the lifetime of references in eager PyTorch; float32.

    A tensor lives as long as the module's own code holds it: the input of a stage while the stage runs, that
    of a block while the block runs; activations work in place. What a library allocates for itself inside a
    kernel (workspaces, reordered weights) is not counted.

    Attributes:
        weights: Number of parameters and running statistics.
        trained: Number of parameters.
        inference_values: Most feature-map values alive at once while one image is classified, with the image.
        training_values: An estimate of the same in a training step, for each image of the batch: what the
            backward pass needs is kept, and gradients of feature maps come and go beside it.
        traffic: Values that all layers read and write for one image: inputs, outputs and weights.
        macs: Multiply-adds for one image.
    """

    weights: int
    trained: int
    inference_values: int
    training_values: int
    traffic: int
    macs: int

    @property
    def inference_bytes(self) -> int:
        """Peak bytes while one image is classified: weights and feature maps."""
        return self.inference_bytes_of(1)

    def inference_bytes_of(self, batch_size: int) -> int:
        """Peak bytes while a batch is classified: weights and feature maps."""
        return VALUE_BYTES * (self.weights + batch_size * self.inference_values)

    def training_bytes(self, batch_size: int, *, optimizer_slots: int = 1) -> int:
        """Estimated peak bytes of a training step.

        Args:
            batch_size: Images in a batch.
            optimizer_slots: Values the optimiser keeps for each parameter: 1 for momentum, 2 for Adam.
        """
        held = self.weights + self.trained * (1 + optimizer_slots)
        return VALUE_BYTES * (held + batch_size * self.training_values)

    @property
    def arithmetic_intensity(self) -> float:
        """Multiply-adds for each byte that layers read or write; low means bound by memory."""
        return self.macs / (VALUE_BYTES * self.traffic) if self.traffic else 0.0


class Tally(NamedTuple):
    """What a tree costs on an input, in a form that two trees in a row can be added up from.

    A named tuple and not a dataclass, since tens are made for each new block.

    Attributes:
        out: Shape of the output.
        macs: Multiply-adds.
        params: Trained parameters.
        activations: Values put out by convolutions and linear layers.
        buffers: Values stored with the parameters and not trained.
        traffic: Values read and written.
        is_alias: Whether the output is the input's memory.
        held: Values that the output adds to what is in memory; 0 for an alias.
        peak: Most values in memory at once during inference, beside the input.
        kept: Values that the backward pass needs, the input's among them where `keeps_input`.
        keeps_input: Whether the backward pass needs the input's memory.
        keeps_output: Whether the backward pass needs the output's memory.
        training: Most values at once in the backward pass: kept ones and gradients.
    """

    out: Shape
    macs: int = 0
    params: int = 0
    activations: int = 0
    buffers: int = 0
    traffic: int = 0
    is_alias: bool = True
    held: int = 0
    peak: int = 0
    kept: int = 0
    keeps_input: bool = False
    keeps_output: bool = False
    training: int = 0

    @property
    def cost(self) -> Cost:
        """The part of it that a search trades against accuracy."""
        return Cost(macs=self.macs, params=self.params, activations=self.activations)

    def then(self, next_: Tally) -> Tally:
        """The two in a row.

        While the second runs, the caller holds the output of the first one.
        """
        shared = self.out.elements if self.keeps_output and next_.keeps_input else 0
        return Tally(
            out=next_.out,
            macs=self.macs + next_.macs,
            params=self.params + next_.params,
            activations=self.activations + next_.activations,
            buffers=self.buffers + next_.buffers,
            traffic=self.traffic + next_.traffic,
            is_alias=self.is_alias and next_.is_alias,
            held=self.held if next_.is_alias else next_.held,
            peak=max(self.peak, self.held + next_.peak),
            kept=self.kept + next_.kept - shared,
            keeps_input=self.keeps_input or (self.is_alias and next_.keeps_input),
            keeps_output=next_.keeps_output or (next_.is_alias and self.keeps_output),
            training=max(self.training, self.kept - shared + next_.training),
        )


def memory_of(tally: Tally, image: Shape) -> Memory:
    """The memory of a whole network from its tally on an image."""
    return Memory(
        weights=tally.params + tally.buffers,
        trained=tally.params,
        inference_values=image.elements + tally.peak,
        training_values=image.elements
        + max(tally.training - (image.elements if tally.keeps_input else 0), 0),
        traffic=tally.traffic,
        macs=tally.macs,
    )


def tally_tree(node: Node, shape: Shape) -> Tally:
    """Adds up a tree on an input of the given shape.

    Raises:
        SpaceError: The tree does not fit the shape.
    """
    match node:
        case Chain(layers):
            total = Tally(shape)
            for _, layer in layers:
                total = total.then(tally_tree(layer, total.out))
            return total
        case Residual(body, _, shortcut):
            return _residual(tally_tree(body, shape), shape, shortcut)
        case Gate(body):
            return _gate(tally_tree(body, shape), shape)
        case _:
            return _leaf(node.at(shape), shape)


def _leaf(layer: Layer, shape: Shape) -> Tally:
    size, out = shape.elements, layer.out.elements
    new = 0 if layer.reuses_input else out
    keeps_output = layer.keeps == "output" or (layer.keeps == "input" and layer.reuses_input)
    # A layer that works in place and needs its input keeps a copy of it, since the input is overwritten.
    kept = layer.kept + {"input": size, "output": out, "nothing": 0}[layer.keeps]
    is_copy = layer.keeps == "input" and layer.reuses_input
    return Tally(
        out=layer.out,
        macs=layer.macs,
        params=layer.params,
        activations=out if layer.macs else 0,
        buffers=layer.buffers,
        traffic=size + out + layer.params + layer.buffers,
        is_alias=layer.reuses_input,
        held=new,
        peak=new + layer.scratch,
        kept=kept,
        keeps_input=not is_copy
        and (layer.keeps == "input" or (layer.keeps == "output" and layer.reuses_input)),
        keeps_output=not is_copy and keeps_output,
        training=kept + size + out,
    )


def _residual(body: Tally, shape: Shape, shortcut: Node | None) -> Tally:
    """Body, then shortcut, then their sum in new memory."""
    beside = Tally(shape) if shortcut is None else tally_tree(shortcut, shape)
    if body.out != beside.out:
        what = f"keep {shape}" if shortcut is None else f"give {beside.out} as the shortcut does"
        raise SpaceError(f"a residual body must {what}, but gives {body.out}")
    out = body.out.elements
    size = shape.elements
    shared = size if body.keeps_input and beside.keeps_input else 0
    kept = body.kept + beside.kept - shared
    return Tally(
        out=body.out,
        macs=body.macs + beside.macs,
        params=body.params + beside.params,
        activations=body.activations + beside.activations,
        buffers=body.buffers + beside.buffers,
        traffic=body.traffic + beside.traffic + 3 * out,
        is_alias=False,
        held=out,
        peak=max(body.peak, body.held + beside.peak, body.held + beside.held + out),
        kept=kept,
        keeps_input=body.keeps_input or beside.keeps_input,
        training=max(body.training + out, kept - beside.kept + shared + beside.training + out),
    )


def _gate(body: Tally, shape: Shape) -> Tally:
    """The body, then its product with the input in new memory; the backward pass needs both factors."""
    if body.out != Shape(shape.channels, 1, 1):
        raise SpaceError(f"a gate must give {shape.channels} x 1 x 1, but gives {body.out}")
    size = shape.elements
    factors = 0 if body.keeps_output else shape.channels
    kept = body.kept + factors + (0 if body.keeps_input else size)
    return Tally(
        out=shape,
        macs=body.macs,
        params=body.params,
        activations=body.activations,
        buffers=body.buffers,
        traffic=body.traffic + 2 * size + shape.channels,
        is_alias=False,
        held=size,
        peak=max(body.peak, body.held + size),
        kept=kept,
        keeps_input=True,
        training=kept + 3 * size,
    )
