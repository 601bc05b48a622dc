"""`ClassMap`: where in an image a network sees what it says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas.scoring.views import View
from nas.tasks import REGRESSION, TaskName

Map = npt.NDArray[np.float32]

Method = Literal["auto", "cam", "grad-cam", "integrated-gradients", "occlusion", "saliency"]

METHODS: tuple[Method, ...] = get_args(Method)
OF_CAPTUM: tuple[Method, ...] = ("integrated-gradients", "occlusion", "saliency")
"""Methods of captum, which judge pixels, and need no map in the network."""

TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassMap:
    """What speaks for a class, label or number, place by place.

    Attributes:
        file: The image's path, as given.
        network: What the network is called.
        task: What the network predicts.
        predicted: The likeliest class or label, or the column of numbers that is mapped.
        probability: Its probability, in [0, 1]; of a number None.
        mapped: The class, label or column of the map: the predicted one if no other was asked for.
        value: Its probability, or the number in the labels' own unit.
        method: How the map was made.
        lowers: Whether the map shows what lowers the number, which is below the mean of the training.
        places: float32 of shape (height, width), what each place of the network's last map, or each pixel,
            speaks for (positive) or against (negative).
        view: The image, and what the network saw of it.
    """

    file: str
    network: str
    task: TaskName
    predicted: str
    probability: float | None
    mapped: str
    value: float
    method: Method
    lowers: bool = False
    places: Map
    view: View

    @property
    def map(self) -> Map:
        """float32 of shape (resolution, resolution): what speaks for it, on the pixels the network saw.

        What speaks against it counts as 0. Places are brought to pixels bilinearly, as in both papers.
        """
        side = self.view.pixels.shape[-1]
        return _resized(self.places.clip(min=0), (side, side))

    @property
    def is_empty(self) -> bool:
        """Whether no place speaks for it."""
        return not bool((self.places > 0).any())

    @property
    def peak(self) -> tuple[float, float] | None:
        """Middle of the place that speaks most for it: x and y in pixels of the upright image.

        None where the map is empty. Where the image was padded, the place may be beside the image.
        """
        if self.is_empty:
            return None
        values = self.places
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        left, top, right, bottom = self.view.box
        x = left + (right - left) * (int(column) + 0.5) / values.shape[1]
        y = top + (bottom - top) * (int(row) + 0.5) / values.shape[0]
        return float(x), float(y)

    @property
    def top_tenth_share(self) -> float | None:
        """Share of the map's sum in the tenth of its pixels with the most; of a flat map it is 0.1."""
        if self.is_empty:
            return None
        values = np.sort(self.map, axis=None)[::-1].astype(np.float64)
        return float(values[: max(1, round(TOP_SHARE * values.size))].sum() / values.sum())

    def over_image(self) -> Map:
        """The map over the whole upright image.

        Returns:
            float32 of shape (height, width) of the image; NaN where the network saw nothing of it.
        """
        return over(self.map, self.view.box, self.view.size)

    @property
    def says(self) -> str:
        """The prediction in words: `daisy 93.1 %`, or `age 34.2`."""
        if self.task == REGRESSION:
            return f"{self.mapped} {self.value:.4g}"
        return f"{self.mapped} {100 * self.value:.1f} %"


def over(
    values: Map, box: tuple[float, float, float, float], size: tuple[int, int], *, is_smooth: bool = True
) -> Map:
    """Lays values over the part of an image of a size (width, height) that a box takes up; NaN elsewhere.

    They are resized bilinearly, or enlarged as squares where `is_smooth` is False.
    """
    left, top, right, bottom = (round(edge) for edge in box)
    whole = np.full((size[1], size[0]), np.nan, np.float32)
    inner_size = (max(1, right - left), max(1, bottom - top))
    has_squares = not is_smooth and inner_size[0] > values.shape[1]
    how = Image.Resampling.NEAREST if has_squares else Image.Resampling.BILINEAR
    inner = _resized(values, inner_size, how)
    rows = slice(max(0, top), min(size[1], bottom))
    columns = slice(max(0, left), min(size[0], right))
    whole[rows, columns] = inner[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return whole


def _resized(values: Map, size: tuple[int, int], how: Image.Resampling = Image.Resampling.BILINEAR) -> Map:
    """Resizes to (width, height)."""
    return np.asarray(Image.fromarray(values).resize(size, how), np.float32)
