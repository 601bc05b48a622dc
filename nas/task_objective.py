"""Which metric of a task an objective maximises, and which of them have to be measured for it."""

from __future__ import annotations

from dataclasses import replace

from nas.errors import ObjectiveError
from nas.metrics import FRACTION, REGISTRY, Goal, direction_of, metric_info
from nas.objective import AbsoluteTerm, Objective
from nas.tasks import CLASSIFICATION, TASKS, TaskName, check_metrics

ALL_METRICS = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.metrics))
"""The metrics of every task."""


def objective_of_task(
    objective: Objective, task: TaskName | None, *, metric: str | None = None, is_written: bool = False
) -> Objective:
    """The objective with a metric of the task as its goal.

    Args:
        objective: Terms, limits, and perhaps the goal.
        task: What candidates are trained for; None where the user's own evaluator measures whatever it likes.
        metric: What is maximised, or minimised where less of it is better; None is the goal of an objective
            that is written out, else the task's first metric.
        is_written: Whether the objective says itself what is maximised.

    Raises:
        DataError: The task has no such metric.
        ObjectiveError: The objective has another goal than `metric`, needs a metric of another task, or
            multiplies a metric that is in a unit of its own.
    """
    if task is not None and metric is not None:
        check_metrics(task, [metric])
    if not is_written:
        name = metric or (objective.goal.metric if task is None else TASKS[task].metrics[0])
        objective = replace(objective, goals=(Goal(metric=name, direction=direction_of(name) or "max"),))
    elif metric not in (None, objective.goal.metric):
        raise ObjectiveError(
            f"the metric must be the goal of the objective, but got metric={metric} and the objective "
            f"{objective.describe()!r}: leave the metric out, or write the objective with it",
            field="metric",
        )
    if task is not None:
        _check_of_task(objective, task)
    return objective


def _check_of_task(objective: Objective, task: TaskName) -> None:
    goal, known = objective.goal.metric, TASKS[task].metrics
    foreign = [name for name in _looked_at(objective) if name in ALL_METRICS and name not in known]
    if foreign:
        law = (
            f"a metric of {task} must be one of {', '.join(known)}, but the objective "
            f"{objective.describe()!r} needs {foreign[0]}: write it with one of them"
        )
    elif objective.factors and goal in known and metric_info(goal).unit is not FRACTION:
        factor, sign = objective.factors[0], objective.goal.sign
        why = "is below 0 where predictions are poor" if goal == "r2" else "is in the unit of the labels"
        term = AbsoluteTerm(metric=factor.metric, target=factor.target, beta=-0.1).describe(sign)
        law = (
            f"what costs multiply must lie in [0, 1], but {goal} {why}: give the objective absolute, which "
            f"is '{objective.goal.describe()} {term}', or a limit of {factor.metric}"
        )
    else:
        return
    raise ObjectiveError(law, field="objective")


def needed_of_task(objective: Objective, task: TaskName) -> tuple[str, ...]:
    """The metrics of a task that an objective looks at, in the task's order."""
    needed = _looked_at(objective)
    return tuple(name for name in TASKS[task].metrics if name in needed)


def _looked_at(objective: Objective) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*(goal.metric for goal in objective.goals), *objective.costs)))


def judged_by(objective: Objective, task: TaskName = CLASSIFICATION) -> Goal:
    """What says how good a network is: the goal; where that is a cost, a metric with a lower limit.

    Without such a limit it is the task's first metric.
    """
    goal = objective.goal.metric
    is_cost = goal in REGISTRY and goal not in ALL_METRICS
    if not is_cost:
        return objective.goal
    limits = [limit.metric for limit in objective.constraints if limit.upper is None]
    return Goal(metric=limits[0], direction="max") if limits else Goal.of(TASKS[task].metrics[0])
