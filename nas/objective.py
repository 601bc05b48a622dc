"""The objective of a search: how what is measured and what it costs become the one number to maximise."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from nas.errors import NasError, ObjectiveError
from nas.metrics import ACCURACY, Goal, metric_info
from nas.objective_terms import AbsoluteTerm, Constraint, CostTerm, LowerLimit, metric_of
from nas.objective_text import read_objective
from nas.units import number_text
from search_spaces.fingerprints import counted_fields

__all__ = ["AbsoluteTerm", "Constraint", "CostTerm", "Goal", "LowerLimit", "Objective"]

KINDS = ("hard", "soft", "absolute")
"""Forms that an objective with a target has; a target without a form means the first."""

MOST_REWARD = 1e100
"""A reward farther from 0 cannot be used: a controller's variances would overflow."""

ROUNDING = 1e-6
"""A fraction so little outside [0, 1] was computed in single precision."""

Term = CostTerm | AbsoluteTerm | Constraint | LowerLimit | Goal

FIRST_VERSION: Mapping[type, tuple[str, ...]] = {
    CostTerm: ("metric", "target", "exponent_under", "exponent_over"),
    AbsoluteTerm: ("metric", "target", "beta"),
    Constraint: ("metric", "upper"),
    LowerLimit: ("metric", "lower"),
    Goal: ("metric", "direction"),
}
"""Fields of the first objectives that are in journals as JSON; new fields are not added here."""


def _to_json(terms: Sequence[Term]) -> list[dict[str, str | float]]:
    """The fields of terms for JSON; a field that was added later only where it is not at its default."""
    counted = [counted_fields(term, FIRST_VERSION[type(term)]) for term in terms]
    return [
        {name: value if isinstance(value, str) else float(value) for name, value in fields.items()}
        for fields in counted
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a search maximises: `metric * product of factors + sum of absolute terms`, within limits.

    Made by `of`, `hard`, `soft`, `absolute`, `product` or `parse`; without terms the reward is the accuracy.
    Where the metric is minimised the reward is the negative of `metric / product of factors`, plus the
    absolute terms. Several goals have no reward: they make a Pareto front.

    Attributes:
        factors: Costs that multiply.
        absolutes: Costs that are added.
        constraints: Hard limits beside them.
        goals: The metric that is maximised or minimised; several make a front.
        lower_limits: The least of other metrics that is allowed.

    Raises:
        ObjectiveError: There is no goal, two are of one metric, several have terms beside them, or a term is
            of the goal's own metric.
    """

    factors: tuple[CostTerm, ...] = ()
    absolutes: tuple[AbsoluteTerm, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    goals: tuple[Goal, ...] = (ACCURACY,)
    lower_limits: tuple[LowerLimit, ...] = ()

    def __post_init__(self) -> None:
        names = [goal.metric for goal in self.goals]
        if not names or len(set(names)) < len(names):
            raise ObjectiveError(
                f"an objective must have goals, each of another metric, but got {', '.join(names) or 'none'}",
                field="goals",
            )
        terms = [term.metric for term in self.terms]
        if terms and len(names) > 1:
            raise ObjectiveError(
                f"each goal of a front must be a metric alone, but {', '.join(names)} have a term of "
                f"{terms[0]} beside them: make {terms[0]} a goal or a limit",
                field="goals",
            )
        if names[0] in terms:
            raise ObjectiveError(
                f"a term must be of another metric than the goal, but got {names[0]} for both",
                field="factors",
            )

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
        """Reads the text of an objective, such as `describe` gives.

        `accuracy * (latency / 5ms)^-0.07 * params^-0.05, memory <= 2GiB` is a product with a limit,
        `min rmse` another metric, `accuracy; macs` a front; docs/objectives.md has the whole grammar. Without
        a target a cost counts in its own unit (one parameter, one millisecond), which cannot change which
        network wins.

        Raises:
            ObjectiveError: It is none; says where it stops making sense and what was expected there.

        Source: EfficientNetV2 (Tan and Le, ICML 2021), section 3.3, for the product without targets.
        """
        parts = read_objective(text)
        try:
            return cls(
                factors=tuple(parts.factors),
                absolutes=tuple(parts.absolutes),
                constraints=tuple(parts.constraints),
                goals=tuple(parts.goals),
                lower_limits=tuple(parts.lower_limits),
            )
        except NasError as error:
            raise ObjectiveError(
                f"the objective {text.strip()!r} makes no sense: {error}", field="objective"
            ) from None

    @property
    def goal(self) -> Goal:
        """What is maximised or minimised; the first of several."""
        return self.goals[0]

    @property
    def is_front(self) -> bool:
        """Whether there are several goals, so that a candidate has no one reward."""
        return len(self.goals) > 1

    def check_searchable(self, *, measured: Collection[str] | None = None) -> None:
        """Checks that a search that maximises one reward can go by this objective.

        Args:
            measured: What the evaluator measures, where that is known beforehand.

        Raises:
            ObjectiveError: It has several goals, or needs a metric that is not measured.
        """
        if self.is_front:
            raise ObjectiveError(
                f"a search must have one goal, but the objective {self.describe()!r} is a front of "
                f"{len(self.goals)}: weigh them in one, such as accuracy * macs^-0.07, or keep one and limit "
                "the others",
                field="objective",
            )
        missing = [] if measured is None else sorted({*self.measured_metrics} - {*measured})
        if missing:
            raise ObjectiveError(
                f"the objective needs {', '.join(missing)}, but the evaluator measures "
                f"{', '.join(measured or ())}: name one of these, or give an evaluator that measures it",
                field="objective",
            )

    def reward(self, value: float, costs: Mapping[str, float]) -> float:
        """The reward of a measured candidate.

        Args:
            value: The goal's metric, such as the accuracy; a fraction in [0, 1] where factors multiply it.
            costs: Each cost by name, in its own unit.

        Raises:
            ObjectiveError: There are several goals, a metric that is needed is missing or cannot be used
                in its place, or the reward is not of usable size.
        """
        if self.is_front:
            raise ObjectiveError(f"the front {self.describe()!r} has no one reward", field="objective")
        if self.factors and not -ROUNDING <= value <= 1 + ROUNDING:
            remedy = (
                "divide percent by 100" if 1 < value <= 100 else "scale it, or use absolute terms or limits"
            )
            raise ObjectiveError(
                f"`0 <= {self.goal.metric} <= 1` must hold where factors multiply it, but got "
                f"{self.goal.metric}={value:.6g}: {remedy}",
                field="objective",
            )
        sign, reward = self.goal.sign, value
        for term in self.factors:
            reward *= term.factor(metric_of(costs, term.metric), sign=sign)
        reward *= sign
        reward += sum(term.summand(metric_of(costs, term.metric)) for term in self.absolutes)
        if not abs(reward) <= MOST_REWARD:
            given = "".join(f", {term.metric}={costs[term.metric]:.6g}" for term in self.terms)
            raise ObjectiveError(
                f"`abs({self.describe()}) <= {MOST_REWARD:g}` must hold, but got {reward:.6g} at "
                f"{self.goal.metric}={value:.6g}{given}",
                field="objective",
            )
        return float(reward) + 0.0

    def rewards(
        self, values: npt.NDArray[np.float64], costs: Mapping[str, npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """The rewards of many candidates, as `reward` gives one by one; NaN where a cost cannot be used.

        Args:
            values: The goal's metric, `(n,)`, measured or estimated: an estimate may lie outside [0, 1].
            costs: Each cost by name, `(n,)`.

        Raises:
            ObjectiveError: A cost that the objective needs is missing.
        """
        for term in self.terms:
            if term.metric not in costs:
                given = ", ".join(sorted(costs)) or "nothing"
                raise ObjectiveError(
                    f"the objective needs {term.metric!r}, but only {given} is given", field="objective"
                )
        sign = self.goal.sign
        rewards = sign * np.asarray(values, dtype=np.float64)
        with np.errstate(all="ignore"):
            for factor in self.factors:
                share = np.asarray(costs[factor.metric]) / factor.target
                share = np.where(share >= 0, share, math.nan)
                exponents = sign * np.where(share <= 1, factor.exponent_under, factor.exponent_over)
                rewards *= np.where(np.isnan(share), math.nan, share**exponents)  # NaN to the power 0 is 1
            for summand in self.absolutes:
                rewards += summand.beta * np.abs(costs[summand.metric] / summand.target - 1)
        return np.where(np.abs(rewards) <= MOST_REWARD, rewards, math.nan)

    @property
    def terms(self) -> tuple[CostTerm | AbsoluteTerm, ...]:
        """Every term of a cost, those that multiply first."""
        return (*self.factors, *self.absolutes)

    @property
    def limits(self) -> tuple[Constraint | LowerLimit, ...]:
        """Every hard limit."""
        return (*self.constraints, *self.lower_limits)

    def broken(
        self, metrics: Mapping[str, float], *, before_training: bool = False
    ) -> tuple[Constraint | LowerLimit, ...]:
        """The limits that are broken; before training only those on known costs are looked at."""
        checked = (limit for limit in self.limits if limit.is_known_before_training or not before_training)
        return tuple(limit for limit in checked if limit.excess(metrics) > 0)

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
    def budgets(self) -> dict[str, float]:
        """The least target of each cost that the reward bends at; a target with equal exponents is a unit."""
        bends = [(f.metric, f.target) for f in self.factors if f.exponent_under != f.exponent_over]
        bends += [(term.metric, term.target) for term in self.absolutes]
        return dict(sorted(bends, key=lambda bend: -bend[1]))

    @property
    def costs(self) -> tuple[str, ...]:
        """Every metric that a term or a limit looks at, once, terms first."""
        return tuple(dict.fromkeys(one.metric for one in (*self.terms, *self.limits)))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that the objective looks at, goals first; but not the accuracy, which all measure."""
        names = (*(goal.metric for goal in self.goals), *self.costs)
        return tuple(name for name in dict.fromkeys(names) if name != "accuracy")

    @property
    def front(self) -> tuple[Goal, ...]:
        """The goals whose Pareto front a study shows: its own, then every cost and limit, or else macs."""
        costs = [Goal(metric=term.metric, direction="min") for term in self.terms]
        costs += [Goal(metric=limit.metric, direction="min") for limit in self.constraints]
        costs += [Goal(metric=limit.metric, direction="max") for limit in self.lower_limits]
        found: dict[str, Goal] = {}
        for goal in (*self.goals, *costs):
            found.setdefault(goal.metric, goal)
        goals = tuple(found.values())
        other = Goal.of("macs") if self.goal.metric != "macs" else ACCURACY
        return goals if len(goals) > 1 else (*goals, other)

    @property
    def measured_metrics(self) -> tuple[str, ...]:
        """Those of `metrics` that an evaluator has to measure."""
        return tuple(name for name in self.metrics if not metric_info(name).is_known_before_training)

    @property
    def timed_metrics(self) -> tuple[str, ...]:
        """Those of `measured_metrics` that are times, which no two runs measure alike."""
        return tuple(metric for metric in self.measured_metrics if metric_info(metric).unit.is_time)

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
        sign = self.goal.sign
        goals = "; ".join(goal.describe() for goal in self.goals)
        product = " * ".join([goals, *(factor.describe(sign) for factor in self.factors)])
        line = " ".join([product, *(term.describe(sign) for term in self.absolutes)])
        limits = ", ".join(limit.describe() for limit in self.limits)
        return f"{line}, subject to {limits}" if limits else line

    def to_json(self) -> str:
        """The objective as JSON: equal objectives give equal text, whether a target was 30000000 or 30e6."""
        parts = {
            "factors": _to_json(self.factors),
            "absolutes": _to_json(self.absolutes),
            "constraints": _to_json(self.constraints),
        }
        if self.goals != (ACCURACY,):
            parts["goals"] = _to_json(self.goals)
        if self.lower_limits:
            parts["lower_limits"] = _to_json(self.lower_limits)
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Objective:
        """Reads what `to_json` wrote.

        Raises:
            ObjectiveError: The text is not an objective.
        """
        try:
            data = json.loads(text)
            goals = tuple(Goal(**goal) for goal in data["goals"]) if "goals" in data else (ACCURACY,)
            return cls(
                factors=tuple(CostTerm(**term) for term in data["factors"]),
                absolutes=tuple(AbsoluteTerm(**term) for term in data["absolutes"]),
                constraints=tuple(Constraint(**limit) for limit in data["constraints"]),
                goals=goals,
                lower_limits=tuple(LowerLimit(**limit) for limit in data.get("lower_limits", ())),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise ObjectiveError(
                f"an objective as JSON was expected, but got {text[:200]!r}: {error}", field="objective"
            ) from error
