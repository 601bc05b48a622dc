"""What is known of a space's candidates before training: network, identity, costs, predicted latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nas.errors import ObjectiveError
from nas.metrics import NETWORK_METRICS, PREDICTED_METRICS
from nas.objective import Objective
from nas.outcome import all_costs
from nas.protocols import LatencyPredictor
from nas.trial import Metric
from search_spaces import Cost, Network, SearchSpace, SpaceError, cost

Tokens = tuple[int, ...]

(PREDICTED,) = PREDICTED_METRICS
"""What a latency table predicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What follows from tokens alone.

    Attributes:
        network: The tokens decoded.
        digest: Identity of the network.
        cost: Its exact cost.
        predictions: What a table predicts of it.
    """

    network: Network
    digest: str
    cost: Cost
    predictions: tuple[Metric, ...] = ()

    @property
    def costs(self) -> dict[str, float]:
        """Everything that is known of it before training, by name."""
        return all_costs(self.cost, self.predictions)


class Catalogue:
    """Describes candidates of a space; the latest descriptions are cached.

    Args:
        space: Where candidates come from.
        latency: Predicts their latency; None where nothing does.

    Attributes:
        space: Where candidates come from.
        latency: Predicts their latency; None where nothing does.
    """

    def __init__(self, space: SearchSpace, latency: LatencyPredictor | None = None) -> None:
        self.space = space
        self.latency = latency
        self._describe = lru_cache(maxsize=4096)(self._description)

    def describe(self, tokens: Sequence[int]) -> Description:
        """Describes a candidate.

        Raises:
            SpaceError: The tokens are not of this space, or the combination is not valid.
        """
        return self._describe(tuple(tokens))

    def digest(self, tokens: Sequence[int]) -> str:
        """Identity of a candidate; raises as `describe` does."""
        return self.describe(tokens).digest

    def is_feasible(self, tokens: Sequence[int], objective: Objective) -> bool:
        """Whether a candidate can be built and meets the limits on costs that are known before training."""
        try:
            return not objective.broken(self.describe(tokens).costs, before_training=True)
        except (SpaceError, ObjectiveError):
            return False

    def costs(self, tokens: npt.NDArray[np.int64], metrics: Sequence[str]) -> npt.NDArray[np.float64]:
        """Known costs of many candidates that can be built.

        Args:
            tokens: Candidates `(n, decisions)`.
            metrics: Names of costs.

        Returns:
            One column for each of them, `(n, metrics)`.
        """
        exact = self.space.costs(tokens) if set(metrics) & set(NETWORK_METRICS) else None
        columns = [self._predicted(tokens) if exact is None or m == PREDICTED else exact[m] for m in metrics]
        return np.stack(columns, axis=1).astype(np.float64)

    def are_within(self, tokens: npt.NDArray[np.int64], limits: Mapping[str, float]) -> npt.NDArray[np.bool_]:
        """Which of many candidates `(n, decisions)` can be built and keep upper limits, `(n,)`."""
        ranges = {metric: (0.0, limits[metric]) for metric in NETWORK_METRICS if metric in limits}
        within = self.space.are_within(tokens, **ranges)
        if PREDICTED in limits:
            rows = np.flatnonzero(within)
            within[rows] = self._predicted(tokens[rows]) <= limits[PREDICTED]
        return within

    def check_predicts(self, objective: Objective) -> None:
        """Checks that a predicted latency which an objective needs is predicted, and its target within reach.

        Raises:
            ObjectiveError: Nothing predicts it, or every network is predicted to take more than the target.
        """
        if PREDICTED not in objective.metrics:
            return
        if self.latency is None:
            raise ObjectiveError(
                f"the objective needs {PREDICTED!r}, but nothing predicts it: give a latency table of this "
                "space and device (nas latency-table makes one), or use latency_ms, which is measured",
                field="objective",
            )
        least = self.latency.least_ms(self.space)
        budgets = [term.target for term in objective.terms if term.metric == PREDICTED and term.is_budget]
        if (budget := min(budgets, default=math.inf)) < least:
            raise ObjectiveError(
                f"no network of the space {self.space.name!r} is predicted to take less than {least:.4g} ms, "
                f"but the target is {PREDICTED}={budget:.4g}: raise it, or choose a smaller width or "
                f"resolution ({self.latency.origin})",
                field="objective",
            )

    def _predicted(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        if self.latency is None:
            return np.full(len(tokens), np.nan)
        return self.latency.predict_many(self.space, tokens)

    def _description(self, tokens: Tokens) -> Description:
        network = self.space.decode(tokens)
        predictions: tuple[Metric, ...] = ()
        if self.latency is not None:
            value, origin = self.latency.predict(network), self.latency.origin
            if math.isfinite(value):
                predictions = (Metric(name=PREDICTED, value=value, environment=origin),)
        return Description(
            network=network, digest=network.digest, cost=cost(network), predictions=predictions
        )
