"""The terms of an objective: factors, summands and limits, and the names of costs that they may have."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from nas.errors import ObjectiveError

NETWORK_METRICS = ("macs", "params", "activations")
"""Costs that follow from the network alone."""

PREDICTED_METRICS = ("predicted_latency_ms",)
"""Costs that follow from the network and a table that was measured beforehand."""

KNOWN_METRICS = NETWORK_METRICS + PREDICTED_METRICS
"""Costs that are known before anything is trained."""

MEASURED_METRICS = ("latency_ms", "peak_memory_bytes", "train_step_ms", "train_seconds")
"""Costs that our own evaluators measure; a user's evaluator may measure others, under other names."""

_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "> 0": operator.gt,
    "< 0": operator.lt,
    "<= 0": operator.le,
}


def _check_number(name: str, value: object, relation: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not _RELATIONS[relation](cast(float, value), 0):
        raise ObjectiveError(f"`{name} {relation}` must hold for a finite number, but got {name}={value!r}")


def _check_metric(metric: object) -> None:
    """Checks a metric's name; any word will do, but not a near miss of one of ours."""
    if not isinstance(metric, str) or not metric.isidentifier() or metric == "accuracy":
        raise ObjectiveError(
            f"a cost is a word such as {', '.join(KNOWN_METRICS + MEASURED_METRICS)}, but got {metric!r}"
        )
    ours = KNOWN_METRICS + MEASURED_METRICS
    near = [] if metric in ours else get_close_matches(metric, ours, n=1, cutoff=0.7)
    if near:
        raise ObjectiveError(f"there is no metric {metric!r}: did you mean {near[0]!r}?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTerm:
    """One factor `(cost / target) ** exponent` of the reward.

    Attributes:
        metric: Name of the cost (`macs`, `params`, `latency_ms`, ...).
        target: The cost aimed at, in the metric's unit.
        exponent_under: Exponent where cost <= target; 0 gives nothing for being cheaper.
        exponent_over: Exponent where cost > target; negative punishes.

    Raises:
        ObjectiveError: The target is not a positive finite number, or an exponent is positive or not finite.

    Source: MnasNet (Tan et al., CVPR 2019), equations 2 and 3, where they are called alpha and beta.
    """

    metric: str
    target: float
    exponent_under: float
    exponent_over: float

    def __post_init__(self) -> None:
        _check_metric(self.metric)
        _check_number("target", self.target, "> 0")
        _check_number("exponent_under", self.exponent_under, "<= 0")
        _check_number("exponent_over", self.exponent_over, "<= 0")

    def factor(self, cost: float) -> float:
        """The factor by which this cost changes the reward; 1 at the target.

        Raises:
            ObjectiveError: The cost is negative, or 0 to a power that is not 0, or the power is no number.
        """
        exponent = self.exponent_under if cost <= self.target else self.exponent_over
        if not (cost > 0 or (cost == 0 and exponent == 0)):
            raise ObjectiveError(
                f"`{self.metric} > 0` must hold for {self.describe()}, but got {self.metric}={cost!r}"
            )
        try:
            factor = float((cost / self.target) ** exponent)
        except (OverflowError, ZeroDivisionError):  # the share of a tiny cost may be 0
            factor = math.inf
        if not math.isfinite(factor):
            raise ObjectiveError(
                f"{self.describe()} is no number for {self.metric}={number_text(cost)}: use exponents nearer "
                "to 0"
            )
        return factor

    @property
    def is_unit(self) -> bool:
        """Whether the target is 1 of the metric's unit and nothing that is aimed at: `params^-0.05`."""
        return self.target == 1 and self.exponent_under == self.exponent_over

    def describe(self) -> str:
        """The factor as `Objective.parse` reads it."""
        exponent = number_text(self.exponent_under)
        if self.exponent_under != self.exponent_over:
            exponent = f"({exponent} under, {number_text(self.exponent_over)} over)"
        return (
            f"{self.metric if self.is_unit else f'({self.metric} / {number_text(self.target)})'}^{exponent}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsoluteTerm:
    """One summand `beta * abs(cost / target - 1)` of the reward: lands on a budget from both sides.

    Attributes:
        metric: Name of the cost.
        target: The cost aimed at, in the metric's unit.
        beta: Reward for a distance of one target from the target; negative.

    Raises:
        ObjectiveError: The target is not a positive finite number, or beta is not negative.

    Source: TuNAS (Bender et al., CVPR 2020), section 3, the absolute reward function.
    """

    metric: str
    target: float
    beta: float

    def __post_init__(self) -> None:
        _check_metric(self.metric)
        _check_number("target", self.target, "> 0")
        _check_number("beta", self.beta, "< 0")

    def summand(self, cost: float) -> float:
        """What this cost adds to the reward; 0 at the target, negative elsewhere."""
        return self.beta * abs(cost / self.target - 1)

    def describe(self) -> str:
        """The summand as `Objective.parse` reads it."""
        return f"- {number_text(-self.beta)} * |{self.metric} / {number_text(self.target)} - 1|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A hard limit: a candidate above it is not wanted at any accuracy.

    Attributes:
        metric: Name of the cost. Those in `KNOWN_METRICS` are checked before training.
        upper: The largest cost allowed, in the metric's unit.

    Raises:
        ObjectiveError: The limit is not a positive finite number.
    """

    metric: str
    upper: float

    def __post_init__(self) -> None:
        _check_metric(self.metric)
        _check_number("upper", self.upper, "> 0")

    @property
    def is_known_before_training(self) -> bool:
        """Whether the cost needs no training: it follows from the network, or from a table of latencies."""
        return self.metric in KNOWN_METRICS

    def excess(self, costs: Mapping[str, float]) -> float:
        """How far the cost lies above the limit, as a share of the limit; 0 where it is met."""
        return max(0.0, cost_of(costs, self.metric) / self.upper - 1)

    def describe(self) -> str:
        """The limit as `Objective.parse` reads it."""
        return f"{self.metric} <= {number_text(self.upper)}"


def cost_of(costs: Mapping[str, float], metric: str) -> float:
    """Looks a cost up.

    Raises:
        ObjectiveError: It was not measured, or is not a finite number.
    """
    if metric not in costs:
        source = "give a latency table" if metric in PREDICTED_METRICS else "let the evaluator measure it"
        raise ObjectiveError(
            f"the objective needs {metric!r}, but only {', '.join(sorted(costs)) or 'nothing'} is known: "
            f"{source}, or name another metric"
        )
    value = costs[metric]
    if not math.isfinite(value):
        raise ObjectiveError(f"`{metric} > 0` must hold for a finite cost, but got {metric}={value!r}")
    return value


def number_text(value: float) -> str:
    """The shortest words for a number that read back as the same number, thousands apart."""
    short = f"{value:,.12g}"
    return short if float(short.replace(",", "")) == value else f"{float(value):,}"
