"""The published networks, as data and by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from search_spaces.context import SqueezeExcite
from search_spaces.errors import SpaceError, require_one_of
from search_spaces.network import Network
from search_spaces.ops import Conv, DepthwiseSeparable, FusedMBConv, MBConv, Op
from search_spaces.resnet_ops import BasicBlock, Bottleneck, ConvPool
from search_spaces.scaling import (
    EFFICIENTNET_LITE_RULE,
    EFFICIENTNET_RULE,
    EFFICIENTNET_V2_RULE,
    MNASNET_RULE,
    MOBILENET_V2_RULE,
    Rule,
    Scaling,
    apply_scaling,
)
from search_spaces.stages import Head, Stage

Row = tuple[Op, int, int, int]
"""One stage of a published table: op, channels, layers, stride."""


def _mb(
    expand: float, kernel: int, se: float = 0.0, act: str | None = None, skip: str = "identity"
) -> MBConv:
    return MBConv(expand_ratio=expand, kernel_size=kernel, se_ratio=se, activation=act, skip=skip)


def _fused(expand: int, kernel: int = 3) -> FusedMBConv:
    return FusedMBConv(expand_ratio=expand, kernel_size=kernel)


MNASNET_A1: tuple[Row, ...] = (
    (_mb(1, 3, skip="none"), 16, 1, 1),
    (_mb(6, 3), 24, 2, 2),
    (_mb(3, 5, 0.25), 40, 3, 2),
    (_mb(6, 3), 80, 4, 2),
    (_mb(6, 3, 0.25), 112, 2, 1),
    (_mb(6, 5, 0.25), 160, 3, 2),
    (_mb(6, 3), 320, 1, 1),
)
MNASNET_B1: tuple[Row, ...] = (
    (_mb(1, 3, skip="none"), 16, 1, 1),
    (_mb(3, 3), 24, 3, 2),
    (_mb(3, 5), 40, 3, 2),
    (_mb(6, 5), 80, 3, 2),
    (_mb(6, 3), 96, 2, 1),
    (_mb(6, 5), 192, 4, 2),
    (_mb(6, 3, skip="none"), 320, 1, 1),
)
# The code declares 16 input channels for the first block, which has 8, so it takes no skip there.
MNASNET_SMALL: tuple[Row, ...] = (
    (_mb(1, 3, skip="none"), 8, 1, 1),
    (_mb(3, 3), 16, 1, 2),
    (_mb(6, 3), 16, 2, 2),
    (_mb(6, 5, 0.25), 32, 4, 2),
    (_mb(6, 3, 0.25), 32, 3, 1),
    (_mb(6, 5, 0.25), 88, 3, 2),
    (_mb(6, 3), 144, 1, 1),
)
MNASNET_D1: tuple[Row, ...] = (
    (_mb(9, 3), 24, 1, 1),
    (_mb(9, 3), 36, 3, 2),
    (_mb(9, 3), 48, 5, 2),
    (_mb(9, 5), 96, 4, 2),
    (_mb(3, 7), 96, 5, 1),
    (_mb(9, 3), 80, 3, 2),
    (_mb(6, 7, skip="none"), 320, 1, 1),
)
"""MnasNet's stages (Tan et al., CVPR 2019, Figure 7 and Table 4, and its code; D1 is of the code alone)."""

EFFICIENTNET_B0: tuple[Row, ...] = (
    (_mb(1, 3, 0.25), 16, 1, 1),
    (_mb(6, 3, 0.25), 24, 2, 2),
    (_mb(6, 5, 0.25), 40, 2, 2),
    (_mb(6, 3, 0.25), 80, 3, 2),
    (_mb(6, 5, 0.25), 112, 3, 1),
    (_mb(6, 5, 0.25), 192, 4, 2),
    (_mb(6, 3, 0.25), 320, 1, 1),
)
"""EfficientNet-B0's stages (Tan & Le, ICML 2019, Table 1)."""

EFFICIENTNET: dict[str, tuple[float, float, int, float]] = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "b8": (2.2, 3.6, 672, 0.5),
    "l2": (4.3, 5.3, 800, 0.5),
}
"""EfficientNet's width, depth, resolution and dropout, from its code; they are not those of the formula."""

EFFICIENTNET_LITE: dict[str, tuple[float, float, int, float]] = {
    "lite0": (1.0, 1.0, 224, 0.2),
    "lite1": (1.0, 1.1, 240, 0.2),
    "lite2": (1.1, 1.2, 260, 0.3),
    "lite3": (1.2, 1.4, 280, 0.3),
    "lite4": (1.4, 1.8, 300, 0.3),
}

V2_BASE: tuple[Row, ...] = (
    (_fused(1), 16, 1, 1),
    (_fused(4), 32, 2, 2),
    (_fused(4), 48, 2, 2),
    (_mb(4, 3, 0.25), 96, 3, 2),
    (_mb(6, 3, 0.25), 112, 5, 1),
    (_mb(6, 3, 0.25), 192, 8, 2),
)
EFFICIENTNET_V2_BASE: dict[str, tuple[float, float, int, float]] = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
}
"""EfficientNetV2-B's width, depth, resolution in evaluation and dropout, from its code."""

V2_CHANNELS: dict[str, tuple[int, ...]] = {
    "s": (24, 48, 64, 128, 160, 256),
    "m": (24, 48, 80, 160, 176, 304, 512),
    "l": (32, 64, 96, 192, 224, 384, 640),
    "xl": (32, 64, 96, 192, 256, 512, 640),
}
V2_REPEATS: dict[str, tuple[int, ...]] = {
    "s": (2, 4, 4, 6, 9, 15),
    "m": (3, 5, 5, 7, 14, 18, 5),
    "l": (4, 7, 7, 10, 19, 25, 7),
    "xl": (4, 8, 8, 16, 24, 32, 8),
}
V2_OPS: tuple[Op, ...] = (_fused(1), _fused(4), _fused(4), _mb(4, 3, 0.25), *[_mb(6, 3, 0.25)] * 3)
V2_STRIDES = (1, 2, 2, 2, 1, 2, 1)
V2_SIZES = {"s": (384, 0.2), "m": (480, 0.3), "l": (480, 0.4), "xl": (512, 0.4)}
"""EfficientNetV2's resolution in evaluation and its dropout (Tan & Le, ICML 2021, and its code)."""

MOBILENET_V1: tuple[Row, ...] = tuple(
    (DepthwiseSeparable(is_linear=False, skip="none"), channels, repeats, stride)
    for channels, repeats, stride in ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
)
"""MobileNetV1's stages (Howard et al., 2017, Table 1)."""

MOBILENET_V2: tuple[Row, ...] = (
    (_mb(1, 3), 16, 1, 1),
    (_mb(6, 3), 24, 2, 2),
    (_mb(6, 3), 32, 3, 2),
    (_mb(6, 3), 64, 4, 2),
    (_mb(6, 3), 96, 3, 1),
    (_mb(6, 3), 160, 3, 2),
    (_mb(6, 3), 320, 1, 1),
)
"""MobileNetV2's stages (Sandler et al., CVPR 2018, Table 2)."""

MOBILENET_V3_LARGE: tuple[Row, ...] = (
    (_mb(1, 3, act="relu"), 16, 1, 1),
    (_mb(4, 3, act="relu"), 24, 1, 2),
    (_mb(3, 3, act="relu"), 24, 1, 1),
    (_mb(3, 5, 0.25, "relu"), 40, 3, 2),
    (_mb(6, 3), 80, 1, 2),
    (_mb(2.5, 3), 80, 1, 1),
    (_mb(2.3, 3), 80, 2, 1),
    (_mb(6, 3, 0.25), 112, 2, 1),
    (_mb(6, 5, 0.25), 160, 3, 2),
)
MOBILENET_V3_SMALL: tuple[Row, ...] = (
    (_mb(1, 3, 0.25, "relu"), 16, 1, 2),
    (_mb(4.5, 3, act="relu"), 24, 1, 2),
    (_mb(3.67, 3, act="relu"), 24, 1, 1),
    (_mb(4, 5, 0.25), 40, 1, 2),
    (_mb(6, 5, 0.25), 40, 2, 1),
    (_mb(3, 5, 0.25), 48, 2, 1),
    (_mb(6, 5, 0.25), 96, 3, 2),
)
"""MobileNetV3's stages (Howard et al., ICCV 2019, Tables 1 and 2)."""

V3_SQUEEZE = SqueezeExcite(width_of="expanded", divisor=8, activation="relu", gate="hard_sigmoid")

RESNET: dict[str, tuple[Op, tuple[int, int, int, int]]] = {
    "18": (BasicBlock(), (2, 2, 2, 2)),
    "34": (BasicBlock(), (3, 4, 6, 3)),
    "50": (Bottleneck(), (3, 4, 6, 3)),
    "101": (Bottleneck(), (3, 4, 23, 3)),
    "152": (Bottleneck(), (3, 8, 36, 3)),
    "200": (Bottleneck(), (3, 24, 36, 3)),
}
"""ResNet's blocks and layers (He et al., CVPR 2016, Table 1); 200 layers as timm has them."""


def stages(rows: tuple[Row, ...]) -> tuple[Stage, ...]:
    """Stages of a table's rows."""
    return tuple(
        Stage(op=op, channels=channels, repeats=repeats, stride=stride)
        for op, channels, repeats, stride in rows
    )


def _network(
    rows: tuple[Row, ...],
    *,
    stem: int = 32,
    head: Head,
    resolution: int = 224,
    activation: str = "swish",
) -> Network:
    return Network(
        stem=Stage(op=Conv(), channels=stem, stride=2),
        stages=stages(rows),
        head=head,
        resolution=resolution,
        num_classes=1000,
        activation=activation,
    )


def _scaled(base: Network, width: float, depth: float, rule: Rule) -> Network:
    return apply_scaling(base, Scaling(width=width, depth=depth), rule=rule)


def _mnasnet(rows: tuple[Row, ...], stem: int, dropout: float, width: float) -> Network:
    base = _network(rows, stem=stem, head=Head(dropout=dropout), activation="relu")
    return _scaled(base, width, 1.0, MNASNET_RULE)


def _efficientnet(size: str) -> Network:
    width, depth, resolution, dropout = EFFICIENTNET[size]
    base = _network(EFFICIENTNET_B0, head=Head(dropout=dropout), resolution=resolution)
    return _scaled(base, width, depth, EFFICIENTNET_RULE)


def _efficientnet_lite(size: str) -> Network:
    width, depth, resolution, dropout = EFFICIENTNET_LITE[size]
    rows: tuple[Row, ...] = tuple(
        (replace(op, se_ratio=0.0) if isinstance(op, MBConv) else op, channels, repeats, stride)
        for op, channels, repeats, stride in EFFICIENTNET_B0
    )
    base = _network(rows, head=Head(dropout=dropout), resolution=resolution, activation="relu6")
    return _scaled(base, width, depth, EFFICIENTNET_LITE_RULE)


def _efficientnet_v2_base(size: str) -> Network:
    width, depth, resolution, dropout = EFFICIENTNET_V2_BASE[size]
    base = _network(V2_BASE, head=Head(dropout=dropout), resolution=resolution)
    return _scaled(base, width, depth, EFFICIENTNET_V2_RULE)


def _efficientnet_v2(size: str) -> Network:
    channels, repeats = V2_CHANNELS[size], V2_REPEATS[size]
    count = len(channels)
    rows = tuple(zip(V2_OPS[:count], channels, repeats, V2_STRIDES[:count], strict=True))
    resolution, dropout = V2_SIZES[size]
    return _network(rows, stem=channels[0], head=Head(dropout=dropout), resolution=resolution)


def _mobilenet_v1() -> Network:
    return _network(MOBILENET_V1, head=Head(channels=0, dropout=0.0), activation="relu6")


def _mobilenet_v2(width: float) -> Network:
    return _scaled(_network(MOBILENET_V2, head=Head(), activation="relu6"), width, 1.0, MOBILENET_V2_RULE)


def _mobilenet_v3(rows: tuple[Row, ...], channels: int, hidden: int) -> Network:
    head = Head(channels=channels, hidden=hidden)
    return replace(_network(rows, stem=16, head=head, activation="hard_swish"), squeeze_excite=V3_SQUEEZE)


def _resnet(size: str) -> Network:
    op, repeats = RESNET[size]
    widths = (64, 128, 256, 512) if isinstance(op, BasicBlock) else (256, 512, 1024, 2048)
    rows: tuple[Row, ...] = tuple(
        (op, channels, count, stride)
        for channels, count, stride in zip(widths, repeats, (1, 2, 2, 2), strict=True)
    )
    base = _network(rows, stem=64, head=Head(channels=0, dropout=0.0), activation="relu")
    stem = replace(base.stem, op=ConvPool())
    return replace(base, stem=stem, norm_eps=1e-5, norm_momentum=0.1)


WIDTHS = {"035": 0.35, "050": 0.5, "075": 0.75, "100": 1.0, "130": 1.3, "140": 1.4}


def _by_width(name: str, make: Callable[[float], Network]) -> dict[str, Callable[[], Network]]:
    return {
        name if word == "100" else f"{name}_{word}": partial(make, width) for word, width in WIDTHS.items()
    }


NETWORKS: dict[str, Callable[[], Network]] = {
    **_by_width("mnasnet_a1", partial(_mnasnet, MNASNET_A1, 32, 0.2)),
    **_by_width("mnasnet_b1", partial(_mnasnet, MNASNET_B1, 32, 0.2)),
    **_by_width("mnasnet_small", partial(_mnasnet, MNASNET_SMALL, 8, 0.0)),
    **_by_width("mnasnet_d1", partial(_mnasnet, MNASNET_D1, 32, 0.2)),
    **{f"efficientnet_{size}": partial(_efficientnet, size) for size in EFFICIENTNET},
    **{f"efficientnet_{size}": partial(_efficientnet_lite, size) for size in EFFICIENTNET_LITE},
    **{f"efficientnet_v2_{size}": partial(_efficientnet_v2, size) for size in V2_CHANNELS},
    **{f"efficientnet_v2_{size}": partial(_efficientnet_v2_base, size) for size in EFFICIENTNET_V2_BASE},
    "mobilenet_v1": _mobilenet_v1,
    **_by_width("mobilenet_v2", _mobilenet_v2),
    "mobilenet_v3_large": partial(_mobilenet_v3, MOBILENET_V3_LARGE, 960, 1280),
    "mobilenet_v3_small": partial(_mobilenet_v3, MOBILENET_V3_SMALL, 576, 1024),
    **{f"resnet{size}": partial(_resnet, size) for size in RESNET},
}
"""Every published network by its name."""

TENSORFLOW = ("efficientnet", "mobilenet_v3")
"""Families that also go by `tf_...`: with TensorFlow's padding, as their first weights were trained."""

ALIASES: dict[str, str] = {
    **{f"mnasnet_{word}": f"mnasnet_b1_{word}" for word in ("050", "075", "140")},
    **{f"semnasnet_{word}": f"mnasnet_a1_{word}" for word in ("050", "075", "140")},
    "mnasnet_100": "mnasnet_b1",
    "semnasnet_100": "mnasnet_a1",
    "mnasnet0_5": "mnasnet_b1_050",
    "mnasnet0_75": "mnasnet_b1_075",
    "mnasnet1_0": "mnasnet_b1",
    "mnasnet1_3": "mnasnet_b1_130",
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
}
"""Names that timm and torchvision give to networks of the table, where more than underscores differs."""


def plain_name(name: str) -> str:
    """A name as `reference` compares it: without capitals, underscores and hyphens."""
    return name.lower().replace("_", "").replace("-", "")


_BY_PLAIN_NAME = {plain_name(name): name for name in NETWORKS} | {
    plain_name(alias): name for alias, name in ALIASES.items()
}


def reference_names() -> tuple[str, ...]:
    """The names that `reference` knows; it takes timm's and torchvision's spellings of them too."""
    tensorflow = (f"tf_{name}" for name in NETWORKS if name.startswith(TENSORFLOW))
    return (*NETWORKS, *tensorflow)


def reference(name: str, *, like: str = "paper") -> Network:
    """A published network, as data.

    Stochastic depth is a matter of training and left at 0: `replace(network, drop_path_rate=0.2)` is
    EfficientNet's.

    Args:
        name: One of `reference_names()`, or timm's or torchvision's name of such a network. A name that
            begins with `tf_` means TensorFlow's padding.
        like: Whose batch normalisation: "paper" (the original code's: eps 1e-3, momentum 0.01; ResNet's are
            PyTorch's), "timm" or "torchvision"; or "tensorflow", which is the name with `tf_`. Their weights
            need it, and do not say it but by their names (`search_spaces.weights.like_of`).

    Raises:
        SpaceError: There is no such network; the message gives the nearest names.

    Source: papers and code are named beside each table of this module; B1 to L2 and V2-B are scaled by their
        code's rules.
    """
    require_one_of("like", like, ("paper", "timm", "torchvision", "tensorflow"))
    plain = plain_name(str(name))
    is_tensorflow = plain.startswith("tf")
    if like == "tensorflow" and not is_tensorflow:
        return reference(f"tf_{name}")
    known = _BY_PLAIN_NAME.get(plain.removeprefix("tf"))
    if known is None or (is_tensorflow and not known.startswith(TENSORFLOW)):
        raise SpaceError(f"there is no reference network {name!r}: {_near(str(name))}", field="name")
    network = NETWORKS[known]()
    if is_tensorflow:
        return replace(network, padding="same")
    return _like(network, known, like)


def _near(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), reference_names(), n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"reference_names() lists all {len(reference_names())}"


def _like(network: Network, name: str, like: str) -> Network:
    """The network with the batch normalisation, and the deviations, of a library's code."""
    if like == "timm":
        made = replace(network, norm_eps=1e-5, norm_momentum=0.1)
        if name.startswith("mnasnet_small"):  # takes the skip that the original code leaves out
            first, *rest = made.stages
            first = replace(first, op=_mb(1, 3))
            made = replace(made, stages=(first, *rest))
        return made
    if like == "torchvision":
        if name.startswith("mnasnet"):
            return replace(network, norm_eps=1e-5, norm_momentum=3e-4)
        if name in {f"efficientnet_b{size}" for size in range(5)} or name.startswith("mobilenet_v2"):
            return replace(network, norm_eps=1e-5, norm_momentum=0.1)
    return network
