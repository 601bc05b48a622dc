"""The terms of an objective: factors, summands and limits of metrics."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from nas.errors import ObjectiveError
from nas.metrics import FRACTION, REGISTRY, Goal, check_metric, direction_of, metric_info
from nas.units import number_text
from search_spaces.fingerprints import counted_fields

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


def _check_cost(metric: str) -> None:
    check_metric(metric)
    if metric in REGISTRY and direction_of(metric) == "max":
        raise ObjectiveError(
            f"a term or an upper limit must be of a cost, but more {metric} is better: name a cost such as "
            "macs",
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
            f"the objective needs {name!r}, which is not among what is known of the candidate "
            f"({', '.join(sorted(metrics)) or 'nothing'}): {remedy}, or name another metric",
            field="objective",
        )
    if not math.isfinite(metrics[name]):
        raise ObjectiveError(f"{name} must be finite, but got {name}={metrics[name]!r}", field="objective")
    return metrics[name]


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

    @property
    def is_budget(self) -> bool:
        """Whether the exponents differ, so that the target is more than a unit."""
        return self.exponent_under != self.exponent_over

    @property
    def is_unit(self) -> bool:
        """Whether the target is 1 of the metric's unit and nothing that is aimed at: `params^-0.05`."""
        return self.target == 1 and not self.is_budget

    def can_take(self, cost: float, *, is_of_zero: bool = False) -> bool:
        """Whether the cost has this power: it is above 0, or 0 without an exponent, or in a product of 0."""
        return cost > 0 or (cost == 0 and (self.exponent_under == 0 or is_of_zero))

    def describe(self, sign: float = 1.0) -> str:
        """The factor as `Objective.parse` reads it; of what is minimised (sign -1) the exponents turn."""
        under, over = (number_text(sign * one + 0.0) for one in (self.exponent_under, self.exponent_over))
        exponents = f"({under} under, {over} over)" if self.is_budget else under
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
    is_budget: ClassVar[bool] = True
    is_unit: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_cost(self.metric)
        _check_number("target", self.target, "> 0")
        _check_number("beta", self.beta, "< 0")

    def describe(self, sign: float = 1.0) -> str:
        """The summand as `Objective.parse` reads it; it is added to what is minimised (sign -1)."""
        size, target = number_text(-self.beta), number_text(self.target)
        return f"{'-' if sign > 0 else '+'} {size} * |{self.metric} / {target} - 1|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A hard limit: a candidate beyond it is infeasible, whatever else it reaches.

    Attributes:
        metric: Name of the metric. One that is known before training is checked before training.
        upper: The largest cost allowed, in the metric's unit; None where the limit is a lower one.
        lower: The smallest value allowed of a measured metric; None where the limit is an upper one.

    Raises:
        ObjectiveError: The limit is not one positive finite number, or not of this kind of metric.
    """

    metric: str
    upper: float | None = None
    lower: float | None = None

    def __post_init__(self) -> None:
        if self.lower is None:
            _check_cost(self.metric)
            _check_number("upper", self.upper, "> 0")
            return
        check_metric(self.metric)
        _check_number("lower", self.lower, "> 0")
        most = 1 if metric_info(self.metric).unit is FRACTION else math.inf
        if self.upper is not None or self.is_known_before_training:
            aim = f"- 0.1 * |{self.metric} / {number_text(self.lower)} - 1|"
            law = f"a lower limit must be alone and of a measured metric: for a range of costs add {aim}"
        elif self.lower > most:
            law = f"`lower <= 1` must hold for {self.metric}, a fraction: divide percent by 100"
        else:
            return
        raise ObjectiveError(f"{law}; got {self.metric}, lower={self.lower!r}", field="lower")

    @property
    def is_known_before_training(self) -> bool:
        """Whether the metric needs no training: it follows from the network, or from a table of latencies."""
        return metric_info(self.metric).is_known_before_training

    def excess(self, metrics: Mapping[str, float]) -> float:
        """How far the metric lies beyond the limit, as a share of the limit; 0 where it is met."""
        value = metric_of(metrics, self.metric)
        if self.upper is None:
            return max(0.0, 1 - value / cast(float, self.lower))
        return max(0.0, value / self.upper - 1)

    def describe(self) -> str:
        """The limit as `Objective.parse` reads it."""
        relation, bound = ("<=", self.upper) if self.upper is not None else (">=", self.lower)
        return f"{self.metric} {relation} {number_text(cast(float, bound))}"


Term = CostTerm | AbsoluteTerm | Constraint | Goal

FIRST_VERSION: Mapping[type, tuple[str, ...]] = {
    CostTerm: ("metric", "target", "exponent_under", "exponent_over"),
    AbsoluteTerm: ("metric", "target", "beta"),
    Constraint: ("metric", "upper"),
    Goal: ("metric", "direction"),
}
"""Fields of the first objectives that are in journals as JSON; new fields are not added here."""


def terms_to_json(terms: Sequence[Term]) -> list[dict[str, str | float | None]]:
    """The fields of terms for JSON; a field that was added later only where it is not at its default."""
    counted = [counted_fields(term, FIRST_VERSION[type(term)]) for term in terms]
    return [
        {name: float(value) if isinstance(value, int) else value for name, value in fields.items()}
        for fields in counted
    ]
