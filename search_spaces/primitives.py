"""Owns the small named trees that every op is made of: leaves, and the combinators chain, residual and gate.

Does not own what is done with a tree: costs, modules and source are folds over it, in files of their own.
"""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

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
        layer: Name of a class of `torch.nn`, or a module class of the user's own. The source of the latter is
            copied into exported code, so it may use nothing but `torch` and `nn` from outside its body.
        args: Positional arguments whose `repr` is Python source.
        kwargs: Named arguments likewise.
    """

    layer: str | type[nn.Module]
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()

    def module(self) -> nn.Module:
        """Makes the layer."""
        from torch import nn

        layer: type[nn.Module] = getattr(nn, self.layer) if isinstance(self.layer, str) else self.layer
        return layer(*self.args, **dict(self.kwargs))

    def source(self) -> str:
        """Writes the expression that makes the layer."""
        name = f"nn.{self.layer}" if isinstance(self.layer, str) else self.layer.__name__
        words = [repr(value) for value in self.args] + [f"{key}={value!r}" for key, value in self.kwargs]
        return f"{name}({', '.join(words)})"

    def definition(self) -> str | None:
        """Source of the user's own module class, or None for a class of `torch.nn`."""
        return None if isinstance(self.layer, str) else textwrap.dedent(inspect.getsource(self.layer)).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a leaf is on an input of a certain shape.

    Attributes:
        out: Shape of the output.
        call: The PyTorch layer, from (batch, channels, height, width) to the same form.
        macs: Multiply-adds for one image, by the papers' rule: those of convolutions and linear layers.
        params: Number of trained parameters.
    """

    out: Shape
    call: Call
    macs: int = 0
    params: int = 0


class Leaf(Protocol):
    """A layer that is not made of others. Open: a user's own leaf is a frozen dataclass with this method."""

    def __hash__(self) -> int: ...

    def at(self, shape: Shape) -> Layer:
        """Says what the leaf is for an input of this shape (one image, without the batch)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """Convolution with symmetric padding of half the kernel; odd sides round up under a stride.

    Attributes:
        channels: Output channels.
        kernel_size: Side of the square kernel, odd.
        stride: Step in both directions.
        groups: Groups of channels; the input channels for a depthwise convolution.
        bias: Whether a bias is added; it counts as parameters and not as multiply-adds.
    """

    channels: int
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False

    def at(self, shape: Shape) -> Layer:
        """`nn.Conv2d`.

        Raises:
            SpaceError: The groups do not divide the channels.
        """
        if shape.channels % self.groups or self.channels % self.groups:
            raise SpaceError(
                f"groups must divide input and output channels, but got groups={self.groups} for "
                f"{shape.channels} input and {self.channels} output channels"
            )
        out = Shape(self.channels, -(-shape.height // self.stride), -(-shape.width // self.stride))
        weights = self.channels * (shape.channels // self.groups) * self.kernel_size**2
        kwargs: tuple[tuple[str, object], ...] = ()
        kwargs += (("stride", self.stride),) if self.stride != 1 else ()
        kwargs += (("padding", self.kernel_size // 2),) if self.kernel_size != 1 else ()
        kwargs += (("groups", self.groups),) if self.groups != 1 else ()
        kwargs += (("bias", False),) if not self.bias else ()
        return Layer(
            out=out,
            call=Call("Conv2d", (shape.channels, self.channels, self.kernel_size), kwargs),
            macs=weights * out.height * out.width,
            params=weights + self.bias * self.channels,
        )


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
            out=shape, call=Call("BatchNorm2d", (shape.channels,), kwargs), params=2 * shape.channels
        )


ACTIVATIONS = {
    "relu": Call("ReLU", (), (("inplace", True),)),
    "relu6": Call("ReLU6", (), (("inplace", True),)),
    "swish": Call("SiLU", (), (("inplace", True),)),
    "hard_swish": Call("Hardswish", (), (("inplace", True),)),
    "gelu": Call("GELU"),
    "sigmoid": Call("Sigmoid"),
    "hard_sigmoid": Call("Hardsigmoid"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function of each value by itself; `kind` is one of `ACTIVATIONS`."""

    kind: str

    def at(self, shape: Shape) -> Layer:
        """The layer of `torch.nn` for the kind."""
        return Layer(out=shape, call=ACTIVATIONS[self.kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalPool:
    """Mean of each channel over the whole map."""

    def at(self, shape: Shape) -> Layer:
        """`nn.AdaptiveAvgPool2d`, to (batch, channels, 1, 1)."""
        return Layer(out=Shape(shape.channels, 1, 1), call=Call("AdaptiveAvgPool2d", (1,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten:
    """A feature map as one vector."""

    def at(self, shape: Shape) -> Layer:
        """`nn.Flatten`, to (batch, values)."""
        return Layer(out=Shape(shape.elements, 1, 1), call=Call("Flatten", (1,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Zeroes each value with probability `rate` in training."""

    rate: float

    def at(self, shape: Shape) -> Layer:
        """`nn.Dropout`."""
        return Layer(out=shape, call=Call("Dropout", (self.rate,)))


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
    """`x + body(x)`; in training the body is left out for a share of the images.

    Attributes:
        body: Keeps the shape.
        drop_rate: Probability of leaving the body out (stochastic depth; Huang et al., ECCV 2016).
    """

    body: Node
    drop_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Gate:
    """`x * body(x)`, the body giving one factor a channel, as in squeeze-and-excitation."""

    body: Node


Node = Leaf | Chain | Residual | Gate


def out_shape(node: Node, shape: Shape) -> Shape:
    """Shape of a tree's output for an input it fits (the cost fold checks that)."""
    match node:
        case Chain(layers):
            for _, layer in layers:
                shape = out_shape(layer, shape)
            return shape
        case Residual() | Gate():
            return shape
        case _:
            return node.at(shape).out
