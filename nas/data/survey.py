"""Decides how the images of a data set are read from what their files say, and warns of empty pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from nas.data.decoding import Probe
from nas.data.images import FIT, WHITE, Fit, Images, Reading, Wanted
from nas.data.tree import count, few
from nas.errors import DataError

GREATEST_INFERRED_RESOLUTION = 224
SAID_MEAN_CUT, SAID_LARGEST_CUT = 0.2, 0.5
"""Share of the pictures on average, and of one of them, from which it is said that a centre crop cuts it."""

NEARLY_ONE = 2.0
"""Floating point images with a largest value between 1 and this are in neither 0..1 nor 0..255."""

STILL_BLACK = 4 / 256
"""An image without a value above this share of white is taken for black."""

FIT_WORDS = {"crop": "centre-cropped", "pad": "padded with black", "stretch": "stretched"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How a set of image files is read.

    Attributes:
        reading: How all images become pixels.
        notes: What that does to the images.
        marks: What is read unlike in earlier versions, for the digest of the content.
        warnings: Images of which that leaves nothing to see.
        native_side: See `ImageData`.
    """

    reading: Reading
    native_side: float
    notes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def survey_images(probes: Sequence[Probe], names: Sequence[str], how: Wanted | Reading) -> Survey:
    """Decides how images are read, or says what a reading that is decided already does to them.

    Args:
        probes: What each file says.
        names: The name of each.
        how: What is wanted, or the reading of the images that a network was trained on.

    Raises:
        DataError: Values of an image are outside of what can be scaled, where that is to be decided.
    """
    if isinstance(how, Reading):
        return _survey_for_network(probes, names, how)
    resolution, fit = how.resolution, how.fit
    notes = []
    if resolution is None:
        resolution, note = infer_resolution(probes, fit)
        notes += [note] if note else []
    shapes = [(one.height, one.width) for one in probes]
    notes += cut_notes(shapes, names) if fit == "crop" else []
    reading = Reading(
        channels=1 if all(one.is_grey for one in probes) else 3,
        resolution=resolution,
        fit=fit,
    )
    reading, deep_notes, marks = _scale(reading, probes, names)
    transparent = [name for name, one in zip(names, probes, strict=True) if one.is_transparent]
    if transparent:
        notes.append(f"the transparent parts of {count(transparent, 'image')} become white")
        marks.append(f"background={WHITE}")
    framed = [name for name, one in zip(names, probes, strict=True) if one.has_frames]
    if framed:
        notes.append(f"of {count(framed, 'image')} with several frames or pages, the first is used")
    return Survey(
        reading=reading,
        native_side=native_side(shapes, fit),
        notes=(*notes, *deep_notes),
        marks=tuple(marks),
        warnings=_black_warning(reading, probes, names),
    )


def _survey_for_network(probes: Sequence[Probe], names: Sequence[str], reading: Reading) -> Survey:
    """What images look like to a network that was trained on others; marks are those of their own survey."""
    notes = square_notes([(one.height, one.width) for one in probes], reading)
    coloured = [name for name, one in zip(names, probes, strict=True) if not one.is_grey]
    if reading.channels == 1 and coloured:
        notes.append(f"{count(coloured, 'image')} in colour become grey, as the network was trained on grey")
    white = {"bytes": np.inf, "whole": 2.0**reading.bits - 1, "float": reading.float_white}
    clipped = [name for name, one in zip(names, probes, strict=True) if one.greatest > white[one.numbers]]
    warnings: tuple[str, ...] = ()
    if clipped:
        warnings = (
            f"{count(clipped, 'image')} have values above {white['whole']:.0f} (whole numbers) or "
            f"{white['float']:g} (floating point), which was white in training, and are clipped there: "
            f"{few(clipped)}; bring them to the scale of the training images",
        )
    side = native_side([(one.height, one.width) for one in probes], reading.fit)
    try:
        marks = survey_images(probes, names, Wanted(resolution=reading.resolution, fit=reading.fit)).marks
    except DataError as error:  # a value of some image is out of range: no set like this was trained on
        marks, warnings = (), (*warnings, str(error))
    return Survey(reading=reading, native_side=side, notes=tuple(notes), marks=marks, warnings=warnings)


def native_side(shapes: Sequence[tuple[int, int]], fit: Fit) -> float:
    """Median of the sides that a fit keeps: the shorter ones for crop, the longer ones for pad, else a mean.

    Args:
        shapes: Height and width of each image, pixels.
        fit: How images become square; of `stretch` it is the geometric mean of the two sides.
    """
    shorter, longer = [min(shape) for shape in shapes], [max(shape) for shape in shapes]
    sides = {"crop": shorter, "pad": longer, "stretch": list(np.sqrt(np.multiply(shorter, longer)))}
    return float(np.median(sides[fit]))


def infer_resolution(probes: Sequence[Probe], fit: Fit = FIT) -> tuple[int, str | None]:
    """Chooses one resolution for images of many sizes.

    Square images of one size keep it. Otherwise it is their `native_side`, rounded to a multiple of 8 (of 32
    from 64 pixels on, where networks halve the resolution five times). Never above 224.

    Returns:
        The resolution, and a note for the user where images will be resized.
    """
    shorter = [min(p.height, p.width) for p in probes]
    longer = [max(p.height, p.width) for p in probes]
    if min(shorter) == max(longer) <= GREATEST_INFERRED_RESOLUTION:
        return shorter[0], None
    median = native_side([(p.height, p.width) for p in probes], fit)
    step = 32 if median >= 64 else 8
    resolution = min(GREATEST_INFERRED_RESOLUTION, max(step, round(median / step) * step))
    return resolution, (
        f"images of {min(shorter)} to {max(longer)} pixels a side are resized and {FIT_WORDS[fit]} to "
        f"{resolution} x {resolution}; give a resolution to choose another"
    )


def cut_notes(
    shapes: Sequence[tuple[int, int]], names: Sequence[str], *, said_from: float = SAID_MEAN_CUT
) -> list[str]:
    """Says how much of the pictures a centre crop cuts off.

    Args:
        shapes: Height and width of each image.
        names: The name of each.
        said_from: Mean share from which it is said.
    """
    cuts = np.array([1 - min(shape) / max(shape) for shape in shapes]).round(4)
    worst = int(cuts.argmax())
    mean = float(cuts.mean().round(4))
    if mean < said_from and cuts[worst] < SAID_LARGEST_CUT:
        return []
    height, width = shapes[worst]
    return [
        f"images are not square: --fit crop, the default, cuts off {mean:.0%} of a picture on average "
        f"and {cuts[worst]:.0%} of {names[worst]} ({width} x {height}); --fit pad or --fit stretch keeps all"
    ]


def square_notes(shapes: Sequence[tuple[int, ...]], reading: Reading) -> list[str]:
    """Says how images that are not square become so for a network, where any is there."""
    if all(height == width for height, width in shapes):
        return []
    return [f"images that are not square are {FIT_WORDS[reading.fit]}, as in the network's training"]


def _scale(
    reading: Reading, probes: Sequence[Probe], names: Sequence[str]
) -> tuple[Reading, list[str], list[str]]:
    """Decides the scale of images of more than 8 bits; returns the reading, notes and marks."""
    notes, marks = [], []
    whole = [(name, one) for name, one in zip(names, probes, strict=True) if one.numbers == "whole"]
    if whole:
        bits = _bits(whole)
        reading = replace(reading, bits=bits)
        largest = max(one.greatest for _, one in whole)
        notes.append(
            f"pixels of more than 8 bits in {count(whole, 'image')} are scaled by {bits} bits, which the "
            f"largest value of all, {largest:.0f}, needs"
        )
        marks += [f"bits={bits}"] if bits != Reading(channels=1, resolution=1).bits else []
    floats = [(name, one) for name, one in zip(names, probes, strict=True) if one.numbers == "float"]
    if floats:
        white = _float_white(floats)
        reading = replace(reading, float_white=white)
        notes.append(f"floating point numbers in {count(floats, 'image')} are read as 0 to {white:g}")
        marks.append(f"float_white={white:g}")
    deep_colour = [name for name, one in zip(names, probes, strict=True) if one.is_deep_colour]
    if deep_colour:
        notes.append(
            f"of {count(deep_colour, 'image')} in colour with 16 bits a channel, the upper 8 bits are used"
        )
    return reading, notes, marks


def _black_warning(reading: Reading, probes: Sequence[Probe], names: Sequence[str]) -> tuple[str, ...]:
    """Warns of images that are black at the scale of the set, but not in themselves."""
    white = {"bytes": 0.0, "whole": 2.0**reading.bits, "float": reading.float_white}
    black = [
        name
        for name, one in zip(names, probes, strict=True)
        if 0 < one.greatest < STILL_BLACK * white[one.numbers]
    ]
    if not black:
        return ()
    return (
        f"nothing is seen in {count(black, 'image')}, as others of the set have far larger values: "
        f"{few(black)}; bring all images to one scale",
    )


def _bits(images: Sequence[tuple[str, Probe]]) -> int:
    """The smallest of 8, 10, 12, ... bits that holds every value.

    Raises:
        DataError: A value is below 0.
    """
    negative = [f"{name} (from {one.least:.0f})" for name, one in images if one.least < 0]
    if negative:
        raise DataError(
            f"pixels must be 0 or more, but {count(negative, 'image')} have values below: {few(negative)}; "
            "add an offset to all images, or save them with 8 bits a pixel"
        )
    needed = int(max(one.greatest for _, one in images)).bit_length()
    return max(8, needed + needed % 2)


def _float_white(images: Sequence[tuple[str, Probe]]) -> float:
    """What is white in images of floating point numbers: 1, or 255.

    Raises:
        DataError: Values are in neither range, or no numbers.
    """
    outside = [
        f"{name} ({one.least:g} to {one.greatest:g})"
        for name, one in images
        if not 0 <= one.least <= one.greatest <= WHITE
    ]
    largest = max(one.greatest for _, one in images)
    if not outside and 1 < largest < NEARLY_ONE:
        outside = [f"{name} (up to {one.greatest:g})" for name, one in images if one.greatest > 1]
    if outside:
        raise DataError(
            "pixels that are floating point numbers must all be in 0..1, or all in 0..255, but of "
            f"{count(images, 'image')} {len(outside)} are not: {few(outside)}; rescale all alike, or save "
            "them with 8 bits a pixel"
        )
    return 1.0 if largest <= 1 else float(WHITE)


NEARLY_BLACK = 16
"""A set without a pixel as bright as this looks black, as 12 bits do when they are read as 16."""


def pixel_warnings(parts: Sequence[Images]) -> tuple[str, ...]:
    """Looks at images until one is unlike the others, so that it takes no time where all is well.

    Args:
        parts: Images of one size, each part of shape (count, channels, height, width).
    """
    count = sum(map(len, parts))
    first = next(chain.from_iterable(parts), None)
    if first is None or count == 1:
        return ()
    looked = f"all {count:,} images that were looked at"
    if all(np.array_equal(image, first) for image in chain.from_iterable(parts)):
        return (f"{looked} are the same picture: nothing can be learned from them; check the files",)
    if all(image.min() == image.max() for image in chain.from_iterable(parts)):
        return (f"{looked} have a single colour each: nothing else can be learned; check the files",)
    if all(image.max() < NEARLY_BLACK for image in chain.from_iterable(parts)):
        brightest = max(int(part.max()) for part in parts)
        return (
            f"{looked} are nearly black: the largest value is {brightest} of 255; if they should not be, "
            "rescale them",
        )
    return ()
