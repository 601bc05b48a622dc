"""The small network, images and timed step that the doctor tries a machine with."""

from __future__ import annotations

import statistics
import time

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nas.devices import synchronize
from search_spaces import Conv, Head, MBConv, Network, Stage

RESOLUTION, CLASSES = 8, 2


def tiny_network() -> Network:
    """A grey 8-pixel network with each kind of layer that the built-in spaces use."""
    return Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(Stage(op=MBConv(expand_ratio=3, se_ratio=0.25), channels=8, repeats=2, stride=2),),
        head=Head(channels=16, dropout=0.1),
        resolution=RESOLUTION,
        num_classes=CLASSES,
        in_channels=1,
    )


def tiny_images() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Noise with labels: uint8 of shape (64, 8, 8), and int64 of shape (64,)."""
    images = np.random.default_rng(0).integers(0, 256, (64, RESOLUTION, RESOLUTION), dtype=np.uint8)
    return images, np.arange(64) % CLASSES


def median_step_seconds(device: torch.device, memory_format: torch.memory_format) -> float:
    """Seconds of a training step of one MBConv layer at 16 pixels, batch 64: median of 5 after 3."""
    module = nn.Sequential(
        nn.Conv2d(32, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.SiLU(),
        nn.Conv2d(128, 128, 3, padding=1, groups=128, bias=False),
        nn.BatchNorm2d(128),
        nn.SiLU(),
        nn.Conv2d(128, 32, 1, bias=False),
    ).to(device)
    module.to(memory_format=memory_format)
    images = torch.zeros((64, 32, 16, 16), device=device).to(memory_format=memory_format)
    seconds = []
    for _ in range(8):
        synchronize(device)
        started = time.perf_counter()
        module(images).sum().backward()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[3:])
