"""MobileNetV3's space: the rows of its two tables with kernel, expansion and activation open."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.choices import choice
from search_spaces.families.skeleton import Names, fit, open_repeats, require_flags, require_known
from search_spaces.ops import MBConv, Op
from search_spaces.references import reference
from search_spaces.space import SearchSpace
from search_spaces.stages import Stage

AROUND = ("mobilenet_v3_large", "mobilenet_v3_small")
"""Networks whose rows the space is built around."""


def mobilenet_v3(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    around: str = "mobilenet_v3_large",
    flat: bool = False,
) -> SearchSpace:
    """MobileNetV3's space: a stage for every distinct row of the table, each with its own decisions.

    ================  =====================================  ==========================================
    decision          options                                remark
    ================  =====================================  ==========================================
    `kernel_size`     3, 5                                   all layers of a stage are alike
    `expand_ratio`    3, 6, the published one                the first row's is 1
    `se_ratio`        0, 0.25                                of the expanded channels, rounded to 8
    `activation`      relu, None                             None is the network's, hard swish
    `repeats`         published + 0, +1, -1                  at least 1, equal options merged
    ================  =====================================  ==========================================

    Around MobileNetV3-Large, nine stages, it has 48**6 * 32**2 * 72 = 901,736,973,729,792 candidates; around
    MobileNetV3-Small, seven stages, 48**7 = 587,068,342,272. Its reference network is the one it is around.

    `flat=True` decides all but the layers once for all stages, expansion 3 or 6, for comparison: around Large
    13 decisions, 16 * 2**5 * 3**4 = 41,472 candidates, no reference network.

    Args:
        resolution: Side of the square image; for small images the earliest strides become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels, those of the head and its hidden layer too.
        around: "mobilenet_v3_large" or "mobilenet_v3_small".
        flat: Whether what a layer is is decided once for the whole network.

    Raises:
        SpaceError: An argument is out of range.

    Source: MobileNetV3 (Howard et al., ICCV 2019), Tables 1 and 2; the decisions are those of MnasNet's
    space, with which it was found, and the activation of its section 5.2.
    """
    require_known("around", around, AROUND)
    require_flags(flat=flat)
    base = fit(
        reference(around),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
    )
    opened: list[Stage] = []
    for number, stage in enumerate(base.stages, start=1):
        names = Names(f"stage{number}", flat)
        repeats = open_repeats(stage.repeats, names)
        opened.append(replace(stage, op=_op(names, stage.op), repeats=repeats))
    return SearchSpace(
        replace(base, stages=tuple(opened)),
        name=f"{around}_flat" if flat else around,
        reference=None if flat else base,
    )


def _op(names: Names, published: Op) -> Op:
    assert isinstance(published, MBConv), "MobileNetV3's stages are MBConv"
    expand_ratios = (3, 6) if names.flat else (3, 6, published.expand_ratio)
    return MBConv(
        kernel_size=choice(3, 5, name=names.layer("kernel_size")),
        expand_ratio=choice(*expand_ratios, name=names.layer("expand_ratio")),
        se_ratio=choice(0.0, 0.25, name=names.layer("se_ratio")),
        activation=choice("relu", None, name=names.layer("activation")),
    )
