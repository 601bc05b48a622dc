"""The picture of a network: one row for each stage, coloured by what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle

from nas.report.figures import BLUE, GREY, INK, LARGE, NORMAL, PALE, SMALL, new_figure, save
from nas.report.network_lines import TIMES, StageLine, stage_lines
from nas.report.printing import show_count
from nas.values import counted
from search_spaces import Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

ROW, BOX = 0.50, 0.34
"""Height of a row and of its box, inches."""

WIDTH, TOP, BOTTOM = 9.4, 0.92, 0.56
"""Width of the picture, and height of what stands above and below the rows, inches."""

STAGE, OPERATOR, OPERATOR_END, LAYERS, CHANNELS, RESOLUTION, SHARE, SHARE_END, PARAMS = (
    0.95, 1.15, 4.65, 5.05, 5.72, 6.58, 7.22, 8.02, 9.15,
)  # fmt: skip
"""Where the columns are, inches from the left."""

GAP = 1.5
"""Space between an operator's name and its details, in letters."""


def draw_network(network: Network, path: Path, *, title: str = "") -> Path:
    """Draws the network from image to logits, as PNG or SVG by the path's suffix.

    Args:
        network: What to draw.
        path: Where to write; the name ends in .png or .svg.
        title: First line of the picture; says the input's size by default.

    Raises:
        SpaceError: The network cannot be lowered.
        NasError: The name ends in neither, or the file cannot be written.
    """
    lines = stage_lines(network)
    height = TOP + ROW * len(lines) + BOTTOM
    figure = new_figure(WIDTH, height, arranged=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    side = network.resolution
    classes = counted(network.num_classes, "class")
    _draw_heading(axes, title or f"{side}{TIMES}{side}{TIMES}{network.in_channels} image to {classes}")
    largest = max(line.share for line in lines)
    for index, line in enumerate(lines):
        _draw_line(axes, line, TOP + ROW * (index + 0.5), largest, is_last=index == len(lines) - 1)
    macs, params = sum(line.macs for line in lines), sum(line.params for line in lines)
    total = f"{show_count(macs)} multiply-adds for one image, {show_count(params)} parameters. "
    total += "Darker: larger share of the multiply-adds."
    axes.text(OPERATOR, height - BOTTOM / 2, total, fontsize=SMALL, color=INK, va="center")
    return save(figure, path)


def _draw_heading(axes: Axes, title: str) -> None:
    axes.text(OPERATOR, 0.32, title, fontsize=LARGE, fontweight="bold", color=INK, va="center")
    words = (
        (STAGE, "stage", "right"),
        (OPERATOR, "operator", "left"),
        (LAYERS, "layers", "center"),
        (CHANNELS, "channels", "center"),
        (RESOLUTION, "resolution, px", "center"),
        (SHARE, "multiply-adds", "left"),
        (PARAMS, "parameters", "right"),
    )
    for x, word, align in words:
        axes.text(x, TOP - 0.2, word, fontsize=SMALL, color=GREY, ha=align, va="center")


def _draw_line(axes: Axes, line: StageLine, y: float, largest: float, *, is_last: bool) -> None:
    fill = to_hex(colormaps["Blues"](0.06 + 0.74 * (line.share / largest if largest else 0.0)))
    axes.add_patch(_box(y, fill))
    if not is_last:
        middle = (OPERATOR + OPERATOR_END) / 2
        arrow = {"arrowstyle": "-|>", "color": GREY, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (middle, y + ROW - BOX / 2), (middle, y + BOX / 2), arrowprops=arrow)
    ink = "white" if line.share > 0.62 * largest else INK
    operator = axes.text(
        OPERATOR + 0.14, y, line.operator, fontsize=NORMAL, fontweight="bold", color=ink, va="center_baseline"
    )
    details = axes.text(
        OPERATOR_END - 0.14, y, line.details, fontsize=NORMAL, color=ink, ha="right", va="center_baseline"
    )
    _keep_apart(operator, details)
    layers = f"{TIMES}{line.layers}" if line.layers > 1 else "1"
    for x, word in ((LAYERS, layers), (CHANNELS, str(line.channels)), (RESOLUTION, line.resolution)):
        axes.text(x, y, word, fontsize=NORMAL, color=INK, ha="center", va="center_baseline")
    axes.text(STAGE, y, line.stage, fontsize=NORMAL, color=INK, ha="right", va="center_baseline")
    axes.text(
        PARAMS, y, show_count(line.params), fontsize=NORMAL, color=INK, ha="right", va="center_baseline"
    )
    _draw_share(axes, line.share, y, largest)


def _keep_apart(left: Text, right: Text) -> None:
    """Shrinks both texts where they would run into each other."""
    room = right.get_window_extent().x1 - left.get_window_extent().x0
    needed = left.get_window_extent().width + right.get_window_extent().width + GAP * NORMAL
    if needed > room:
        for text in (left, right):
            text.set_fontsize(NORMAL * room / needed)


def _box(y: float, fill: str) -> FancyBboxPatch:
    return FancyBboxPatch(
        (OPERATOR, y - BOX / 2),
        OPERATOR_END - OPERATOR,
        BOX,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=fill,
        edgecolor=GREY,
        linewidth=0.8,
    )


def _draw_share(axes: Axes, share: float, y: float, largest: float) -> None:
    full = SHARE_END - SHARE
    width = full * (share / largest if largest else 0.0)
    axes.add_patch(Rectangle((SHARE, y - 0.07), full, 0.14, color=PALE, alpha=0.45, linewidth=0))
    axes.add_patch(Rectangle((SHARE, y - 0.07), width, 0.14, color=BLUE, linewidth=0))
    axes.text(SHARE_END + 0.07, y, f"{100 * share:.0f} %", fontsize=SMALL, color=INK, va="center_baseline")
