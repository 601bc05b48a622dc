"""Scales a network in a direction until it really costs what it should."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations, product

from search_spaces.directions import Direction, find_direction
from search_spaces.errors import SpaceError, require_integer
from search_spaces.line import Line, Point, line_of
from search_spaces.network import MOST_RESOLUTION, Network, cost
from search_spaces.scaling import (
    EFFICIENTNET_RULE,
    Rule,
    Scaling,
    limited_costs,
    limits_broken,
    require_limits,
)

TOLERANCE = 0.03
"""How far from its target a matched cost may be, as a share of it."""

GOOD_ENOUGH = 0.005
"""Error of the cost that is not worth a distance from the direction."""

MOST_FACTOR = 2.0**40
RESOLVED = 1e-3
"""Relative width of the interval of factors at which halving ends."""

ERROR_WEIGHT = 5.0
"""What an error of the cost counts, over an equal distance from the direction."""

FEW = 3
"""Points near to the target whose neighbours are tried."""

MOST_TURNS, ALL_TURNS = 3, 8
"""Stages that may be rounded the other way: usually, and where nothing else comes near enough."""

Price = Callable[[Network], float]
"""What a network costs, in any unit."""


def macs_of(network: Network) -> float:
    """The exact multiply-adds of a network."""
    return cost(network).macs


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A network that was scaled to a cost.

    Attributes:
        direction: The direction asked for.
        network: What came of it.
        scaling: The factors really used: layers over the baseline's, the factor of the channels before they
            were rounded, and the side over the baseline's.
        cost: What it costs.
        target: What it should cost, in the same unit.
    """

    direction: Direction
    network: Network
    scaling: Scaling
    cost: float
    target: float

    @property
    def error(self) -> float:
        """How far the cost is above the target, as a share of it; below 0 where it is under."""
        return self.cost / self.target - 1


def match(
    network: Network,
    direction: Direction | str,
    *,
    target: float,
    price: Price = macs_of,
    rule: Rule = EFFICIENTNET_RULE,
    resolution_multiple: int = 1,
    tolerance: float = TOLERANCE,
) -> Matched:
    """Scales a network in a direction, up or down, to a cost that it has after all rounding.

    The factor is found by halving an interval on the exact cost. Layers are rounded over the whole network.
    The rounded networks around that point are then searched, each with its last dimension solved for the
    target. Of those within the tolerance the one is taken that is nearest to the direction and the target.
    Where a small side or a side's multiple leaves no step that is small enough, that dimension may stay as it
    is and the others take its share; `Matched.scaling` says so. A dimension whose share is 0 stays as it is.

    Args:
        network: The baseline.
        direction: Where to: a direction, its name, or its shares in text.
        target: The cost that is wanted, in the unit of `price`.
        price: The cost of a network; by default its exact multiply-adds.
        rule: How to round, and what to leave alone.
        resolution_multiple: What the side is rounded to a multiple of, where the direction changes it.
        tolerance: How far from the target the cost may be, as a share of it.

    Raises:
        SpaceError: An argument is out of range, the network cannot be scaled in this direction, or nothing in
            it has a cost within the tolerance.
    """
    direction = find_direction(direction)
    require_goal(target, tolerance, resolution_multiple)
    grows = target >= price(network)
    line = line_of(network, direction, rule=rule, multiple=resolution_multiple, grows=grows)
    found = _Search(line=line, target=target, price=price, least=-tolerance, most=tolerance).best()
    if not abs(found.error) <= tolerance:
        raise SpaceError(_unmatched(line, found, tolerance), field="target")
    return found


def largest(
    network: Network,
    direction: Direction | str,
    *,
    macs: float = math.inf,
    params: float = math.inf,
    inference_bytes: float = math.inf,
    rule: Rule = EFFICIENTNET_RULE,
    resolution_multiple: int = 1,
) -> Matched:
    """The largest network in a direction that keeps limits; a smaller one where the baseline breaks one.

    Args:
        network: The baseline.
        direction: Where to: a direction, its name, or its shares in text.
        macs: Most multiply-adds.
        params: Most parameters.
        inference_bytes: Most bytes while one image is classified, see `Memory.inference_bytes`.
        rule: How to round, and what to leave alone.
        resolution_multiple: What the side is rounded to a multiple of, where the direction changes it.

    Returns:
        The network; its `cost` is the share that it takes of the limit it comes nearest to, its `target` 1.

    Raises:
        SpaceError: No limit is given, or one is not a number above 0; the network cannot be scaled in this
            direction, or nothing in it keeps them.

    Source: EfficientNet (Tan & Le, ICML 2019), equation 2.
    """
    direction = find_direction(direction)
    require_goal(1.0, TOLERANCE, resolution_multiple)
    limits = require_limits({"macs": macs, "params": params, "inference_bytes": inference_bytes})
    if direction.resolution == 1 and math.isinf(macs) and math.isinf(inference_bytes):
        raise SpaceError(
            "parameters do not grow with the side of the images, so a limit of them alone bounds nothing in "
            "the direction resolution: limit macs or inference_bytes too, or give another direction",
            field="params",
        )

    def used(network: Network) -> float:
        return max(value / limits[name] for name, value in limited_costs(network).items())

    line = line_of(network, direction, rule=rule, multiple=resolution_multiple, grows=used(network) <= 1)
    found = _Search(line=line, target=1.0, price=used, least=-1.0, most=0.0).best()
    if not 0 < found.cost <= 1:
        raise limits_broken(network, limits)
    return found


class _Search:
    """Looks along a line for the network with a cost."""

    def __init__(self, *, line: Line, target: float, price: Price, least: float, most: float) -> None:
        self.line, self.target, self.price = line, target, price
        self.least, self.most = least, most  # of the relative error
        self.costs: dict[Point, float] = {}

    def cost(self, point: Point) -> float:
        """The cost of a point; one that is no valid network is too large, or too small, for every target."""
        if point not in self.costs:
            try:
                self.costs[point] = self.price(self.line.make(point))
            except SpaceError:
                self.costs[point] = math.inf if self.line.grows else -math.inf
        return self.costs[point]

    def error(self, point: Point) -> float:
        """How far a point's cost is from the target, as a share of it."""
        return abs(self.cost(point) / self.target - 1)

    def may_be(self, point: Point) -> bool:
        """Whether a point's error is within what is asked for."""
        return self.least <= self.cost(point) / self.target - 1 <= self.most

    def best(self) -> Matched:
        """Of those whose error may be the nearest to direction and target, else the nearest to the target.

        Raises:
            SpaceError: None is valid.
        """
        factors = self.crossing()

        def rank(point: Point) -> tuple[float, float, Point]:
            error = self.error(point)
            inside = ERROR_WEIGHT * max(0.0, error - GOOD_ENOUGH)
            return 0.0 if self.may_be(point) else error, inside + self.line.distance(point, factors[0]), point

        best = min(self.candidates(factors), key=rank)
        if not math.isfinite(self.cost(best)):
            raise SpaceError(
                f"no network in the direction {self.line.direction} is valid near the cost asked for: choose "
                "one nearer to that of the baseline, or another direction",
                field="target",
            )
        return Matched(
            direction=self.line.direction,
            network=self.line.make(best),
            scaling=self.line.scaling(best),
            cost=self.cost(best),
            target=self.target,
        )

    def candidates(self, factors: tuple[float, float]) -> list[Point]:
        """The rounded networks around the factors; those near to the target also with other roundings."""
        points = list(dict.fromkeys(self.points(factors)))
        if self.line.direction.depth:
            points += [one for point in self.nearest(points) for one in self.with_layers(point)]
        if not self.line.direction.width:
            return points
        points += [one for point in self.nearest(points) for one in self.with_channels(point, MOST_TURNS)]
        if not any(map(self.may_be, points)):
            under = [point for point in points if self.cost(point) <= self.target]
            over = [point for point in points if self.cost(point) > self.target]
            near = self.nearest(under) + self.nearest(over)
            points += [one for point in near for one in self.with_channels(point, ALL_TURNS)]
        return points

    def nearest(self, points: list[Point]) -> list[Point]:
        """A few valid points with costs near to the target."""
        valid = [point for point in points if math.isfinite(self.cost(point))]
        return sorted(valid, key=lambda point: (self.error(point), point))[:FEW]

    def points(self, factors: tuple[float, float]) -> Iterator[Point]:
        """The rounded networks around the factors, each with its last dimension solved for the target."""
        share = self.line.direction
        for center in self.at(factors):
            for side in self.line.sides(center):
                yield replace(center, side=side)
                if not share.depth and not share.width:
                    continue
                found = self.crossing(side=side)
                near = self.at(found, side=side)
                yield from near
                if share.depth and share.width and near:
                    for layers in self.line.allocations(near[0], found[0]):
                        yield from self.at(self.crossing(side=side, layers=layers), side=side, layers=layers)

    def at(
        self,
        factors: tuple[float, float],
        *,
        side: int | None = None,
        layers: tuple[int, ...] | None = None,
    ) -> list[Point]:
        """The points at factors, but for absurd ones."""
        points = []
        for factor in factors:
            with suppress(SpaceError):
                points.append(self.line.point(factor, side=side, layers=layers))
        return points

    def crossing(
        self, *, side: int | None = None, layers: tuple[int, ...] | None = None
    ) -> tuple[float, float]:
        """The factors between which the cost passes the target, where side or layers may be given."""

        def fits(factor: float) -> bool:
            try:
                return self.cost(self.line.point(factor, side=side, layers=layers)) <= self.target
            except SpaceError:
                return not self.line.grows

        low, high = (1.0, 2.0) if self.line.grows else (0.5, 1.0)
        while self.line.grows and fits(high) and high < MOST_FACTOR:
            low, high = high, 2 * high
        while not self.line.grows and not fits(low) and low > 1 / MOST_FACTOR:
            low, high = low / 2, low
        while high / low > 1 + RESOLVED:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low, high

    def with_layers(self, point: Point) -> Iterator[Point]:
        """The point with a layer more or fewer in a few stages, such that its cost comes near to the target.

        Layers after a stage's first are equal, so that their costs add up; the best sums alone are priced.
        """
        line, base = self.line, self.cost(point)
        steps = {index: self.cost(line.with_layers(point, {index: 1})) - base for index in line.stages}
        steps = {index: step for index, step in steps.items() if math.isfinite(step)}
        sums: list[tuple[float, int, dict[int, int]]] = []
        for number in range(1, MOST_TURNS + 1):
            for indices in combinations(steps, number):
                for signs in product((-1, 1), repeat=number):
                    turns = dict(zip(indices, signs, strict=True))
                    if line.may_have(point, turns):
                        total = base + sum(sign * steps[index] for index, sign in turns.items())
                        sums.append((max(abs(total / self.target - 1), GOOD_ENOUGH), number, turns))
        for _, _, turns in sorted(sums, key=lambda one: one[:2])[:FEW]:
            yield line.with_layers(point, turns)

    def with_channels(self, point: Point, most: int) -> Iterator[Point]:
        """The point with the channels of up to so many stages rounded the other way.

        Narrow stages all take their next multiple at one width, since a rule keeps nine tenths of channels.
        """
        stages = self.line.turnable(replace(point, turned=()))[:ALL_TURNS]
        for number in range(1, most + 1):
            for turned in combinations(stages, number):
                yield replace(point, turned=turned)


def require_goal(target: object, tolerance: object, resolution_multiple: object) -> None:
    """Checks what a match is asked for.

    Raises:
        SpaceError: One of them is out of range.
    """
    require_integer("resolution_multiple", resolution_multiple, least=1, most=MOST_RESOLUTION)
    for name, value, most in (("target", target, math.inf), ("tolerance", tolerance, 1.0)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < most:  # type: ignore[operator]
            raise SpaceError(f"`0 < {name} < {most:g}` must hold, but got {name}={value!r}", field=name)


def _unmatched(line: Line, found: Matched, tolerance: float) -> str:
    nearest, wanted = (f"{one:,.6g}" if one < 1e5 else f"{one:,.0f}" for one in (found.cost, found.target))
    multiple = ", a smaller multiple of the side" if line.multiple > 1 and line.direction.resolution else ""
    return (
        f"no network in the direction {line.direction} costs {wanted} within {100 * tolerance:g} %: the "
        f"nearest costs {nearest} ({100 * found.error:+.1f} %); choose a cost near that, a "
        f"direction with shares of more dimensions{multiple}, or a larger tolerance"
    )
