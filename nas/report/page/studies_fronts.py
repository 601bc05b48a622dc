"""Pareto fronts of several studies over each other, and their winners side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.metrics import metric_info, show_metric
from nas.report.network_lines import UNREADABLE
from nas.report.page.charting import (
    COLORS,
    Trace,
    metric_axis,
    metric_column,
    steps,
    titled,
    trial_drawing,
    trial_words,
)
from nas.report.page.parts import Absent, Block, Chart, Section, Words
from nas.report.page.studies import Group, Named
from nas.report.printing import TRIAL, Column, Row, Table
from nas.study.study_trial import StudyTrial

MOST_DRAWN = 8
"""Winners that are drawn."""


def fronts_of_studies(groups: Sequence[Group]) -> Section | Absent:
    """The Pareto fronts of studies that can be compared, over each other."""
    key, title = "front", "Pareto fronts"
    charts = [chart for found in groups if (chart := _front_chart(found)) is not None]
    if not charts:
        return Absent(key=key, title=title, reason="no study has trials with both its metric and a cost")
    lead = "The fronts of studies that can be compared, over each other; a star is a winner."
    if len(groups) > 1:
        lead += " Fronts of other images, splits or objectives are in charts of their own."
    return Section(key=key, title=title, lead=lead, blocks=tuple(charts))


def _front_chart(found: Group) -> Chart | None:
    goals = next((one.study.front_goals() for one in found.studies if one.study.completed), ())
    if len(goals) < 2:
        return None
    goal, cost = goals[0].metric, goals[1].metric
    traces: list[Trace] = []
    rows: dict[str, list[Row]] = {one.name: [] for one in found.studies}
    for place, one in _with_places(found):
        if not one.study.completed:
            continue
        best, color = one.study.best, COLORS[place % len(COLORS)]
        trials = [t for t in one.study.pareto_front() if {goal, cost} <= t.costs.keys()]
        traces += [_front_line(one, trials, goal, cost, color)] if trials else []
        traces += [_star(one, best, goal, cost, color)] if {goal, cost} <= best.costs.keys() else []
        rows[one.name] = [
            {"study": one.name, "trial": t.number, goal: t.costs[goal], cost: t.costs[cost]} for t in trials
        ]
    table = _front_table([row for one in found.studies for row in rows[one.name]], goal, cost)
    if not table.rows:
        return None
    words = "; ".join(_front_words(one.name, rows[one.name], goal, cost) for one in found.studies[:6])
    layout = {
        "xaxis": metric_axis(cost, [row[cost] for row in table.rows]),
        "yaxis": metric_axis(goal),
        "showlegend": True,
    }
    return Chart(
        key=f"front-{found.letter.lower()}",
        title=f"{titled(goal)} against {metric_info(cost).label} ({found.letter})",
        figure={"data": traces, "layout": layout},
        alt=f"{words}.",
        table=table,
        height=460,
    )


def _front_table(rows: Sequence[Row], goal: str, cost: str) -> Table:
    columns = (Column(key="study", heading="study"), TRIAL, metric_column(goal), metric_column(cost))
    return Table(key="fronts", title="The fronts", columns=columns, rows=tuple(rows))


def _with_places(found: Group) -> Iterator[tuple[int, Named]]:
    """Each study with the place of its setup, which gives it its colour."""
    for place, setup in enumerate(found.setups):
        for one in setup.studies:
            yield place, one


def _front_words(name: str, rows: Sequence[Row], goal: str, cost: str) -> str:
    if not rows:
        return f"{name} has no front"
    first, last = rows[0], rows[-1]
    return (
        f"{name} goes from {show_metric(goal, first[goal])} at {show_metric(cost, first[cost])} to "
        f"{show_metric(goal, last[goal])} at {show_metric(cost, last[cost])}"
    )


def _front_line(one: Named, trials: Sequence[StudyTrial], goal: str, cost: str, color: str) -> Trace:
    ordered = sorted(trials, key=lambda trial: trial.costs[cost])
    line = steps(
        [t.costs[cost] for t in ordered], [t.costs[goal] for t in ordered], name=one.name, color=color
    )
    return {
        **line,
        "mode": "lines+markers",
        "marker": {"color": color, "size": 8},
        "text": [f"{one.name}, {trial_words(trial, (goal, cost))}" for trial in ordered],
        "hoverinfo": "text",
    }


def _star(one: Named, best: StudyTrial, goal: str, cost: str, color: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"winner of {one.name}",
        "showlegend": False,
        "x": [best.costs[cost]],
        "y": [best.costs[goal]],
        "text": [f"winner of {one.name}, {trial_words(best, (goal, cost))}"],
        "hoverinfo": "text",
        "marker": {
            "color": color,
            "size": 16,
            "symbol": "star",
            "line": {"width": 1, "color": "palette:card"},
        },
    }


def winners_of_studies(studies: Sequence[Named]) -> Section | Absent:
    """The winners side by side."""
    key, title = "winners", "Winners"
    blocks: list[Block] = []
    same: dict[str, list[str]] = {}
    for one in studies:
        if one.study.completed:
            same.setdefault(one.study.best.digest, []).append(one.name)
    blocks += [_drawing(one) for one in [s for s in studies if s.study.completed][:MOST_DRAWN]]
    if not blocks:
        return Absent(key=key, title=title, reason="no study has completed a trial")
    equal = [f"{' and '.join(names)} found the same network." for names in same.values() if len(names) > 1]
    if equal:
        blocks.append(Words(lines=tuple(equal)))
    left = sum(one.study.completed != () for one in studies) - MOST_DRAWN
    lead = "The network that each study would go with."
    lead += f" The first {MOST_DRAWN} are drawn." if left > 0 else ""
    return Section(key=key, title=title, lead=lead, blocks=tuple(blocks))


def _drawing(one: Named) -> Block:
    best = one.study.best
    try:
        return trial_drawing(best, title=f"{one.name}, trial {best.number}")
    except UNREADABLE as error:
        return Words(lines=(f"The winner of {one.name}, trial {best.number}, cannot be drawn: {error}",))
