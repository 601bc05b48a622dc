"""Draws class maps: a row for each image, a column for each network, as in EfficientNet's Figure 7."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image

from nas.data.tree import printable
from nas.errors import UsageError
from nas.report.figures import GREY, INK, NORMAL, SMALL, new_figure, save
from nas.scoring.class_map import OF_CAPTUM, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas.scoring.class_map import ClassMap

Colours = npt.NDArray[np.float64]

MAP_COLOURS = colormaps["viridis"]
"""Perceptually uniform, and ordered by lightness with every kind of colour vision."""

OPACITY = 0.6
"""Of the map over the grey image."""

VEIL = 0.75
"""Whiteness over what the network did not see."""

LEAST_DRAWN = 320
"""Pixels on the longer side of a map that is drawn."""

CELL_INCHES = 1.9
MOST_ROWS, MOST_COLUMNS = 40, 12
LETTERS = 27
"""Characters of a line below a cell."""

LINE_INCHES = 1.35 * NORMAL / 72
GAP = 0.08
SCALE_INCHES, SCALE_MARGIN = 1.15, 0.65

SCALE = """evidence for what is named below each map,
as a share of the largest value in that map
+ largest value; pale: not seen by the network"""

FLATTEST, TALLEST = 0.3, 2.0
"""Height of a row of cells by their width."""

WORDS = "Class maps: "
"""What the file of a picture says of itself begins so."""

NAMES = {"cam": "CAM", "grad-cam": "Grad-CAM"}


def check_size(rows: int, columns: int) -> None:
    """Checks that so many images and networks fit into a picture.

    Raises:
        UsageError: They do not.
    """
    if rows > MOST_ROWS or columns > MOST_COLUMNS:
        raise UsageError(
            f"a picture has at most {MOST_ROWS} images and {MOST_COLUMNS} networks, but got {rows} and "
            f"{columns}: draw fewer, or several pictures",
            field="what",
        )


def draw_class_maps(rows: Sequence[Sequence[ClassMap]], path: Path) -> Path:
    """Draws maps into a .png or .svg file; its folder is made.

    Args:
        rows: One row for each image, one map in it for each network.
        path: The file.

    Raises:
        NasError: There are too many, the name ends otherwise, or the file cannot be written.
    """
    check_size(len(rows), len(rows[0]))
    figure = _figure(rows)
    with suppress(OSError):  # `save` says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Names in a script that matplotlib's font lacks are drawn as boxes; one line for each would not help.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return save(figure, path, words=_words(rows))


def _words(rows: Sequence[Sequence[ClassMap]]) -> str:
    """What the picture shows, for those who cannot see it."""
    networks = ", ".join(printable(one.network) for one in rows[0])
    maps = "; ".join(printable(one.says) for row in rows for one in row[:1])
    return f"{WORDS}where in {len(rows)} images {networks} found evidence, by the first network for {maps}"


def _figure(rows: Sequence[Sequence[ClassMap]]) -> Figure:
    """Sets cells, texts and scale in inches, from the bottom: each cell has the shape of its image."""
    titles = ["image", *(f"{_wrapped(one.network)}\n{_method(one)}" for one in rows[0])]
    heights = [min(TALLEST, max(FLATTEST, row[0].view.size[1] / row[0].view.size[0])) for row in rows]
    lines = [max(_said(one).count("\n") + 1 for one in row) for row in rows]
    below = [LINE_INCHES * count + 2 * GAP for count in lines]
    above = LINE_INCHES * (max(title.count("\n") for title in titles) + 1) + 2 * GAP
    width = GAP + (CELL_INCHES + GAP) * len(titles)
    bottom = SCALE_INCHES + sum(below) + CELL_INCHES * sum(heights)
    figure = new_figure(width, bottom + above, arranged=False)

    for row, height, room in zip(rows, heights, below, strict=True):
        bottom -= CELL_INCHES * height
        cells = [
            _axes(figure, GAP + column * (CELL_INCHES + GAP), bottom, CELL_INCHES, CELL_INCHES * height)
            for column in range(len(titles))
        ]
        bottom -= room
        _draw_image(cells[0], row)
        for cell, one in zip(cells[1:], row, strict=True):
            _draw_map(cell, one)
        if row is rows[0]:
            for cell, title in zip(cells, titles, strict=True):
                cell.set_title(title, fontsize=NORMAL, color=INK)
    _draw_scale(figure, width)
    return figure


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )


def _method(one: ClassMap) -> str:
    name = NAMES.get(one.method, one.method)
    if one.method in OF_CAPTUM:
        return f"{name}, {one.view.pixels.shape[-1]} pixels"
    return f"{name}, {one.places.shape[0]} x {one.places.shape[1]} places"


def _draw_image(axes: Axes, row: Sequence[ClassMap]) -> None:
    image = max((one.view.image for one in row), key=lambda image: len(image.getbands()))
    axes.imshow(np.asarray(image.convert("RGB")), interpolation="antialiased")
    _bare(axes)
    axes.set_xlabel(_wrapped(printable(Path(row[0].file).name)), fontsize=SMALL, color=INK)


def _draw_map(axes: Axes, one: ClassMap) -> None:
    width, height = one.view.size
    axes.imshow(_coloured(one), interpolation="antialiased", extent=(0, width, height, 0))
    if (peak := one.peak) is not None:
        x, y = peak
        axes.plot(x, y, "+", color="black", markersize=9, markeredgewidth=3, clip_on=True)
        axes.plot(x, y, "+", color="white", markersize=8, markeredgewidth=1.4, clip_on=True)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
    _bare(axes)
    axes.set_xlabel(_said(one), fontsize=SMALL, color=INK)


def _said(one: ClassMap) -> str:
    """The lines below a map."""
    lines = [_wrapped(f"{printable(one.says)}{', what lowers it' if one.lowers else ''}")]
    if one.probability is not None and one.mapped != one.predicted:
        predicted = f"predicted: {printable(one.predicted)} {100 * one.probability:.1f} %"
        lines.append(_wrapped(predicted))
    if one.is_empty:
        lines.append("no place speaks for it")
    return "\n".join(lines)


def _coloured(one: ClassMap) -> Colours:
    """The image in grey with the map in colours over what the network saw, the rest pale."""
    view = one.view
    zoom = math.ceil(LEAST_DRAWN / max(view.image.size))  # maps are finer than small images
    size = (zoom * view.image.width, zoom * view.image.height)
    scale = size[0] / view.size[0]
    left, top, right, bottom = (scale * edge for edge in view.box)
    box = (left, top, right, bottom)
    whole = view.image.convert("L").resize(size, Image.Resampling.NEAREST)
    grey = np.asarray(whole, np.float64) / 255
    seen = over(_grey(view.pixels), box, size, is_smooth=False) / 255
    values = one.map
    highest = float(values.max())
    shares = over(values / highest if highest > 0 else values, box, size)
    is_seen = np.isfinite(shares)
    colours = MAP_COLOURS(np.nan_to_num(shares))[..., :3]
    inside = (1 - OPACITY) * np.nan_to_num(seen)[..., None] + OPACITY * colours
    outside = (1 - VEIL) * grey[..., None] + VEIL
    mixed: Colours = np.where(is_seen[..., None], inside, outside)
    return mixed.clip(0, 1)


def _grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    image = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return np.asarray(Image.fromarray(image).convert("L"), np.float32)


def _draw_scale(figure: Figure, width: float) -> None:
    """The one scale of all maps, in the colours that they have over a middle grey."""
    shades = (1 - OPACITY) * 0.5 + OPACITY * MAP_COLOURS(np.linspace(0, 1, 256))[:, :3]
    length = min(width - 2 * SCALE_MARGIN, 2.5 * CELL_INCHES)
    axes = _axes(figure, (width - length) / 2, SCALE_INCHES - 0.25, length, 0.12)
    axes.imshow(shades[None], aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1], labels=["0: none, or against", "1/2", "1: most in a map"])
    axes.tick_params(labelsize=SMALL, colors=INK, length=2, color=GREY)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(SCALE, fontsize=SMALL, color=INK)


def _wrapped(text: str) -> str:
    """At most two lines."""
    return "\n".join(textwrap.wrap(text, LETTERS, max_lines=2, placeholder=" …") or [""])


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
