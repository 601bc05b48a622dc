"""EfficientNet's space around EfficientNet-B0, and a small one of the same kind."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.choices import choice
from search_spaces.families.skeleton import Names, fit, require_flags, require_width
from search_spaces.network import Network
from search_spaces.ops import Conv, MBConv
from search_spaces.references import EFFICIENTNET_B0, reference, stages
from search_spaces.scaling import Rule, Scaling, apply_scaling
from search_spaces.space import SearchSpace
from search_spaces.stages import Head, Stage


def efficientnet(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    head_channels: int | None = None,
    flat: bool = False,
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

    `flat=True` decides all but the layers once for all blocks, for comparison: 10 decisions,
    12 * 3**6 * 4 = 34,992 candidates, no reference network.

    Args:
        resolution: Side of the square image; for small images the earliest strides become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels, the head's too unless that is given.
        head_channels: Channels before the classifier; 1280 x width by default.
        flat: Whether what a layer is is decided once for the whole network.

    Raises:
        SpaceError: An argument is out of range.

    Source: EfficientNet (Tan & Le, ICML 2019), section 4; the options are those of Accel-NASBench (Ahmad et
    al., DAC 2024).
    """
    base = fit(
        reference("efficientnet_b0"),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
    )
    if head_channels is not None:
        base = replace(base, head=replace(base.head, channels=head_channels))
    return _mbconv_space("efficientnet", base, expand_ratios=(1, 4, 6), flat=flat)


def small(
    *,
    resolution: int = 28,
    num_classes: int = 10,
    in_channels: int = 3,
    width: float = 1.0,
    flat: bool = False,
) -> SearchSpace:
    """Three blocks of MBConv between a narrow stem and a narrow head, for small images and small machines.

    Each block chooses expansion 1, 3 or 6, kernel 3 or 5, squeeze-excite 0 or 0.25, and 1 to 3 layers: 36
    options, 46,656 candidates in all. The reference network is EfficientNet-B0's first three stages.

    `flat=True` decides all but the layers once for all blocks, for comparison: 6 decisions,
    12 * 3**3 = 324 candidates, no reference network.

    Args:
        resolution: Side of the square image, 28 or 32 pixels in mind; strides are not adapted.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels but the head's.
        flat: Whether what a layer is is decided once for the whole network.

    Raises:
        SpaceError: An argument is out of range.
    """
    require_width(width)
    narrow = Network(
        stem=Stage(op=Conv(), channels=16, stride=2),
        stages=stages(EFFICIENTNET_B0[:3]),
        head=Head(channels=128, dropout=0.0),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    base = apply_scaling(narrow, Scaling(width=width), rule=Rule(scales_head=False))
    return _mbconv_space("small", base, expand_ratios=(1, 3, 6), flat=flat)


def _mbconv_space(name: str, base: Network, *, expand_ratios: tuple[int, ...], flat: bool) -> SearchSpace:
    """The space in which every stage of a published network decides its op and its layers.

    Layers are 1, 2 or 3, up to the published number where that is larger.
    """
    require_flags(flat=flat)
    opened: list[Stage] = []
    for number, stage in enumerate(base.stages, start=1):
        names = Names(f"block{number}", flat)
        op = MBConv(
            kernel_size=choice(3, 5, name=names.layer("kernel_size")),
            expand_ratio=choice(*expand_ratios, name=names.layer("expand_ratio")),
            se_ratio=choice(0.0, 0.25, name=names.layer("se_ratio")),
        )
        repeats = choice(*range(1, max(3, stage.repeats) + 1), name=names.stage("repeats"))
        opened.append(replace(stage, op=op, repeats=repeats))
    return SearchSpace(
        replace(base, stages=tuple(opened)),
        name=f"{name}_flat" if flat else name,
        reference=None if flat else base,
    )
