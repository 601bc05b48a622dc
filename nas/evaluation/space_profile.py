"""What can be said of a search before anything runs: decisions, size and costs of its space, its plan.

Nothing here trains, and nothing loads torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nas.metrics import NETWORK_METRICS
from nas.objective import Objective
from nas.statistics import wilson_interval
from nas.values import whole
from search_spaces import Decision, Network, SearchSpace, cost, memory

Values = npt.NDArray[np.int64]
Records = np.recarray[Any, np.dtype[np.void]]

SAMPLES = 100_000
"""Random candidates that a space is profiled by."""

METRICS = ("macs", "params", "inference_bytes")
BINS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a cost is spread over random candidates.

    Attributes:
        metric: `macs`, `params` or `inference_bytes`.
        minimum: Least of the whole space where `is_exact`, else least seen.
        percent_1: One in a hundred candidates costs at most this.
        first_quartile: A quarter of the candidates cost at most this.
        median: Half of them cost at most this.
        third_quartile: Three quarters of them cost at most this.
        percent_99: One in a hundred candidates costs at least this.
        maximum: Most of the whole space where `is_exact`, else most seen.
        is_exact: Whether the ends are those of the whole space.
        reference: What the space's reference network costs; None where there is none.
        edges: Ends of equal intervals from the least seen to the most seen, one more than `counts`.
        counts: Candidates in each of them.
    """

    metric: str
    minimum: int
    percent_1: float
    first_quartile: float
    median: float
    third_quartile: float
    percent_99: float
    maximum: int
    is_exact: bool
    edges: tuple[float, ...]
    counts: tuple[int, ...]
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
        """Central 95 % interval of the share in the whole space (Wilson)."""
        return wilson_interval(self.kept, self.samples)


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
        undecided: Metrics of the objective that must be measured.
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
        seconds_per_trial: Wall time of one training; None if unknown.
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
    space: SearchSpace, objective: Objective | None = None, *, samples: int = SAMPLES, seed: int = 0
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
    samples = whole("samples", samples, least=1)
    costs = space.costs(space.sample_many(np.random.default_rng(seed), samples))
    aim = objective or Objective()
    return SpaceProfile(
        name=space.name,
        decisions=space.decisions,
        size=space.size,
        samples=samples,
        seed=seed,
        spreads=tuple(_spread(space, metric, costs[metric]) for metric in METRICS),
        shares=_shares(aim, costs),
        undecided=aim.measured_metrics,
    )


def _spread(space: SearchSpace, metric: str, values: Values) -> Spread:
    percent_1, low, middle, high, percent_99 = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
    exact = None if metric == "inference_bytes" else space.cost_range(metric)
    ends = (int(values.min()), int(values.max())) if exact is None else exact
    counts, edges = np.histogram(values, bins=BINS)
    return Spread(
        metric=metric,
        minimum=ends[0],
        percent_1=float(percent_1),
        first_quartile=float(low),
        median=float(middle),
        third_quartile=float(high),
        percent_99=float(percent_99),
        maximum=ends[1],
        is_exact=exact is not None,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        reference=None if space.reference is None else _reference_cost(space.reference, metric),
    )


def _reference_cost(network: Network, metric: str) -> int:
    if metric == "inference_bytes":
        return memory(network).inference_bytes
    return int(getattr(cost(network), metric))


def _shares(objective: Objective, costs: Records) -> tuple[Share, ...]:
    samples = len(costs)
    limits: list[tuple[str, float, Literal["constraint", "target"]]] = [
        *((metric, target, "target") for metric, target in objective.targets.items()),
        *((limit.metric, limit.upper, "constraint") for limit in objective.constraints if limit.upper),
    ]
    known = [(metric, upper, kind) for metric, upper, kind in limits if metric in NETWORK_METRICS]
    shares = [
        Share(
            limit=f"{metric} <= {upper:,.0f}",
            kind=kind,
            kept=int((costs[metric] <= upper).sum()),
            samples=samples,
        )
        for metric, upper, kind in known
    ]
    constraints = [(metric, upper) for metric, upper, kind in known if kind == "constraint"]
    if len(constraints) > 1:
        kept = int(np.all([costs[metric] <= upper for metric, upper in constraints], axis=0).sum())
        shares.append(Share(limit="all of them", kind="all constraints", kept=kept, samples=samples))
    return tuple(shares)
