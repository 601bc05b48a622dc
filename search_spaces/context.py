"""The place of an op in its network, and the small trees that ops share: unit, squeeze-excite, skip."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.errors import SpaceError, require_integer, require_one_of
from search_spaces.primitives import (
    ACTIVATIONS,
    GATES,
    Activation,
    BatchNorm,
    Chain,
    Convolution,
    Gate,
    GlobalPool,
    Node,
    Pool,
    Residual,
)
from search_spaces.rounding import round_channels

SKIPS = ("identity", "pool", "none")
"""What may stand beside an op's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeExcite:
    """How the network's squeeze-and-excitation is made, wherever an op has one.

    Attributes:
        width_of: What an op's `se_ratio` is a share of: the block's "input" channels (MnasNet, EfficientNet),
            or the "expanded" channels of the map that is gated (MobileNetV3, SE-ResNet).
        divisor: What the squeezed width is rounded to a multiple of; with 1 it is rounded down.
        activation: What follows the first convolution; None is the block's own activation.
        gate: What follows the second: "sigmoid" or "hard_sigmoid".

    Source: Hu et al., CVPR 2018, section 3; the widths as in the code of the networks named.
    """

    width_of: str = "input"
    divisor: int = 1
    activation: str | None = None
    gate: str = "sigmoid"

    def check(self) -> None:
        """Raises `SpaceError` where a field is out of range."""
        require_one_of("width_of", self.width_of, ("input", "expanded"))
        require_integer("divisor", self.divisor, least=1, most=1024)
        require_one_of("activation", self.activation, (None, *ACTIVATIONS))
        require_one_of("gate", self.gate, GATES)

    def width(self, channels: int, se_ratio: float) -> int:
        """Squeezed channels for a share of so many channels, at least 1."""
        if self.divisor == 1:
            return max(1, int(channels * se_ratio))
        return round_channels(channels * se_ratio, self.divisor)


@dataclass(frozen=True, slots=True)
class Context:
    """The place of an op in its network.

    Attributes:
        in_channels: Channels of the input.
        out_channels: Channels the op must put out.
        stride: Step of the op: 1, or 2 to halve the resolution (odd sides round up).
        resolution: Side of the square input map, pixels.
        block: Number of this block in the network, from 0; the stem is no block.
        blocks: Number of blocks in the network.
        activation: The network's activation.
        norm_eps: Added to the variance by batch normalisation.
        norm_momentum: Weight of the newest batch in running statistics.
        drop_path_rate: Rate of stochastic depth that a block after the network's last one would have.
        padding: How strided convolutions are padded, one of `search_spaces.primitives.PADDINGS`.
        squeeze_excite_form: How squeeze-and-excitation is made.
    """

    in_channels: int
    out_channels: int
    stride: int
    resolution: int
    block: int = 0
    blocks: int = 1
    activation: str = "swish"
    norm_eps: float = 1e-3
    norm_momentum: float = 0.01
    drop_path_rate: float = 0.0
    padding: str = "symmetric"
    squeeze_excite_form: SqueezeExcite = SqueezeExcite()

    @property
    def keeps_shape(self) -> bool:
        """Whether an identity skip can stand beside the op."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def drop_rate(self) -> float:
        """Rate of stochastic depth here, growing linearly from 0 at the first block (EfficientNet's rule)."""
        return self.drop_path_rate * self.block / self.blocks if self.drop_path_rate else 0.0

    def convolution(
        self,
        channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool | str | None = True,
    ) -> Chain:
        """Convolution, batch normalisation and, unless it is a linear projection, the activation.

        Args:
            channels: Output channels.
            kernel_size: Side of the square kernel, odd.
            stride: Step in both directions.
            groups: Groups of channels.
            activation: True or None for the network's, False for none, or the kind.
        """
        conv = Convolution(
            channels=channels, kernel_size=kernel_size, stride=stride, groups=groups, padding=self.padding
        )
        layers: list[tuple[str, Node]] = [
            ("conv", conv),
            ("norm", BatchNorm(eps=self.norm_eps, momentum=self.norm_momentum)),
        ]
        if activation is not False:
            layers.append(("act", self.act(activation)))
        return Chain(tuple(layers))

    def act(self, kind: bool | str | None = None) -> Activation:
        """The activation of this kind, the network's by default."""
        return Activation(kind=kind if isinstance(kind, str) else self.activation)

    def squeeze_excite(self, channels: int, se_ratio: float, activation: str | None = None) -> Gate:
        """Squeeze-and-excitation of a map with the given channels; both convolutions have a bias.

        Args:
            channels: Channels of the map that is gated.
            se_ratio: Squeezed channels over the channels that the network's form says.
            activation: The block's activation, which the form may overrule; None is the network's.
        """
        form = self.squeeze_excite_form
        squeezed = form.width(self.in_channels if form.width_of == "input" else channels, se_ratio)
        return Gate(
            Chain(
                (
                    ("pool", GlobalPool()),
                    ("reduce", Convolution(channels=squeezed, bias=True)),
                    ("act", self.act(form.activation or activation)),
                    ("expand", Convolution(channels=channels, bias=True)),
                    ("gate", Activation(kind=form.gate)),
                )
            )
        )

    def skip(self, body: Node, skip: str) -> Node:
        """The body with what is asked for beside it, where the shapes allow that.

        "identity" needs the shape to be kept. "pool" needs only the channels to be kept: a 3x3 average with
        the op's stride. MnasNet's paper names pooling among its skips and does not say how it is made; this
        is the form without parameters.
        """
        if skip == "pool" and self.in_channels == self.out_channels:
            return Residual(body, self.drop_rate, Pool(kind="average", stride=self.stride))
        if skip == "identity" and self.keeps_shape:
            return Residual(body, self.drop_rate)
        return body


def require_kernel(kernel_size: object) -> None:
    """Checks a kernel's side.

    Raises:
        SpaceError: It is no odd integer from 1 to 31.
    """
    require_integer("kernel_size", kernel_size, least=1, most=31)
    if isinstance(kernel_size, int) and kernel_size % 2 == 0:
        raise SpaceError(
            f"`kernel_size` must be odd, such as 3 or 5, but got kernel_size={kernel_size}",
            field="kernel_size",
        )


def require_se_ratio(se_ratio: object) -> None:
    """Checks the share of channels that squeeze-and-excitation squeezes to.

    Raises:
        SpaceError: It is no number from 0 to 1 (NaN fails too).
    """
    is_number = isinstance(se_ratio, int | float) and not isinstance(se_ratio, bool)
    if not is_number or not 0 <= se_ratio <= 1:  # type: ignore[operator]
        raise SpaceError(
            f"`0 <= se_ratio <= 1` must hold, but got se_ratio={se_ratio!r}: 0 leaves it out",
            field="se_ratio",
        )


def require_activation(activation: object) -> None:
    """Checks an op's own activation.

    Raises:
        SpaceError: It is neither None nor one of `search_spaces.primitives.ACTIVATIONS`.
    """
    require_one_of("activation", activation, (None, *ACTIVATIONS))
