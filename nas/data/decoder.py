"""Turns one image file into the pixels that a network sees; needs Pillow and numpy alone.

An exported bundle holds a copy of this text, so that images are read there as they were in training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

MOST_PIXELS = 178_956_970
"""Pixels of an image; where nobody changes it, Pillow's own limit is the same."""

OF_PROGRAMS = ("EPS", "IPTC", "WMF")
"""Formats that Pillow gives to another program (PostScript to Ghostscript), or that may hold such."""


def decode_image(
    file: Any,
    *,
    channels: int,
    resolution: int,
    fit: str,
    bits: int,
    float_white: float,
    background: int | None,
) -> Any:
    """Reads an image as uint8 of shape (channels, resolution, resolution).

    `open_pixels` says how pixels of any kind become grey or colour, `fit_square` how they become square.
    """
    image = open_pixels(
        file,
        channels=channels,
        bits=bits,
        float_white=float_white,
        background=background,
        least_side=2 * resolution,
    )
    square = fit_square(image, resolution, fit)
    pixels = np.asarray(square, dtype=np.uint8).reshape(resolution, resolution, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def open_pixels(
    file: Any,
    *,
    channels: int,
    bits: int,
    float_white: float,
    background: int | None,
    least_side: int | None,
) -> Any:
    """Reads the whole image, as an image of Pillow of mode `L` (1 channel) or `RGB` (3).

    The image is turned as its EXIF tag says. Whole numbers of more than 8 bits are divided by 2^(bits - 8),
    and floating point numbers are scaled so that `float_white` is 255. What is transparent is laid on a
    grey of level `background` (255 is white); None ignores transparency. A JPEG may come at a half, a quarter
    or an eighth of its size, as long as both sides keep `least_side` pixels; None keeps its size.
    """
    with Image.open(file) as opened:
        require_harmless(opened)
        if least_side is not None:
            opened.draft(None, (least_side, least_side))  # several times faster, and resized anyway
        image = to_eight_bits(ImageOps.exif_transpose(opened), bits, float_white)
        if has_alpha(image) or image.mode == "P":
            image = image.convert("RGBA")
            if background is not None:
                paper = Image.new("RGBA", image.size, (background, background, background, 255))
                image = Image.alpha_composite(paper, image)
        elif image.mode == "LAB":
            image = image.convert("RGB")  # Pillow has no direct way from LAB to grey
        return image.convert("L" if channels == 1 else "RGB")


def require_harmless(image: Any) -> None:
    """Refuses, before it is decoded, an image that would run a program or fill memory.

    Raises:
        ValueError: It is of such a format, or has too many pixels.
    """
    if image.format in OF_PROGRAMS:
        raise ValueError(f"an image must hold pixels, but this one is {image.format}: convert it to PNG")
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"an image must have at most {MOST_PIXELS:,} pixels, but has {image.width:,} x {image.height:,}"
        )


def to_eight_bits(image: Any, bits: int, float_white: float) -> Any:
    """Scales modes `I` (16 and 32 bits) and `F` to 8 bits; Pillow would clip them. Leaves others alone."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if not ((values >= 0) & (values < np.inf)).all():
        raise ValueError(f"pixels must be 0 or more, but range from {values.min()} to {values.max()}")
    scaled = (
        values * (255 / float_white) + 0.5 if image.mode == "F" else values.astype(np.int64) >> (bits - 8)
    )
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))


def has_alpha(image: Any) -> bool:
    """Whether pixels of an image can be transparent."""
    return image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info


def fit_square(image: Any, resolution: int, fit: str) -> Any:
    """Resizes an image to a square (bilinear, antialiased).

    `crop` cuts the centre out, `pad` keeps the whole image between black bars, `stretch` distorts it.
    """
    side = (resolution, resolution)
    if image.size == side:
        return image
    if fit == "crop":
        return ImageOps.fit(image, side, Image.Resampling.BILINEAR)
    if fit == "stretch":
        return image.resize(side, Image.Resampling.BILINEAR)
    longer = max(image.size)
    width, height = (max(1, round(length * resolution / longer)) for length in image.size)
    square = Image.new(image.mode, side)
    inner = image.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(inner, ((resolution - width) // 2, (resolution - height) // 2))
    return square
