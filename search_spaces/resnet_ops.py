"""ResNet's ops: the basic and the bottleneck block, and the stem with its pooling."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.context import Context, require_activation, require_kernel, require_se_ratio
from search_spaces.errors import SpaceError, require_integer, require_one_of
from search_spaces.primitives import Chain, Node, Pool, Residual


def _residual(context: Context, units: list[tuple[str, Node]], se_ratio: float, kind: str | None) -> Chain:
    """The units, squeeze-excite after them, the shortcut beside them, the activation after the sum."""
    if se_ratio:
        units = [*units, ("se", context.squeeze_excite(context.out_channels, se_ratio, kind))]
    shortcut = None
    if not context.keeps_shape:
        shortcut = context.convolution(context.out_channels, stride=context.stride, activation=False)
    block = Residual(Chain(tuple(units)), context.drop_rate, shortcut)
    return Chain((("residual", block), ("act", context.act(kind))))


def _label(name: str, kernel_size: int, se_ratio: float, activation: str | None) -> str:
    words = [name, f"k{kernel_size}x{kernel_size}"]
    words += [f"se{se_ratio:g}"] if se_ratio else []
    words += [activation] if activation else []
    return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicBlock:
    """ResNet's basic block: two convolutions, a shortcut, the activation after the sum.

    Where the shape changes the shortcut is a strided 1x1 convolution with batch normalisation.

    Attributes:
        kernel_size: Side of both kernels, odd.
        se_ratio: Share that squeeze-excite squeezes to (see `SqueezeExcite`); 0 leaves it out.
        activation: One of `search_spaces.primitives.ACTIVATIONS`; None is the network's.

    Source: He et al., CVPR 2016, Figure 5 left, shortcut option B.
    """

    kernel_size: int = 3
    se_ratio: float = 0.0
    activation: str | None = None

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        require_kernel(self.kernel_size)
        require_se_ratio(self.se_ratio)
        require_activation(self.activation)

    def label(self) -> str:
        """The op's name, kernel and squeeze-excite."""
        return _label("Basic", self.kernel_size, self.se_ratio, self.activation)

    def layers(self, context: Context) -> Node:
        """Two convolutions beside a shortcut."""
        channels, kind = context.out_channels, self.activation
        first = context.convolution(channels, self.kernel_size, stride=context.stride, activation=kind)
        second = context.convolution(channels, self.kernel_size, activation=False)
        return _residual(context, [("conv1", first), ("conv2", second)], self.se_ratio, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """ResNet's bottleneck block: narrow 1x1, convolve, widen 1x1, a shortcut, the activation after the sum.

    The stride is on the middle convolution, as in torchvision, not on the first, as in the paper.

    Attributes:
        kernel_size: Side of the middle kernel, odd.
        reduction: Output channels over the channels of the middle convolution; must divide them.
        se_ratio: Share that squeeze-excite squeezes to (see `SqueezeExcite`); 0 leaves it out.
        activation: One of `search_spaces.primitives.ACTIVATIONS`; None is the network's.

    Source: He et al., CVPR 2016, Figure 5 right, shortcut option B.
    """

    kernel_size: int = 3
    reduction: int = 4
    se_ratio: float = 0.0
    activation: str | None = None

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        require_kernel(self.kernel_size)
        require_integer("reduction", self.reduction, least=1, most=64)
        require_se_ratio(self.se_ratio)
        require_activation(self.activation)

    def label(self) -> str:
        """The op's name, kernel and squeeze-excite."""
        name = "Bottleneck" if self.reduction == 4 else f"Bottleneck/{self.reduction}"
        return _label(name, self.kernel_size, self.se_ratio, self.activation)

    def layers(self, context: Context) -> Node:
        """Three convolutions beside a shortcut.

        Raises:
            SpaceError: The reduction does not divide the output channels.
        """
        channels, kind = context.out_channels, self.activation
        if channels % self.reduction:
            raise SpaceError(
                f"`reduction` must divide the channels, but got reduction={self.reduction} for "
                f"{channels} channels",
                field="reduction",
            )
        narrow = channels // self.reduction
        units: list[tuple[str, Node]] = [
            ("conv1", context.convolution(narrow, activation=kind)),
            (
                "conv2",
                context.convolution(narrow, self.kernel_size, stride=context.stride, activation=kind),
            ),
            ("conv3", context.convolution(channels, activation=False)),
        ]
        return _residual(context, units, self.se_ratio, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvPool:
    """ResNet's stem: a convolution, then 3x3 max pooling that halves the side once more.

    Attributes:
        kernel_size: Side of the convolution's kernel, odd.
        pool_stride: Step of the pooling: 2, or 1 for small images.
        activation: One of `search_spaces.primitives.ACTIVATIONS`; None is the network's.

    Source: He et al., CVPR 2016, Table 1.
    """

    kernel_size: int = 7
    pool_stride: int = 2
    activation: str | None = None

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        require_kernel(self.kernel_size)
        require_one_of("pool_stride", self.pool_stride, (1, 2))
        require_activation(self.activation)

    def label(self) -> str:
        """The op's name and kernel."""
        return _label("Conv", self.kernel_size, 0.0, self.activation) + ", max pool"

    def layers(self, context: Context) -> Node:
        """Convolution and pooling."""
        unit = context.convolution(
            context.out_channels, self.kernel_size, stride=context.stride, activation=self.activation
        )
        return Chain((*unit.layers, ("pool", Pool(kind="max", stride=self.pool_stride))))
