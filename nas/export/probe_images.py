"""Writes image files of every mode and kind, on which two programs that read images are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nas.data.images import Reading

BYTES_A_PIXEL = {"L": 1, "P": 1, "LA": 2, "RGB": 3, "LAB": 3, "YCbCr": 3, "RGBA": 4, "RGBX": 4, "CMYK": 4}
SIZE = (41, 28)
"""Width and height of most; no image is square."""

TIFF_MODES = (*BYTES_A_PIXEL, "1", "I;16", "I;16B", "I", "F")
PNG_MODES = ("RGB", "1", "L", "LA", "P", "RGBA", "I;16")
JPEG_MODES = ("L", "RGB", "CMYK", "YCbCr")
ORIENTATION = 0x0112
REFUSED = {"negative.tif": -1.0, "nan.tif": np.nan, "endless.tif": np.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Painter:
    """Makes noise that uses the whole range of a reading, and a little more."""

    reading: Reading
    generator: np.random.Generator

    def paint(self, mode: str, size: tuple[int, int] = SIZE) -> Image.Image:
        """An image of noise.

        Args:
            mode: Pillow's name.
            size: Width and height.
        """
        shape = size[::-1]
        if mode == "1":
            return self.paint("L", size).convert("1")
        if mode == "F":
            white = 1.1 * self.reading.float_white
            return Image.fromarray(self.generator.uniform(0, white, shape).astype(np.float32))
        if mode == "I":
            most = min(2**self.reading.bits + 1000, 2**31 - 1)
            return Image.fromarray(self.generator.integers(0, most, shape, dtype=np.int32))
        if mode in ("I;16", "I;16B"):
            most = min(2**self.reading.bits + 1000, 2**16)
            values = self.generator.integers(0, most, shape)
            return Image.frombytes(mode, size, values.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
        image = Image.frombytes(mode, size, self.generator.bytes(BYTES_A_PIXEL[mode] * size[0] * size[1]))
        if mode == "P":
            image.putpalette(self.generator.bytes(768))
        return image


def write_probe_images(folder: Path, reading: Reading) -> list[Path]:
    """Writes the files; the first is an ordinary one in colour.

    Args:
        folder: Where to; empty.
        reading: How they will be read: some are much larger than its resolution, some have values at its
            white and above.
    """
    paint = _Painter(reading=reading, generator=np.random.default_rng(0)).paint
    paths: list[Path] = []

    def write(name: str, image: Image.Image, **options: Any) -> None:
        image.save(folder / name, **options)
        paths.append(folder / name)

    for suffix, modes in (("png", PNG_MODES), ("tif", TIFF_MODES), ("jpg", JPEG_MODES), ("gif", "P")):
        for mode in modes:
            write(f"{mode.replace(';', '-')}.{suffix}", paint(mode))
    _write_transparent(write, paint)
    _write_turned(write, paint)
    _write_sizes(write, paint, reading.resolution)
    for name, value in REFUSED.items():
        spoilt = np.array(paint("F"))
        spoilt[3, 5] = value
        write(name, Image.fromarray(spoilt))
    write("negative-whole.tif", Image.fromarray(-np.array(paint("I"))))
    paths += _write_damaged(folder)
    return paths


Write = Callable[..., None]
Paint = Callable[..., Image.Image]


def _write_transparent(write: Write, paint: Paint) -> None:
    write("P-one-transparent.png", paint("P"), transparency=7)
    write("P-each-transparent.png", paint("P"), transparency=bytes(range(256)))
    write("P-one-transparent.gif", paint("P"), transparency=7)
    grey, colour = paint("L"), paint("RGB")
    write("L-transparent.png", grey, transparency=grey.getpixel((0, 0)))
    write("RGB-transparent.png", colour, transparency=colour.getpixel((0, 0)))


def _write_turned(write: Write, paint: Paint) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        write(f"turned-{orientation}.jpg", paint("RGB"), exif=exif)


def _write_sizes(write: Write, paint: Paint, resolution: int) -> None:
    write("large.jpg", paint("RGB", (5 * resolution + 3, 4 * resolution + 1)))
    write("large-grey.jpg", paint("L", (4 * resolution + 1, 5 * resolution + 3)))
    write("exact.png", paint("RGB", (resolution, resolution)))
    write("tall.png", paint("RGB", (9, 100)))
    write("wide.png", paint("RGB", (100, 9)))
    write("pixel.png", paint("RGB", (1, 1)))


def _write_damaged(folder: Path) -> list[Path]:
    whole, cut, text = (folder / name for name in ("RGB.png", "cut.png", "text.png"))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    text.write_text("no image")
    return [cut, text]
