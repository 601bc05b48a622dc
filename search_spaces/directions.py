"""Directions of scaling: how the growth of a network's cost is shared by depth, width and resolution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from search_spaces.errors import SpaceError, require_integer
from search_spaces.network import MOST_RESOLUTION
from search_spaces.scaling import DEPTH_BASE, RESOLUTION_BASE, WIDTH_BASE, Scaling

SUM_TOLERANCE = 1e-9
ROUNDED_SUM_TOLERANCE = 0.005
"""How far from 1 the sum of shares in text may be, since people copy rounded ones."""

MOST_PARTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Shares of log-cost: a cost times s is depth times s^a, width times s^(b/2), side times s^(c/2).

    Multiply-adds grow with the depth and with the squares of width and side, so the shares a, b and c of a
    direction sum to 1 and say which part of the growth each dimension takes, whatever the factor.

    Attributes:
        depth: Share of the layers.
        width: Share of the channels.
        resolution: Share of the image's side.
        adds_late: Whether a stage gets new layers in proportion to its place too, so that late stages get
            more of them.
        most_resolution: Side that growth stops at, pixels; depth and width take the rest of the cost. None
            is no such limit.

    Raises:
        SpaceError: A share is not a number in [0, 1], or they do not sum to 1.
    """

    depth: float
    width: float
    resolution: float
    adds_late: bool = False
    most_resolution: int | None = None

    def __post_init__(self) -> None:
        for name, share in zip(_NAMES, self.shares, strict=True):
            is_number = isinstance(share, int | float) and not isinstance(share, bool)
            if not is_number or not 0 <= share <= 1:
                raise SpaceError(f"`0 <= {name} <= 1` must hold for a share, but got {share!r}", field=name)
        total = math.fsum(self.shares)
        if abs(total - 1) > SUM_TOLERANCE:
            raise SpaceError(
                f"the shares of depth, width and resolution must sum to 1, but {self.shares} sum to "
                f"{total:.6g}: divide each by the sum",
                field="direction",
            )
        if self.most_resolution is not None:
            require_integer("most_resolution", self.most_resolution, least=1, most=MOST_RESOLUTION)

    @classmethod
    def of_bases(cls, depth_base: float, width_base: float, resolution_base: float) -> Direction:
        """The direction of a paper's bases, such as EfficientNet's 1.2, 1.1 and 1.15.

        Raises:
            SpaceError: A base is not a finite number from 1 on, or all are 1.
        """
        bases = {"depth_base": depth_base, "width_base": width_base, "resolution_base": resolution_base}
        for name, base in bases.items():
            is_number = isinstance(base, int | float) and not isinstance(base, bool)
            if not is_number or not 1 <= base < math.inf:
                raise SpaceError(f"`1 <= {name} < inf` must hold, but got {base!r}", field=name)
        logs = (math.log(depth_base), 2 * math.log(width_base), 2 * math.log(resolution_base))
        total = math.fsum(logs)
        if not total:
            raise SpaceError("bases of 1 alone have no direction: one must be above 1", field="depth_base")
        return cls(depth=logs[0] / total, width=logs[1] / total, resolution=logs[2] / total)

    @property
    def shares(self) -> tuple[float, float, float]:
        """The shares of depth, width and resolution."""
        return self.depth, self.width, self.resolution

    def at(self, factor: float) -> Scaling:
        """The factors of depth, width and side that multiply the cost by this, if nothing is rounded.

        Raises:
            SpaceError: The factor is not a finite number above 0, or one of the results is absurdly large.
        """
        is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not is_number or not 0 < factor < math.inf:
            raise SpaceError(f"`0 < factor < inf` must hold, but got factor={factor!r}", field="factor")
        return Scaling(
            depth=factor**self.depth,
            width=factor ** (self.width / 2),
            resolution=factor ** (self.resolution / 2),
        )

    def bases(self) -> tuple[float, float, float]:
        """Factors of depth, width and side for twice the cost: bases of compound scaling."""
        twice = self.at(2.0)
        return twice.depth, twice.width, twice.resolution

    def __str__(self) -> str:
        """Its name, or its shares as `find_direction` reads them."""
        names = [name for name, known in DIRECTIONS.items() if known == self]
        return names[0] if names else ",".join(f"{share:.4g}" for share in self.shares)


_NAMES = ("depth", "width", "resolution")

EFFICIENTNET = Direction.of_bases(DEPTH_BASE, WIDTH_BASE, RESOLUTION_BASE)

DIRECTIONS: Mapping[str, Direction] = {
    "efficientnet": EFFICIENTNET,
    "fast": Direction(depth=0.1, width=0.8, resolution=0.1),
    "uniform": Direction(depth=1 / 3, width=1 / 3, resolution=1 / 3),
    "depth": Direction(depth=1.0, width=0.0, resolution=0.0),
    "width": Direction(depth=0.0, width=1.0, resolution=0.0),
    "resolution": Direction(depth=0.0, width=0.0, resolution=1.0),
    "v2": Direction(
        depth=EFFICIENTNET.depth,
        width=EFFICIENTNET.width,
        resolution=EFFICIENTNET.resolution,
        adds_late=True,
        most_resolution=480,
    ),
}
"""Directions by the names that users give.

Source: EfficientNet (Tan & Le, ICML 2019), section 3.3, and the single dimensions of its Figure 3; fast
compound scaling (Dollar, Singh & Girshick, CVPR 2021) with alpha = 0.8; EfficientNetV2 (Tan & Le, ICML 2021),
section 3.3, which scales as EfficientNet does, with more layers in later stages and sides up to 480.
"""


def find_direction(what: Direction | str) -> Direction:
    """A direction by its name, or by its shares of depth, width and resolution: `fast`, or `0.2,0.5,0.3`.

    Shares in text may be rounded: they are divided by their sum, which is 1 to within 0.005.

    Raises:
        SpaceError: There is no such name, or it is not three shares.
    """
    if isinstance(what, Direction):
        return what
    if isinstance(what, str) and what in DIRECTIONS:
        return DIRECTIONS[what]
    if not isinstance(what, str) or "," not in what:
        near = get_close_matches(what, DIRECTIONS, n=1) if isinstance(what, str) else []
        meant = f"did you mean {near[0]}? " if near else ""
        raise SpaceError(
            f"there is no direction {what!r}: {meant}give one of {', '.join(DIRECTIONS)}, or shares of "
            "depth, width and resolution such as 0.2,0.5,0.3",
            field="direction",
        )
    return _of_text(what)


def _of_text(text: str) -> Direction:
    try:
        shares = tuple(float(word) for word in text.split(","))
    except ValueError:
        shares = ()
    total = sum(shares)
    is_direction = len(shares) == 3 and all(share >= 0 for share in shares)
    if not is_direction or not abs(total - 1) <= ROUNDED_SUM_TOLERANCE + SUM_TOLERANCE:
        raise SpaceError(
            f"a direction must be three shares of at least 0 that sum to 1, but got {text!r}: give those of "
            "depth, width and resolution, such as 0.2,0.5,0.3",
            field="direction",
        )
    return Direction(depth=shares[0] / total, width=shares[1] / total, resolution=shares[2] / total)


def lattice(parts: int = 5) -> tuple[Direction, ...]:
    """All directions whose shares are multiples of 1 / parts, those with the largest depth first.

    The corners are the single dimensions. There are (parts + 1) (parts + 2) / 2: 21 for 5, 28 for 6.

    Raises:
        SpaceError: `parts` is not an integer from 1 to 50.
    """
    require_integer("parts", parts, least=1, most=MOST_PARTS)
    return tuple(
        Direction(depth=depth / parts, width=width / parts, resolution=(parts - depth - width) / parts)
        for depth in range(parts, -1, -1)
        for width in range(parts - depth, -1, -1)
    )
