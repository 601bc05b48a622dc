"""Warns of decoded images from which nothing can be learnt: one colour each, all alike, or nearly black."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from nas.data.images import Images

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
        return (f"{looked} are the same picture: nothing can be learnt from them; check the files",)
    if all(image.min() == image.max() for image in chain.from_iterable(parts)):
        return (f"{looked} have a single colour each: nothing but it can be learnt; check the files",)
    if all(image.max() < NEARLY_BLACK for image in chain.from_iterable(parts)):
        brightest = max(int(part.max()) for part in parts)
        return (
            f"{looked} are nearly black: the largest value is {brightest} of 255; if they should not be, "
            "rescale them",
        )
    return ()
