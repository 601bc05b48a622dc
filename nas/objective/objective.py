"""The objective of a search: how what is measured and what it costs become the one number to maximise."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from nas.errors import ObjectiveError
from nas.metrics import ACCURACY, Goal, like_ours, metric_info
from nas.objective.terms import (
    FIRST_VERSION,
    AbsoluteTerm,
    Constraint,
    CostTerm,
    metric_of,
    terms_to_json,
)
from nas.objective.text import ObjectiveReader
from nas.reading import parse_json
from nas.units import number_text
from search_spaces.fingerprints import counted_fields

__all__ = ["FIRST_VERSION", "AbsoluteTerm", "Constraint", "CostTerm", "Goal", "Objective"]

KINDS = ("hard", "soft", "absolute")
"""Forms that an objective with a target has; a target without a form means the first."""

MOST_REWARD = 1e100
"""A reward farther from 0 cannot be used: a controller's variances would overflow."""

ROUNDING = 1e-6
"""A fraction so little outside [0, 1] was computed in single precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a search maximises: `metric * product of factors + sum of absolute terms`, within limits.

    Made by `of`, `hard`, `soft`, `absolute`, `product` or `parse`; without terms the reward is the accuracy.
    What is minimised, `metric / product of factors`, counts as its negative. Several goals make a Pareto
    front; what has one number for each candidate goes by the first of them.

    Attributes:
        factors: Costs that multiply.
        absolutes: Costs that are added.
        constraints: Hard limits beside them.
        goals: The metric that is maximised or minimised; several make a front, those first that have to be
            measured.

    Raises:
        ObjectiveError: There is no goal, two are of one metric, several have terms beside them, or a term is
            of the goal's own metric.
    """

    factors: tuple[CostTerm, ...] = ()
    absolutes: tuple[AbsoluteTerm, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    goals: tuple[Goal, ...] = (ACCURACY,)

    def __post_init__(self) -> None:
        names = [goal.metric for goal in self.goals]
        terms = [term.metric for term in self.terms]
        if not names or len(set(names)) < len(names):
            law = f"there must be goals, each of another metric, but got {', '.join(names) or 'none'}"
        elif terms and len(names) > 1:
            law = f"each goal of a front must be a metric alone: make {terms[0]} a goal or a limit"
        elif names[0] in terms:
            law = f"a term must be of another metric than the goal, but got {names[0]} for both"
        else:
            ordered = sorted(self.goals, key=lambda goal: metric_info(goal.metric).is_known_before_training)
            object.__setattr__(self, "goals", tuple(ordered))
            return
        raise ObjectiveError(law, field="goals")

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

        Source: MnasNet, section 3.1: -0.07, as twice the latency usually brings 5% of accuracy; EfficientNet
        (Tan and Le, ICML 2019), section 4, with macs for latency.
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
        term = AbsoluteTerm(metric=metric, target=target, beta=beta)
        return cls(absolutes=(term,), constraints=constraints)

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
            limits: The most of a metric that is allowed, added to those of the objective; None is no limit.

        Raises:
            ObjectiveError: A form has no target, `absolute` has several, or an objective that has its own
                targets has others too; a number is out of range, or the text cannot be read.
        """
        aims = {metric: target for metric, target in targets.items() if target is not None}
        found = tuple(Constraint(metric=m, upper=upper) for m, upper in limits.items() if upper is not None)
        if objective is None and not aims:
            goal = cls()
        elif objective is None or objective in KINDS:
            goal = cls._aiming(str(objective or KINDS[0]), aims)
        elif not aims:
            goal = cls.parse(objective) if isinstance(objective, str) else objective
        else:
            metric, target = next(iter(aims.items()))
            raise ObjectiveError(
                f"an objective has its own targets, but {metric}={number_text(target)} is given too: "
                f"leave it out, and write ({metric} / {number_text(target)})^(0, -1) to count it",
                field="objective",
            )
        return replace(goal, constraints=goal.constraints + found)

    @classmethod
    def _aiming(cls, kind: str, aims: Mapping[str, float]) -> Objective:
        if not aims or (kind == "absolute" and len(aims) > 1):
            raise ObjectiveError(
                f"the objective {kind!r} needs {'one target' if aims else 'a target'}, but got "
                f"{', '.join(aims) or 'none'}: give one, of macs or latency say, and limits for other costs",
                field="objective",
            )
        form = {"hard": cls.hard, "soft": cls.soft, "absolute": cls.absolute}[kind]
        parts = [form(metric, target) for metric, target in aims.items()]
        factors = tuple(factor for part in parts for factor in part.factors)
        return cls(factors=factors, absolutes=parts[0].absolutes)

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
        reader = ObjectiveReader(text)
        reader.read()
        try:
            return cls(
                factors=tuple(reader.factors),
                absolutes=tuple(reader.absolutes),
                constraints=tuple(reader.constraints),
                goals=tuple(reader.goals),
            )
        except ObjectiveError as error:
            message = f"the objective {text.strip()!r} cannot be read: {error}"
            raise ObjectiveError(message, field="objective") from None

    @property
    def goal(self) -> Goal:
        """What is maximised or minimised; the first of several."""
        return self.goals[0]

    @property
    def is_front(self) -> bool:
        """Whether there are several goals, so that no one number says which candidate is best."""
        return len(self.goals) > 1

    def check_searchable(self, *, measured: Collection[str] | None = None) -> None:
        """Checks that a search can go by this objective.

        Args:
            measured: What the evaluator measures, where that is known beforehand.

        Raises:
            ObjectiveError: It needs a metric that is not measured.
        """
        needed = [name for name in self._looked_at if not metric_info(name).is_known_before_training]
        missing = [] if measured is None else [name for name in needed if name not in measured]
        if missing:
            near = like_ours(missing[0])
            raise ObjectiveError(
                f"the objective needs {', '.join(missing)}, but the evaluator measures "
                f"{', '.join(measured or ())}: {f'did you mean {near}? Else ' if near else ''}write an "
                f"objective over these, such as 'max {next(iter(measured or ()), '')}', or give an evaluator "
                "that measures it",
                field="objective",
            )

    def reward(self, value: float, costs: Mapping[str, float]) -> float:
        """The reward of a measured candidate; with several goals the first, of which more is better.

        Args:
            value: The goal's metric, such as the accuracy; a fraction in [0, 1] where factors multiply it.
            costs: Each cost by name, in its own unit.

        Raises:
            ObjectiveError: A metric that is needed is missing or cannot be used, or the reward is not of
                usable size.
        """
        found = {self.goal.metric: value} | {t.metric: metric_of(costs, t.metric) for t in self.terms}
        reward = float(self.rewards(np.array([value]), {name: np.array([found[name]]) for name in found})[0])
        sign = self.goal.sign
        unusable = [f for f in self.factors if not f.can_take(found[f.metric], is_of_zero=value == 0)]
        if self.factors and not -ROUNDING <= value <= 1 + ROUNDING:
            law = f"`0 <= {self.goal.metric} <= 1` must hold where factors multiply it"
            remedy = "divide percent by 100, or" if 1 < value <= 100 else "scale it, or"
            remedy = f"{remedy} use absolute terms, which take any number: {self._absolute_form(found)}"
        elif unusable:
            law = f"`{unusable[0].metric} > 0` must hold for {unusable[0].describe(sign)}"
            remedy = "use a limit or an absolute term for it"
        elif math.isnan(reward):
            law = f"`abs({self.describe()}) <= {MOST_REWARD:g}` must hold"
            remedy = "use exponents nearer to 0, or a target of the size of the cost"
        else:
            return reward
        given = ", ".join(f"{name}={number:.6g}" for name, number in found.items())
        raise ObjectiveError(f"{law}, but got {given}: {remedy}", field="objective")

    def _absolute_form(self, found: Mapping[str, float]) -> str:
        """This objective with an absolute term in place of the first factor, as a user may write it."""
        factor = self.factors[0]
        cost = found[factor.metric]
        target = float(f"{cost:.2g}") if factor.is_unit and cost > 0 else factor.target
        term = AbsoluteTerm(metric=factor.metric, target=target, beta=-0.1)
        return f"{self.goal.describe()} {term.describe(self.goal.sign)}"

    def rewards(
        self, values: npt.NDArray[np.float64], costs: Mapping[str, npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """The rewards of many candidates, as `reward` gives one by one; NaN where a cost cannot be used.

        Args:
            values: The goal's metric, `(n,)`, measured or estimated. An estimate may lie outside [0, 1]; one
                below 0 counts as 0 where factors multiply it, as it would turn them round.
            costs: Each cost by name, `(n,)`.

        Raises:
            ObjectiveError: A cost that the objective needs is missing.
        """
        missing = [term.metric for term in self.terms if term.metric not in costs]
        if missing:
            given = ", ".join(sorted(costs)) or "nothing"
            raise ObjectiveError(
                f"the objective needs {missing[0]!r}, but only {given} is given", field="objective"
            )
        sign = self.goal.sign
        values = np.asarray(values, dtype=np.float64)
        rewards = sign * (np.maximum(values, 0) if self.factors else values)
        is_zero = rewards == 0
        with np.errstate(all="ignore"):
            for factor in self.factors:
                share = np.asarray(costs[factor.metric]) / factor.target
                exponents = sign * np.where(share <= 1, factor.exponent_under, factor.exponent_over)
                power = np.where(is_zero, 1.0, share**exponents)  # 0 times infinity is 0 here
                rewards = rewards * np.where(share >= 0, power, math.nan)  # NaN to the power 0 is 1
            for summand in self.absolutes:
                rewards += summand.beta * np.abs(costs[summand.metric] / summand.target - 1)
        return np.where(np.abs(rewards) <= MOST_REWARD, rewards, math.nan) + 0.0  # not -0.0

    @property
    def terms(self) -> tuple[CostTerm | AbsoluteTerm, ...]:
        """Every term of a cost, those that multiply first."""
        return (*self.factors, *self.absolutes)

    def broken(
        self, metrics: Mapping[str, float], *, before_training: bool = False
    ) -> tuple[Constraint, ...]:
        """The limits that are broken; before training only those on known costs are looked at."""
        checked = (c for c in self.constraints if c.is_known_before_training or not before_training)
        return tuple(limit for limit in checked if limit.excess(metrics) > 0)

    def excess(self, costs: Mapping[str, float]) -> float:
        """Sum of the shares by which known costs lie above their limits; 0 where all are met."""
        return sum(c.excess(costs) for c in self.constraints if c.is_known_before_training)

    @property
    def known_limits(self) -> dict[str, float]:
        """The least upper limit of each cost that is known before training."""
        limits: dict[str, float] = {}
        for constraint in self.constraints:
            if constraint.upper is not None and constraint.is_known_before_training:
                limits[constraint.metric] = min(constraint.upper, limits.get(constraint.metric, math.inf))
        return limits

    @property
    def targets(self) -> dict[str, float]:
        """The cost aimed at of each metric that has one; a bare unit is none."""
        return {term.metric: term.target for term in reversed(self.terms) if not term.is_unit}

    @property
    def costs(self) -> tuple[str, ...]:
        """Every metric that a term or a limit looks at, once, terms first."""
        return tuple(dict.fromkeys(one.metric for one in (*self.terms, *self.constraints)))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that the objective looks at, goals first; but not the accuracy."""
        return tuple(name for name in self._looked_at if name != "accuracy")

    @property
    def _looked_at(self) -> tuple[str, ...]:
        """The same with the accuracy."""
        return tuple(dict.fromkeys((*(goal.metric for goal in self.goals), *self.costs)))

    @property
    def further_goals(self) -> tuple[tuple[Goal, ...], tuple[Goal, ...]]:
        """The goals after the first: those known before training, and those that have to be measured."""
        known = [goal for goal in self.goals[1:] if metric_info(goal.metric).is_known_before_training]
        return tuple(known), tuple(goal for goal in self.goals[1:] if goal not in known)

    def measured_costs(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The further goals that have to be measured, turned so that less is better.

        Raises:
            ObjectiveError: One was not measured, or is not a finite number.
        """
        return tuple(-goal.sign * metric_of(metrics, goal.metric) for goal in self.further_goals[1])

    @property
    def front(self) -> tuple[Goal, ...]:
        """The goals whose Pareto front a study shows: its own, then every cost and limit, or else macs."""
        found = {goal.metric: goal for goal in self.goals}
        for one in (*self.terms, *self.constraints):
            is_least = isinstance(one, Constraint) and one.upper is None
            found.setdefault(one.metric, Goal(metric=one.metric, direction="max" if is_least else "min"))
        if len(found) == 1:
            other = Goal.of("macs") if self.goal.metric != "macs" else ACCURACY
            found[other.metric] = other
        return tuple(found.values())

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
        units = [term.describe(self.goal.sign) for term in self.terms if not (term.is_budget or term.is_unit)]
        if not units:
            return ""
        return (
            "with equal exponents a target is only a unit and cannot change which network wins: "
            f"{', '.join(units)}. Use the hard or the absolute objective, or a constraint, to meet a budget"
        )

    def describe(self) -> str:
        """The objective as one line of arithmetic; `parse` makes an equal objective of it."""
        sign = self.goal.sign
        goals = "; ".join(goal.describe() for goal in self.goals)
        product = " * ".join([goals, *(factor.describe(sign) for factor in self.factors)])
        line = " ".join([product, *(term.describe(sign) for term in self.absolutes)])
        limits = ", ".join(limit.describe() for limit in self.constraints)
        return f"{line}, subject to {limits}" if limits else line

    def to_json(self) -> str:
        """The objective as JSON: equal objectives give equal text, whether a target was 30000000 or 30e6."""
        counted = counted_fields(self, ("factors", "absolutes", "constraints"))
        return json.dumps({name: terms_to_json(terms) for name, terms in counted.items()}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Objective:
        """Reads what `to_json` wrote.

        Raises:
            ObjectiveError: The text is not an objective.
        """
        try:
            data = parse_json(text)
            return cls(
                factors=tuple(CostTerm(**term) for term in data["factors"]),
                absolutes=tuple(AbsoluteTerm(**term) for term in data["absolutes"]),
                constraints=tuple(Constraint(**limit) for limit in data["constraints"]),
                goals=tuple(Goal(**goal) for goal in data["goals"]) if "goals" in data else (ACCURACY,),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise ObjectiveError(
                f"an objective as JSON was expected, but got {text[:200]!r}: {error}", field="objective"
            ) from error
