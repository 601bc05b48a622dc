"""Measures what a larger resolution gives where images hold more detail, and where they are only enlarged.

Discs are drawn at random places, sizes and colours, striped in one of four directions; the stripes repeat
every 2.5 to 8 pixels of the larger images, so that the smaller ones hold some of them only. One network is
trained at a side and at twice that side; there once on images that were drawn so large, and once on the small
ones enlarged. The last two cost the same:

    OMP_NUM_THREADS=1 python benchmarks/real_pixels.py
"""

from __future__ import annotations

import argparse
import math
import statistics

import numpy as np
import numpy.typing as npt
from PIL import Image

import nas
from nas.trial import Candidate, Job
from search_spaces import cost, small

Images = npt.NDArray[np.uint8]

TURNS = (0, 45, 90, 135)
"""Classes: the direction of the stripes, degrees."""

PERIODS = (2.5, 8.0)
"""Least and most pixels of the larger images from one stripe to the next."""

SUPERSAMPLED = 4
"""Discs are drawn so many times larger, and shrunk, so that edges are smooth."""


def main() -> None:
    """Trains each of the three, and prints the table."""
    arguments = parsed()
    side, count = arguments.side, arguments.images
    labels = np.arange(count) % len(TURNS)
    large = drawn(labels, 2 * side, seed=0)
    shrunk = resized(large, side)
    conditions = {
        f"{side} pixels": shrunk,
        f"{2 * side} pixels, enlarged from {side}": resized(shrunk, 2 * side),
        f"{2 * side} pixels, drawn so large": large,
    }
    print(f"{count} images, {arguments.epochs:g} epochs, accuracy on the test split")
    for name, images in conditions.items():
        found = [accuracy(images, labels, arguments.epochs, seed) for seed in range(arguments.seeds)]
        network = small(resolution=images.shape[1], num_classes=len(TURNS)).reference
        spread = statistics.stdev(found) if len(found) > 1 else math.nan
        print(
            f"{name:<32} {cost(network).macs / 1e6:5.2f}M macs  "
            f"{100 * statistics.fmean(found):.1f} +- {100 * spread:.1f} % (n = {len(found)})",
            flush=True,
        )


def parsed() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def drawn(labels: npt.NDArray[np.int64], side: int, *, seed: int) -> Images:
    """Striped discs on plain grounds, of shape (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    return np.stack([disc(TURNS[label], side, rng) for label in labels])


def disc(turn: int, side: int, rng: np.random.Generator) -> Images:
    """One disc, half to nine tenths as wide as the image."""
    canvas = SUPERSAMPLED * side
    radius = canvas * rng.uniform(0.25, 0.45)
    x, y = rng.uniform(radius, canvas - radius, 2)
    down, across = np.mgrid[:canvas, :canvas]
    angle = math.radians(turn + rng.uniform(-15, 15))
    along = across * math.cos(angle) + down * math.sin(angle)
    phase = along / (SUPERSAMPLED * rng.uniform(*PERIODS)) + rng.uniform()
    is_inside = (across - x) ** 2 + (down - y) ** 2 < radius**2
    kind = np.where(is_inside, 1 + (phase % 1 < 0.5), 0)
    pixels = rng.integers(0, 256, (3, 3))[kind]
    boxes = pixels.reshape(side, SUPERSAMPLED, side, SUPERSAMPLED, 3)
    return boxes.mean((1, 3)).round().astype(np.uint8)


def resized(images: Images, side: int) -> Images:
    """The images at another side, bilinear, as images are read for a training."""
    kind = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), kind)) for one in images])


def accuracy(images: Images, labels: npt.NDArray[np.int64], epochs: float, seed: int) -> float:
    """Accuracy on the test split of the space's reference network after a short training."""
    data = nas.from_arrays(images, labels, classes=tuple(f"{turn} degrees" for turn in TURNS))
    recipe = nas.Recipe(epochs=epochs, warmup_epochs=epochs / 6, precision="float32", augmentation="none")
    evaluator = nas.ProxyEvaluator(data, recipe, split="test")
    network = small(resolution=data.resolution, num_classes=len(TURNS)).reference
    evaluator.prepare()
    job = Job(trial=0, attempt=1, tokens=(), seed=seed)
    return evaluator.evaluate(Candidate(job=job, network=network)).metrics[0].value


if __name__ == "__main__":
    main()
