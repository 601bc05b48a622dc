"""Which decisions matter, and how well that is known."""

from __future__ import annotations

from nas.metrics import metric_info
from nas.report.decisions import decision_table
from nas.report.page.charting import axis, bars
from nas.report.page.parts import BLUE, GREEN, ORANGE, Absent, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import Table, show_share

KEY, TITLE = "decisions", "What matters"

MOST_BARS = 15


def importance(source: Source) -> Section | Absent:
    """The decisions by importance for the reward."""
    study, insight = source.study, source.insight
    if insight is None:
        return Absent(key=KEY, title=TITLE, reason=f"it {source.unexplained}")
    table = decision_table(study, insight)
    first = insight.decisions[0]
    lead = (
        f"{first.decision.name} matters most: {show_share(first.reward_importance)} of the variance of the "
        "estimated reward stays while only this decision is open."
    )
    return Section(key=KEY, title=TITLE, lead=lead, blocks=(_chart(source, table), table))


def _chart(source: Source, table: Table) -> Chart:
    insight = source.insight
    assert insight is not None, "without it there is no section"
    shown = insight.decisions[:MOST_BARS][::-1]
    names = [one.decision.name for one in shown]
    label = metric_info(source.study.objective.goal.metric).label
    series = (
        (metric_info(insight.cost).label, ORANGE, [one.cost_importance for one in shown]),
        (label, GREEN, [one.accuracy_importance for one in shown]),
        ("reward", BLUE, [one.reward_importance for one in shown]),
    )
    traces = [
        bars(
            values,
            [f"{of}\nimportance for {name}: {show_share(v)}" for of, v in zip(names, values, strict=True)],
            color,
        )
        | {"name": name}
        for name, color, values in series
    ]
    best = shown[-1]
    return Chart(
        key=KEY,
        title="Importance of decisions",
        figure={
            "data": traces,
            "layout": {
                "barmode": "group",
                "bargap": 0.3,
                "xaxis": axis("share of the variance", tickformat=".0%", rangemode="tozero"),
                "yaxis": {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False},
                "legend": {"traceorder": "reversed"},
            },
        },
        alt=f"{len(shown)} decisions; {best.decision.name} is first, {show_share(best.reward_importance)}.",
        table=Table(
            key="importance",
            title=table.title,
            columns=table.columns[:4],
            rows=table.rows,
        ),
        height=110 + 44 * len(shown),
    )
