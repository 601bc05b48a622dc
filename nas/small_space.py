"""Owns `small`: a space of small networks for small images, searched in minutes on two CPU cores.

Does not own the published spaces (`search_spaces.mnasnet`, `search_spaces.efficientnet`).
"""

from __future__ import annotations

from dataclasses import replace

from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice, round_channels

STAGES = (
    # expand_ratio, kernel_size, stride, channels, repeats
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
)
"""EfficientNet-B0's first three stages (Tan & Le, ICML 2019, Table 1)."""

STEM_CHANNELS, HEAD_CHANNELS = 16, 128


def small(
    *, resolution: int = 28, num_classes: int = 10, in_channels: int = 3, width: float = 1.0
) -> SearchSpace:
    """Three blocks of MBConv with the options of `efficientnet`, between a narrow stem and a narrow head.

    Each block chooses expansion 1, 3 or 6, kernel 3 or 5, squeeze-excite 0 or 0.25, and 1 to 3 layers: 36
    options, 46,656 candidates in all. The reference network is EfficientNet-B0's first three stages.

    Args:
        resolution: Side of the square image, 28 or 32 pixels in mind.
        num_classes: Number of logits.
        in_channels: Channels of the image.
        width: Multiplies all channels but the head's.

    Raises:
        SpaceError: An argument is out of range.
    """
    blocks, reference = [], []
    for number, (expand, kernel, stride, base, layers) in enumerate(STAGES, start=1):
        channels = round_channels(base * width)
        op = MBConv(
            kernel_size=choice(3, 5, name=f"block{number}.kernel_size"),
            expand_ratio=choice(1, 3, 6, name=f"block{number}.expand_ratio"),
            se_ratio=choice(0.0, 0.25, name=f"block{number}.se_ratio"),
        )
        repeats = choice(1, 2, 3, name=f"block{number}.repeats")
        blocks.append(Stage(op=op, channels=channels, repeats=repeats, stride=stride))
        published = MBConv(kernel_size=kernel, expand_ratio=expand, se_ratio=0.25)
        reference.append(Stage(op=published, channels=channels, repeats=layers, stride=stride))
    template = Network(
        stem=Stage(op=Conv(), channels=round_channels(STEM_CHANNELS * width), stride=2),
        stages=tuple(blocks),
        head=Head(channels=HEAD_CHANNELS, dropout=0.0),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    return SearchSpace(template, name="small", reference=replace(template, stages=tuple(reference)))
