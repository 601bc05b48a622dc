"""The ops that stages are made of, and the contract of an op: a frozen dataclass that says its layers.

ResNet's blocks are in `search_spaces.resnet_ops`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol, cast

from search_spaces.context import (
    SKIPS,
    Context,
    require_activation,
    require_kernel,
    require_se_ratio,
)
from search_spaces.errors import SpaceError, require_one_of
from search_spaces.primitives import Chain, Node
from search_spaces.resnet_ops import BasicBlock, Bottleneck, ConvPool
from search_spaces.rounding import round_channels


class Op(Protocol):
    """What a stage repeats. Open: a user's own op is a frozen dataclass with this method.

    An op may also have `check(self) -> None`, which raises `SpaceError` where a field is not valid; it runs
    when no choice is left in them. And `label(self) -> str`, the op in a table. And `general(self)`, the same
    layers as an op of another class, by which `SearchSpace.encode` knows them.
    """

    def __hash__(self) -> int: ...

    def layers(self, context: Context) -> Node:
        """Says what the op is made of, in its place in the network."""
        ...


def check_op(op: Op) -> None:
    """Runs an op's own check, if it has one.

    Raises:
        SpaceError: The value is not an op, or is not valid.
    """
    if not callable(getattr(op, "layers", None)) or not hasattr(op, "__dataclass_fields__"):
        raise SpaceError(
            f"an op must be a frozen dataclass with a method `layers(context)`, but got {op!r}", field="op"
        )
    try:
        hash(op)
    except TypeError:
        raise SpaceError(
            f"an op must be frozen and hold tuples, not lists, but {op!r} has no hash", field="op"
        ) from None
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


def _check_fields(
    kernel_size: object, se_ratio: object, skip: object, activation: object, expand_ratio: object = 1
) -> None:
    require_kernel(kernel_size)
    require_se_ratio(se_ratio)
    require_one_of("skip", skip, SKIPS)
    require_activation(activation)
    is_number = isinstance(expand_ratio, int | float) and not isinstance(expand_ratio, bool)
    if not is_number or not 1 <= expand_ratio <= 64:  # type: ignore[operator]
        raise SpaceError(
            f"`1 <= expand_ratio <= 64` must hold, but got expand_ratio={expand_ratio!r}",
            field="expand_ratio",
        )


def _label(
    name: str,
    kernel_size: int,
    se_ratio: float,
    skip: str,
    activation: str | None,
    usual_skip: str = "identity",
) -> str:
    words = [name, f"k{kernel_size}x{kernel_size}"]
    words += [f"se{se_ratio:g}"] if se_ratio else []
    words += [activation] if activation else []
    if skip != usual_skip:
        words.append({"none": "noskip", "pool": "pool skip", "identity": "skip"}[skip])
    return ", ".join(words)


def hidden_channels(in_channels: int, expand_ratio: float) -> int:
    """Channels that a block widens to: exact for a whole ratio, else rounded to a multiple of 8.

    Source: MobileNetV3 (Howard et al., ICCV 2019), whose table has ratios such as 2.3 and 3.67.
    """
    exact = in_channels * expand_ratio
    return int(exact) if expand_ratio == int(expand_ratio) else round_channels(exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class MBConv:
    """Mobile inverted bottleneck: expand 1x1, depthwise, squeeze-excite, project 1x1 without activation.

    Attributes:
        kernel_size: Side of the depthwise kernel, odd.
        expand_ratio: Hidden channels over input channels; with 1 the expansion is left out.
        se_ratio: Squeezed channels over input channels (see `SqueezeExcite`); 0 leaves squeeze-excite out.
        skip: "identity" (where the shape is kept), "pool" (where the channels are kept) or "none".
        activation: One of `search_spaces.primitives.ACTIVATIONS`; None is the network's.

    Source: Sandler et al., CVPR 2018, Table 1; MnasNet (Tan et al., CVPR 2019), Figure 7.
    """

    kernel_size: int = 3
    expand_ratio: int | float = 6
    se_ratio: float = 0.0
    skip: str = "identity"
    activation: str | None = None

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        _check_fields(self.kernel_size, self.se_ratio, self.skip, self.activation, self.expand_ratio)

    def label(self) -> str:
        """As in EfficientNet's Table 1."""
        name = f"MBConv{self.expand_ratio:g}"
        return _label(name, self.kernel_size, self.se_ratio, self.skip, self.activation)

    def layers(self, context: Context) -> Node:
        """Expand, depthwise, squeeze-excite, project."""
        kind = self.activation
        hidden = hidden_channels(context.in_channels, self.expand_ratio)
        units: list[tuple[str, Node]] = []
        if self.expand_ratio != 1:
            units.append(("expand", context.convolution(hidden, activation=kind)))
        depthwise = context.convolution(
            hidden, self.kernel_size, stride=context.stride, groups=hidden, activation=kind
        )
        units.append(("depthwise", depthwise))
        if self.se_ratio:
            units.append(("se", context.squeeze_excite(hidden, self.se_ratio, kind)))
        units.append(("project", context.convolution(context.out_channels, activation=False)))
        return context.skip(Chain(tuple(units)), self.skip)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedMBConv:
    """Fused-MBConv: a full convolution in place of MBConv's expansion and depthwise convolution.

    With an expansion of 1 it is one convolution with activation, squeeze-excite before it.

    Attributes:
        kernel_size: Side of the first convolution's kernel, odd.
        expand_ratio: Hidden channels over input channels.
        se_ratio: Squeezed channels over input channels (see `SqueezeExcite`); 0 leaves squeeze-excite out.
        skip: "identity" (where the shape is kept), "pool" (where the channels are kept) or "none".
        activation: One of `search_spaces.primitives.ACTIVATIONS`; None is the network's.

    Source: EfficientNetV2 (Tan & Le, ICML 2021), Figure 2, and its code.
    """

    kernel_size: int = 3
    expand_ratio: int | float = 4
    se_ratio: float = 0.0
    skip: str = "identity"
    activation: str | None = None

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        _check_fields(self.kernel_size, self.se_ratio, self.skip, self.activation, self.expand_ratio)

    def label(self) -> str:
        """As in EfficientNetV2's Table 4."""
        name = f"Fused-MBConv{self.expand_ratio:g}"
        return _label(name, self.kernel_size, self.se_ratio, self.skip, self.activation)

    def layers(self, context: Context) -> Node:
        """Expand, squeeze-excite, project; or squeeze-excite, convolve."""
        kind = self.activation
        hidden = hidden_channels(context.in_channels, self.expand_ratio)
        gate: list[tuple[str, Node]] = []
        if self.se_ratio:
            gate.append(("se", context.squeeze_excite(hidden, self.se_ratio, kind)))
        if self.expand_ratio == 1:
            conv = context.convolution(
                context.out_channels, self.kernel_size, stride=context.stride, activation=kind
            )
            return context.skip(Chain((*gate, ("fused", conv))), self.skip)
        expand = context.convolution(hidden, self.kernel_size, stride=context.stride, activation=kind)
        project = context.convolution(context.out_channels, activation=False)
        return context.skip(Chain((("expand", expand), *gate, ("project", project))), self.skip)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseSeparable:
    """Depthwise-separable convolution: depthwise, squeeze-excite, project 1x1.

    Linear, it is the same network as `MBConv` with `expand_ratio=1`; MnasNet's tables call it SepConv.

    Attributes:
        kernel_size: Side of the depthwise kernel, odd.
        se_ratio: Squeezed channels over input channels; 0 leaves squeeze-excite out.
        skip: "identity" (where the shape is kept), "pool" (where the channels are kept) or "none".
        activation: One of `search_spaces.primitives.ACTIVATIONS`; None is the network's.
        is_linear: Whether the projection has no activation; MobileNetV1's has one.

    Source: MnasNet (Tan et al., CVPR 2019), Figure 7 (b); MobileNetV1 (Howard et al., 2017), Figure 3.
    """

    kernel_size: int = 3
    se_ratio: float = 0.0
    skip: str = "identity"
    activation: str | None = None
    is_linear: bool = True

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        _check_fields(self.kernel_size, self.se_ratio, self.skip, self.activation)
        require_one_of("is_linear", self.is_linear, (True, False))

    def label(self) -> str:
        """The op's name, kernel and squeeze-excite."""
        name = "SepConv" if self.is_linear else "DWConv"
        usual = "identity" if self.is_linear else "none"
        return _label(name, self.kernel_size, self.se_ratio, self.skip, self.activation, usual)

    def general(self) -> Op:
        """The same layers as an MBConv, where there is one."""
        if self.is_linear is not True:
            return self
        return MBConv(
            kernel_size=self.kernel_size,
            expand_ratio=1,
            se_ratio=self.se_ratio,
            skip=self.skip,
            activation=self.activation,
        )

    def layers(self, context: Context) -> Node:
        """Depthwise, squeeze-excite, project."""
        general = self.general()
        if general is not self:
            return general.layers(context)
        kind, hidden = self.activation, context.in_channels
        depthwise = context.convolution(
            hidden, self.kernel_size, stride=context.stride, groups=hidden, activation=kind
        )
        units: list[tuple[str, Node]] = [("depthwise", depthwise)]
        if self.se_ratio:
            units.append(("se", context.squeeze_excite(hidden, self.se_ratio, kind)))
        units.append(("project", context.convolution(context.out_channels, activation=kind)))
        return context.skip(Chain(tuple(units)), self.skip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """Plain convolution with batch normalisation, activation and squeeze-excite.

    Attributes:
        kernel_size: Side of the kernel, odd.
        se_ratio: Squeezed channels over input channels; 0 leaves squeeze-excite out.
        skip: "identity" (where the shape is kept), "pool" (where the channels are kept) or "none".
        activation: One of `search_spaces.primitives.ACTIVATIONS`; None is the network's.
    """

    kernel_size: int = 3
    se_ratio: float = 0.0
    skip: str = "none"
    activation: str | None = None

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        _check_fields(self.kernel_size, self.se_ratio, self.skip, self.activation)

    def label(self) -> str:
        """The op's name, kernel and squeeze-excite."""
        return _label("Conv", self.kernel_size, self.se_ratio, self.skip, self.activation, "none")

    def layers(self, context: Context) -> Node:
        """Convolution, then squeeze-excite."""
        unit = context.convolution(
            context.out_channels, self.kernel_size, stride=context.stride, activation=self.activation
        )
        if self.se_ratio:
            gate = context.squeeze_excite(context.out_channels, self.se_ratio, self.activation)
            unit = Chain((*unit.layers, ("se", gate)))
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


BUILT_IN_OPS: tuple[type[Op], ...] = (
    MBConv,
    FusedMBConv,
    DepthwiseSeparable,
    Conv,
    Identity,
    BasicBlock,
    Bottleneck,
    ConvPool,
)
