"""The space of NAS-Bench-Macro, whose 6,561 networks have known accuracies on CIFAR-10."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.choices import choice
from search_spaces.families.skeleton import Names, fit, require_flags
from search_spaces.network import Network
from search_spaces.ops import Conv, Identity, MBConv
from search_spaces.space import SearchSpace
from search_spaces.stages import Head, Stage

LAYERS = (2, 3, 3)
"""Layers of the three stages; the first of each halves the side and doubles the channels."""


def nas_bench_macro(
    *,
    resolution: int = 32,
    num_classes: int = 10,
    in_channels: int = 3,
    width: float = 1.0,
    flat: bool = False,
) -> SearchSpace:
    """NAS-Bench-Macro's space: eight layers, each the identity or one of two MBConv, ReLU and no SE.

    The decisions are `layer1.op` to `layer8.op`, in order, and their tokens are the digits of the
    benchmark's keys: 0 is the identity (a 1x1 convolution of stride 2 with batch normalisation where a stage
    begins), 1 MBConv with kernel 3 and expansion 3, 2 MBConv with kernel 5 and expansion 6. So
    `table["".join(map(str, tokens))]` is a candidate's row.

    It has 3**8 = 6,561 candidates. They are 3,969 different networks by their digests, for identities commute
    with the other layers of their stage. There is no published reference network.

    `flat=True` has one decision for all layers, and 3 candidates.

    Args:
        resolution: Side of the square image, 32 in the benchmark; for smaller ones the earliest strides
            become 1.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels, the head's too.
        flat: Whether what a layer is is decided once for the whole network.

    Raises:
        SpaceError: An argument is out of range.

    Source: Su et al., CVPR 2021, and the code of its repository (`train/model.py`).
    """
    require_flags(flat=flat)
    base = fit(
        _skeleton(), resolution=resolution, num_classes=num_classes, in_channels=in_channels, width=width
    )
    options = (Identity(), MBConv(kernel_size=3, expand_ratio=3), MBConv(kernel_size=5, expand_ratio=6))
    layers = tuple(
        replace(stage, op=choice(*options, name=Names(f"layer{number}", flat).layer("op")))
        for number, stage in enumerate(base.stages, start=1)
    )
    return SearchSpace(
        replace(base, stages=layers), name="nas_bench_macro_flat" if flat else "nas_bench_macro"
    )


def _skeleton() -> Network:
    """The skeleton with one MBConv in all layers."""
    places = [
        (64 << stage, 1 if layer else 2) for stage, count in enumerate(LAYERS) for layer in range(count)
    ]
    return Network(
        stem=Stage(op=Conv(), channels=32),
        stages=tuple(Stage(op=MBConv(), channels=channels, stride=stride) for channels, stride in places),
        head=Head(channels=1280, dropout=0.0),
        resolution=32,
        num_classes=10,
        activation="relu",
        norm_eps=1e-5,
        norm_momentum=0.1,
    )
