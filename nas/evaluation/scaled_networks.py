"""The networks of a search for the direction of scaling: lattice, finalists, curves, of equal real cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas.errors import SpaceArgumentError
from nas.evaluation.scaling_law import ScalingLaw
from nas.metrics import Goal
from nas.options import option
from nas.units import parse_factors, parse_natural
from nas.values import make_plain, real, whole
from search_spaces import (
    DIRECTIONS,
    EFFICIENTNET_RULE,
    Direction,
    Matched,
    Network,
    Rule,
    SpaceError,
    lattice_members,
    match,
)
from search_spaces.matching import Price

KNOWN = ("efficientnet", "fast")
"""Directions that the one which is found is compared with."""

CURVE_TOLERANCE = 0.15
"""How far the points of a curve may cost from what was asked for: they are drawn at what they do cost."""

SINGLE = ("depth", "width", "resolution")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPlan:
    """What is trained to find out in which direction a network grows best.

    Attributes:
        cost_factor: Cost of every network of the lattice, as a multiple of the baseline's.
        parts: The lattice has all shares of depth, width and resolution that are multiples of one part in so
            many: 5 is 21 networks, 1 is depth, width and resolution alone.
        finalists: Best networks of the lattice that are trained from further seeds.
        seeds: Trainings of each finalist, of the baseline, and of each point of a curve.
        curve_factors: Costs at which every direction is trained for the curves, as multiples of the
            baseline's; empty draws none.
        rule: How channels are rounded, and what is left alone.
        resolution_multiple: What the side of the images is rounded to a multiple of.
        tolerance: How far the cost of a network may be from what was asked for, as a share.
        seed: That of every training is derived from it.

    Raises:
        SpaceArgumentError: A number is out of range.
    """

    cost_factor: float = option(
        2.0, "cost of the networks that are compared, over that of the network", flag="--factor", metavar="X"
    )
    parts: int = option(
        5,
        "shares of depth, width and resolution are multiples of 1/N: 5 is 21 networks, 1 each alone",
        metavar="N",
    )
    finalists: int = option(3, "best networks that are repeated", metavar="N", read=parse_natural)
    seeds: int = option(3, "trainings of each finalist", metavar="N")
    curve_factors: tuple[float, ...] = option(
        (),
        "draw the metric over cost for each direction too, at these costs over the network's, such as 2,4",
        flag="--curves",
        metavar="X,...",
        read=parse_factors,
    )
    rule: Rule = EFFICIENTNET_RULE
    resolution_multiple: int = 1
    tolerance: float = option(
        0.03,
        "how far a cost may be from what was asked for, as a share of it; for --direction too",
        metavar="F",
    )
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        error = SpaceArgumentError
        for name, factor in [
            ("cost_factor", self.cost_factor),
            *(("curves", one) for one in self.curve_factors),
        ]:
            if not real(name, factor, error=error) > 1:
                raise error(
                    f"a factor of the cost must be above 1, but got {factor:g}: 2 is the paper's", field=name
                )
        real("tolerance", self.tolerance, above=0, most=0.5, error=error)
        whole("parts", self.parts, least=1, most=20, error=error)
        whole("finalists", self.finalists, least=0, error=error)
        whole("seeds", self.seeds, least=1, error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledNetwork:
    """A scaled network with its trainings.

    Attributes:
        name: What it is called.
        direction: Where the growth went; None for the baseline, and where it went several ways.
        network: The network.
        cost: What it costs.
        cost_factor: Its cost over the baseline's.
        error: How far its cost is from what was asked for, as a share.
        values: The metric of the trainings that worked.
        failures: Why others did not.
        equals: Other directions of the lattice that give this very network, once it is rounded.
    """

    name: str
    direction: Direction | None
    network: Network
    cost: float
    cost_factor: float
    error: float = 0.0
    values: tuple[float, ...] = ()
    failures: tuple[str, ...] = ()
    equals: tuple[Direction, ...] = ()

    @property
    def mean(self) -> float | None:
        """Mean of the metric; None where no training worked."""
        return statistics.fmean(self.values) if self.values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Networks that grow in one direction.

    Attributes:
        name: The direction, or for widths of several starts what was scaled before.
        points: The networks, the cheapest first.
        figure: The figure of the paper that it belongs to, 3 or 4.
    """

    name: str
    points: tuple[ScaledNetwork, ...]
    figure: int = 3


def short_name(direction: Direction) -> str:
    """Its name, or its shares to two digits."""
    name = str(direction)
    return name if name in DIRECTIONS else "/".join(f"{share:.2g}" for share in direction.shares)


class Scaler:
    """Makes the networks of a plan.

    Args:
        baseline: The network that is scaled.
        price: What a network costs.
        plan: What is asked for.

    Attributes:
        baseline: The network that is scaled.
        unmatched: What could not be made, and why.
    """

    def __init__(self, baseline: Network, price: Price, plan: ScalingPlan) -> None:
        self._plan = plan
        self._price = price
        self._base_cost = float(price(baseline))
        self.baseline = ScaledNetwork(
            name="baseline", direction=None, network=baseline, cost=self._base_cost, cost_factor=1.0
        )
        self.unmatched: dict[str, str] = {}

    def lattice(self) -> list[ScaledNetwork]:
        """The different networks of the lattice."""
        plan = self._plan
        found = lattice_members(
            self.baseline.network,
            target=plan.cost_factor * self._base_cost,
            parts=plan.parts,
            price=self._price,
            rule=plan.rule,
            resolution_multiple=plan.resolution_multiple,
            tolerance=plan.tolerance,
        )
        for direction, reason in found.unmatched:
            self.unmatched[f"{short_name(direction)} x{plan.cost_factor:g}"] = reason
        same: dict[Direction, tuple[Direction, ...]] = {}
        for direction, first in found.coinciding:
            same[first] = (*same.get(first, ()), direction)
        return [
            replace(self._named(short_name(one.direction), one), equals=same.get(one.direction, ()))
            for one in found.members
        ]

    def in_direction(
        self,
        name: str,
        direction: Direction,
        factor: float,
        *,
        start: Network | None = None,
        tolerances: Sequence[float] = (),
    ) -> ScaledNetwork | None:
        """The network at a multiple of the baseline's cost; None where there is none, which is noted.

        Of several tolerances the first one that a network keeps counts; without any that of the plan.
        """
        tolerance, *others = tolerances or (self._plan.tolerance,)
        try:
            matched = match(
                start or self.baseline.network,
                direction,
                target=factor * self._base_cost,
                price=self._price,
                rule=self._plan.rule,
                resolution_multiple=self._plan.resolution_multiple,
                tolerance=tolerance,
            )
        except SpaceError as error:
            if error.field not in ("direction", "target"):
                raise
            if others:
                return self.in_direction(name, direction, factor, start=start, tolerances=others)
            self.unmatched[f"{name} x{factor:g}"] = str(error)
            return None
        found = self._named(name, matched)
        return found if start is None else replace(found, direction=None)

    def _named(self, name: str, matched: Matched) -> ScaledNetwork:
        return ScaledNetwork(
            name=name,
            direction=matched.direction,
            network=matched.network,
            cost=matched.cost,
            cost_factor=matched.cost / self._base_cost,
            error=matched.error,
        )

    def finalists(
        self, members: Sequence[ScaledNetwork], law: ScalingLaw | None, goal: Goal
    ) -> list[ScaledNetwork]:
        """The best of the lattice, the best by the law, and the known directions, each once."""
        worked = [one for one in members if one.mean is not None]
        ranked = sorted(worked, key=lambda one: -goal.sign * (one.mean or 0.0))[
            : max(1, self._plan.finalists)
        ]
        wanted = {} if law is None else {"found": law.best}
        wanted |= {name: DIRECTIONS[name] for name in KNOWN}
        chosen = {one.name: one for one in ranked}
        for name, direction in wanted.items():
            if any(one.direction == direction for one in chosen.values()):
                continue
            one = self.in_direction(name, direction, self._plan.cost_factor)
            if one is not None:
                chosen[name] = one
        return list(chosen.values())

    def curves(self, found: Direction) -> list[Curve]:
        """Single directions, the one found and the known ones; and widths of deeper and larger starts."""
        factors = sorted(self._plan.curve_factors)
        if not factors:
            return []
        directions = {name: DIRECTIONS[name] for name in SINGLE} | {"found": found}
        directions |= {name: DIRECTIONS[name] for name in KNOWN}
        curves = []
        for name, direction in directions.items():
            points = [self._point(name, direction, factor) for factor in factors]
            curves.append(Curve(name=name, points=(self.baseline, *(one for one in points if one))))
        return [*curves, *self._widths(factors)]

    def _point(
        self, name: str, direction: Direction, factor: float, start: Network | None = None
    ) -> ScaledNetwork | None:
        tolerances = (self._plan.tolerance, CURVE_TOLERANCE)
        return self.in_direction(name, direction, factor, start=start, tolerances=tolerances)

    def _widths(self, factors: Sequence[float]) -> list[Curve]:
        """Wider networks of one that is deeper, one on larger images, and one that is both."""
        first = factors[0]
        starts = {
            "deeper": (DIRECTIONS["depth"], first),
            "larger images": (DIRECTIONS["resolution"], first),
            "both": (Direction(depth=0.5, width=0.0, resolution=0.5), first**2),
        }
        curves = []
        for name, (direction, factor) in starts.items():
            start = self._point(name, direction, factor)
            if start is None:
                continue
            above = [one for one in factors if one > factor * (1 + self._plan.tolerance)]
            wider = [self._point(name, DIRECTIONS["width"], one, start.network) for one in above]
            points = (replace(start, direction=None), *(one for one in wider if one))
            curves.append(Curve(name=name, points=points, figure=4))
        return curves
