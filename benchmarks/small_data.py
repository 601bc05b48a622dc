"""Measures which batch and learning rate a few dozen images need in the default five epochs."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import numpy as np

from nas.data.images import ImageData, Pixels
from nas.data.loading import from_arrays
from nas.training.recipe import Recipe
from nas.training.training import train
from search_spaces import build, small

SIDE, TESTED = 32, 600


def textures(count: int, seed: int) -> ImageData:
    """Four classes of waves (across, down, slanted, crossed) in random colours and noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count + TESTED) % 4
    down, across = np.mgrid[0:SIDE, 0:SIDE]
    images = []
    for label in labels:
        rate, phase = rng.uniform(0.5, 1.2), rng.uniform(0, 2 * np.pi)
        waves = (
            np.sin(rate * across + phase),
            np.sin(rate * down + phase),
            np.sin(rate * (across + down) / 1.4 + phase),
            np.sin(rate * across + phase) * np.sin(rate * down),
        )
        colour = rng.uniform(60, 190, (3, 1, 1)) + rng.uniform(30, 60) * waves[label]
        images.append(np.clip(colour + rng.normal(0, 25, (3, SIDE, SIDE)), 0, 255).astype(np.uint8))
    pixels, data = np.stack(images), from_arrays(np.stack(images), labels, mirrors=False, name="textures")
    train_part = Pixels(images=pixels[:count], labels=labels[:count])
    return replace(data, train=train_part, search=Pixels(images=pixels[count:], labels=labels[count:]))


def main() -> None:
    """Prints a row for each batch, with the mean accuracy of random networks at each learning rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[38, 114])
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.025, 0.05, 0.1, 0.2])
    parser.add_argument("--networks", type=int, default=4)
    given = parser.parse_args()
    for count in given.images:
        data = textures(count, seed=1)
        space = small(resolution=SIDE, num_classes=4, in_channels=3)
        networks = [space.decode(space.sample(np.random.default_rng(seed))) for seed in range(given.networks)]
        for batch_size in given.batches:
            cells = []
            for rate in given.rates:
                recipe = Recipe(batch_size=batch_size, learning_rate=rate, precision="float32")
                results = [
                    train(build(network, seed=seed), data, recipe, seed=seed, device="cpu")
                    for seed, network in enumerate(networks)
                ]
                accuracies = [result.metrics["accuracy"] for result in results]
                cells.append(
                    f"{rate:g}: {statistics.fmean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"
                )
            steps = recipe.steps(count)
            print(f"{count} images, batch {batch_size}, {steps} steps | {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
