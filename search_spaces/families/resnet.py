"""ResNet's space: layers, channels, kernel and squeeze-excite of each of its four stages."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.choices import choice
from search_spaces.families.skeleton import (
    Names,
    fit,
    open_channels,
    open_repeats,
    require_flags,
    require_known,
)
from search_spaces.ops import Op
from search_spaces.references import RESNET, reference
from search_spaces.resnet_ops import BasicBlock, Bottleneck
from search_spaces.space import SearchSpace
from search_spaces.stages import Stage

AROUND = tuple(f"resnet{size}" for size in RESNET)
"""Networks whose blocks, channels and layers the space is built around."""

SHARES = (0.5, 0.75, 1.0, 1.25)
"""What a stage's published channels are multiplied by."""

SE_RATIO = 0.0625
"""SE-ResNet's reduction of 16 (Hu et al., CVPR 2018)."""


def resnet(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    around: str = "resnet50",
    flat: bool = False,
) -> SearchSpace:
    """ResNet's space: four stages of bottleneck blocks, or of basic ones around ResNet-18 and 34.

    ================  =====================================  ==========================================
    decision          options                                remark
    ================  =====================================  ==========================================
    `kernel_size`     3, 5                                   all layers of a stage are alike
    `se_ratio`        0, 0.0625                              of the block's input channels, see below
    `channels`        0.5, 0.75, 1, 1.25 x published         rounded to 8, so a reduction of 4 divides them
    `repeats`         published + 0, +1, -1, and those of    at least 1, equal options merged
                      all ResNets with the same block
    ================  =====================================  ==========================================

    So ResNet-50, 101, 152 and 200 are all in the space around any of them, which has
    48 * 80 * 80 * 48 = 14,745,600 candidates; and 18 and 34 in the space around either, of
    48 * 64 * 64 * 48 = 9,437,184. Its reference network is the one it is around.

    Squeeze-excite squeezes to a sixteenth of the block's input channels, as the other families' does. In all
    blocks but a stage's first, whose input is narrower, that is SE-ResNet's width, a sixteenth of the gated
    map; replace the template's `squeeze_excite` by `SqueezeExcite(width_of="expanded")` for SE-ResNet's in
    all of them.

    `flat=True` decides `kernel_size` and `se_ratio` once for all stages, for comparison: 10 decisions,
    4 * 4**4 * 225 = 230,400 candidates (basic blocks 147,456). The published networks are in that space too.

    Args:
        resolution: Side of the square image; for small images the stem's pooling, then the earliest strides
            become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels.
        around: "resnet50", or with 18, 34, 101, 152 or 200 for 50.
        flat: Whether what a layer is is decided once for the whole network.

    Raises:
        SpaceError: An argument is out of range.

    Source: He et al., CVPR 2016, Table 1; squeeze-excite of Hu et al., CVPR 2018. The decisions are this
    project's own.
    """
    require_known("around", around, AROUND)
    require_flags(flat=flat)
    published = reference(around)
    base = fit(
        published,
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
    )
    opened: list[Stage] = []
    for index, (before, stage) in enumerate(zip(published.stages, base.stages, strict=True)):
        names = Names(f"stage{index + 1}", flat)
        others = sorted(repeats[index] for op, repeats in RESNET.values() if op == before.op)
        opened.append(
            replace(
                stage,
                op=_op(names, before.op),
                channels=open_channels(before.channels, names, width=width, shares=SHARES),
                repeats=open_repeats(stage.repeats, names, *others),
            )
        )
    template = replace(base, stages=tuple(opened))
    return SearchSpace(template, name=f"{around}_flat" if flat else around, reference=base)


def _op(names: Names, published: Op) -> Op:
    block = BasicBlock if isinstance(published, BasicBlock) else Bottleneck
    return block(
        kernel_size=choice(3, 5, name=names.layer("kernel_size")),
        se_ratio=choice(0.0, SE_RATIO, name=names.layer("se_ratio")),
    )
