"""The Pareto front of a study: a chart whose points open their trial, and the same trials as a table."""

from __future__ import annotations

from collections.abc import Sequence

from nas.metrics import Goal, metric_info, show_metric
from nas.report.page.charting import Trace, line, metric_axis, steps, titled, trial_points
from nas.report.page.parts import BLUE, GREEN, GREY, SKY, VERMILION, Absent, Block, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import Table
from nas.report.trial_tables import trial_table
from nas.study.study import Study
from nas.study.study_trial import StudyTrial

KEY, TITLE = "front", "Pareto front"

MOST_PANELS = 3
"""Costs that a chart is drawn for."""


def front(source: Source) -> Section | Absent:
    """Quality against each cost."""
    study = source.study
    if not study.completed:
        return Absent(key=KEY, title=TITLE, reason="no trial has completed yet")
    goal, *others = study.front_goals()
    found = study.pareto_front()
    if not others or not found:
        return Absent(
            key=KEY, title=TITLE, reason="no trial has both the metric that is searched for and a cost"
        )
    costs = ", ".join(metric_info(other.metric).label for other in others)
    ends = [trial for trial in (found[0], found[-1]) if trial.value is not None]
    cost = others[0].metric
    words = " to ".join(
        f"{show_metric(goal.metric, trial.value)} at {show_metric(cost, trial.costs[cost])}"
        for trial in ends
        if trial.value is not None
    )
    many = f"{len(found)} trials of {len(study.completed):,} are" if len(found) > 1 else "One trial is"
    lead = (
        f"{many} beaten by no other in {metric_info(goal.metric).label} and {costs}: from {words}. Click a "
        "point, or choose a trial in the table, to see its network."
    )
    shown = others[:MOST_PANELS]
    tables = [_all_trials(source), *[_front_table(study, found)] * (len(shown) - 1)]
    charts = [_chart(source, goal, *pair, found) for pair in zip(shown, tables, strict=True)]
    blocks: tuple[Block, ...] = (*charts, _front_table(study, found))
    return Section(key=KEY, title=TITLE, lead=lead, blocks=blocks)


def _chart(source: Source, goal: Goal, cost: Goal, table: Table, found: Sequence[StudyTrial]) -> Chart:
    study = source.study
    most = max(trial.fidelity for trial in study.completed)
    on_front = {trial.number for trial in found}
    shown = [t for t in source.shown if _has(t, goal, cost) and t.fidelity == most]
    others = [trial for trial in shown if trial.number not in on_front]
    front_trials = [trial for trial in found if _has(trial, goal, cost)]
    metrics = (goal.metric, cost.metric, *study.objective.costs)
    traces: list[Trace] = []
    target = study.objective.targets.get(cost.metric)
    values = [value for trial in shown if (value := trial.value) is not None]
    if target is not None and values:
        words = f"target {show_metric(cost.metric, target)}"
        traces.append(line([target] * 2, [min(values), max(values)], name=words, color=GREY, dash="dash"))
    traces.append(_points(others, goal, cost, metrics, name="trial", color=SKY, size=_size(len(others))))
    if len(study.front_goals()) == 2:
        ordered = sorted(front_trials, key=lambda trial: trial.costs[cost.metric])
        if cost.direction == "min":
            x, y = [t.costs[cost.metric] for t in ordered], [t.costs[goal.metric] for t in ordered]
            traces.append(steps(x, y, name="front", color=BLUE, width=1.5) | {"showlegend": False})
    traces.append(_points(front_trials, goal, cost, metrics, name="Pareto front", color=BLUE, size=10))
    best = study.best
    if _has(best, goal, cost):
        traces.append(
            _points([best], goal, cost, metrics, name="winner", color=VERMILION, size=17, symbol="star")
        )
    traces += _reference(source, cost)
    left = len([t for t in study.completed if t.fidelity == most]) - len(shown)
    notes = (
        f"Of {len(study.completed):,} completed trials {len(shown):,} are drawn: the front, the best, and "
        f"others evenly over the search. {left:,} are not.",
    ) * (left > 0)
    return Chart(
        key=f"{KEY}-{cost.metric}",
        title=f"{titled(goal.metric)} against {metric_info(cost.metric).label}",
        figure={
            "data": traces,
            "layout": {
                "xaxis": metric_axis(cost.metric, [trial.costs[cost.metric] for trial in shown]),
                "yaxis": metric_axis(goal.metric, where=_where(best)),
            },
        },
        alt=_alt(goal, cost, front_trials, len(shown), best),
        table=table,
        notes=notes,
        height=460,
    )


def _has(trial: StudyTrial, goal: Goal, cost: Goal) -> bool:
    return goal.metric in trial.costs and cost.metric in trial.costs


def _where(trial: StudyTrial) -> str:
    return f", {trial.measured_on}" if trial.measured_on else ""


def _size(count: int) -> int:
    return 9 if count <= 60 else 7 if count <= 300 else 5


def _points(
    trials: Sequence[StudyTrial],
    goal: Goal,
    cost: Goal,
    metrics: Sequence[str],
    *,
    name: str,
    color: str,
    size: int,
    symbol: str = "circle",
) -> Trace:
    return trial_points(
        trials,
        [trial.costs[cost.metric] for trial in trials],
        [trial.costs[goal.metric] for trial in trials],
        name=f"{name} (n = {len(trials)})" if len(trials) != 1 or name != "winner" else name,
        metrics=metrics,
        color=color,
        size=size,
        symbol=symbol,
    )


def _reference(source: Source, cost: Goal) -> list[Trace]:
    """A line at the reference network's cost: its quality was measured on another split."""
    one = None if source.comparison is None else source.comparison.reference
    known = {} if one is None else {"macs": one.macs, "params": one.params}
    values = [trial.value for trial in source.shown if trial.value is not None]
    if one is None or cost.metric not in known or not values:
        return []
    price = known[cost.metric]
    name = f"{one.name}: {show_metric(cost.metric, price)}"
    return [line([price] * 2, [min(values), max(values)], name=name, color=GREEN, dash="dot", width=2)]


def _alt(goal: Goal, cost: Goal, found: Sequence[StudyTrial], shown: int, best: StudyTrial) -> str:
    def point(trial: StudyTrial) -> str:
        value, price = trial.costs[goal.metric], trial.costs[cost.metric]
        return f"{show_metric(goal.metric, value)} at {show_metric(cost.metric, price)}"

    if not found:
        return f"{shown} trials; none is on the front."
    words = f"{shown} trials; the front of {len(found)} goes from {point(found[0])} to {point(found[-1])}"
    return f"{words}; the winner has {point(best)}." if _has(best, goal, cost) else f"{words}."


def _front_table(study: Study, found: Sequence[StudyTrial]) -> Table:
    metrics = tuple(goal.metric for goal in study.front_goals()[1:])
    return trial_table(study, "pareto_front", f"The front ({len(found)})", found, metrics)


def _all_trials(source: Source) -> Table:
    """Every trial that opens, the best first."""
    ranked = sorted(source.shown, key=lambda t: (-t.fidelity, -_least(t.reward), t.number))
    count, total = len(ranked), len(source.study.trials)
    title = f"All {total:,} trials, the best first"
    if count < total:
        title = f"{count:,} of {total:,} trials, the best first"
    return trial_table(source.study, "trials", title, ranked)


def _least(reward: float | None) -> float:
    return float("-inf") if reward is None else reward
