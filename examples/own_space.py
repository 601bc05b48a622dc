"""Defines a search space, searches it, and exports the winner: a minute on two cores.

python examples/own_space.py
"""

import nas
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def block(channels: int, stride: int) -> Stage:
    op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3, 6), se_ratio=choice(0.0, 0.25))
    return Stage(op=op, channels=channels, repeats=choice(1, 2), stride=stride)


stem, head = Stage(op=Conv(), channels=16, stride=2), Head(channels=128)
stages = (block(16, 1), block(24, 2), block(40, 2))
template = Network(stem=stem, stages=stages, head=head, resolution=28, in_channels=1, num_classes=10)

recipe = nas.Recipe(epochs=2, warmup_epochs=0.5, batch_size=64)
study = nas.search(
    SearchSpace(template), data="mnist5k", recipe=recipe, target_macs=1.5e6, trials=8, out="runs/own-space"
)
print(f"{len(study.trials)} trials; best: {study.best.accuracy:.3f} with {study.best.macs:,} macs")
module = study.best.build()  # the trained network, an nn.Module
bundle = study.best.export("runs/own-space/winner", overwrite=True)
print(sorted(bundle.files))
