"""The members of a scaled family: at a phi, by factors, or the largest that keeps limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from search_spaces import (
    Direction,
    Matched,
    Member,
    Network,
    Rule,
    Scaling,
    compound,
    cost,
    largest,
    largest_phi,
    match,
    member,
)
from search_spaces.matching import TOLERANCE, Price, macs_of
from search_spaces.scaling import BASES, EFFICIENTNET_RULE, MOST_PHI, member_of, require_phi


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A member of a family as it was asked for.

    Attributes:
        name: Its name, and its file's without `.json`.
        phi: Its phi; None where factors were given.
        member: The network, its costs and factors.
        error: How far its cost is above what was asked for, as a share of that; None by formula or factors.
    """

    name: str
    phi: float | None
    member: Member
    error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The scaled versions of a network.

    Attributes:
        baseline: The network.
        direction: How its real cost is shared; None is the formula of the paper's code.
        bases: Factors of depth, width and side for each phi in that formula.
        rule: How to round, and what to leave alone.
        resolution_multiple: What the side is rounded to a multiple of.
        tolerance: How far the real cost may be from a phi's in a direction, as a share of it.
        price: The cost that doubles with each phi in a direction.
        limits: Most of `macs`, `params` and `inference_bytes`, those that are limited.
    """

    baseline: Network
    direction: Direction | None = None
    bases: tuple[float, float, float] = BASES
    rule: Rule = EFFICIENTNET_RULE
    resolution_multiple: int = 1
    tolerance: float = TOLERANCE
    price: Price = macs_of
    limits: Mapping[str, float] = field(default_factory=dict)

    def by_factors(self, factors: Mapping[str, float]) -> Step:
        """The member with these factors of depth, width and resolution.

        Raises:
            SpaceError: A factor is out of range, or the result not valid.
        """
        words = "-".join(f"{name}-{factor:g}" for name, factor in factors.items())
        return Step(name=words, phi=None, member=self._scaled(Scaling(**factors)))

    def at(self, phi: float) -> Step:
        """The member at a phi: by the formula, or in the direction at 2^phi times the baseline's macs.

        Raises:
            SpaceError: Phi is out of range, or nothing in the direction has that cost.
        """
        if self.direction is None:
            return self._by_formula(phi)
        found = match(
            self.baseline,
            self.direction,
            target=self.price(self.baseline) * 2.0 ** require_phi(phi),
            price=self.price,
            rule=self.rule,
            resolution_multiple=self.resolution_multiple,
            tolerance=self.tolerance,
        )
        return self._step(found, phi)

    def largest(self) -> Step:
        """The largest member that keeps the limits.

        Raises:
            SpaceError: There are no limits, or nothing keeps them.
        """
        if self.direction is None:
            return self._by_formula(self.most_phi())
        found = self._largest_in_direction(math.inf)
        return self._step(found, self._phi_of(found.network))

    def at_most(self, phi: float) -> Step:
        """The largest member up to a phi that keeps the limits.

        Raises:
            SpaceError: Nothing keeps them.
        """
        if self.direction is None:
            return self._by_formula(phi)
        return self._step(self._largest_in_direction(self._base_macs * 2.0 ** require_phi(phi)), phi)

    def most_phi(self) -> float:
        """The largest phi that the limits leave.

        Raises:
            SpaceError: Nothing keeps them.
        """
        if not self.limits:
            return MOST_PHI
        if self.direction is not None:
            return self._phi_of(self._largest_in_direction(math.inf).network)
        depth, width, resolution = self.bases
        return largest_phi(
            self.baseline,
            macs=self.limits.get("macs", math.inf),
            params=self.limits.get("params", math.inf),
            inference_bytes=self.limits.get("inference_bytes", math.inf),
            depth_base=depth,
            width_base=width,
            resolution_base=resolution,
            rule=self.rule,
            resolution_multiple=self.resolution_multiple,
        )

    @property
    def _base_macs(self) -> int:
        return cost(self.baseline).macs

    def _phi_of(self, network: Network) -> float:
        return math.log2(cost(network).macs / self._base_macs)

    def _by_formula(self, phi: float) -> Step:
        depth, width, resolution = self.bases
        scaling = compound(phi, depth_base=depth, width_base=width, resolution_base=resolution)
        return Step(name=f"phi-{phi:.4g}", phi=phi, member=self._scaled(scaling))

    def _scaled(self, scaling: Scaling) -> Member:
        return member(self.baseline, scaling, rule=self.rule, resolution_multiple=self.resolution_multiple)

    def _largest_in_direction(self, macs: float) -> Matched:
        assert self.direction is not None
        return largest(
            self.baseline,
            self.direction,
            macs=min(macs, self.limits.get("macs", math.inf)),
            params=self.limits.get("params", math.inf),
            inference_bytes=self.limits.get("inference_bytes", math.inf),
            rule=self.rule,
            resolution_multiple=self.resolution_multiple,
        )

    def _step(self, found: Matched, phi: float) -> Step:
        label = str(self.direction).replace(",", "-")
        one = member_of(self.baseline, found.network, found.scaling)
        return Step(name=f"{label}-phi-{phi:.4g}", phi=phi, member=one, error=found.error)
