"""What all pictures share: colours, sizes, words for numbers, and writing a figure as PNG or SVG.

Never touches pyplot or its global state.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure

from nas.errors import NasError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE = "#0072B2"
SKY = "#56B4E9"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
GREEN = "#009E73"
"""Source: Okabe & Ito, Color Universal Design (2008): distinct with every kind of colour vision."""

INK = "#222222"
GREY = "#6B6B6B"
PALE = "#D9D9D9"

SMALL, NORMAL, LARGE = 9, 10, 12
"""Font sizes, points."""

PIXELS_PER_INCH = 150
FORMATS = (".png", ".svg")


def new_figure(width_inches: float, height_inches: float, *, arranged: bool = True) -> Figure:
    """Makes a white figure; `arranged` leaves the places of axes and legends to matplotlib."""
    return Figure(
        figsize=(width_inches, height_inches),
        dpi=PIXELS_PER_INCH,
        facecolor="white",
        layout="constrained" if arranged else None,
    )


def quiet(axes: Axes) -> None:
    """Takes away what does not carry data: two sides of the frame, strong ticks; adds a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=SMALL, colors=INK, color=GREY)
    axes.grid(color=PALE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)


def check_name(path: Path, *, field: str = "path") -> None:
    """Checks that a figure can be written under such a name.

    Raises:
        NasError: It ends in neither .png nor .svg.
    """
    if path.suffix.lower() not in FORMATS:
        raise NasError(
            f"a picture's name must end in {' or '.join(FORMATS)}, but got {path.name!r}", field=field
        )


def save(figure: Figure, path: Path, *, words: str = "") -> Path:
    """Writes the figure; equal figures give equal files.

    Args:
        figure: The figure.
        path: The file.
        words: What it shows, which the file then says of itself.

    Raises:
        NasError: The name ends in neither .png nor .svg, or the file cannot be written.
    """
    check_name(path)
    try:
        path.write_bytes(_rendered(figure, path.suffix.lower()[1:], words))
    except OSError as error:
        raise NasError(
            f"the picture {path} cannot be written: {error.strerror or error}", field="path"
        ) from error
    return path


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    return _rendered(figure, "png")


def _rendered(figure: Figure, kind: str, words: str = "") -> bytes:
    buffer = io.BytesIO()
    metadata: dict[str, str | None] = {"Date": None} if kind == "svg" else {"Software": None}
    metadata |= {"Description": words} if words else {}
    # Text stays text in SVG: searchable, readable aloud, and small.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mnas"}):
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def scale_of(largest: float) -> tuple[float, str]:
    """The factor and its word that bring an axis to small numbers: (1e6, "millions")."""
    for factor, word in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")):
        if largest >= factor:
            return factor, word
    return 1.0, ""
