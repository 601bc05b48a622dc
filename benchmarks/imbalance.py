"""Searches a rare class among thirty times as many other images, by accuracy and by balanced accuracy.

What counts is the rare class's recall on the test split, of the winners' own weights and of new trainings.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

import nas
from nas.data.images import ImageData, Pixels
from nas.data.loading import from_arrays, load_data
from nas.training.accuracy import gather
from nas.training.recipe import Recipe
from nas.training.training import train
from search_spaces import Network, build, small

RARE, RARE_IMAGES, RATIO = "ship", 80, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to search.

    Attributes:
        name: What it is called.
        metric: What is maximised.
        recipe: How candidates are trained.
    """

    name: str
    metric: str
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a winner reaches on the test split; of new trainings a mean."""

    accuracy: float
    balanced_accuracy: float
    recall: float


def imbalanced(pack: str, *, seed: int) -> ImageData:
    """Two classes: a rare one, and thirty times as many images of nine others; the test split is whole."""
    whole = load_data(pack)
    rare = whole.classes.index(RARE)
    rng = np.random.default_rng(seed)
    parts = [_pixels(whole.train), _pixels(whole.search)]
    images = np.concatenate([part.images for part in parts])
    is_rare = np.concatenate([part.labels for part in parts]) == rare
    others = rng.permutation(np.flatnonzero(~is_rare))
    ships = rng.permutation(np.flatnonzero(is_rare))[:RARE_IMAGES]
    chosen = np.sort(np.concatenate([others[: RATIO * RARE_IMAGES], ships]))
    tested = _pixels(whole.test)
    return from_arrays(
        images[chosen],
        is_rare[chosen].astype(np.int64),
        test_images=tested.images,
        test_labels=(tested.labels == rare).astype(np.int64),
        classes=("other", RARE),
        name=f"{RARE}s among others, 1:{RATIO}",
        seed=seed,
    )


def _pixels(part: object) -> Pixels:
    assert isinstance(part, Pixels)
    return part


def arms(epochs: float) -> tuple[Arm, ...]:
    """By accuracy and by balanced accuracy, each with and without weights in the loss."""
    plain = Recipe(epochs=epochs, warmup_epochs=min(1.0, epochs / 5), batch_size=32, precision="float32")
    weighted = replace(plain, class_weights="balanced")
    return tuple(
        Arm(name=metric.replace("_", " ") + ending, metric=metric, recipe=recipe)
        for recipe, ending in ((plain, ""), (weighted, ", class weights"))
        for metric in ("accuracy", "balanced_accuracy")
    )


def measured(module: nn.Module, data: ImageData) -> Found:
    """Looks at the test split."""
    outputs, labels = gather(
        module, data, "test", device=torch.device("cpu"), batch_size=256, precision="float32"
    )
    right = outputs.argmax(1) == labels
    recalls = [float(right[labels == label].double().mean()) for label in (0, 1)]
    return Found(
        accuracy=float(right.double().mean()), balanced_accuracy=statistics.fmean(recalls), recall=recalls[1]
    )


def retrained(network: Network, data: ImageData, recipe: Recipe, seeds: Sequence[int]) -> Iterator[Found]:
    """Trains the winner again from other seeds, so that its luck in the search does not count."""
    for seed in seeds:
        module = build(network, seed=seed)
        train(module, data, recipe, seed=seed, device="cpu")
        yield measured(module, data)


def searched(arm: Arm, data: ImageData, seed: int, arguments: argparse.Namespace) -> tuple[Found, ...]:
    """The winner's own weights, then its new trainings."""
    space = small(resolution=data.resolution, num_classes=2, in_channels=data.channels)
    with tempfile.TemporaryDirectory() as folder:
        study = nas.search(
            space,
            out=Path(folder) / "study",
            data=data,
            metric=arm.metric,
            recipe=arm.recipe,
            trials=arguments.trials,
            executor="inline",
            seed=seed,
        )
        winner = study.best
        own = measured(winner.build(), data)
    again = retrained(winner.network, data, arm.recipe, [1000 + seed, 2000 + seed])
    return (own, *again)


def show(name: str, found: Sequence[Sequence[Found]]) -> None:
    """Prints a row of an arm: means over seeds, with the standard deviation between searches."""
    cells = []
    for group in ([one[:1] for one in found], [one[1:] for one in found]):
        for metric in ("accuracy", "balanced_accuracy", "recall"):
            values = [statistics.fmean(getattr(each, metric) for each in one) for one in group]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):.3f} ± {spread:.3f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Prints a row for each way to search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", help="CIFAR-10 as a .npz pack with JPEG files")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)
    data = imbalanced(arguments.pack, seed=0)
    print(f"{data}; {arguments.seeds} searches of {arguments.trials} trials each\n")
    print("| searched by | accuracy | balanced | recall of the rare | again: accuracy | balanced | recall |")
    print("|---|---|---|---|---|---|---|")
    for arm in arms(arguments.epochs):
        every = [
            searched(arm, imbalanced(arguments.pack, seed=seed), seed, arguments)
            for seed in range(arguments.seeds)
        ]
        show(arm.name, every)
    print(f"\n{time.monotonic() - began:.0f} s on one core")


if __name__ == "__main__":
    main()
