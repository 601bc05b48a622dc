"""Takes a searched network as the backbone of a torchvision detector, trains it for some steps: 15 seconds.

    python examples/detector.py [STUDY]

The images are drawn: one bright square on noise. Without a study the backbone is a published network.
"""

import sys

import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

import nas
from search_spaces import build, reference

SIDE, STEPS = 128, 5


class Backbone(torch.nn.Module):
    """The maps of a network's stages, the last of each stride from 4 on, through a feature pyramid."""

    def __init__(self, network, weights=None, out_channels=64):
        super().__init__()
        self.body = build(network, features=True)
        if weights is not None:
            self.body.load_state_dict(weights)  # of the whole network: its head is left out
        last = {stride: name for name, stride in self.body.strides.items() if stride >= 4}
        self.names = tuple(last.values())
        self.pyramid = FeaturePyramidNetwork([self.body.channels[name] for name in self.names], out_channels)
        self.out_channels = out_channels

    def forward(self, images):
        maps = self.body(images)
        return self.pyramid({name: maps[name] for name in self.names})


def detector(backbone, channels):
    levels = len(backbone.names)
    return FasterRCNN(
        backbone,
        num_classes=2,  # a square, and the background
        rpn_anchor_generator=AnchorGenerator(
            sizes=tuple((16 * 2**level,) for level in range(levels)),
            aspect_ratios=((0.5, 1.0, 2.0),) * levels,
        ),
        box_roi_pool=MultiScaleRoIAlign(list(backbone.names), output_size=7, sampling_ratio=2),
        min_size=SIDE,
        max_size=SIDE,
        image_mean=[0.5] * channels,
        image_std=[0.25] * channels,
    )


def drawn(count, channels, generator):
    """Images (channels, side, side) with a square, and where it is."""
    images, targets = 0.5 * torch.rand(count, channels, SIDE, SIDE, generator=generator), []
    for image in images:
        x, y, side = torch.randint(16, 64, (3,), generator=generator).tolist()
        image[:, y : y + side, x : x + side] = 1.0
        box = torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32)
        targets.append({"boxes": box, "labels": torch.tensor([1])})
    return list(images), targets


if __name__ == "__main__":
    best = nas.open_study(sys.argv[1]).best if len(sys.argv) > 1 else None
    network = best.network if best else reference("mobilenet_v2")
    model = detector(Backbone(network, best.build().state_dict() if best else None), network.in_channels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        losses = model.train()(*drawn(2, network.in_channels, generator))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        print(f"step {step + 1}: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))
