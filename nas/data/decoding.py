"""Turns encoded images (files or bytes) into uint8 arrays of one size, and says which are damaged."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas.data.decoder import decode_image, fit_square, has_alpha, open_pixels, require_harmless
from nas.data.images import FIT, WHITE, Fit, Images, Reading
from nas.data.tree import few
from nas.errors import DataError
from nas.machine import usable_cores
from nas.trial import Say, say_nothing

Encoded = Path | bytes
T = TypeVar("T")

IMAGES_A_LINE = 20
"""So many images are counted at a time where progress is said."""

GREATEST_UNREADABLE_SHARE = 0.01

# Pillow's plugins raise whatever a damaged file leads them to: OSError, SyntaxError, struct.error, KeyError,
# ZeroDivisionError, DecompressionBombError (too many pixels) and more, by format and kind of damage.
READ_ERRORS = (Exception,)
GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}

ONE_PICTURE = ("MPO", "PSD")
"""Formats whose further frames are previews and layers of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What an image file says before it is decoded for training.

    Attributes:
        height: In pixels.
        width: In pixels.
        is_grey: Whether it has no colours.
        numbers: Whether a pixel is a byte for each channel, one whole number of more bits, or one of
            floating point.
        least: Smallest value, where a pixel is not bytes.
        greatest: Largest value, where a pixel is not bytes.
        is_transparent: Whether a pixel is not opaque.
        has_frames: Whether there are further pictures in the file.
        is_deep_colour: Whether it is a colour image of 16 bits a channel, of which Pillow reads the upper 8.
    """

    height: int
    width: int
    is_grey: bool
    numbers: Literal["bytes", "whole", "float"] = "bytes"
    least: float = 0.0
    greatest: float = 255.0
    is_transparent: bool = False
    has_frames: bool = False
    is_deep_colour: bool = False


def probe(encoded: Encoded) -> Probe | None:
    """Reads the header and looks for the end of the file; None when the image cannot be read.

    A JPEG or PNG whose last bytes hold its end marker is taken to be whole. All others are decoded, and so
    are images whose conversion to 8 bits depends on their values.
    """
    try:
        with Image.open(_stream(encoded)) as image:
            require_harmless(image)
            numbers = _numbers(image.mode)
            may_be_transparent = numbers == "bytes" and has_alpha(image)
            is_deep_colour = numbers == "bytes" and _is_deep(image)
            if numbers != "bytes" or may_be_transparent or not _has_end(encoded, image.format or ""):
                image.load()
            least, greatest = (0.0, 255.0) if numbers == "bytes" else _range(image)
            return Probe(
                height=image.height,
                width=image.width,
                is_grey=image.mode in GREY_MODES,
                numbers=numbers,
                least=least,
                greatest=greatest,
                is_transparent=may_be_transparent and _is_transparent(image),
                has_frames=_has_frames(image),
                is_deep_colour=is_deep_colour,
            )
    except READ_ERRORS:
        return None


def decode(encoded: Encoded, reading: Reading) -> Images:
    """Decodes one image.

    Args:
        encoded: A file, or the bytes of one.
        reading: How images of its data set become pixels.

    Returns:
        uint8 of shape (channels, resolution, resolution).

    Raises:
        Exception: The image is damaged (see `READ_ERRORS`).
    """
    pixels: Images = decode_image(
        _stream(encoded),
        channels=reading.channels,
        resolution=reading.resolution,
        fit=reading.fit,
        bits=reading.bits,
        float_white=reading.float_white,
        background=reading.background,
    )
    return pixels


def open_image(encoded: Encoded, reading: Reading, *, least_side: int | None = None) -> Image.Image:
    """Decodes one image whole, for crops of it; its resolution and fit are left to the caller.

    Args:
        encoded: A file, or the bytes of one.
        reading: How images of its data set become pixels.
        least_side: A JPEG may come smaller, at a fraction of the time, as long as both of its sides keep so
            many pixels; None keeps its size.

    Returns:
        An image of Pillow of mode `L` or `RGB`, upright.

    Raises:
        Exception: The image is damaged (see `READ_ERRORS`).
    """
    image: Image.Image = open_pixels(
        _stream(encoded),
        channels=reading.channels,
        bits=reading.bits,
        float_white=reading.float_white,
        background=reading.background,
        least_side=least_side,
    )
    return image


def probe_all(sources: Sequence[Encoded], *, progress: Say = say_nothing) -> list[Probe | None]:
    """Probes many images on all cores, in order."""
    with ThreadPoolExecutor(decoding_threads()) as pool:
        return list(counted(pool.map(probe, sources), len(sources), "looked at", progress))


def counted(done: Iterable[T], total: int, verb: str, progress: Say) -> Iterator[T]:
    """Yields what was done, and says now and then how much of it there is."""
    for number, one in enumerate(done, start=1):
        if number % IMAGES_A_LINE == 0:
            progress(f"{verb} {number:,} of {total:,} images")
        yield one


def decode_all(
    sources: Sequence[Encoded], reading: Reading, *, progress: Say = say_nothing
) -> tuple[Images, npt.NDArray[np.int64]]:
    """Decodes many images on all cores.

    Returns:
        uint8 of shape (readable, channels, resolution, resolution), and the indices of the readable ones.
    """
    shape = (len(sources), reading.channels, reading.resolution, reading.resolution)
    images = np.empty(shape, dtype=np.uint8)

    def one(index: int) -> bool:
        try:
            images[index] = decode(sources[index], reading)
        except READ_ERRORS:
            return False
        return True

    with ThreadPoolExecutor(decoding_threads()) as pool:
        done = counted(pool.map(one, range(len(sources))), len(sources), "decoded", progress)
        is_readable = np.fromiter(done, dtype=bool, count=len(sources))
    readable = np.flatnonzero(is_readable)
    return (images if len(readable) == len(sources) else images[readable]), readable


def resize(images: Images, resolution: int, fit: Fit = FIT) -> Images:
    """Brings arrays of shape (count, channels, height, width) to a square resolution, as `decode` does."""
    count, channels, height, width = images.shape
    if height == width == resolution:
        return images
    resized = np.empty((count, channels, resolution, resolution), dtype=np.uint8)
    for index, pixels in enumerate(images):
        image = Image.fromarray(
            pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        )
        fitted = np.asarray(fit_square(image, resolution, fit))
        resized[index] = fitted[None] if channels == 1 else fitted.transpose(2, 0, 1)
    return resized


def recolour(images: Images, channels: int) -> Images:
    """Brings arrays of shape (count, channels, height, width) to 1 or 3 channels, as `decode` does."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    grey = [Image.fromarray(np.ascontiguousarray(one.transpose(1, 2, 0))).convert("L") for one in images]
    return np.stack([np.asarray(one)[None] for one in grey])


def tolerated(total: int) -> int:
    """How many of so many images may be unreadable: 1 % of them, but at least one."""
    return max(1, int(GREATEST_UNREADABLE_SHARE * total))


def unreadable_warning(names: Sequence[str], total: int) -> tuple[str, ...]:
    """The warning for images that were skipped; none when there are none.

    Raises:
        DataError: More than 1 % of the images, and more than one, cannot be read.
    """
    if names and len(names) > tolerated(total):
        raise DataError(
            f"at most {GREATEST_UNREADABLE_SHARE:.0%} of the images, or one, may be unreadable, but "
            f"{len(names)} of {total} are: {few(names)}; delete or replace them"
        )
    return skipped_warning(names, total)


def skipped_warning(names: Sequence[str], total: int) -> tuple[str, ...]:
    """The warning for images that were skipped, however many they are; none when there are none."""
    if not names:
        return ()
    return (f"skipped {len(names)} of {total} images that cannot be read: {few(names)}",)


def _numbers(mode: str) -> Literal["bytes", "whole", "float"]:
    return "float" if mode == "F" else "whole" if mode.startswith("I") else "bytes"


def _has_frames(image: Image.Image) -> bool:
    """Whether there are further pictures; False where what follows the first is damaged."""
    try:
        return bool(getattr(image, "is_animated", False)) and image.format not in ONE_PICTURE
    except READ_ERRORS:
        return False


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel, such as Pillow's raw mode `RGB;16B`."""
    layouts = [
        tile[-1] if isinstance(tile[-1], str) else next(iter(tile[-1] or ()), "")
        for tile in getattr(image, "tile", ())
    ]
    return any(str(layout).endswith(("16B", "16L", "16N")) for layout in layouts)


def _range(image: Image.Image) -> tuple[float, float]:
    values = np.asarray(image)
    return float(values.min()), float(values.max())


def _is_transparent(image: Image.Image) -> bool:
    least, _ = image.convert("RGBA").getchannel("A").getextrema()
    return least < WHITE  # type: ignore[operator]  # a pair of ints for one channel of 8 bits


def _stream(encoded: Encoded) -> Path | io.BytesIO:
    return encoded if isinstance(encoded, Path) else io.BytesIO(encoded)


def _has_end(encoded: Encoded, image_format: str) -> bool:
    marker = END_MARKERS.get(image_format)
    if marker is None:
        return False
    if isinstance(encoded, bytes):
        return marker in encoded[-64:]
    with encoded.open("rb") as file:
        file.seek(max(0, encoded.stat().st_size - 64))
        return marker in file.read()


def decoding_threads() -> int:
    """Number of threads that decode images: as many as there are cores, at most 16."""
    return min(16, usable_cores())
