"""Owns the ops that stages are made of, and the law of an op: a frozen dataclass that says its layers.

Does not own stages or networks, nor how an op becomes a module, a cost or source.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol, cast

from search_spaces.errors import SpaceError, require_integer, require_one_of
from search_spaces.primitives import (
    Activation,
    BatchNorm,
    Chain,
    Convolution,
    Gate,
    GlobalPool,
    Node,
    Residual,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where an op stands in its network.

    Attributes:
        in_channels: Channels of the input.
        out_channels: Channels the op must put out.
        stride: Step of the op: 1, or 2 to halve the resolution (odd sides round up).
        resolution: Side of the square input map, pixels.
        block: Number of this block in the network, from 0.
        blocks: Number of blocks in the network.
        activation: The network's activation.
        norm_eps: Added to the variance by batch normalisation.
        norm_momentum: Weight of the newest batch in running statistics.
        drop_path_rate: Rate of stochastic depth that the network's last block would have.
    """

    in_channels: int
    out_channels: int
    stride: int
    resolution: int
    block: int
    blocks: int
    activation: str
    norm_eps: float
    norm_momentum: float
    drop_path_rate: float

    @property
    def keeps_shape(self) -> bool:
        """Whether an identity skip can stand beside the op."""
        return self.stride == 1 and self.in_channels == self.out_channels

    def convolution(
        self,
        channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> Chain:
        """Convolution, batch normalisation and, unless it is a linear projection, the activation."""
        conv = Convolution(channels=channels, kernel_size=kernel_size, stride=stride, groups=groups)
        layers: list[tuple[str, Node]] = [
            ("conv", conv),
            ("norm", BatchNorm(eps=self.norm_eps, momentum=self.norm_momentum)),
        ]
        if activation:
            layers.append(("act", Activation(kind=self.activation)))
        return Chain(tuple(layers))

    def squeeze_excite(self, channels: int, se_ratio: float) -> Gate:
        """Squeeze-and-excitation of a map with the given channels.

        The squeezed width is `se_ratio` of the block's *input* channels, rounded down, at least 1; both
        convolutions have a bias.

        Source: Hu et al., CVPR 2018, section 3; the width as in MnasNet's and EfficientNet's code.
        """
        squeezed = max(1, int(self.in_channels * se_ratio))
        return Gate(
            Chain(
                (
                    ("pool", GlobalPool()),
                    ("reduce", Convolution(channels=squeezed, bias=True)),
                    ("act", Activation(kind=self.activation)),
                    ("expand", Convolution(channels=channels, bias=True)),
                    ("gate", Activation(kind="sigmoid")),
                )
            )
        )

    def skip(self, body: Node, skip: str) -> Node:
        """The body, with an identity around it where that is asked for and the shape is kept.

        Stochastic depth grows linearly from 0 at the first block (EfficientNet's rule).
        """
        if skip == "none" or not self.keeps_shape:
            return body
        return Residual(body, self.drop_path_rate * self.block / self.blocks)


class Op(Protocol):
    """What a stage repeats. Open: a user's own op is a frozen dataclass with this method.

    An op may also have `check(self) -> None`, which raises `SpaceError` where its fields break a law; it runs
    when no choice is left in them. And `label(self) -> str`, the op in a table.
    """

    def layers(self, context: Context) -> Node:
        """Says what the op is made of, where it stands."""
        ...


def check_op(op: Op) -> None:
    """Runs an op's own law, if it states one.

    Raises:
        SpaceError: The value is not an op, or breaks its law.
    """
    if not callable(getattr(op, "layers", None)) or not hasattr(op, "__dataclass_fields__"):
        raise SpaceError(f"an op must be a frozen dataclass with a method `layers(context)`, but got {op!r}")
    try:
        hash(op)
    except TypeError:
        raise SpaceError(f"an op must be frozen and hold tuples, not lists, but {op!r} has no hash") from None
    check = getattr(op, "check", None)
    if check is not None:
        check()


def op_label(op: Op) -> str:
    """The op in a table: its own label, or its name with its fields."""
    label = getattr(op, "label", None)
    if label is not None:
        return cast(str, label())
    values = ", ".join(f"{field.name}={getattr(op, field.name)}" for field in fields(op))  # type: ignore[arg-type]
    return f"{type(op).__name__}({values})"


def _check_fields(kernel_size: int, se_ratio: float, skip: str) -> None:
    require_integer("kernel_size", kernel_size, least=1, most=31)
    if kernel_size % 2 == 0:
        raise SpaceError(f"`kernel_size` must be odd, such as 3 or 5, but got kernel_size={kernel_size}")
    if not isinstance(se_ratio, int | float) or not 0 <= se_ratio <= 1:
        raise SpaceError(f"`0 <= se_ratio <= 1` must hold, but got se_ratio={se_ratio!r}: 0 leaves it out")
    require_one_of("skip", skip, ("identity", "none"))


def _label(name: str, kernel_size: int, se_ratio: float, skip: str) -> str:
    words = [name, f"k{kernel_size}x{kernel_size}"]
    words += [f"se{se_ratio:g}"] if se_ratio else []
    words += ["noskip"] if skip == "none" else []
    return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class MBConv:
    """Mobile inverted bottleneck: expand 1x1, depthwise, squeeze-excite, project 1x1 without activation.

    Attributes:
        kernel_size: Side of the depthwise kernel, odd.
        expand_ratio: Hidden channels over input channels; with 1 the expansion is left out.
        se_ratio: Squeezed channels over input channels; 0 leaves squeeze-excite out.
        skip: "identity" (where the shape is kept) or "none".

    Source: Sandler et al., CVPR 2018, Table 1; MnasNet (Tan et al., CVPR 2019), Figure 7.
    """

    kernel_size: int = 3
    expand_ratio: int = 6
    se_ratio: float = 0.0
    skip: str = "identity"

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        _check_fields(self.kernel_size, self.se_ratio, self.skip)
        require_integer("expand_ratio", self.expand_ratio, least=1, most=64)

    def label(self) -> str:
        """As in EfficientNet's Table 1."""
        return _label(f"MBConv{self.expand_ratio}", self.kernel_size, self.se_ratio, self.skip)

    def layers(self, context: Context) -> Node:
        """Expand, depthwise, squeeze-excite, project."""
        hidden = context.in_channels * self.expand_ratio
        units: list[tuple[str, Node]] = []
        if self.expand_ratio != 1:
            units.append(("expand", context.convolution(hidden)))
        depthwise = context.convolution(hidden, self.kernel_size, stride=context.stride, groups=hidden)
        units.append(("depthwise", depthwise))
        if self.se_ratio:
            units.append(("se", context.squeeze_excite(hidden, self.se_ratio)))
        units.append(("project", context.convolution(context.out_channels, activation=False)))
        return context.skip(Chain(tuple(units)), self.skip)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseSeparable:
    """Depthwise-separable convolution: depthwise, squeeze-excite, project 1x1 without activation.

    The same network as `MBConv` with `expand_ratio=1`; MnasNet's tables call it SepConv.

    Attributes:
        kernel_size: Side of the depthwise kernel, odd.
        se_ratio: Squeezed channels over input channels; 0 leaves squeeze-excite out.
        skip: "identity" (where the shape is kept) or "none".

    Source: MnasNet (Tan et al., CVPR 2019), Figure 7 (b).
    """

    kernel_size: int = 3
    se_ratio: float = 0.0
    skip: str = "identity"

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        _check_fields(self.kernel_size, self.se_ratio, self.skip)

    def label(self) -> str:
        """The op's name, kernel and squeeze-excite."""
        return _label("SepConv", self.kernel_size, self.se_ratio, self.skip)

    def layers(self, context: Context) -> Node:
        """Depthwise, squeeze-excite, project."""
        mbconv = MBConv(kernel_size=self.kernel_size, expand_ratio=1, se_ratio=self.se_ratio, skip=self.skip)
        return mbconv.layers(context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """Plain convolution with batch normalisation, activation and squeeze-excite.

    Attributes:
        kernel_size: Side of the kernel, odd.
        se_ratio: Squeezed channels over input channels; 0 leaves squeeze-excite out.
        skip: "identity" (where the shape is kept) or "none".
    """

    kernel_size: int = 3
    se_ratio: float = 0.0
    skip: str = "none"

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        _check_fields(self.kernel_size, self.se_ratio, self.skip)

    def label(self) -> str:
        """The op's name, kernel and squeeze-excite."""
        label = _label("Conv", self.kernel_size, self.se_ratio, "identity")
        return label if self.skip == "none" else f"{label}, skip"

    def layers(self, context: Context) -> Node:
        """Convolution, then squeeze-excite."""
        unit = context.convolution(context.out_channels, self.kernel_size, stride=context.stride)
        if self.se_ratio:
            unit = Chain((*unit.layers, ("se", context.squeeze_excite(context.out_channels, self.se_ratio))))
        return context.skip(unit, self.skip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Nothing where the shape is kept, and a 1x1 convolution with batch normalisation where it is not.

    As an option of a choice it makes a layer optional (NAS-Bench-Macro uses it so).
    """

    def label(self) -> str:
        """The op's name."""
        return "Identity"

    def layers(self, context: Context) -> Node:
        """An empty chain, or the projection."""
        if context.keeps_shape:
            return Chain(())
        return context.convolution(context.out_channels, stride=context.stride, activation=False)


BUILT_IN_OPS: tuple[type[Op], ...] = (MBConv, DepthwiseSeparable, Conv, Identity)
