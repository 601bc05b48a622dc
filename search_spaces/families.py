"""Owns the built-in spaces: MnasNet's factorised hierarchical space, EfficientNet's, and a small one.

Does not own the machinery of spaces; a user's own space is written the same way in a file of theirs.
"""

from __future__ import annotations

from dataclasses import replace

from search_spaces.choices import choice
from search_spaces.errors import SpaceError, require_integer
from search_spaces.network import Head, Network, Stage
from search_spaces.ops import Conv, DepthwiseSeparable, MBConv
from search_spaces.rounding import adapt_strides, round_channels
from search_spaces.space import SearchSpace


def _check_width(width: float) -> None:
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 16:
        raise SpaceError(f"`0 < width <= 16` must hold, but got width={width!r}: 1.0 is the published width")


MOBILENET_V2_CHANNELS = (16, 24, 32, 64, 96, 160, 320)
MOBILENET_V2_REPEATS = (1, 2, 3, 4, 3, 3, 1)
MOBILENET_V2_STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
"""The stem's stride, then those of the seven blocks."""


def mnasnet(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    head_channels: int = 1280,
) -> SearchSpace:
    """MnasNet's factorised hierarchical space: seven blocks around MobileNetV2, each with its own decisions.

    ================  =======================================  ==========================================
    decision          options                                  remark
    ================  =======================================  ==========================================
    `op`              Conv, SepConv, MBConv3, MBConv6          all layers of a block are alike
    `kernel_size`     3, 5
    `se_ratio`        0, 0.25                                  of the block's input channels
    `skip`            identity, none                           pooling left out: later papers dropped it
    `channels`        0.75, 1, 1.25 x MobileNetV2's            rounded to 8, equal options merged
    `repeats`         MobileNetV2's + 0, +1, -1                at least 1, equal options merged
    ================  =======================================  ==========================================

    At width 1 the widths are 16|24, 24|32, 24|32|40, 48|64|80, 72|96|120, 120|160|200, 240|320|400, the
    layers 1|2, 1|2|3, 2|3|4, 3|4|5, 2|3|4, 2|3|4, 1|2, and the space has
    128 * 192 * 288**4 * 192 = 32,462,531,054,272,512 candidates. Its reference network is MobileNetV2.

    Args:
        resolution: Side of the square image; for small images the earliest strides become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels but the head's.
        head_channels: Channels before the classifier; 1280 at any width, as in MnasNet's code.

    Raises:
        SpaceError: An argument is out of range.

    Source: MnasNet (Tan et al., CVPR 2019), section 4.1; MobileNetV2 (Sandler et al., CVPR 2018), Table 2.
    """
    _check_width(width)
    require_integer("resolution", resolution, least=1, most=8192)
    stem_stride, *strides = adapt_strides(MOBILENET_V2_STRIDES, resolution)
    stem = Stage(op=Conv(), channels=round_channels(32 * width), stride=stem_stride)
    blocks: list[Stage] = []
    reference: list[Stage] = []
    for number, (base, layers, stride) in enumerate(
        zip(MOBILENET_V2_CHANNELS, MOBILENET_V2_REPEATS, strides, strict=True), start=1
    ):
        blocks.append(_mnasnet_block(f"block{number}", base * width, layers, stride))
        op = DepthwiseSeparable() if number == 1 else MBConv(expand_ratio=6)
        channels = round_channels(base * width)
        reference.append(Stage(op=op, channels=channels, repeats=layers, stride=stride))

    def network(stages: list[Stage]) -> Network:
        return Network(
            stem=stem,
            stages=tuple(stages),
            head=Head(channels=head_channels),
            resolution=resolution,
            num_classes=num_classes,
            in_channels=in_channels,
            activation="relu",
        )

    return SearchSpace(network(blocks), name="mnasnet", reference=network(reference))


def _mnasnet_block(name: str, base: float, layers: int, stride: int) -> Stage:
    kernel = choice(3, 5, name=f"{name}.kernel_size")
    se = choice(0.0, 0.25, name=f"{name}.se_ratio")
    skip = choice("identity", "none", name=f"{name}.skip")
    return Stage(
        op=choice(
            Conv(kernel_size=kernel, se_ratio=se, skip=skip),
            DepthwiseSeparable(kernel_size=kernel, se_ratio=se, skip=skip),
            MBConv(kernel_size=kernel, se_ratio=se, skip=skip, expand_ratio=3),
            MBConv(kernel_size=kernel, se_ratio=se, skip=skip, expand_ratio=6),
            name=f"{name}.op",
        ),
        channels=choice(
            *(round_channels(base * share) for share in (0.75, 1.0, 1.25)), name=f"{name}.channels"
        ),
        repeats=choice(*(max(1, layers + change) for change in (0, 1, -1)), name=f"{name}.repeats"),
        stride=stride,
    )


Row = tuple[int, int, int, int, int]
"""One stage of a published network: expand_ratio, kernel_size, stride, channels, repeats."""

EFFICIENTNET_B0: tuple[Row, ...] = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""EfficientNet-B0's stages (Tan & Le, ICML 2019, Table 1)."""


def efficientnet(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    head_channels: int | None = None,
) -> SearchSpace:
    """EfficientNet's space: MBConv on B0's skeleton, widths and strides fixed, the rest open in each block.

    ================  =====================================  ==========================================
    decision          options                                remark
    ================  =====================================  ==========================================
    `expand_ratio`    1, 4, 6
    `kernel_size`     3, 5
    `se_ratio`        0, 0.25                                of the block's input channels
    `repeats`         1, 2, 3 (block 6: 1, 2, 3, 4)          all layers of a block are alike
    ================  =====================================  ==========================================

    It has 36**6 * 48 = 104,485,552,128 candidates. Its reference network is EfficientNet-B0.

    Args:
        resolution: Side of the square image; for small images the earliest strides become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels, the head's too unless that is given.
        head_channels: Channels before the classifier; 1280 x width by default.

    Raises:
        SpaceError: An argument is out of range.

    Source: EfficientNet (Tan & Le, ICML 2019), section 4; the options are those of Accel-NASBench (Ahmad et
    al., DAC 2024).
    """
    _check_width(width)
    require_integer("resolution", resolution, least=1, most=8192)
    strides = adapt_strides((2, *(row[2] for row in EFFICIENTNET_B0)), resolution)
    base = Network(
        stem=Stage(op=Conv(), channels=round_channels(32 * width), stride=strides[0]),
        stages=_published(EFFICIENTNET_B0, strides[1:], width),
        head=Head(channels=round_channels(1280 * width) if head_channels is None else head_channels),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    return _mbconv_space("efficientnet", base, expand_ratios=(1, 4, 6))


def small(
    *, resolution: int = 28, num_classes: int = 10, in_channels: int = 3, width: float = 1.0
) -> SearchSpace:
    """Three blocks of MBConv between a narrow stem and a narrow head, for small images and small machines.

    Each block chooses expansion 1, 3 or 6, kernel 3 or 5, squeeze-excite 0 or 0.25, and 1 to 3 layers: 36
    options, 46,656 candidates in all. The reference network is EfficientNet-B0's first three stages.

    Args:
        resolution: Side of the square image, 28 or 32 pixels in mind; strides are not adapted.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels but the head's.

    Raises:
        SpaceError: An argument is out of range.
    """
    _check_width(width)
    rows = EFFICIENTNET_B0[:3]
    base = Network(
        stem=Stage(op=Conv(), channels=round_channels(16 * width), stride=2),
        stages=_published(rows, tuple(row[2] for row in rows), width),
        head=Head(channels=128, dropout=0.0),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    return _mbconv_space("small", base, expand_ratios=(1, 3, 6))


def _published(rows: tuple[Row, ...], strides: tuple[int, ...], width: float) -> tuple[Stage, ...]:
    return tuple(
        Stage(
            op=MBConv(kernel_size=kernel, expand_ratio=expand, se_ratio=0.25),
            channels=round_channels(channels * width),
            repeats=repeats,
            stride=stride,
        )
        for (expand, kernel, _, channels, repeats), stride in zip(rows, strides, strict=True)
    )


def _mbconv_space(name: str, base: Network, *, expand_ratios: tuple[int, ...]) -> SearchSpace:
    """The space in which every stage of a published network decides its op and its layers.

    Layers are 1, 2 or 3, up to the published number where that is larger.
    """
    stages: list[Stage] = []
    for number, stage in enumerate(base.stages, start=1):
        op = MBConv(
            kernel_size=choice(3, 5, name=f"block{number}.kernel_size"),
            expand_ratio=choice(*expand_ratios, name=f"block{number}.expand_ratio"),
            se_ratio=choice(0.0, 0.25, name=f"block{number}.se_ratio"),
        )
        repeats = choice(*range(1, max(3, stage.repeats) + 1), name=f"block{number}.repeats")
        stages.append(replace(stage, op=op, repeats=repeats))
    return SearchSpace(replace(base, stages=tuple(stages)), name=name, reference=base)
