"""Scaled networks: one in a chosen direction or by chosen factors, or those of a lattice of directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.directions import Direction, lattice
from search_spaces.errors import SpaceError
from search_spaces.matching import TOLERANCE, Matched, Price, macs_of, match, require_goal
from search_spaces.network import Network
from search_spaces.scaling import (
    BASES,
    DEPTH_BASE,
    EFFICIENTNET_RULE,
    RESOLUTION_BASE,
    WIDTH_BASE,
    Rule,
    Scaling,
    apply_scaling,
    compound,
    require_phi,
)


def scale(
    network: Network,
    *,
    phi: float | None = None,
    direction: Direction | str | None = None,
    macs: float | None = None,
    depth_base: float = DEPTH_BASE,
    width_base: float = WIDTH_BASE,
    resolution_base: float = RESOLUTION_BASE,
    depth: float | None = None,
    width: float | None = None,
    resolution: float | None = None,
    rule: Rule = EFFICIENTNET_RULE,
    resolution_multiple: int = 1,
) -> Network:
    """Scales a network: in a direction to a real cost, by the compound formula, or by chosen factors.

    `scale(b0, direction="fast", macs=800e6)` has 800 million multiply-adds after all rounding, to within 3 %;
    `scale(b0, direction="fast", phi=2)` has four times the baseline's. `scale(b0, phi=3)` is the formula of
    the paper's code, which rounds the layers of every stage up; `scale(b0, depth=2.0)`,
    `scale(b0, width=2.0)` and `scale(b0, resolution=2.0)` are the single dimensions of the paper's Figure 3.
    The published B1 to B7 do not follow the formula: `reference("efficientnet_b3")` has them.

    Args:
        network: The baseline.
        phi: Exponent of the bases; with a direction, of 2 as the factor of the real multiply-adds. 0 leaves
            the network as it is, below 0 it shrinks.
        direction: Where to: a name of `DIRECTIONS`, a `Direction`, or shares in text.
        macs: The multiply-adds that the result shall have; without a direction in EfficientNet's.
        depth_base: Factor of the layers for each phi, where no direction is given.
        width_base: Factor of the channels for each phi, where no direction is given.
        resolution_base: Factor of the image's side for each phi, where no direction is given.
        depth: Factor of the layers, where neither phi nor macs is given.
        width: Factor of the channels, where neither phi nor macs is given.
        resolution: Factor of the image's side, where neither phi nor macs is given.
        rule: How to round, and what to leave alone.
        resolution_multiple: The side is rounded to the nearest multiple of this: 32, for a network that
            divides by 32, avoids feature maps that are rounded up at every stride and cost more than need be.

    Raises:
        SpaceError: Not exactly one of phi, macs and factors is given, or a direction with factors or bases;
            one is out of range; the result is not valid; no rounding comes near to the multiply-adds.

    Source: EfficientNet (Tan & Le, ICML 2019), equations 2 and 3.
    """
    given = {"depth": depth, "width": width, "resolution": resolution}
    factors = {name: factor for name, factor in given.items() if factor is not None}
    if (phi is not None) + (macs is not None) + bool(factors) != 1:
        raise SpaceError(
            f"scaling needs one of phi, macs and factors, but got phi={phi!r}, macs={macs!r} and "
            f"{', '.join(factors) or 'no factor'}: write scale(network, phi=1), scale(network, macs=800e6) "
            "or scale(network, depth=2.0)",
            field="phi",
        )
    bases = (depth_base, width_base, resolution_base)
    if direction is None and macs is None:
        scaling = Scaling(**factors) if phi is None else _compound(phi, bases)
        return apply_scaling(network, scaling, rule=rule, resolution_multiple=resolution_multiple)
    if factors or bases != BASES:
        raise SpaceError(
            "a direction is given in place of factors and bases: leave them out, or write "
            "direction=Direction.of_bases(1.2, 1.1, 1.15)",
            field="direction",
        )
    target = macs if phi is None else macs_of(network) * 2.0 ** require_phi(phi)
    return _at_macs(network, direction or "efficientnet", target, rule, resolution_multiple)


def _compound(phi: float, bases: tuple[float, float, float]) -> Scaling:
    depth, width, resolution = bases
    return compound(phi, depth_base=depth, width_base=width, resolution_base=resolution)


def _at_macs(
    network: Network, direction: Direction | str, macs: float | None, rule: Rule, multiple: int
) -> Network:
    if isinstance(macs, bool) or not isinstance(macs, int | float) or not macs > 0:
        raise SpaceError(f"`macs > 0` must hold, but got macs={macs!r}", field="macs")
    try:
        matched = match(network, direction, target=macs, rule=rule, resolution_multiple=multiple)
    except SpaceError as error:
        field = "macs" if error.field == "target" else error.field
        raise SpaceError(str(error), field=field) from None
    return matched.network


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeMembers:
    """The networks of equal cost that a lattice of directions gives.

    Attributes:
        members: Those that differ, in the lattice's order.
        coinciding: Directions that give the network of an earlier one: each with that one.
        unmatched: Directions in which the network cannot be scaled to the cost: each with the reason.
    """

    members: tuple[Matched, ...]
    coinciding: tuple[tuple[Direction, Direction], ...]
    unmatched: tuple[tuple[Direction, str], ...]


def lattice_members(
    network: Network,
    *,
    target: float,
    parts: int = 5,
    price: Price = macs_of,
    rule: Rule = EFFICIENTNET_RULE,
    resolution_multiple: int = 1,
    tolerance: float = TOLERANCE,
) -> LatticeMembers:
    """Scales a network to one cost in every direction of a lattice.

    Args:
        network: The baseline.
        target: The cost of every member, in the unit of `price`.
        parts: Parts that each share is a multiple of; 5 gives 21 directions.
        price: The cost of a network; by default its exact multiply-adds.
        rule: How to round, and what to leave alone.
        resolution_multiple: What the side is rounded to a multiple of.
        tolerance: How far from the target a cost may be, as a share of it.

    Raises:
        SpaceError: An argument is out of range.
    """
    require_goal(target, tolerance, resolution_multiple)
    found: list[Matched] = []
    unmatched: list[tuple[Direction, str]] = []
    for direction in lattice(parts):
        try:
            found.append(
                match(
                    network,
                    direction,
                    target=target,
                    price=price,
                    rule=rule,
                    resolution_multiple=resolution_multiple,
                    tolerance=tolerance,
                )
            )
        except SpaceError as error:
            if error.field not in ("direction", "target"):
                raise
            unmatched.append((direction, str(error)))
    members, coinciding = distinct(found)
    return LatticeMembers(members=members, coinciding=coinciding, unmatched=tuple(unmatched))


def distinct(
    matched: Iterable[Matched],
) -> tuple[tuple[Matched, ...], tuple[tuple[Direction, Direction], ...]]:
    """Keeps the first of every network.

    Returns:
        Those kept, in their order; and the directions of those left out, each with that of its equal.
    """
    kept: dict[str, Matched] = {}
    coinciding = []
    for one in matched:
        first = kept.setdefault(one.network.digest, one)
        if first is not one:
            coinciding.append((one.direction, first.direction))
    return tuple(kept.values()), tuple(coinciding)
