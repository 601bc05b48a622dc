"""A small bundle, made of untrained weights, and images that it can read."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.images import ImageData
from nas.data.loading import from_arrays, load_data
from nas.export.bundle import export_bundle
from nas.export.preprocessing import Preprocessing
from search_spaces import Conv, Head, MBConv, Network, Stage, build

SIDE = 8
CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


def write_image(path: Path, number: int, *, side: int = 12, mode: str = "RGB", background: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    pixels = rng.integers(background, 256, size=(side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def write_classes(folder: Path, *, classes: tuple[str, ...] = CLASSES, count: int = 6) -> Path:
    for place, name in enumerate(classes):
        for number in range(count):
            write_image(folder / name / f"{number}.png", 100 * place + number)
    return folder


def small_network(num_classes: int, channels: int) -> Network:
    return Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(Stage(op=MBConv(expand_ratio=2), channels=8),),
        head=Head(channels=16),
        resolution=SIDE,
        num_classes=num_classes,
        in_channels=channels,
    )


def make_bundle(folder: Path, preprocessing: Preprocessing, *, with_onnx: bool = False) -> Path:
    reading = preprocessing.reading
    network = small_network(len(preprocessing.classes), reading.channels)
    weights = build(network, seed=3).state_dict()
    export_bundle(folder, network=network, weights=weights, preprocessing=preprocessing, with_onnx=with_onnx)
    return folder


def preprocessing_of(**fields: object) -> Preprocessing:
    facts = {
        "resolution": SIDE,
        "channels": 3,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "classes": list(CLASSES),
    }
    extra = {"fit": "crop", "bits": 16, "float_white": 255.0, "background": 255}
    return Preprocessing.from_json(json.dumps({**facts, **extra, **fields}))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders without splits, on which the network was trained, so to speak."""
    return write_classes(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="session")
def bundle(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = load_data(photos, resolution=SIDE, seed=5)
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle", Preprocessing.of(data), with_onnx=True)


LABELS = ("red", "green", "blue")
COLUMNS = ("brightness", "warmth")


def levels(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images of one colour each, and their colours."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, size=(count, 3))
    noise = rng.integers(-20, 21, size=(count, SIDE, SIDE, 3))
    return np.clip(colours[:, None, None, :] + noise, 0, 255).astype(np.uint8), colours


def label_data(count: int = 60, **options: object) -> ImageData:
    """Images with a label for each colour that is strong in them; some have none."""
    images, colours = levels(count)
    labels = (colours > np.array([128, 150, 180])).astype(np.uint8)
    return from_arrays(images, labels, task="multilabel", **{"classes": LABELS, "name": "colours", **options})


def number_data(count: int = 60, **options: object) -> ImageData:
    """Images with their mean level, and 100 times red less blue as a share."""
    images, colours = levels(count)
    numbers = np.stack([colours.mean(1), 100 * (colours[:, 0] - colours[:, 2]) / 255], axis=1)
    given = {"classes": COLUMNS, "name": "levels", **options}
    return from_arrays(images, numbers.astype(np.float32), task="regression", **given)


@pytest.fixture(scope="session")
def labels_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("labels") / "bundle", Preprocessing.of(label_data()))


@pytest.fixture(scope="session")
def numbers_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("numbers") / "bundle", Preprocessing.of(number_data()))
