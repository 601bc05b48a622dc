"""The networks that lie in a direction from a baseline, in whole layers, channels and pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from search_spaces.directions import Direction
from search_spaces.errors import SpaceError
from search_spaces.network import Network, cost
from search_spaces.scaling import Rule, Scaling, apply_scaling


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """A scaled network, as the numbers that scaling changes.

    Attributes:
        layers: Layers of each stage.
        width: Factor of the channels, before they are rounded.
        side: Side of the image, pixels.
        turned: Indices of the stages whose channels are rounded the other way.
    """

    layers: tuple[int, ...]
    width: float
    side: int
    turned: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The networks in a direction from a baseline, all larger or all smaller than it.

    Attributes:
        network: The baseline.
        direction: Where to.
        rule: How to round, and what to leave alone.
        multiple: What the side is rounded to a multiple of.
        stages: Indices of the stages whose layers change.
        grows: Whether the networks are larger.
    """

    network: Network
    direction: Direction
    rule: Rule
    multiple: int
    stages: tuple[int, ...]
    grows: bool

    def exact(self, factor: float) -> tuple[tuple[float, ...], float, float]:
        """Layers of each stage, factor of the channels, and side at a factor, before anything is rounded.

        Raises:
            SpaceError: The factor is absurdly large.
        """
        scaling = self.direction.at(factor)
        layers = [float(stage.repeats) for stage in self.network.stages]
        is_late = self.direction.adds_late and self.grows
        weights = {index: layers[index] * (index + 1 if is_late else 1) for index in self.stages}
        extra = (scaling.depth - 1) * sum(layers[index] for index in self.stages)
        for index, weight in weights.items():
            layers[index] = max(1.0, layers[index] + extra * weight / sum(weights.values()))
        side = self.network.resolution * scaling.resolution
        return tuple(layers), scaling.width, min(side, self._most_side)

    @property
    def _most_side(self) -> int:
        """The largest side; the baseline's own is none too large."""
        most = self.direction.most_resolution
        return 2**60 if most is None else max(most, self.network.resolution)

    def point(
        self, factor: float, *, layers: tuple[int, ...] | None = None, side: int | None = None
    ) -> Point:
        """The rounded network at a factor, its layers or side given or not.

        Raises:
            SpaceError: The factor is absurdly large.
        """
        exact, width, pixels = self.exact(factor)
        return Point(
            layers=self._rounded(exact, math.floor(sum(exact) + 0.5)) if layers is None else layers,
            width=width,
            side=self._whole_side(pixels) if side is None else side,
        )

    def allocations(self, point: Point, factor: float) -> tuple[tuple[int, ...], ...]:
        """The point's layers, and one more or fewer, shared by the stages as at a factor."""
        exact = self.exact(factor)[0]
        total = sum(point.layers)
        return tuple(dict.fromkeys(self._rounded(exact, total + more) for more in (0, -1, 1)))

    def sides(self, point: Point) -> tuple[int, ...]:
        """The point's side, and the next smaller and larger ones."""
        if not self.direction.resolution:
            return (point.side,)
        before = self.network.resolution
        least, most = (before, self._most_side) if self.grows else (1, before)
        near = (point.side + self.multiple * more for more in (0, -1, 1))
        return tuple(side for side in near if least <= side <= most)

    def _rounded(self, exact: tuple[float, ...], wanted: int) -> tuple[int, ...]:
        """Rounds layers over the whole network: whole parts first, then the largest remainders."""
        least = self._least_layers
        layers = [max(low, math.floor(number + 1e-9)) for low, number in zip(least, exact, strict=True)]
        while self.stages and sum(layers) < wanted:
            layers[max(self.stages, key=lambda index: exact[index] - layers[index])] += 1
        while sum(layers) > wanted:
            thick = [index for index in self.stages if layers[index] > least[index]]
            if not thick:
                break
            layers[min(thick, key=lambda index: exact[index] - layers[index])] -= 1
        return tuple(layers)

    @property
    def _least_layers(self) -> tuple[int, ...]:
        stages = enumerate(self.network.stages)
        return tuple(1 if index in self.stages and not self.grows else one.repeats for index, one in stages)

    def _whole_side(self, exact: float) -> int:
        if not self.direction.resolution:
            return self.network.resolution
        steps = min(math.floor(exact / self.multiple + 0.5), self._most_side // self.multiple)
        side, before = max(1, steps) * self.multiple, self.network.resolution
        return max(side, before) if self.grows else min(side, before)

    def may_have(self, point: Point, turns: Mapping[int, int]) -> bool:
        """Whether stages can have these numbers of layers more than the point has."""
        least = self._least_layers
        return all(point.layers[index] + more >= least[index] for index, more in turns.items())

    def with_layers(self, point: Point, turns: Mapping[int, int]) -> Point:
        """The point with more layers, by the index of the stage."""
        layers = (number + turns.get(index, 0) for index, number in enumerate(point.layers))
        return replace(point, layers=tuple(layers))

    def distance(self, point: Point, factor: float) -> float:
        """How far a point is from the exact one at a factor, in log-cost."""
        layers, width, side = self.exact(factor)
        moved = sum(abs(ours - exact) for ours, exact in zip(point.layers, layers, strict=True))
        turned = len(point.turned) / len(layers)
        changes = abs(math.log(point.width / width)) + abs(math.log(point.side / side))
        return moved / max(1.0, sum(layers)) + turned + 2 * changes

    def make(self, point: Point) -> Network:
        """The network of a point.

        Raises:
            SpaceError: It is not valid.
        """
        wide = apply_scaling(self.network, Scaling(width=point.width), rule=self.rule)
        stages = [replace(one, repeats=number) for one, number in zip(wide.stages, point.layers, strict=True)]
        for index in point.turned:
            stages[index] = replace(
                stages[index], channels=self._turned(stages[index].channels, point, index)
            )
        return replace(wide, stages=tuple(stages), resolution=point.side)

    def turnable(self, point: Point) -> tuple[int, ...]:
        """Indices of the stages whose channels the rule lets be rounded the other way."""
        stages = self.make(point).stages
        return tuple(
            index
            for index, stage in enumerate(stages)
            if stage.repeats and self._turned(stage.channels, point, index) != stage.channels
        )

    def _turned(self, rounded: int, point: Point, index: int) -> int:
        """A stage's channels, rounded up where they are rounded down, and the other way round."""
        before = self.network.stages[index].channels
        exact = before * point.width
        other = rounded + (self.rule.divisor if rounded < exact else -self.rule.divisor)
        is_between = other >= before if self.grows else self.rule.divisor <= other <= before
        return other if is_between and other >= self.rule.least_share * exact else rounded

    def scaling(self, point: Point) -> Scaling:
        """The factors that a point really has."""
        before = sum(stage.repeats for stage in self.network.stages)
        return Scaling(
            depth=sum(point.layers) / before if before else 1.0,
            width=point.width,
            resolution=point.side / self.network.resolution,
        )


def line_of(network: Network, direction: Direction, *, rule: Rule, multiple: int, grows: bool) -> Line:
    """The line from a baseline.

    Raises:
        SpaceError: The direction changes the layers of a network, and none of its stages can have more of
            them, or fewer; or the rule leaves them alone.
    """
    stages = _deepened(network, direction, rule, grows=grows) if direction.depth else ()
    return Line(
        network=network, direction=direction, rule=rule, multiple=multiple, stages=stages, grows=grows
    )


def _deepened(network: Network, direction: Direction, rule: Rule, *, grows: bool) -> tuple[int, ...]:
    """Indices of the stages whose layers the direction changes."""
    present = [index for index, stage in enumerate(network.stages) if stage.repeats]
    if not rule.scales_depth:
        raise SpaceError(
            f"the direction {direction} has a share of depth, {direction.depth:.4g}, but the rule leaves the "
            "layers alone: choose a direction without depth, or another rule",
            field="direction",
        )
    scaled = present if rule.scales_ends else present[1:-1]
    can = _can_repeat if grows else _can_lose
    found = tuple(index for index in scaled if can(network, index))
    if found:
        return found
    which = "" if rule.scales_ends else " between the first and the last, which the rule leaves alone,"
    why = f"no stage{which} can have another layer" if grows else f"no stage{which} has a layer to lose"
    raise SpaceError(
        f"the direction {direction} has a share of depth, {direction.depth:.4g}, but {why}: choose a "
        "direction without depth, or a baseline with such stages",
        field="direction",
    )


def _can_repeat(network: Network, index: int) -> bool:
    try:
        cost(_with_repeats(network, index, network.stages[index].repeats + 1))
    except SpaceError:
        return False
    return True


def _can_lose(network: Network, index: int) -> bool:
    return network.stages[index].repeats > 1


def _with_repeats(network: Network, index: int, repeats: int) -> Network:
    stages = list(network.stages)
    stages[index] = replace(stages[index], repeats=repeats)
    return replace(network, stages=tuple(stages))
