"""Says what an image goes through before a network sees it, as data for programs elsewhere."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nas.data.images import Carving, Reading
from nas.errors import DataError, ExportError

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
BEFORE: dict[str, Any] = {"fit": "crop", "bits": 16, "float_white": 255.0, "background": None}
"""How images were read by the versions that did not write it."""

LAYOUT = "float32 of shape (batch, channels, resolution, resolution)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """Which images a network was trained on.

    Attributes:
        data: Digest of the images (`ImageData.content_digest`), whatever the size they were trained at.
        split: Fingerprint of which image was in which split.
        carving: How the splits that the data did not give were carved; None where that is not known.
    """

    data: str
    split: str
    carving: Carving | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """From an image file to the network's input, and from its logits to names.

    Attributes:
        reading: How an image file becomes pixels.
        mean: Mean of each channel, of pixels in [0, 1].
        std: Standard deviation of each channel, of pixels in [0, 1].
        classes: Names of the classes, in the order of the logits.
        trained_on: The images that mean, std and classes are those of; None where that is not known.

    Raises:
        ExportError: A value is out of range, or the numbers of channels differ.
    """

    reading: Reading
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    trained_on: TrainedOn | None = None

    def __post_init__(self) -> None:
        channels = self.reading.channels
        if not len(self.mean) == len(self.std) == channels:
            raise ExportError(
                f"mean, std must have {channels} values, but got {len(self.mean)} and {len(self.std)}"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise ExportError(f"the mean must be finite, but is {self.mean}")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ExportError(f"`std > 0` must hold for every channel, but got {self.std}")

    @classmethod
    def of(cls, data: ImageData) -> Preprocessing:
        """What images like these went through in training."""
        return cls(
            reading=data.reading,
            mean=data.mean,
            std=data.std,
            classes=data.classes,
            trained_on=TrainedOn(
                data=data.content_digest, split=data.split_fingerprint, carving=data.carving
            ),
        )

    @property
    def mode(self) -> str:
        """Pillow's name for the colours: `L` or `RGB`."""
        return "L" if self.reading.channels == 1 else "RGB"

    @property
    def resize(self) -> str:
        """What makes an image of any kind and size one of the network's, in words."""
        how = self.reading
        behind = "ignore transparency" if how.background is None else f"lay it on grey {how.background}"
        return (
            f"turn as the EXIF tag says, shift whole numbers of more than 8 bits right by {how.bits - 8}, "
            f"scale floating point numbers by 255 / {how.float_white:g}, {behind}, convert to the mode, "
            f"{FITS[how.fit]}"
        )

    def check_fits(self, network: Network) -> None:
        """Checks that the network takes such images and has a logit for every class.

        Raises:
            ExportError: Resolution, channels or number of classes differ.
        """
        wanted = (
            ("resolution", network.resolution, self.reading.resolution),
            ("in_channels", network.in_channels, self.reading.channels),
            ("num_classes", network.num_classes, len(self.classes)),
        )
        for field, has, needs in wanted:
            if has != needs:
                raise ExportError(
                    f"the network has {field}={has}, but the preprocessing is for {field}={needs}: "
                    "give the preprocessing of the data it was trained on"
                )

    def to_json(self) -> str:
        """Writes it as one flat JSON object, with the steps in words."""
        numbers = {"mean": self.mean, "std": self.std, "classes": self.classes}
        trained_on = None if self.trained_on is None else asdict(self.trained_on)
        words = {"mode": self.mode, "resize": self.resize, "values": VALUES, "layout": LAYOUT}
        return json.dumps(
            {**asdict(self.reading), **numbers, "trained_on": trained_on, **words},
            indent=1,
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads what `to_json` wrote; what earlier versions did not write is as they did it.

        Raises:
            ExportError: It is no such object.
        """
        try:
            values: Any = json.loads(text)
            given = {name: values[name] for name in ("channels", "resolution")}
            later = {name: values.get(name, before) for name, before in BEFORE.items()}
            lists = {name: tuple(values[name]) for name in ("mean", "std", "classes")}
            trained_on = _read_trained_on(values.get("trained_on"))
            return cls(reading=Reading(**given, **later), **lists, trained_on=trained_on)
        except DataError as error:
            raise ExportError(f"a preprocessing is out of range: {error}", field=error.field) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(
                f"a preprocessing must be what `Preprocessing.to_json` writes, but: {error!r}"
            ) from error


def _read_trained_on(values: Any) -> TrainedOn | None:
    if values is None:
        return None
    carving = values["carving"]
    return TrainedOn(**{**values, "carving": None if carving is None else Carving(**carving)})
