"""Says how every image file of a data set becomes pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nas.errors import DataError

Fit = Literal["crop", "pad", "stretch"]
WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How images become pixels, one way for the whole data set, so that they stay comparable.

    Attributes:
        channels: 1 (grey) or 3 (colour).
        resolution: Height and width of the result, in pixels.
        fit: How an image that is not square becomes square: its centre is cut out (`crop`), it is padded
            with black (`pad`), or it is distorted (`stretch`).
        bits: Bits that the largest value needs in images of 16 or 32 bits a pixel.
        float_white: Value that is white in images of floating point numbers: 1 or 255.
        background: Grey level behind transparent pixels; None ignores transparency, as earlier versions did.

    Raises:
        DataError: `fit` is unknown.
    """

    channels: int
    resolution: int
    fit: Fit = "crop"
    bits: int = 16
    float_white: float = 255.0
    background: int | None = WHITE

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise DataError(f"`fit in {get_args(Fit)}` must hold, but got fit={self.fit!r}")

    @property
    def image_bytes(self) -> int:
        """Size of one decoded image."""
        return self.channels * self.resolution**2

    @property
    def marks(self) -> tuple[str, ...]:
        """What a fingerprint says of it: nothing for the default, so that older studies go on."""
        return () if self.fit == "crop" else (f"fit={self.fit}",)
