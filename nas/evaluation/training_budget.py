"""The largest network of a family whose measured training keeps a budget of memory and time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from nas.errors import UsageError
from search_spaces import Network, SpaceError
from search_spaces.scaling import LEAST_PHI, MOST_PHI

CLOSE = 0.1
"""Distance of phis at which a search ends; for phis of a direction, 7 % of the cost."""

FULL_ENOUGH = 0.95
"""Share of a budget from which on a search ends: a measured time varies by more than the rest."""

MOST_GROWTH, MOST_SHRINKAGE = 1.0, 2.0
"""How far the next phi may be from the last, so that no step of a far too large network is taken."""

MOST_PROBES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLoad:
    """What the training of a network takes.

    Attributes:
        seconds: Estimate of the whole, from a measured step.
        memory_bytes: Measured peak memory of a step; infinite where it ran out.
        where: On which device, in words.
    """

    seconds: float
    memory_bytes: float
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBudget:
    """What a training may take.

    Attributes:
        seconds: Most time of the whole.
        memory_bytes: Most memory of a step.

    Raises:
        UsageError: One is not above 0, or neither is finite.
    """

    seconds: float = math.inf
    memory_bytes: float = math.inf

    def __post_init__(self) -> None:
        for name, limit in (("max_train_hours", self.seconds), ("max_train_memory", self.memory_bytes)):
            if not limit > 0:
                raise UsageError(f"`{name} > 0` must hold, but got {limit!r}", field=name)
        if math.isinf(self.seconds) and math.isinf(self.memory_bytes):
            raise UsageError(
                "a training budget needs max_train_hours or max_train_memory", field="max_train_hours"
            )

    def used(self, load: TrainingLoad) -> float:
        """Share of the budget that a training takes, of its time or of its memory; above 1 it breaks it."""
        return max(load.seconds / self.seconds, load.memory_bytes / self.memory_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A network whose training was measured.

    Attributes:
        phi: Its place in the family.
        network: The network.
        load: What its training takes.
        used: The share of the budget that it takes.
    """

    phi: float
    network: Network
    load: TrainingLoad
    used: float

    @property
    def keeps(self) -> bool:
        """Whether it keeps the budget."""
        return self.used <= 1


def largest_trained(
    member: Callable[[float], Network],
    measure: Callable[[Network], TrainingLoad],
    budget: TrainingBudget,
    *,
    most_phi: float = MOST_PHI,
    watch: Callable[[Probe], None],
) -> Probe:
    """The largest member of a family whose measured training keeps a budget, to a tenth of phi.

    It begins with the baseline, or below it where `most_phi` is. The next phi is where the budget would be
    used up if costs doubled with phi; between one that keeps it and one that does not, the interval shrinks.

    Args:
        member: The network at a phi; larger ones cost more.
        measure: What the training of a network takes.
        budget: What it may take.
        most_phi: Largest phi that other limits leave.
        watch: Told of every measurement.

    Raises:
        UsageError: The smallest network that can be made breaks the budget.
        NasError: A training cannot be measured.
    """
    low: Probe | None = None
    high: Probe | None = None
    below, above = LEAST_PHI, math.inf  # where no valid member is smaller, and where none is kept
    phi = min(0.0, most_phi)
    for _ in range(MOST_PROBES):
        probe = _probe(member, measure, budget, phi, tuple(one for one in (low, high) if one), watch)
        if probe is None and low is None:
            below = phi
        elif probe is not None and probe.keeps:
            low = probe
        else:
            high, above = probe or high, phi
        if low is not None:
            top = min(most_phi, above)
            if low.used >= FULL_ENOUGH or top - low.phi <= CLOSE:
                return low
            phi = _larger(low, top, is_known=above <= most_phi)
        elif high is None or high.phi - below <= CLOSE:
            break
        else:
            phi = max(high.phi - MOST_SHRINKAGE, min(_guess(high), high.phi - CLOSE))
            phi = phi if phi > below else (below + high.phi) / 2
    if low is not None:
        return low
    raise _broken(budget, high)


def _probe(
    member: Callable[[float], Network],
    measure: Callable[[Network], TrainingLoad],
    budget: TrainingBudget,
    phi: float,
    known: tuple[Probe, ...],
    watch: Callable[[Probe], None],
) -> Probe | None:
    """The member at a phi with its training, measured once a network; None where there is no such member."""
    try:
        network = member(phi)
        digest = network.digest
    except SpaceError:
        return None
    for one in known:
        if one.network.digest == digest:
            return replace(one, phi=phi)
    load = measure(network)
    probe = Probe(phi=phi, network=network, load=load, used=budget.used(load))
    watch(probe)
    return probe


def _larger(low: Probe, top: float, *, is_known: bool) -> float:
    """Where to measure next above one that keeps the budget; below the top where that surely breaks it."""
    guess = min(_guess(low), low.phi + MOST_GROWTH)
    if not is_known:
        return min(top, max(guess, low.phi + CLOSE))
    margin = CLOSE / 2
    return guess if low.phi + margin < guess < top - margin else (low.phi + top) / 2


def _guess(probe: Probe) -> float:
    return probe.phi - (
        math.log2(probe.used) if 0 < probe.used < math.inf else math.copysign(64, probe.used - 1)
    )


def _broken(budget: TrainingBudget, smallest: Probe | None) -> UsageError:
    field = "max_train_memory" if math.isinf(budget.seconds) else "max_train_hours"
    taken = ""
    if smallest is not None:
        load = smallest.load
        taken = (
            f": the smallest measured, phi {smallest.phi:.3g}, takes {load.seconds / 3600:.3g} hours and "
            f"{load.memory_bytes:,.0f} bytes"
        )
    return UsageError(
        f"no network of this family can be trained within the budget{taken}; raise it, give a recipe with "
        "fewer epochs or smaller batches, or begin with a smaller network",
        field=field,
    )
