"""Makes a network larger or smaller: depth, width and resolution, alone or together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from search_spaces.costs import Cost, Memory
from search_spaces.errors import SpaceError, require_integer
from search_spaces.network import MOST_RESOLUTION, Network, cost, memory
from search_spaces.rounding import round_channels, round_repeats
from search_spaces.stages import Head, Stage

DEPTH_BASE, WIDTH_BASE, RESOLUTION_BASE = 1.2, 1.1, 1.15
"""EfficientNet's coefficients (Tan & Le, ICML 2019, section 3.3); multiply-adds grow by 1.92 for each phi."""

BASES = (DEPTH_BASE, WIDTH_BASE, RESOLUTION_BASE)

MOST_FACTOR = 1000.0
LEAST_PHI, MOST_PHI = -20.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a family of networks rounds, and which parts it leaves alone.

    Attributes:
        least_share: Share of the exact channels that rounding must reach, see `round_channels`.
        divisor: What channels are multiples of.
        scales_stem: Whether the stem's channels follow the width.
        scales_head: Whether the head's channels follow the width.
        scales_depth: Whether layers follow the depth at all.
        scales_ends: Whether the layers of the first and the last stage do.
        least_head: Channels that the head never goes below.

    Source: the code of EfficientNet, EfficientNet-lite, MnasNet, MobileNetV2 and EfficientNetV2.
    """

    least_share: float = 0.9
    divisor: int = 8
    scales_stem: bool = True
    scales_head: bool = True
    scales_depth: bool = True
    scales_ends: bool = True
    least_head: int = 0


EFFICIENTNET_RULE = Rule()
"""EfficientNet scales every part, in depth and width; rounding takes away at most a tenth of the channels."""
EFFICIENTNET_V2_RULE = Rule(least_share=0.0)
"""EfficientNetV2 rounds channels to the nearest multiple, however far that is."""
EFFICIENTNET_LITE_RULE = Rule(scales_stem=False, scales_head=False, scales_ends=False)
"""EfficientNet-lite keeps stem and head, and the layers of the first and last stage."""
MNASNET_RULE = Rule(scales_head=False, scales_depth=False)
"""MnasNet scales the width alone, and keeps the head."""
MOBILENET_V2_RULE = Rule(least_head=1280)
"""MobileNetV2 gives the head at least 1280 channels."""

RULES: Mapping[str, Rule] = {
    "efficientnet": EFFICIENTNET_RULE,
    "efficientnet_v2": EFFICIENTNET_V2_RULE,
    "lite": EFFICIENTNET_LITE_RULE,
    "mnasnet": MNASNET_RULE,
}
"""Rules by the name that users give, the default first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What a network's layers, channels and image side are multiplied by.

    Attributes:
        depth: Factor of the layers.
        width: Factor of the channels.
        resolution: Factor of the image's side.

    Raises:
        SpaceError: A factor is not a finite number above 0, or absurdly large.
    """

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0

    def __post_init__(self) -> None:
        for name in ("depth", "width", "resolution"):
            _require_factor(name, getattr(self, name))

    @property
    def nominal_factor(self) -> float:
        """Factor of the multiply-adds if nothing were rounded: depth * width^2 * resolution^2."""
        return self.depth * self.width**2 * self.resolution**2


def compound(
    phi: float,
    *,
    depth_base: float = DEPTH_BASE,
    width_base: float = WIDTH_BASE,
    resolution_base: float = RESOLUTION_BASE,
) -> Scaling:
    """The factors of compound scaling: each base to the power of phi.

    Raises:
        SpaceError: Phi is not a number from -20 to 60, or a base not a finite number above 0.

    Source: EfficientNet (Tan & Le, ICML 2019), equation 3.
    """
    phi = require_phi(phi)
    bases = {"depth": depth_base, "width": width_base, "resolution": resolution_base}
    for name, base in bases.items():
        _require_factor(f"{name}_base", base)
    factors = {name: min(base**phi, 2 * MOST_FACTOR) for name, base in bases.items()}
    return Scaling(**factors)


def apply_scaling(
    network: Network,
    scaling: Scaling,
    *,
    rule: Rule = EFFICIENTNET_RULE,
    resolution_multiple: int = 1,
) -> Network:
    """Scales a network by given factors; a factor of 1 changes nothing in its dimension.

    Raises:
        SpaceError: The result is not valid, for instance by absurd sizes.
    """
    require_integer("resolution_multiple", resolution_multiple, least=1, most=MOST_RESOLUTION)
    present = [index for index, stage in enumerate(network.stages) if stage.repeats]
    ends = (present[0], present[-1]) if present else ()

    def widen(stage: Stage) -> Stage:
        return replace(stage, channels=_channels(stage.channels, scaling.width, rule))

    stages = tuple(
        replace(widen(stage), repeats=_repeats(stage, scaling, rule, is_end=index in ends))
        for index, stage in enumerate(network.stages)
    )
    stem = widen(network.stem) if rule.scales_stem else network.stem
    head = _head(network.head, scaling.width, rule) if rule.scales_head else network.head
    side = network.resolution
    if scaling.resolution != 1 or resolution_multiple != 1:
        steps = math.floor(network.resolution * scaling.resolution / resolution_multiple + 0.5)
        side = max(1, steps) * resolution_multiple
    return replace(network, stem=stem, stages=stages, head=head, resolution=side)


def _channels(channels: int, width: float, rule: Rule) -> int:
    return channels if width == 1 else round_channels(channels * width, rule.divisor, rule.least_share)


def _repeats(stage: Stage, scaling: Scaling, rule: Rule, *, is_end: bool) -> int:
    if not rule.scales_depth or (is_end and not rule.scales_ends):
        return stage.repeats
    return round_repeats(stage.repeats, scaling.depth)


def _head(head: Head, width: float, rule: Rule) -> Head:
    channels, hidden = (
        max(min(size, rule.least_head), _channels(size, width, rule)) if size else 0
        for size in (head.channels, head.hidden)
    )
    return replace(head, channels=channels, hidden=hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One network of a scaled family.

    Attributes:
        scaling: The factors asked for.
        network: What came of them.
        cost: What it costs.
        memory: What it holds in memory.
        macs_factor: Its multiply-adds over the baseline's, after all rounding.
    """

    scaling: Scaling
    network: Network
    cost: Cost
    memory: Memory
    macs_factor: float


def member(
    baseline: Network,
    scaling: Scaling,
    *,
    rule: Rule = EFFICIENTNET_RULE,
    resolution_multiple: int = 1,
) -> Member:
    """Scales a baseline and says what came of it, the effective factor of its multiply-adds included.

    Raises:
        SpaceError: The result is not valid.
    """
    network = apply_scaling(baseline, scaling, rule=rule, resolution_multiple=resolution_multiple)
    return member_of(baseline, network, scaling)


def member_of(baseline: Network, network: Network, scaling: Scaling) -> Member:
    """A network that was made from a baseline by these factors."""
    price = cost(network)
    return Member(
        scaling=scaling,
        network=network,
        cost=price,
        memory=memory(network),
        macs_factor=price.macs / cost(baseline).macs,
    )


def largest_phi(
    network: Network,
    *,
    macs: float = math.inf,
    params: float = math.inf,
    inference_bytes: float = math.inf,
    depth_base: float = DEPTH_BASE,
    width_base: float = WIDTH_BASE,
    resolution_base: float = RESOLUTION_BASE,
    rule: Rule = EFFICIENTNET_RULE,
    resolution_multiple: int = 1,
) -> float:
    """The largest phi whose network keeps the limits, to a millionth; below 0 where the baseline breaks one.

    Costs grow with phi, so it is found by halving an interval.

    Args:
        network: The baseline.
        macs: Most multiply-adds.
        params: Most parameters.
        inference_bytes: Most bytes while one image is classified, see `Memory.inference_bytes`.
        depth_base: Factor of the layers for each phi.
        width_base: Factor of the channels for each phi.
        resolution_base: Factor of the image's side for each phi.
        rule: How to round, and what to leave alone.
        resolution_multiple: What the side is rounded to a multiple of.

    Raises:
        SpaceError: No limit is given, or one is not a number above 0, or none is small enough to keep it.

    Source: EfficientNet (Tan & Le, ICML 2019), equation 2, along the line of equation 3.
    """
    limits = require_limits({"macs": macs, "params": params, "inference_bytes": inference_bytes})

    def scaled(phi: float) -> Network:
        scaling = compound(phi, depth_base=depth_base, width_base=width_base, resolution_base=resolution_base)
        return apply_scaling(network, scaling, rule=rule, resolution_multiple=resolution_multiple)

    def keeps(phi: float) -> bool:
        try:
            found = limited_costs(scaled(phi))
        except SpaceError:  # too large for any network, or too small for its strides
            return False
        return all(found[name] <= limit for name, limit in limits.items())

    below, above = _bracket(keeps)
    if below is None:
        raise limits_broken(network, limits)
    while above - below > 1e-6:
        middle = (below + above) / 2
        below, above = (middle, above) if keeps(middle) else (below, middle)
    return below


def require_limits(limits: Mapping[str, float]) -> Mapping[str, float]:
    """Returns limits of costs by name.

    Raises:
        SpaceError: One is not a number above 0, or none is finite.
    """
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
            raise SpaceError(f"`{name} > 0` must hold for a limit, but got {name}={limit!r}", field=name)
    if all(math.isinf(limit) for limit in limits.values()):
        raise SpaceError("the largest scaling needs a limit: macs, params or inference_bytes")
    return limits


def limited_costs(network: Network) -> dict[str, int]:
    """The costs of a network that may be limited, by name."""
    price = cost(network)
    return {
        "macs": price.macs,
        "params": price.params,
        "inference_bytes": memory(network).inference_bytes,
    }


def limits_broken(network: Network, limits: Mapping[str, float]) -> SpaceError:
    """The error that no scaling of a network keeps limits."""
    words = ", ".join(f"{name} <= {limit:,.12g}" for name, limit in limits.items() if limit < math.inf)
    costs = ", ".join(f"{name}={value:,}" for name, value in limited_costs(network).items())
    return SpaceError(
        f"no scaling of the network keeps {words}: unscaled it has {costs}; raise the limit, or begin "
        "with a smaller network"
    )


def _bracket(keeps: Callable[[float], bool]) -> tuple[float | None, float]:
    """A phi that keeps the limits and a larger one that does not; None where there is none of the first."""
    if keeps(0.0):
        above = 1.0
        while above < MOST_PHI and keeps(above):
            above = min(2 * above, MOST_PHI)
        return above / 2 if above > 1 else 0.0, above
    phi = -_STEP
    while phi >= LEAST_PHI and not keeps(phi):
        phi -= _STEP
    return (phi if phi >= LEAST_PHI else None), phi + _STEP


_STEP = 0.25
"""How far apart phis below 0 are tried."""


def require_phi(phi: float) -> float:
    """Returns phi.

    Raises:
        SpaceError: It is not a number from -20 to 60.
    """
    if isinstance(phi, bool) or not isinstance(phi, int | float) or not LEAST_PHI <= phi <= MOST_PHI:
        raise SpaceError(
            f"`{LEAST_PHI:g} <= phi <= {MOST_PHI:g}` must hold, but got phi={phi!r}", field="phi"
        )
    return phi


def _require_factor(name: str, factor: object) -> None:
    is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not is_number or not 0 < factor <= MOST_FACTOR:  # type: ignore[operator]
        raise SpaceError(f"`0 < {name} <= {MOST_FACTOR:g}` must hold, but got {name}={factor!r}", field=name)
