"""MnasNet's factorised hierarchical space, in the paper's form and in that of Google's later service."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from search_spaces.choices import choice
from search_spaces.errors import SpaceError
from search_spaces.families.skeleton import (
    Names,
    fit,
    open_channels,
    open_repeats,
    require_flags,
    require_known,
)
from search_spaces.ops import Conv, DepthwiseSeparable, MBConv, Op
from search_spaces.references import reference
from search_spaces.scaling import MNASNET_RULE
from search_spaces.space import SearchSpace
from search_spaces.stages import Stage

AROUND = ("mobilenet_v2", "mnasnet_a1")
"""Networks whose channels and layers the space is built around."""

Form = Literal["paper", "vertex"]
"""Which layers a block chooses among."""


def mnasnet(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    head_channels: int = 1280,
    around: str = "mobilenet_v2",
    form: Form = "paper",
    pooling_skip: bool = False,
    flat: bool = False,
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
    128 * 192 * 288**4 * 192 = 32,462,531,054,272,512 candidates. Its reference network is MobileNetV2, with
    ReLU as in MnasNet. Around MnasNet-A1 the widths and layers are that network's, as many as above.

    `pooling_skip=True` is the paper's form to the letter: `skip` may also be pooling. A block with three
    widths and three layer counts has the paper's 432 options, and the space
    192 * 288 * 432**4 * 288 = 554,652,776,685,109,248 candidates.

    `form="vertex"` is the later form of Google's service: a block is plain convolutions without
    squeeze-excite or skip, or MBConv of expansion 1, 3 or 6 with squeeze-excite 0 or 0.25 and the skip that
    the published block has. The service counts 9.75e15 points, for it decides expansion and squeeze-excite
    of a plain convolution too, and merges no equal widths; here there are
    56 * 84 * 126**4 * 84 = 99,592,991,963,136 candidates.

    `flat=True` decides `op`, `kernel_size`, `se_ratio` and `skip` once for all blocks, for comparison: 18
    decisions, 32 * 4 * 6 * 9**4 * 6 = 30,233,088 candidates, no reference network. (The paper's flat space
    decides every layer by itself instead.)

    Args:
        resolution: Side of the square image; for small images the earliest strides become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels but the head's.
        head_channels: Channels before the classifier; 1280 at any width, as in MnasNet's code.
        around: "mobilenet_v2" or "mnasnet_a1".
        form: "paper" or "vertex".
        pooling_skip: Whether pooling is among the skips of the paper's form.
        flat: Whether what a layer is is decided once for the whole network.

    Raises:
        SpaceError: An argument is out of range, or pooling skips are asked for where there is no skip.

    Source: MnasNet (Tan et al., CVPR 2019), section 4.1; MobileNetV2 (Sandler et al., CVPR 2018), Table 2;
    `tunable_mnasnet_search_space.py` of google/vertex-ai-nas for the later form.
    """
    name = _checked_name(around, form, pooling_skip, flat)
    published = replace(reference(around), activation="relu")
    base = fit(
        replace(published, head=replace(published.head, channels=head_channels)),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        rule=MNASNET_RULE,
    )
    opened: list[Stage] = []
    for number, (before, stage) in enumerate(zip(published.stages, base.stages, strict=True), start=1):
        names = Names(f"block{number}", flat)
        op = _paper_op(names, pooling_skip) if form == "paper" else _vertex_op(names, stage.op)
        channels = open_channels(before.channels, names, width=width)
        opened.append(replace(stage, op=op, channels=channels, repeats=open_repeats(stage.repeats, names)))
    return SearchSpace(replace(base, stages=tuple(opened)), name=name, reference=None if flat else base)


def _checked_name(around: str, form: str, pooling_skip: bool, flat: bool) -> str:
    """The space's name, made of what was asked for.

    Raises:
        SpaceError: That is not to be had.
    """
    require_known("around", around, AROUND)
    require_known("form", form, get_args(Form))
    require_flags(pooling_skip=pooling_skip, flat=flat)
    if pooling_skip and form == "vertex":
        raise SpaceError(
            "`pooling_skip` needs a skip decision, but got form='vertex', which has none: leave one out",
            field="pooling_skip",
        )
    marks = {"a1": around == "mnasnet_a1", "vertex": form == "vertex", "pool": pooling_skip, "flat": flat}
    return "_".join(("mnasnet", *(mark for mark, is_there in marks.items() if is_there)))


def _paper_op(names: Names, pooling_skip: bool) -> Op:
    kernel = choice(3, 5, name=names.layer("kernel_size"))
    se = choice(0.0, 0.25, name=names.layer("se_ratio"))
    skip = choice("identity", "none", *(("pool",) if pooling_skip else ()), name=names.layer("skip"))
    return choice(
        Conv(kernel_size=kernel, se_ratio=se, skip=skip),
        DepthwiseSeparable(kernel_size=kernel, se_ratio=se, skip=skip),
        MBConv(kernel_size=kernel, se_ratio=se, skip=skip, expand_ratio=3),
        MBConv(kernel_size=kernel, se_ratio=se, skip=skip, expand_ratio=6),
        name=names.layer("op"),
    )


def _vertex_op(names: Names, published: Op) -> Op:
    kernel = choice(3, 5, name=names.layer("kernel_size"))
    assert isinstance(published, MBConv), "MobileNetV2's and MnasNet-A1's stages are MBConv"
    inverted = MBConv(
        kernel_size=kernel,
        expand_ratio=choice(1, 3, 6, name=names.layer("expand_ratio")),
        se_ratio=choice(0.0, 0.25, name=names.layer("se_ratio")),
        skip="identity" if names.flat else published.skip,
    )
    return choice(Conv(kernel_size=kernel), inverted, name=names.layer("op"))
