"""The pointing game of class maps: how often a map's peak is in the patch that alone decides the class."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import nn

import nas
from nas.data.images import Reading
from nas.export.bundle import export_bundle
from nas.export.preprocessing import Preprocessing
from search_spaces import Conv, Head, MBConv, Network, Stage, build

SIDE, PATCH = 32, 8
PATTERNS = ("rows", "columns", "checks")


def network(hidden: int) -> Network:
    """A small network whose last map has a quarter of the image's side."""
    return Network(
        stem=Stage(op=Conv(), channels=16, stride=2),
        stages=(
            Stage(op=MBConv(expand_ratio=2), channels=16, stride=2),
            Stage(op=MBConv(expand_ratio=2), channels=24),
        ),
        head=Head(channels=32, dropout=0.1, hidden=hidden),
        resolution=SIDE,
        num_classes=len(PATTERNS),
    )


def patched_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random backgrounds with one patch, whose pattern alone tells the class: images, labels, corners."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    images = np.clip(coarse + rng.normal(0, 25, (count, SIDE, SIDE, 3)), 0, 255)
    labels = rng.integers(0, len(PATTERNS), count)
    corners = rng.integers(0, SIDE - PATCH + 1, (count, 2))
    row, column = np.indices((PATCH, PATCH)) // 2
    patterns = np.stack([row % 2, column % 2, (row + column) % 2])
    for image, label, (top, left) in zip(images, labels, corners, strict=True):
        dark, light = rng.integers(0, 80, 3), rng.integers(176, 256, 3)
        patch = np.where(patterns[label][..., None] == 1, light, dark)
        image[top : top + PATCH, left : left + PATCH] = patch
    return images.astype(np.uint8), labels, corners


def train_on_patches(net: Network, *, seed: int, steps: int = 120) -> nn.Module:
    """Trains for some seconds, with weights and images of a seed."""
    torch.manual_seed(seed)
    images, labels, _ = patched_images(1500, seed)
    module = build(net, seed=seed)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    targets = torch.from_numpy(labels)
    for _ in range(steps):
        rows = torch.randint(0, len(pixels), (48,))
        loss = nn.functional.cross_entropy(module(pixels[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return module


def play(folder: Path, *, hidden: int, seed: int, count: int) -> dict[str, float]:
    """Trains, maps images that were not seen, and counts.

    Returns:
        Share of images whose class is right, share whose map has its peak in the patch, mean share of the
        map's sum in the patch, and the share of the image that the patch covers, which is chance for both.
    """
    net = network(hidden)
    module = train_on_patches(net, seed=seed)
    reading = Reading(channels=3, resolution=SIDE)
    prep = Preprocessing(reading=reading, mean=(0.5,) * 3, std=(0.25,) * 3, classes=PATTERNS)
    weights = module.state_dict()
    export_bundle(folder / "bundle", network=net, weights=weights, preprocessing=prep, with_onnx=False)
    images, labels, corners = patched_images(count, seed + 1000)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    right, peak, mass = [], [], []
    for (one,), label, (top, left) in zip(nas.class_maps(folder, paths), labels, corners, strict=True):
        x, y = one.peak or (-1.0, -1.0)
        values = one.map
        right.append(one.predicted == PATTERNS[label])
        peak.append(left <= x < left + PATCH and top <= y < top + PATCH)
        mass.append(values[top : top + PATCH, left : left + PATCH].sum() / max(values.sum(), 1e-12))
    shares = {"right": right, "peak": peak, "mass": mass}
    return {name: float(np.mean(values)) for name, values in shares.items()} | {"chance": (PATCH / SIDE) ** 2}


def main() -> None:
    """Plays with both heads and prints a line for each training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each head")
    parser.add_argument("--count", type=int, default=200, help="images that are mapped")
    arguments = parser.parse_args()
    print("head      seed  right   peak   mass  chance")
    for name, hidden in (("linear", 0), ("hidden", 24)):
        for seed in range(arguments.seeds):
            with TemporaryDirectory() as folder:
                found = play(Path(folder), hidden=hidden, seed=seed, count=arguments.count)
            print(f"{name:8} {seed:5d}", *(f"{value:6.3f}" for value in found.values()), flush=True)


if __name__ == "__main__":
    main()
