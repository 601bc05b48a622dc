"""Owns `Preprocessing`: what an image goes through before a network sees it, as data for programs elsewhere.

Does not own doing it in training: `nas.data.decoding` resizes and `nas.training.training` normalises.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from nas.errors import ExportError

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from search_spaces import Network

RESIZE = (
    "turn as the EXIF tag says, convert to the mode, resize the shorter side to the resolution (bilinear, "
    "antialiased), crop the centre: Pillow's ImageOps.fit with Resampling.BILINEAR"
)
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

    Raises:
        ExportError: The numbers of channels differ, or a deviation is not above zero.
    """

    resolution: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ExportError(f"`channels in (1, 3)` must hold, but got channels={self.channels!r}")
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
        )

    @property
    def mode(self) -> str:
        """Pillow's name for the colours: `L` or `RGB`."""
        return "L" if self.channels == 1 else "RGB"

    def check_fits(self, network: Network) -> None:
        """Checks that the network takes such images and has a logit for every class.

        Raises:
            ExportError: Resolution, channels or number of classes differ.
        """
        laws = (
            ("resolution", network.resolution, self.resolution),
            ("in_channels", network.in_channels, self.channels),
            ("num_classes", network.num_classes, len(self.classes)),
        )
        for field, has, needs in laws:
            if has != needs:
                raise ExportError(
                    f"the network has {field}={has}, but the preprocessing is for {field}={needs}: "
                    "give the preprocessing of the data it was trained on"
                )

    def to_json(self) -> str:
        """Writes it as one JSON object, with the steps in words."""
        words = {"mode": self.mode, "resize": RESIZE, "values": VALUES, "layout": LAYOUT}
        return json.dumps({**asdict(self), **words}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads what `to_json` wrote.

        Raises:
            ExportError: It is no such object.
        """
        try:
            values: Any = json.loads(text)
            known = {field.name: values[field.name] for field in fields(cls)}
            lists = {name: tuple(known[name]) for name in ("mean", "std", "classes")}
            return cls(**{**known, **lists})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ExportError(
                f"a preprocessing must be what `Preprocessing.to_json` writes, but: {error!r}"
            ) from error
