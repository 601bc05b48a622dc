"""Owns what can be said of a search before anything runs: decisions, size and costs of its space, its plan.

Does not own the search. Nothing here trains, and nothing loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.errors import UsageError
from nas.objective import KNOWN_METRICS, AbsoluteTerm, CostTerm, Objective
from search_spaces import Cost, Decision, SearchSpace, cost

Z_95 = 1.959964
"""Half-width of the central 95 % of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a cost is spread over random candidates.

    Attributes:
        metric: `macs`, `params` or `activations`.
        minimum: Least seen.
        first_quartile: A quarter of the candidates cost at most this.
        median: Half of them cost at most this.
        third_quartile: Three quarters of them cost at most this.
        maximum: Most seen.
        reference: What the space's reference network costs; None where there is none.
    """

    metric: str
    minimum: int
    first_quartile: float
    median: float
    third_quartile: float
    maximum: int
    reference: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many random candidates keep a limit.

    Attributes:
        limit: The limit in words (`macs <= 300M`).
        kind: Whether candidates above it are rejected, or only lose reward.
        kept: Number of sampled candidates that keep it.
        samples: Number of sampled candidates.
    """

    limit: str
    kind: Literal["constraint", "target", "all constraints"]
    kept: int
    samples: int

    @property
    def share(self) -> float:
        """Share of the sample that keeps the limit."""
        return self.kept / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Central 95 % interval of the share in the whole space.

        Source: Wilson, J. Am. Stat. Assoc. 22, 1927.
        """
        n, p = self.samples, self.share
        middle = p + Z_95**2 / (2 * n)
        half = Z_95 * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
        scale = 1 + Z_95**2 / n
        return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceProfile:
    """A space seen through random candidates.

    Attributes:
        name: Name of the space.
        decisions: What is open.
        size: Exact number of candidates.
        samples: Number of random candidates, each active decision uniform over its options.
        seed: Seed of the sample.
        spreads: How each cost is spread.
        shares: How many candidates keep each limit that is known before training.
        undecided: Metrics of the objective that only a measurement can tell.
    """

    name: str
    decisions: tuple[Decision, ...]
    size: int
    samples: int
    seed: int
    spreads: tuple[Spread, ...]
    shares: tuple[Share, ...]
    undecided: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a search would take.

    Attributes:
        trials: Number of trainings.
        workers: How many run at the same time.
        gpus_per_worker: Share of a GPU that each of them holds.
        seconds_per_trial: Wall time of one training; None where nobody knows.
        origin: Where `seconds_per_trial` comes from, in words.
    """

    trials: int
    workers: int
    gpus_per_worker: float
    seconds_per_trial: float | None
    origin: str

    @property
    def seconds(self) -> float | None:
        """Wall time of the search, workers always busy, start-up left out."""
        if self.seconds_per_trial is None:
            return None
        return math.ceil(self.trials / self.workers) * self.seconds_per_trial

    @property
    def gpu_hours(self) -> float | None:
        """GPU time the search holds; 0 on CPUs."""
        if self.seconds_per_trial is None:
            return None
        return self.trials * self.seconds_per_trial * self.gpus_per_worker / 3600

    @property
    def worker_hours(self) -> float | None:
        """Worker time the search holds."""
        return None if self.seconds_per_trial is None else self.trials * self.seconds_per_trial / 3600


def profile_space(
    space: SearchSpace, objective: Objective | None = None, *, samples: int = 1000, seed: int = 0
) -> SpaceProfile:
    """Samples a space and says what its candidates cost and how many keep the objective's limits.

    Args:
        space: The space.
        objective: Gives targets and constraints to count against.
        samples: Number of random candidates.
        seed: Seed of the sample.

    Raises:
        UsageError: There is nothing to sample.
        SpaceError: A candidate cannot be built.
    """
    if samples < 1:
        raise UsageError(f"`samples >= 1` must hold, but got samples={samples}")
    rng = np.random.default_rng(seed)
    costs = [cost(space.decode(space.sample(rng))) for _ in range(samples)]
    reference = None if space.reference is None else cost(space.reference)
    aim = objective or Objective()
    return SpaceProfile(
        name=space.name,
        decisions=space.decisions,
        size=space.size,
        samples=samples,
        seed=seed,
        spreads=tuple(_spread(metric, costs, reference) for metric in ("macs", "params")),
        shares=_shares(aim, costs),
        undecided=aim.measured_metrics,
    )


def _spread(metric: str, costs: Sequence[Cost], reference: Cost | None) -> Spread:
    values = np.array([getattr(one, metric) for one in costs])
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Spread(
        metric=metric,
        minimum=int(values.min()),
        first_quartile=float(low),
        median=float(middle),
        third_quartile=float(high),
        maximum=int(values.max()),
        reference=None if reference is None else getattr(reference, metric),
    )


def _shares(objective: Objective, costs: Sequence[Cost]) -> tuple[Share, ...]:
    samples = len(costs)
    terms: tuple[CostTerm | AbsoluteTerm, ...] = (*objective.factors, *objective.absolutes)
    limits: list[tuple[str, float, Literal["constraint", "target"]]] = [
        *((term.metric, term.target, "target") for term in terms),
        *((limit.metric, limit.upper, "constraint") for limit in objective.constraints),
    ]
    known = [(metric, upper, kind) for metric, upper, kind in limits if metric in KNOWN_METRICS]
    shares = [
        Share(
            limit=f"{metric} <= {upper:,.0f}",
            kind=kind,
            kept=sum(getattr(one, metric) <= upper for one in costs),
            samples=samples,
        )
        for metric, upper, kind in known
    ]
    constraints = [(metric, upper) for metric, upper, kind in known if kind == "constraint"]
    if len(constraints) > 1:
        kept = sum(all(getattr(one, metric) <= upper for metric, upper in constraints) for one in costs)
        shares.append(Share(limit="all of them", kind="all constraints", kept=kept, samples=samples))
    return tuple(shares)
