"""EfficientNetV2's space: where fused convolutions help, around any of the published sizes."""

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
from search_spaces.ops import FusedMBConv, MBConv, Op
from search_spaces.references import EFFICIENTNET_V2_BASE, V2_CHANNELS, reference
from search_spaces.scaling import EFFICIENTNET_V2_RULE
from search_spaces.space import SearchSpace
from search_spaces.stages import Stage

AROUND = tuple(f"efficientnet_v2_{size}" for size in (*V2_CHANNELS, *EFFICIENTNET_V2_BASE))
"""Networks whose channels, layers and strides the space is built around."""


def efficientnet_v2(
    *,
    resolution: int | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    around: str = "efficientnet_v2_s",
    with_width: bool = False,
    flat: bool = False,
) -> SearchSpace:
    """EfficientNetV2's space: every stage is Fused-MBConv or MBConv on a published skeleton.

    ================  =====================================  ==========================================
    decision          options                                remark
    ================  =====================================  ==========================================
    `op`              Fused-MBConv, MBConv with SE 0.25      all layers of a stage are alike
    `kernel_size`     3, 5                                   of either op
    `expand_ratio`    1, 4, 6                                of either op
    `repeats`         published + 0, +1, -1                  at least 1, equal options merged
    `channels`        0.75, 1, 1.25 x published              only `with_width`; rounded to 8
    ================  =====================================  ==========================================

    Around S it has 36**6 = 2,176,782,336 candidates, `with_width` 108**6 = 1,586,874,322,944; around M, L and
    XL, which have a seventh stage, 36**7 = 78,364,164,096; around B0, whose first stage has one layer,
    24 * 36**5 = 1,451,188,224; around B1 to B3 36**6 again. Its reference network is the one it is around.

    `flat=True` decides `op`, `kernel_size` and `expand_ratio` once for all stages, for comparison: around S
    9 decisions, 12 * 3**6 = 8,748 candidates, no reference network.

    Args:
        resolution: Side of the square image; None is that of the published evaluation, 384 for S. For small
            images the earliest strides become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels, the head's too.
        around: "efficientnet_v2_s", or with m, l, xl, b0, b1, b2 or b3 for s.
        with_width: Whether each stage decides its channels; the paper does not search them.
        flat: Whether what a layer is is decided once for the whole network.

    Raises:
        SpaceError: An argument is out of range.

    Source: EfficientNetV2 (Tan & Le, ICML 2021), section 3.3; squeeze-excite as in its networks (Table 4).
    """
    require_known("around", around, AROUND)
    require_flags(with_width=with_width, flat=flat)
    published = reference(around)
    base = fit(
        published,
        resolution=published.resolution if resolution is None else resolution,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        rule=EFFICIENTNET_V2_RULE,
    )
    opened: list[Stage] = []
    for number, (before, stage) in enumerate(zip(published.stages, base.stages, strict=True), start=1):
        names = Names(f"stage{number}", flat)
        channels = stage.channels
        if with_width:
            channels = open_channels(before.channels, names, width=width, rule=EFFICIENTNET_V2_RULE)
        repeats = open_repeats(stage.repeats, names)
        opened.append(replace(stage, op=_op(names), channels=channels, repeats=repeats))
    return SearchSpace(
        replace(base, stages=tuple(opened)),
        name="_".join((around, *(("width",) if with_width else ()), *(("flat",) if flat else ()))),
        reference=None if flat else base,
    )


def _op(names: Names) -> Op:
    kernel = choice(3, 5, name=names.layer("kernel_size"))
    expand = choice(1, 4, 6, name=names.layer("expand_ratio"))
    return choice(
        FusedMBConv(kernel_size=kernel, expand_ratio=expand),
        MBConv(kernel_size=kernel, expand_ratio=expand, se_ratio=0.25),
        name=names.layer("op"),
    )
