"""The terms of an objective: factors, summands and limits of metrics."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from nas.errors import ObjectiveError
from nas.metrics import FRACTION, check_metric, metric_info
from nas.units import number_text

_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "> 0": operator.gt,
    "< 0": operator.lt,
    "<= 0": operator.le,
}


def _check_number(name: str, value: object, relation: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not _RELATIONS[relation](cast(float, value), 0):
        raise ObjectiveError(
            f"`{name} {relation}` must hold for a finite number, but got {name}={value!r}", field=name
        )


def _check_cost(metric: object) -> None:
    check_metric(metric)
    if metric == "accuracy":
        raise ObjectiveError(
            "a term or an upper limit must be of a cost, but got the accuracy: name a cost such as macs, or "
            "the least accuracy, accuracy >= 0.7",
            field="metric",
        )


def metric_of(metrics: Mapping[str, float], name: str) -> float:
    """Looks a metric up.

    Raises:
        ObjectiveError: It was not measured, or is not a finite number.
    """
    if name not in metrics:
        is_predicted = metric_info(name).origin == "predicted"
        remedy = "give a latency table" if is_predicted else "let the evaluator measure it"
        raise ObjectiveError(
            f"the objective needs {name!r}, but only {', '.join(sorted(metrics)) or 'nothing'} is known: "
            f"{remedy}, or name another metric",
            field="objective",
        )
    value = metrics[name]
    if not math.isfinite(value):
        raise ObjectiveError(f"{name} must be finite, but got {name}={value!r}", field="objective")
    return value


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
        _check_cost(self.metric)
        _check_number("target", self.target, "> 0")
        _check_number("exponent_under", self.exponent_under, "<= 0")
        _check_number("exponent_over", self.exponent_over, "<= 0")

    def factor(self, cost: float, *, sign: float = 1.0) -> float:
        """The factor by which this cost changes what is optimised; 1 at the target.

        Args:
            cost: The cost.
            sign: 1 where it is maximised; -1 where it is minimised, which turns the exponents.

        Raises:
            ObjectiveError: The cost is negative, or 0 to a power that is not 0, or the power is no number.
        """
        exponent = sign * (self.exponent_under if cost <= self.target else self.exponent_over)
        if not (cost > 0 or (cost == 0 and exponent == 0)):
            raise ObjectiveError(
                f"`{self.metric} > 0` must hold for {self.describe(sign)}, but got {self.metric}={cost!r}",
                field="objective",
            )
        try:
            factor = float((cost / self.target) ** exponent)
        except (OverflowError, ZeroDivisionError):  # the share of a tiny cost may be 0
            factor = math.inf
        if not math.isfinite(factor):
            raise ObjectiveError(
                f"{self.describe(sign)} is no number for {self.metric}={number_text(cost)}: use exponents "
                "nearer to 0",
                field="objective",
            )
        return factor

    @property
    def is_unit(self) -> bool:
        """Whether the target is 1 of the metric's unit and nothing that is aimed at: `params^-0.05`."""
        return self.target == 1 and self.exponent_under == self.exponent_over

    def describe(self, sign: float = 1.0) -> str:
        """The factor as `Objective.parse` reads it."""
        under, over = (
            number_text(sign * exponent + 0.0) for exponent in (self.exponent_under, self.exponent_over)
        )
        exponents = under if under == over else f"({under} under, {over} over)"
        ratio = self.metric if self.is_unit else f"({self.metric} / {number_text(self.target)})"
        return f"{ratio}^{exponents}"


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
        _check_cost(self.metric)
        _check_number("target", self.target, "> 0")
        _check_number("beta", self.beta, "< 0")

    def summand(self, cost: float) -> float:
        """What this cost adds to the reward; 0 at the target, negative elsewhere."""
        return self.beta * abs(cost / self.target - 1)

    def describe(self, sign: float = 1.0) -> str:
        """The summand as `Objective.parse` reads it: added to what is minimised, else subtracted."""
        size, target = number_text(-self.beta), number_text(self.target)
        return f"{'-' if sign > 0 else '+'} {size} * |{self.metric} / {target} - 1|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A hard limit: a candidate above it is infeasible at any accuracy.

    Attributes:
        metric: Name of the cost. Those in `KNOWN_METRICS` are checked before training.
        upper: The largest cost allowed, in the metric's unit.

    Raises:
        ObjectiveError: The limit is not a positive finite number.
    """

    metric: str
    upper: float

    def __post_init__(self) -> None:
        _check_cost(self.metric)
        _check_number("upper", self.upper, "> 0")

    @property
    def is_known_before_training(self) -> bool:
        """Whether the cost needs no training: it follows from the network, or from a table of latencies."""
        return metric_info(self.metric).is_known_before_training

    def excess(self, metrics: Mapping[str, float]) -> float:
        """How far the cost lies above the limit, as a share of the limit; 0 where it is met."""
        return max(0.0, metric_of(metrics, self.metric) / self.upper - 1)

    def describe(self) -> str:
        """The limit as `Objective.parse` reads it."""
        return f"{self.metric} <= {number_text(self.upper)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerLimit:
    """The least of a measured metric that is allowed: `min macs, accuracy >= 0.7`.

    Attributes:
        metric: Name of a metric of which more is better: the accuracy, or one of the user's own.
        lower: The smallest value allowed, in the metric's unit.

    Raises:
        ObjectiveError: The limit is not a positive finite number, or the metric is a cost.
    """

    metric: str
    lower: float

    def __post_init__(self) -> None:
        check_metric(self.metric)
        _check_number("lower", self.lower, "> 0")
        info = metric_info(self.metric)
        if info.is_cost:
            raise ObjectiveError(
                f"a lower limit must be of a metric of which more is better, but {self.metric} is a cost: "
                f"add - 0.1 * |{self.metric} / {number_text(self.lower)} - 1| to land on it from both sides",
                field="metric",
            )
        if info.unit is FRACTION and self.lower > 1:
            raise ObjectiveError(
                f"`lower <= 1` must hold for {self.metric}, which is a fraction, but got "
                f"lower={self.lower!r}: divide percent by 100",
                field="lower",
            )

    @property
    def is_known_before_training(self) -> bool:
        """Never: it is measured."""
        return False

    def excess(self, metrics: Mapping[str, float]) -> float:
        """How far the metric lies below the limit, as a share of the limit; 0 where it is met."""
        return max(0.0, 1 - metric_of(metrics, self.metric) / self.lower)

    def describe(self) -> str:
        """The limit as `Objective.parse` reads it."""
        return f"{self.metric} >= {number_text(self.lower)}"
