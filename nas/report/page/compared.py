"""The comparison on the test split: a chart of means and intervals, the table, and what they say."""

from __future__ import annotations

import math
from dataclasses import replace

from nas.evaluation.comparison import Comparison, Contender
from nas.metrics import metric_info, show_metric
from nas.report.comparison_report import comparison_notes, comparison_report
from nas.report.page.charting import Trace, errors, metric_axis, titled
from nas.report.page.parts import BLUE, GREY, ORANGE, VERMILION, Absent, Block, Chart, Section, Words
from nas.report.page.source import Source
from nas.report.printing import Table
from nas.statistics import t_quantile

KEY, TITLE = "comparison", "Comparison on the test split"

COLORS = {"winner": VERMILION, "reference": BLUE, "random": GREY}

WORDS = {
    "ahead": "is ahead of",
    "tie": "ties with",
    "behind": "is behind",
    "unknown": "cannot be told apart from",
}


def compared(source: Source) -> Section | Absent:
    """Winner, reference and random candidates, trained alike and tested on images that no search saw."""
    comparison = source.comparison
    if comparison is None or not any(one.values for one in comparison.contenders):
        why = "the winner was not trained beside others and tested"
        if comparison is not None:
            why = "no training of it has worked yet"
        return Absent(
            key=KEY, title=TITLE, reason=f"{why}: nas resume with --compare-seeds 2 and the data does that"
        )
    report = comparison_report(comparison, source.study.objective)
    (table,) = report.tables
    blocks: list[Block] = [
        _chart(comparison, table),
        Words(lines=comparison_notes(comparison)),
        replace(table, notes=()),
    ]
    return Section(key=KEY, title=TITLE, lead=verdict(comparison), blocks=tuple(blocks))


def verdict(comparison: Comparison) -> str:
    """What the comparison says of the winner, in a sentence."""
    winner = comparison.winner
    if winner.mean is None:
        return f"No training of the winner, {winner.name}, worked, so that nothing can be said of it."
    value = show_metric(comparison.metric, winner.mean)
    words = f"{winner.name[:1].upper()}{winner.name[1:]} has {metric_info(comparison.metric).label} {value}"
    words += f" on {comparison.images:,} test images (n = {len(winner.values)})"
    parts = [
        f"{WORDS[comparison.outcome(one)]} {one.name} ({show_metric(comparison.metric, one.mean)})"
        for one in comparison.contenders
        if one.role == "reference" and one.mean is not None
    ]
    outcomes = [comparison.outcome(one) for one in comparison.contenders if one.role == "random"]
    if outcomes:
        counts = [
            f"{word} {outcomes.count(outcome)}" for outcome, word in WORDS.items() if outcome in outcomes
        ]
        parts.append(f"{', '.join(counts)} of {len(outcomes)} random candidates")
    return f"{words}: it {', and '.join(parts)}." if parts else f"{words}."


def half_width(comparison: Comparison, one: Contender) -> float | None:
    """Half of the 95 % interval of a contender's mean, by the deviation that all contenders share."""
    deviation = comparison.seed_deviation
    if deviation is None or not one.values:
        return None
    return t_quantile(comparison.seed_freedom) * deviation / math.sqrt(len(one.values))


def _chart(comparison: Comparison, table: Table) -> Chart:
    shown = [one for one in comparison.contenders if one.mean is not None]
    names = [one.name for one in shown]
    has_spread = comparison.seed_deviation is not None
    note = (
        "Diamond: the mean of new trainings; line: its 95 % interval, by the spread between seeds that all "
        "networks share; small dots: the single trainings. Intervals may overlap where a difference is real: "
        "the table gives the intervals of the differences."
    )
    return Chart(
        key=KEY,
        title=f"{titled(comparison.metric)} on the test split: means of new trainings",
        figure={
            "data": [_singles(comparison, shown), *(_mean(comparison, one) for one in shown)],
            "layout": {
                "showlegend": False,
                "xaxis": metric_axis(comparison.metric, where=", test split"),
                "yaxis": {
                    "categoryorder": "array",
                    "categoryarray": names[::-1],
                    "type": "category",
                    "range": [-0.6, len(names) - 0.4],
                },
            },
        },
        alt=f"{len(shown)} networks, each trained anew from {comparison.seeds} seeds. {verdict(comparison)}",
        table=table,
        notes=(note,) if has_spread else ("One training each: the spread between seeds is not known.",),
        height=130 + 42 * len(shown),
    )


def _singles(comparison: Comparison, shown: list[Contender]) -> Trace:
    pairs = [(one, run) for one in shown for run in one.runs if run.value is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [run.value for _, run in pairs],
        "y": [one.name for one, _ in pairs],
        "text": [
            f"{one.name}, seed {run.seed}\n{show_metric(comparison.metric, run.value or 0.0)}"
            for one, run in pairs
        ],
        "hoverinfo": "text",
        "marker": {"color": ORANGE, "size": 6, "opacity": 0.7},
    }


def _mean(comparison: Comparison, one: Contender) -> Trace:
    half = half_width(comparison, one)
    mean = one.mean if one.mean is not None else 0.0
    spread = "" if half is None else f" ± {show_metric(comparison.metric, half)} (95 %)"
    color = COLORS[one.role]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [mean],
        "y": [one.name],
        "text": [f"{one.name}\nmean {show_metric(comparison.metric, mean)}{spread}, n = {len(one.values)}"],
        "hoverinfo": "text",
        "marker": {"color": color, "size": 12, "symbol": "diamond"},
        "error_x": errors([half or 0.0], color, thickness=2),
    }
