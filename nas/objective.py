"""The reward: how accuracy and costs become the one number that a controller sees."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from nas.errors import ObjectiveError
from nas.objective_terms import (
    KNOWN_METRICS,
    MEASURED_METRICS,
    NETWORK_METRICS,
    PREDICTED_METRICS,
    AbsoluteTerm,
    Constraint,
    CostTerm,
    cost_of,
    number_text,
)
from search_spaces.fingerprints import counted_fields

__all__ = [
    "KNOWN_METRICS",
    "MEASURED_METRICS",
    "NETWORK_METRICS",
    "PREDICTED_METRICS",
    "AbsoluteTerm",
    "Constraint",
    "CostTerm",
    "Objective",
]

KINDS = ("hard", "soft", "absolute")
"""Forms that an objective with a target has; a target without a form means the first."""

MOST_REWARD = 1e100
"""A reward farther from 0 cannot be used: a controller's variances would overflow."""


def _json_values(term: CostTerm | AbsoluteTerm | Constraint) -> dict[str, str | float]:
    """The fields of a term for JSON; a field that was added later only where it is not at its default."""
    counted = counted_fields(term, FIRST_VERSION[type(term)])
    return {name: value if isinstance(value, str) else float(value) for name, value in counted.items()}


FIRST_VERSION: Mapping[type, tuple[str, ...]] = {
    CostTerm: ("metric", "target", "exponent_under", "exponent_over"),
    AbsoluteTerm: ("metric", "target", "beta"),
    Constraint: ("metric", "upper"),
}
"""Fields of the first objectives that are in journals as JSON; new fields are not added here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What the search maximises: `accuracy * product of factors + sum of absolute terms`, within constraints.

    Made by `hard`, `soft`, `absolute`, `product` or `parse`; without terms the reward is the accuracy.

    Attributes:
        factors: Costs that multiply.
        absolutes: Costs that are added.
        constraints: Hard limits beside them.
    """

    factors: tuple[CostTerm, ...] = ()
    absolutes: tuple[AbsoluteTerm, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def hard(cls, metric: str, target: float, *, constraints: tuple[Constraint, ...] = ()) -> Objective:
        """Exponents 0 and -1: no gain below the target, steep loss above it. The default for a target.

        Source: MnasNet (Tan et al., CVPR 2019), figure 4, top.
        """
        term = CostTerm(metric=metric, target=target, exponent_under=0.0, exponent_over=-1.0)
        return cls(factors=(term,), constraints=constraints)

    @classmethod
    def soft(
        cls, metric: str, target: float, *, exponent: float = -0.07, constraints: tuple[Constraint, ...] = ()
    ) -> Objective:
        """One exponent on both sides of the target, which is then only a unit: see `note`.

        Source: MnasNet (Tan et al., CVPR 2019), section 3.1: -0.07, as twice the latency usually brings 5%
        of accuracy; EfficientNet (Tan and Le, ICML 2019), section 4, with macs for latency.
        """
        term = CostTerm(metric=metric, target=target, exponent_under=exponent, exponent_over=exponent)
        return cls(factors=(term,), constraints=constraints)

    @classmethod
    def absolute(
        cls, metric: str, target: float, *, beta: float = -0.1, constraints: tuple[Constraint, ...] = ()
    ) -> Objective:
        """`accuracy + beta * abs(cost / target - 1)`: finds the best network of just this cost.

        Source: TuNAS (Bender et al., CVPR 2020), section 3; beta is the default of its published code.
        """
        return cls(
            absolutes=(AbsoluteTerm(metric=metric, target=target, beta=beta),), constraints=constraints
        )

    @classmethod
    def product(cls, *factors: CostTerm, constraints: tuple[Constraint, ...] = ()) -> Objective:
        """Several costs that multiply.

        Source: EfficientNetV2 (Tan and Le, ICML 2021), section 3.3: accuracy, step time to the power -0.07,
        parameters to the power -0.05.
        """
        return cls(factors=factors, constraints=constraints)

    @classmethod
    def of(
        cls,
        objective: Objective | str | None = None,
        *,
        targets: Mapping[str, float | None] = MappingProxyType({}),
        limits: Mapping[str, float | None] = MappingProxyType({}),
    ) -> Objective:
        """Makes an objective of what a user gives: a target means hard, several targets multiply.

        Args:
            objective: An objective, its text, or one of `hard`, `soft` and `absolute`: the form of the
                targets. None is hard where there is a target, else the accuracy alone.
            targets: The cost aimed at by metric; None is no target.
            limits: The most of a metric that is allowed; None is no limit. They come behind those that the
                objective has.

        Raises:
            ObjectiveError: A form has no target, `absolute` has several, or an objective that has its own
                targets has others beside it; a number is out of range, or the text makes no sense.
        """
        aims = [(metric, target) for metric, target in targets.items() if target is not None]
        found = tuple(
            Constraint(metric=metric, upper=upper) for metric, upper in limits.items() if upper is not None
        )
        if objective is None or objective in KINDS:
            kind = None if objective is None else str(objective)
            goal = cls._aiming(kind, aims)
        else:
            if aims:
                metric, target = aims[0]
                raise ObjectiveError(
                    f"an objective has its own targets, but {metric}={number_text(target)} is given beside "
                    "it: leave one of them out, or write the target as a factor of the objective: "
                    f"({metric} / {number_text(target)})^(0, -1)",
                    field="objective",
                )
            goal = cls.parse(objective) if isinstance(objective, str) else objective
        return replace(goal, constraints=goal.constraints + found)

    @classmethod
    def _aiming(cls, kind: str | None, aims: Sequence[tuple[str, float]]) -> Objective:
        if kind is not None and not aims:
            raise ObjectiveError(
                f"the objective {kind!r} needs a target: give one, of macs or latency say", field="objective"
            )
        if kind == "absolute":
            if len(aims) > 1:
                raise ObjectiveError(
                    "the objective 'absolute' lands on one budget, but got targets of "
                    f"{', '.join(metric for metric, _ in aims)}: give one, and limits for the others",
                    field="objective",
                )
            return cls.absolute(*aims[0])
        form = cls.soft if kind == "soft" else cls.hard
        return cls.product(*(factor for metric, target in aims for factor in form(metric, target).factors))

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Reads an objective that is written as arithmetic, such as `describe` gives.

        `accuracy * (latency / 5ms)^-0.07 * params^-0.05, memory <= 2GiB` is a product with a constraint;
        `nas.objective_text` has the whole grammar. Without a target a cost counts in its own unit (one
        parameter, one millisecond), which cannot change which network wins.

        Raises:
            ObjectiveError: It is none; says where it stops making sense and what was expected there.

        Source: EfficientNetV2 (Tan and Le, ICML 2021), section 3.3, for the product without targets.
        """
        from nas.objective_text import parse_objective

        return parse_objective(text)

    def reward(self, accuracy: float, costs: Mapping[str, float]) -> float:
        """The reward of a measured candidate.

        Args:
            accuracy: Fraction in [0, 1].
            costs: Each cost by name, in its own unit.

        Raises:
            ObjectiveError: A cost that the objective needs is missing, or cannot be used in its place, or the
                reward is not of usable size.
        """
        reward = accuracy
        for term in self.factors:
            reward *= term.factor(cost_of(costs, term.metric))
        reward += sum(term.summand(cost_of(costs, term.metric)) for term in self.absolutes)
        if not abs(reward) <= MOST_REWARD:
            given = ", ".join(f"{name}={costs[name]:.6g}" for name in self.metrics)
            raise ObjectiveError(
                f"`abs({self.describe()}) <= {MOST_REWARD:g}` must hold, but got {reward:.6g} at {given}"
            )
        return float(reward)

    def rewards(
        self, accuracies: npt.NDArray[np.float64], costs: Mapping[str, npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """The rewards of many candidates, as `reward` gives one by one; NaN where a cost cannot be used.

        Args:
            accuracies: Fractions, `(n,)`.
            costs: Each cost by name, `(n,)`.

        Raises:
            ObjectiveError: A cost that the objective needs is missing.
        """
        for metric in [f.metric for f in self.factors] + [term.metric for term in self.absolutes]:
            if metric not in costs:
                given = ", ".join(sorted(costs)) or "nothing"
                raise ObjectiveError(f"the objective needs {metric!r}, but only {given} is given")
        rewards = np.array(accuracies, dtype=np.float64)
        with np.errstate(all="ignore"):
            for factor in self.factors:
                share = np.asarray(costs[factor.metric]) / factor.target
                share = np.where(share >= 0, share, math.nan)
                power = share ** np.where(share <= 1, factor.exponent_under, factor.exponent_over)
                rewards *= np.where(np.isnan(share), math.nan, power)  # NaN to the power 0 is 1
            for summand in self.absolutes:
                rewards += summand.beta * np.abs(costs[summand.metric] / summand.target - 1)
        return np.where(np.abs(rewards) <= MOST_REWARD, rewards, math.nan)

    def broken(self, costs: Mapping[str, float], *, before_training: bool = False) -> tuple[Constraint, ...]:
        """The constraints that the costs break; before training only those on known costs are looked at."""
        checked = (c for c in self.constraints if c.is_known_before_training or not before_training)
        return tuple(constraint for constraint in checked if constraint.excess(costs) > 0)

    def excess(self, costs: Mapping[str, float]) -> float:
        """Sum of the shares by which known costs lie above their limits; 0 where all are met."""
        return sum(c.excess(costs) for c in self.constraints if c.is_known_before_training)

    @property
    def known_limits(self) -> dict[str, float]:
        """The least upper limit of each cost that is known before training."""
        limits: dict[str, float] = {}
        for constraint in self.constraints:
            if constraint.is_known_before_training:
                limits[constraint.metric] = min(constraint.upper, limits.get(constraint.metric, math.inf))
        return limits

    @property
    def targets(self) -> dict[str, float]:
        """The cost aimed at of each metric that has one; a bare unit is none."""
        aims = [(f.metric, f.target) for f in reversed(self.factors) if not f.is_unit]
        return dict([(t.metric, t.target) for t in reversed(self.absolutes)] + aims)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every cost that the objective looks at, once, terms first."""
        terms = [t.metric for t in self.factors] + [t.metric for t in self.absolutes]
        return tuple(dict.fromkeys(terms + [limit.metric for limit in self.constraints]))

    @property
    def measured_metrics(self) -> tuple[str, ...]:
        """Those of `metrics` that an evaluator has to measure."""
        return tuple(metric for metric in self.metrics if metric not in KNOWN_METRICS)

    @property
    def timed_metrics(self) -> tuple[str, ...]:
        """Those of `measured_metrics` that are times, which no two runs measure alike."""
        return tuple(metric for metric in self.measured_metrics if metric.endswith(("_ms", "_seconds")))

    @property
    def note(self) -> str:
        """What a user should know about this objective; empty where there is nothing."""
        units = [t for t in self.factors if t.exponent_under == t.exponent_over and not t.is_unit]
        if not units:
            return ""
        named = ", ".join(
            f"{term.metric} {number_text(term.target)} (exponent {number_text(term.exponent_under)})"
            for term in units
        )
        return (
            f"with equal exponents a target is only a unit and cannot change which network wins: {named}. "
            "Use the hard or the absolute objective, or a constraint, to meet a budget"
        )

    def describe(self) -> str:
        """The objective as one line of arithmetic; `parse` makes an equal objective of it."""
        product = " * ".join(["accuracy", *(factor.describe() for factor in self.factors)])
        line = " ".join([product, *(term.describe() for term in self.absolutes)])
        limits = ", ".join(limit.describe() for limit in self.constraints)
        return f"{line}, subject to {limits}" if limits else line

    def to_json(self) -> str:
        """The objective as JSON: equal objectives give equal text, whether a target was 30000000 or 30e6."""
        parts = {
            "factors": [_json_values(factor) for factor in self.factors],
            "absolutes": [_json_values(term) for term in self.absolutes],
            "constraints": [_json_values(limit) for limit in self.constraints],
        }
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Objective:
        """Reads what `to_json` wrote.

        Raises:
            ObjectiveError: The text is not an objective.
        """
        try:
            data = json.loads(text)
            return cls(
                factors=tuple(CostTerm(**term) for term in data["factors"]),
                absolutes=tuple(AbsoluteTerm(**term) for term in data["absolutes"]),
                constraints=tuple(Constraint(**limit) for limit in data["constraints"]),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise ObjectiveError(
                f"an objective as JSON was expected, but got {text[:200]!r}: {error}"
            ) from error
