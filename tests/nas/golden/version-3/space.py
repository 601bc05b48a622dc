"""A space of a few thousand multiply-adds, for studies that are kept as examples of a version."""

from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def tiny(resolution: int, num_classes: int, in_channels: int) -> SearchSpace:
    """1,296 candidates."""

    def stage(stride: int) -> Stage:
        op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3, 6))
        return Stage(op=op, channels=choice(8, 16), repeats=choice(1, 2, 3), stride=stride)

    template = Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=(stage(1), stage(2)),
        head=Head(channels=16),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    return SearchSpace(template, name="tiny")
