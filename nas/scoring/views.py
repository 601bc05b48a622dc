"""An image with the part of it that a network sees, and the pixels that it sees there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nas.data.decoding import decode, open_image
from nas.data.images import Images, Reading

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels of the upright image; with `pad`, beyond the image."""

MOST_SHOWN = 640
"""Pixels on the longer side of an image that is kept to be drawn."""

CROP_PADDING = 32
"""Source: `preprocessing.py` of EfficientNet's original code, `CROP_PADDING`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """What a network sees of an image.

    Attributes:
        image: The whole image, upright, in colour or grey as the network takes it; at most `MOST_SHOWN`
            pixels wide and high.
        size: Width and height of the upright file, in pixels.
        pixels: uint8 of shape (channels, resolution, resolution), what the network sees.
        box: Where in the image that is.
    """

    image: Image.Image
    size: tuple[int, int]
    pixels: Images
    box: Box


Look = Callable[[Path, Reading], View]
"""Reads an image file; raises whatever Pillow does where it cannot."""


def as_trained(path: Path, reading: Reading) -> View:
    """Sees an image as `nas predict` does."""
    image = open_image(path, reading)
    return _view(image, decode(path, reading), _box_of_fit(image.size, reading))


def middle(path: Path, reading: Reading) -> View:
    """Sees the middle of an image, resized bicubically, as EfficientNet was evaluated.

    Source: `_decode_and_center_crop` in `preprocessing.py` of EfficientNet's original code.
    """
    image = open_image(path, reading)
    side = min(image.size) * reading.resolution / (reading.resolution + CROP_PADDING)
    box = _centred(image.size, side)
    seen = image.resize((reading.resolution,) * 2, Image.Resampling.BICUBIC, box=box)
    pixels = np.asarray(seen, np.uint8).reshape(reading.resolution, reading.resolution, reading.channels)
    return _view(image, np.ascontiguousarray(pixels.transpose(2, 0, 1)), box)


def _view(image: Image.Image, pixels: Images, box: Box) -> View:
    size = image.size
    image.thumbnail((MOST_SHOWN, MOST_SHOWN))
    return View(image=image, size=size, pixels=pixels, box=box)


def _box_of_fit(size: tuple[int, int], reading: Reading) -> Box:
    if reading.fit == "stretch":
        return (0.0, 0.0, float(size[0]), float(size[1]))
    return _centred(size, float(max(size) if reading.fit == "pad" else min(size)))


def _centred(size: tuple[int, int], side: float) -> Box:
    left, top = ((length - side) / 2 for length in size)
    return (left, top, left + side, top + side)
