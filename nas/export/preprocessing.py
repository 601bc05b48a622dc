"""Says what an image goes through before a network sees it, as data for programs elsewhere."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from nas.data.images import Fit
from nas.errors import ExportError

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from search_spaces import Network

FITS = {
    "crop": "resize the shorter side to the resolution (bilinear, antialiased), crop the centre: Pillow's "
    "ImageOps.fit with Resampling.BILINEAR",
    "pad": "resize the longer side to the resolution (bilinear, antialiased), pad with black on both sides",
    "stretch": "resize both sides to the resolution (bilinear, antialiased)",
}
VALUES = "divide the pixels by 255, subtract the mean, divide by the std, channel by channel"
LAYOUT = "float32 of shape (batch, channels, resolution, resolution)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """From an image file to the network's input, and from its logits to names.

    Attributes:
        resolution: Height and width of the input, pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        mean: Mean of each channel, of pixels in [0, 1].
        std: Standard deviation of each channel, of pixels in [0, 1].
        classes: Names of the classes, in the order of the logits.
        fit: How an image that is not square becomes square: `crop`, `pad` or `stretch`.
        bits: Images of whole numbers of more than 8 bits are divided by 2^(bits - 8).
        float_white: Value that is white in images of floating point numbers.
        background: Grey level behind transparent pixels; None ignores transparency.

    Raises:
        ExportError: A value is out of range, or the numbers of channels differ.
    """

    resolution: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    fit: Fit = "crop"
    bits: int = 16
    float_white: float = 255.0
    background: int | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ExportError(f"`channels in (1, 3)` must hold, but got channels={self.channels!r}")
        if self.fit not in FITS:
            raise ExportError(f"`fit in {tuple(FITS)}` must hold, but got fit={self.fit!r}")
        if not (isinstance(self.bits, int) and 8 <= self.bits <= 32):
            raise ExportError(f"`8 <= bits <= 32` must hold, but got bits={self.bits!r}")
        if self.float_white not in (1, 255):
            raise ExportError(f"`float_white in (1, 255)` must hold, but got {self.float_white!r}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ExportError(
                f"mean, std must have {self.channels} values, but got {len(self.mean)} and {len(self.std)}"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise ExportError(f"the mean must be finite, but is {self.mean}")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ExportError(f"`std > 0` must hold for every channel, but got {self.std}")

    @classmethod
    def of(cls, data: ImageData) -> Preprocessing:
        """What images like these went through in training."""
        return cls(
            resolution=data.resolution,
            channels=data.channels,
            mean=data.mean,
            std=data.std,
            classes=data.classes,
            fit=data.reading.fit,
            bits=data.reading.bits,
            float_white=data.reading.float_white,
            background=data.reading.background,
        )

    @property
    def mode(self) -> str:
        """Pillow's name for the colours: `L` or `RGB`."""
        return "L" if self.channels == 1 else "RGB"

    @property
    def resize(self) -> str:
        """What makes an image of any kind and size one of the network's, in words."""
        behind = "ignore transparency" if self.background is None else f"lay it on grey {self.background}"
        return (
            f"turn as the EXIF tag says, shift whole numbers of more than 8 bits right by {self.bits - 8}, "
            f"scale floating point numbers by 255 / {self.float_white:g}, {behind}, convert to the mode, "
            f"{FITS[self.fit]}"
        )

    def check_fits(self, network: Network) -> None:
        """Checks that the network takes such images and has a logit for every class.

        Raises:
            ExportError: Resolution, channels or number of classes differ.
        """
        wanted = (
            ("resolution", network.resolution, self.resolution),
            ("in_channels", network.in_channels, self.channels),
            ("num_classes", network.num_classes, len(self.classes)),
        )
        for field, has, needs in wanted:
            if has != needs:
                raise ExportError(
                    f"the network has {field}={has}, but the preprocessing is for {field}={needs}: "
                    "give the preprocessing of the data it was trained on"
                )

    def to_json(self) -> str:
        """Writes it as one JSON object, with the steps in words."""
        words = {"mode": self.mode, "resize": self.resize, "values": VALUES, "layout": LAYOUT}
        return json.dumps({**asdict(self), **words}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads what `to_json` wrote; what earlier versions did not write is as they did it.

        Raises:
            ExportError: It is no such object.
        """
        try:
            values: Any = json.loads(text)
            known = {
                field.name: values[field.name]
                for field in fields(cls)
                if field.default is MISSING or field.name in values
            }
            lists = {name: tuple(known[name]) for name in ("mean", "std", "classes")}
            return cls(**{**known, **lists})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ExportError(
                f"a preprocessing must be what `Preprocessing.to_json` writes, but: {error!r}"
            ) from error
