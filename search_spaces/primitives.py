"""The small named trees that every op is made of: leaves, and the combinators chain, residual and gate."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from search_spaces.errors import SpaceError

if TYPE_CHECKING:
    from torch import nn


class Shape(NamedTuple):
    """Shape of one image's feature map; a vector has height and width 1."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        """Number of values in the map."""
        return self.channels * self.height * self.width


@dataclass(frozen=True, slots=True)
class Call:
    """A PyTorch layer with its arguments: said once, used as module and as source.

    Attributes:
        layer: Name of a class of `torch.nn` or of `search_spaces.layers`, or a module class of the user's
            own. The source of the latter is copied into exported code, so it may use nothing but `torch` and
            `nn` from outside its body.
        args: Positional arguments whose `repr` is Python source.
        kwargs: Named arguments likewise.
    """

    layer: str | type[nn.Module]
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()

    def module(self) -> nn.Module:
        """Makes the layer."""
        return self.type(*self.args, **dict(self.kwargs))

    @property
    def type(self) -> type[nn.Module]:
        """The class of the layer."""
        if not isinstance(self.layer, str):
            return self.layer
        from torch import nn

        from search_spaces import layers

        found: type[nn.Module] = getattr(nn if hasattr(nn, self.layer) else layers, self.layer)
        return found

    def source(self) -> str:
        """Writes the expression that makes the layer."""
        layer = self.type
        name = f"nn.{layer.__name__}" if self.definition() is None else layer.__name__
        words = [repr(value) for value in self.args] + [f"{key}={value!r}" for key, value in self.kwargs]
        return f"{name}({', '.join(words)})"

    def definition(self) -> str | None:
        """Source of a module class that is not PyTorch's, or None for a class of `torch.nn`.

        Raises:
            SpaceError: It cannot be read.
        """
        layer = self.type
        if layer.__module__.startswith("torch.nn."):
            return None
        try:
            return textwrap.dedent(inspect.getsource(layer)).strip()
        except (OSError, TypeError) as error:
            raise SpaceError(
                f"the source of a module must be readable, so that exports can hold it, but that of "
                f"{layer.__name__} is not ({error}): define it in a .py file"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a leaf is on an input of a certain shape.

    Attributes:
        out: Shape of the output.
        call: The PyTorch layer, from (batch, channels, height, width) to the same form.
        macs: Multiply-adds for one image, by the papers' rule: those of convolutions and linear layers.
        params: Number of trained parameters.
        buffers: Number of values that are stored with the parameters and not trained.
        reuses_input: Whether the output is the input's memory: the layer works in place, or is a view.
        scratch: Number of values, for one image, that are in memory only while the layer runs.
        keeps: What the backward pass needs of one image: the layer's "input", its "output", or "nothing".
        kept: Number of values, for one image, that the backward pass needs beside those.
    """

    out: Shape
    call: Call
    macs: int = 0
    params: int = 0
    buffers: int = 0
    reuses_input: bool = False
    scratch: int = 0
    keeps: Literal["input", "output", "nothing"] = "input"
    kept: int = 0


class Leaf(Protocol):
    """A layer that is not made of others. Open: a user's own leaf is a frozen dataclass with this method."""

    def __hash__(self) -> int: ...

    def at(self, shape: Shape) -> Layer:
        """Says what the leaf is for an input of this shape (one image, without the batch)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """Convolution padded so that the output has the input's side over the stride, rounded up.

    Attributes:
        channels: Output channels.
        kernel_size: Side of the square kernel, odd.
        stride: Step in both directions.
        groups: Groups of channels; the input channels for a depthwise convolution.
        bias: Whether a bias is added; it counts as parameters and not as multiply-adds.
        padding: One of `PADDINGS`: "symmetric", half the kernel on every side; "same", TensorFlow's, which
            differs under a stride: as little as is needed, the odd pixel right and below.
    """

    channels: int
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False
    padding: str = "symmetric"

    def at(self, shape: Shape) -> Layer:
        """`nn.Conv2d`, or `SameConv2d` where the two paddings differ.

        Raises:
            SpaceError: The groups do not divide the channels.
        """
        if shape.channels % self.groups or self.channels % self.groups:
            raise SpaceError(
                f"groups must divide input and output channels, but got groups={self.groups} for "
                f"{shape.channels} input and {self.channels} output channels",
                field="groups",
            )
        out = Shape(self.channels, -(-shape.height // self.stride), -(-shape.width // self.stride))
        weights = self.channels * (shape.channels // self.groups) * self.kernel_size**2
        is_same = self.padding == "same" and self.stride != 1 and self.kernel_size != 1
        kwargs: tuple[tuple[str, object], ...] = ()
        kwargs += (("stride", self.stride),) if self.stride != 1 else ()
        kwargs += (("padding", self.kernel_size // 2),) if self.kernel_size != 1 and not is_same else ()
        kwargs += (("groups", self.groups),) if self.groups != 1 else ()
        kwargs += (("bias", False),) if not self.bias else ()
        padded = self._padded(shape, out) if is_same else 0
        name = "SameConv2d" if is_same else "Conv2d"
        return Layer(
            out=out,
            call=Call(name, (shape.channels, self.channels, self.kernel_size), kwargs),
            macs=weights * out.height * out.width,
            params=weights + self.bias * self.channels,
            scratch=padded,
            keeps="nothing" if padded else "input",
            kept=padded,
        )

    def _padded(self, shape: Shape, out: Shape) -> int:
        """Number of values of the padded copy that TensorFlow's padding makes of the input."""
        sides = [
            max(side, (new - 1) * self.stride + self.kernel_size)
            for side, new in ((shape.height, out.height), (shape.width, out.width))
        ]
        return shape.channels * sides[0] * sides[1]


PADDINGS = ("symmetric", "same")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm:
    """Batch normalisation over the channels.

    Attributes:
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics, as PyTorch means it.
    """

    eps: float = 1e-3
    momentum: float = 0.01

    def at(self, shape: Shape) -> Layer:
        """`nn.BatchNorm2d`: a scale and a shift each channel; running statistics are not parameters."""
        kwargs = (("eps", self.eps), ("momentum", self.momentum))
        return Layer(
            out=shape,
            call=Call("BatchNorm2d", (shape.channels,), kwargs),
            params=2 * shape.channels,
            buffers=2 * shape.channels,
        )


_IN_PLACE = (("inplace", True),)

ACTIVATIONS = {
    "relu": Call("ReLU", (), _IN_PLACE),
    "relu6": Call("ReLU6", (), _IN_PLACE),
    "swish": Call("SiLU", (), _IN_PLACE),
    "hard_swish": Call("Hardswish", (), _IN_PLACE),
    "gelu": Call("GELU"),
    "sigmoid": Call("Sigmoid"),
    "hard_sigmoid": Call("Hardsigmoid"),
}

GATES = ("sigmoid", "hard_sigmoid")
"""The activations whose values lie between 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function of each value by itself; `kind` is one of `ACTIVATIONS`."""

    kind: str

    def at(self, shape: Shape) -> Layer:
        """The layer of `torch.nn` for the kind."""
        call = ACTIVATIONS[self.kind]
        keeps_output = self.kind in ("relu", "sigmoid")
        return Layer(
            out=shape,
            call=call,
            reuses_input=call.kwargs == _IN_PLACE,
            keeps="output" if keeps_output else "input",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Pooling over a sliding window, padded so that the side is the input's over the stride, rounded up.

    Attributes:
        kind: "max", or "average" (over the pixels that are there: padding does not count).
        kernel_size: Side of the window, odd.
        stride: Step in both directions.
    """

    kind: str
    kernel_size: int = 3
    stride: int = 1

    def at(self, shape: Shape) -> Layer:
        """`nn.MaxPool2d` or `nn.AvgPool2d`."""
        out = Shape(shape.channels, -(-shape.height // self.stride), -(-shape.width // self.stride))
        kwargs: tuple[tuple[str, object], ...] = (("stride", self.stride), ("padding", self.kernel_size // 2))
        if self.kind == "max":  # keeps the place of every maximum too, as 64-bit integers
            return Layer(out=out, call=Call("MaxPool2d", (self.kernel_size,), kwargs), kept=2 * out.elements)
        kwargs += (("count_include_pad", False),)
        return Layer(out=out, call=Call("AvgPool2d", (self.kernel_size,), kwargs))


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalPool:
    """Mean of each channel over the whole map."""

    def at(self, shape: Shape) -> Layer:
        """`nn.AdaptiveAvgPool2d`, to (batch, channels, 1, 1)."""
        return Layer(out=Shape(shape.channels, 1, 1), call=Call("AdaptiveAvgPool2d", (1,)), keeps="nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten:
    """A feature map as one vector."""

    def at(self, shape: Shape) -> Layer:
        """`nn.Flatten`, to (batch, values)."""
        return Layer(
            out=Shape(shape.elements, 1, 1), call=Call("Flatten", (1,)), reuses_input=True, keeps="nothing"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Zeroes each value with probability `rate` in training."""

    rate: float

    def at(self, shape: Shape) -> Layer:
        """`nn.Dropout`, which in inference hands its input on."""
        return Layer(
            out=shape,
            call=Call("Dropout", (self.rate,)),
            reuses_input=True,
            keeps="nothing",
            kept=2 * shape.elements,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Fully connected layer with bias, on a flattened map."""

    features: int

    def at(self, shape: Shape) -> Layer:
        """`nn.Linear`."""
        weights = shape.elements * self.features
        return Layer(
            out=Shape(self.features, 1, 1),
            call=Call("Linear", (shape.elements, self.features)),
            macs=weights,
            params=weights + self.features,
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """Layers one after another; their names are the state-dict keys."""

    layers: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Residual:
    """`shortcut(x) + body(x)`; in training the body is left out for a share of the images.

    Attributes:
        body: Gives the shape that the shortcut gives.
        drop_rate: Probability of leaving the body out (stochastic depth; Huang et al., ECCV 2016).
        shortcut: What is beside the body; None hands the input on.
    """

    body: Node
    drop_rate: float = 0.0
    shortcut: Node | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """`x * body(x)`, the body giving one factor a channel, as in squeeze-and-excitation."""

    body: Node


Node = Leaf | Chain | Residual | Gate
"""What an op gives back: a layer, or layers in one of these orders."""


def out_shape(node: Node, shape: Shape) -> Shape:
    """Shape of a tree's output for an input it fits (the cost fold checks that)."""
    match node:
        case Chain(layers):
            for _, layer in layers:
                shape = out_shape(layer, shape)
            return shape
        case Residual(body, _, shortcut):
            return shape if shortcut is None else out_shape(body, shape)
        case Gate():
            return shape
        case _:
            return node.at(shape).out


__all__ = [
    "Activation",
    "BatchNorm",
    "Call",
    "Chain",
    "Convolution",
    "Dropout",
    "Flatten",
    "Gate",
    "GlobalPool",
    "Layer",
    "Leaf",
    "Linear",
    "Node",
    "Pool",
    "Residual",
    "Shape",
]
