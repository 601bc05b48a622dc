"""Owns turning encoded images (files or bytes) into uint8 arrays of one size, and saying which are damaged.

Does not own where they come from: folders and packs are elsewhere.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nas.data.images import Images
from nas.errors import DataError
from nas.trial import Say, say_nothing

Encoded = Path | bytes
T = TypeVar("T")

IMAGES_A_LINE = 20
"""So many images are counted at a time where progress is said."""

GREATEST_INFERRED_RESOLUTION = 224
GREATEST_UNREADABLE_SHARE = 0.01

# What Pillow raises for damaged files, by format and kind of damage.
READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError)
GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I", "F")
END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What an image's header says: height and width in pixels, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


def probe(encoded: Encoded) -> Probe | None:
    """Reads the header and looks for the end of the file; None when the image cannot be read.

    A JPEG or PNG whose last bytes hold its end marker is taken to be whole, all others are decoded.
    """
    try:
        with Image.open(_stream(encoded)) as image:
            if not _has_end(encoded, image.format or ""):
                image.load()
            return Probe(height=image.height, width=image.width, is_grey=image.mode in GREY_MODES)
    except READ_ERRORS:
        return None


def decode(encoded: Encoded, channels: int, resolution: int) -> Images:
    """Decodes one image: turned as its EXIF tag says, shorter side resized to the resolution, centre cropped.

    Args:
        encoded: A file, or the bytes of one.
        channels: 1 (grey) or 3 (colour).
        resolution: Height and width of the result, in pixels.

    Returns:
        uint8 of shape (channels, resolution, resolution).

    Raises:
        OSError: The image is damaged; the other `READ_ERRORS` mean the same.
    """
    mode = "L" if channels == 1 else "RGB"
    with Image.open(_stream(encoded)) as opened:
        # A large JPEG is decoded at a fraction of its size: several times faster, and resized anyway.
        opened.draft(None, (2 * resolution, 2 * resolution))
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip, not scale
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        if image.mode in ("P", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow's way for palettes with transparency
        image = image.convert(mode)
        if image.size != (resolution, resolution):
            image = ImageOps.fit(image, (resolution, resolution), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def probe_all(sources: Sequence[Encoded], *, progress: Say = say_nothing) -> list[Probe | None]:
    """Probes many images on all cores, in order."""
    with ThreadPoolExecutor(_threads()) as pool:
        return list(counted(pool.map(probe, sources), len(sources), "looked at", progress))


def counted(done: Iterable[T], total: int, verb: str, progress: Say) -> Iterator[T]:
    """Yields what was done, and says now and then how much of it there is."""
    for number, one in enumerate(done, start=1):
        if number % IMAGES_A_LINE == 0:
            progress(f"{verb} {number:,} of {total:,} images")
        yield one


def decode_all(
    sources: Sequence[Encoded], channels: int, resolution: int, *, progress: Say = say_nothing
) -> tuple[Images, npt.NDArray[np.int64]]:
    """Decodes many images on all cores.

    Returns:
        uint8 of shape (readable, channels, resolution, resolution), and the indices of the readable ones.
    """
    images = np.empty((len(sources), channels, resolution, resolution), dtype=np.uint8)

    def one(index: int) -> bool:
        try:
            images[index] = decode(sources[index], channels, resolution)
        except READ_ERRORS:
            return False
        return True

    with ThreadPoolExecutor(_threads()) as pool:
        done = counted(pool.map(one, range(len(sources))), len(sources), "decoded", progress)
        is_readable = np.fromiter(done, dtype=bool, count=len(sources))
    readable = np.flatnonzero(is_readable)
    return (images if len(readable) == len(sources) else images[readable]), readable


def resize(images: Images, resolution: int) -> Images:
    """Brings arrays of shape (count, channels, height, width) to a square resolution, as `decode` does."""
    count, channels, height, width = images.shape
    if height == width == resolution:
        return images
    resized = np.empty((count, channels, resolution, resolution), dtype=np.uint8)
    for index, pixels in enumerate(images):
        image = Image.fromarray(
            pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        )
        fitted = np.asarray(ImageOps.fit(image, (resolution, resolution), Image.Resampling.BILINEAR))
        resized[index] = fitted[None] if channels == 1 else fitted.transpose(2, 0, 1)
    return resized


def infer_resolution(probes: Sequence[Probe]) -> tuple[int, str | None]:
    """Chooses one resolution for images of many sizes.

    Square images of one size keep it. Otherwise it is the median of the shorter sides, rounded to a multiple
    of 8 (of 32 from 64 pixels on, where networks halve the resolution five times). Never above 224.

    Returns:
        The resolution, and a note for the user where images will be resized.
    """
    shorter = [min(p.height, p.width) for p in probes]
    longer = [max(p.height, p.width) for p in probes]
    if min(shorter) == max(longer) <= GREATEST_INFERRED_RESOLUTION:
        return shorter[0], None
    median = float(np.median(shorter))
    step = 32 if median >= 64 else 8
    resolution = min(GREATEST_INFERRED_RESOLUTION, max(step, round(median / step) * step))
    return resolution, (
        f"images of {min(shorter)} to {max(longer)} pixels a side are resized and centre-cropped to "
        f"{resolution} x {resolution}; give a resolution to choose another"
    )


def unreadable_warning(names: Sequence[str], total: int) -> tuple[str, ...]:
    """Words the warning for images that were skipped; none when there are none.

    Raises:
        DataError: More than 1 % of the images cannot be read.
    """
    if not names:
        return ()
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if len(names) > GREATEST_UNREADABLE_SHARE * total:
        raise DataError(
            f"at most {GREATEST_UNREADABLE_SHARE:.0%} of the images may be unreadable, but {len(names)} of "
            f"{total} are: {shown}; delete or replace them"
        )
    return (f"skipped {len(names)} of {total} images that cannot be read: {shown}",)


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


def _threads() -> int:
    return min(16, os.cpu_count() or 1)
