"""`train_family` trains a scaled family and references in full, times them together, and compares them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.architectures import Architecture
from nas.errors import UsageError
from nas.full_training.images import ImageSource
from nas.full_training.options import TrainOptions
from nas.full_training.recipe import FullRecipe
from nas.full_training.results import Trained
from nas.full_training.run import Unwatched, Watcher, run
from nas.full_training.training import FullTraining
from nas.latency.devices import DeviceSettings
from nas.latency.environment import busy
from nas.latency.measurement import LatencyMeasurement, OnRound, measure_networks
from nas.latency.session import Comparison, Timing, compare_timings
from nas.metrics import Goal
from search_spaces import Network, cost

LATENCY = DeviceSettings(device="cpu", batch=1, threads=1)
"""One image at a time on one thread of a CPU, as in the paper's Table 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyNetwork:
    """A network that was trained in full, from several seeds.

    Attributes:
        name: What it is called.
        network: The network.
        is_reference: Whether it is no member of the family.
        trained: Its trainings, one for each seed.
        timing: Its latency, in one session with the others; None before it was measured.
    """

    name: str
    network: Network
    is_reference: bool
    trained: tuple[Trained, ...]
    timing: Timing | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The metric on the test split, by seed."""
        return tuple(one.value for one in self.trained)

    @property
    def mean(self) -> float:
        """Its mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation from seed to seed; None where there is one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AtEqual:
    """A reference, and the smallest member of the family that is at least as good.

    Attributes:
        reference: The reference.
        member: The member with the fewest multiply-adds of those whose mean is as good; None: none is.
        params_ratio: The reference's parameters over the member's.
        macs_ratio: Likewise its multiply-adds.
        latency: The reference's latency over the member's, measured in turns.
    """

    reference: FamilyNetwork
    member: FamilyNetwork | None = None
    params_ratio: float | None = None
    macs_ratio: float | None = None
    latency: Comparison | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family that was trained, beside references that were trained alike.

    Attributes:
        goal: The metric on the test split, and whether more of it is better.
        networks: The members, the smallest first, and the references.
        flags: Why latencies must not be ranked by, in words; empty where nothing speaks against it.
        repeat_error: What the two halves of the latency session disagree by; None where it was not measured.
    """

    goal: Goal
    networks: tuple[FamilyNetwork, ...]
    flags: tuple[str, ...] = ()
    repeat_error: float | None = None

    @property
    def members(self) -> tuple[FamilyNetwork, ...]:
        """The family."""
        return tuple(one for one in self.networks if not one.is_reference)

    @property
    def references(self) -> tuple[FamilyNetwork, ...]:
        """Those that it is compared with."""
        return tuple(one for one in self.networks if one.is_reference)

    def at_equal(self) -> tuple[AtEqual, ...]:
        """Each reference beside the smallest member that is at least as good."""
        return tuple(self._at_equal(one) for one in self.references)

    def _at_equal(self, reference: FamilyNetwork) -> AtEqual:
        sign = self.goal.sign
        good = [one for one in self.members if sign * one.mean >= sign * reference.mean]
        if not good:
            return AtEqual(reference=reference)
        member = min(good, key=lambda one: cost(one.network).macs)
        ours, theirs = cost(member.network), cost(reference.network)
        latency = None
        if member.timing is not None and reference.timing is not None:
            latency = compare_timings(member.timing, reference.timing, repeat_error=self.repeat_error)
        return AtEqual(
            reference=reference,
            member=member,
            params_ratio=theirs.params / ours.params,
            macs_ratio=theirs.macs / ours.macs,
            latency=latency,
        )


def train_family(
    members: Mapping[str, Network],
    *,
    references: Mapping[str, Network] | None = None,
    data: ImageSource | str | Path,
    recipe: str | Path | FullRecipe | None = None,
    seeds: int = 1,
    seed: int = 0,
    metric: str | None = None,
    out: str | Path,
    options: TrainOptions | None = None,
    watcher: Watcher | None = None,
    on_round: OnRound | None = None,
) -> Family:
    """Trains every network in full, each at its own image size, tests and exports it, and times all together.

    Each training is a folder of its own, `out/NAME-seed-K`, as `train` makes it; the same call continues.

    Args:
        members: The family by name, the smallest first.
        references: What it is compared with, by name.
        data: The images.
        recipe: How; None is the default of `train`.
        seeds: Trainings of each network.
        seed: The first seed; the others follow it.
        metric: What the best weights are chosen by, and networks are compared by; None is the task's first.
        out: Folder of the trainings.
        options: Devices, workers, checkpoints.
        watcher: Receives the progress of trainings.
        on_round: Receives the rounds of the latency session.

    Raises:
        UsageError: A reference has the name of a member.
        NasError: As `train`; or latency cannot be measured.
    """
    check_names(members, references or {})
    every = {name: (one, False) for name, one in members.items()}
    every |= {name: (one, True) for name, one in (references or {}).items()}
    folder, found = Path(out).expanduser(), []
    for name, (network, is_reference) in every.items():
        trained = []
        for number in range(seed, seed + seeds):
            named = Architecture(name=name, network=network)
            asked = FullTraining(network=named, data=data, recipe=recipe, metric=metric, seed=number)
            place = folder / f"{name}-seed-{number}"
            trained.append(
                run(asked, place, options=options or TrainOptions(), watcher=watcher or Unwatched())
            )
        found.append(
            FamilyNetwork(
                name=name,
                network=trained[0].network,  # which has the classes of the images
                is_reference=is_reference,
                trained=tuple(trained),
            )
        )
    return _timed(found, on_round)


def check_names(members: Iterable[str], references: Iterable[str]) -> None:
    """Checks that no reference is called as a member, which would be lost.

    Raises:
        UsageError: One is.
    """
    same = sorted(set(members) & set(references))
    if same:
        raise UsageError(
            f"the reference {same[0]} has the name of a network that is trained anyway: leave it out, or "
            f"give the side of its images, such as {same[0]}@64",
            field="references",
        )


def _timed(networks: Sequence[FamilyNetwork], on_round: OnRound | None) -> Family:
    """The family with the latency of every network, from one session in which they take turns."""
    measured = measure_networks(
        {one.name: one.network for one in networks},
        LATENCY,
        busyness=busy(LATENCY),
        on_round=on_round,
    )
    first = networks[0].trained[0]
    return Family(
        goal=Goal.of(first.metric),
        networks=tuple(replace(one, timing=it.timing) for one, it in zip(networks, measured, strict=True)),
        flags=_flags(measured),
        repeat_error=measured[0].session.repeat_error,
    )


def _flags(measured: Sequence[LatencyMeasurement]) -> tuple[str, ...]:
    """Why latencies must not be ranked by: what holds for all once, else with the network's name."""
    shared = [flag for flag in measured[0].flags if all(flag in one.flags for one in measured)]
    own = [f"{one.timing.name}: {flag}" for one in measured for flag in one.flags if flag not in shared]
    return (*shared, *own)
