"""The rungs of a search with short trainings: who was promoted, and whether short trainings rank alike."""

from __future__ import annotations

from collections.abc import Sequence

from nas.report.page.charting import Trace, axis, trial_words
from nas.report.page.parts import BLUE, SKY, Absent, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import FIDELITY, REWARD, TRIAL, Column, Table
from nas.report.trial_tables import rung_table
from nas.study.study_trial import StudyTrial

KEY, TITLE = "rungs", "Rungs"

MOST_LINES = 150
"""Candidates whose way up is drawn, those with the highest rewards on the last rung they reached first."""


def rungs(source: Source) -> Section | Absent:
    """The rungs."""
    study = source.study
    table = rung_table(study)
    if table is None:
        return Absent(
            key=KEY,
            title=TITLE,
            reason="every candidate was trained whole; --rungs trains most of them shortly",
        )
    ways = _ways(source)
    fidelities = sorted({trial.fidelity for trial in study.trials})
    climbed = sum(len(way) > 1 for way in ways)
    lead = (
        f"Candidates were trained at {len(fidelities)} fidelities; {climbed:,} of {len(ways):,} were "
        "promoted at least once."
    )
    shown = ways[:MOST_LINES]
    traces = [_way(way, fidelities) for way in reversed(shown)]
    notes = (f"{len(ways) - len(shown):,} more candidates are not drawn.",) * (len(ways) > len(shown))
    chart = Chart(
        key=KEY,
        title="Reward of each candidate from rung to rung",
        figure={
            "data": traces,
            "layout": {
                "showlegend": False,
                "xaxis": axis(
                    "fidelity, share of the whole training",
                    tickvals=list(range(len(fidelities))),
                    ticktext=[f"{share:.3g}" for share in fidelities],
                ),
                "yaxis": axis("reward"),
            },
        },
        alt=f"{len(shown)} candidates; {climbed} climb from one rung to the next.",
        table=_table(shown),
        notes=notes,
    )
    return Section(key=KEY, title=TITLE, lead=lead, blocks=(chart, table))


def _table(ways: Sequence[Sequence[StudyTrial]]) -> Table:
    rows = tuple(
        {"candidate": t.digest, "trial": t.number, "fidelity": t.fidelity, "reward": t.reward}
        for way in ways
        for t in way
    )
    columns = (Column(key="candidate", heading="candidate"), TRIAL, FIDELITY, REWARD)
    return Table(key="climbs", title="Candidates from rung to rung", columns=columns, rows=rows)


def _ways(source: Source) -> list[list[StudyTrial]]:
    """The trials of each candidate by fidelity, those that came highest and did best first."""
    by_digest: dict[str, dict[float, StudyTrial]] = {}
    for trial in source.study.completed:
        by_digest.setdefault(trial.digest, {}).setdefault(trial.fidelity, trial)
    ways = [[way[share] for share in sorted(way)] for way in by_digest.values()]
    return sorted(ways, key=lambda way: (-way[-1].fidelity, -(way[-1].reward or 0.0)))


def _way(way: list[StudyTrial], fidelities: list[float]) -> Trace:
    is_top = way[-1].fidelity == fidelities[-1]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [fidelities.index(trial.fidelity) for trial in way],
        "y": [trial.reward for trial in way],
        "customdata": [trial.number for trial in way],
        "text": [trial_words(trial, (trial.objective.goal.metric,)) for trial in way],
        "hoverinfo": "text",
        "opacity": 0.9 if is_top else 0.5,
        "line": {"color": BLUE if is_top else SKY, "width": 1.6 if is_top else 1},
        "marker": {"color": BLUE if is_top else SKY, "size": 7},
    }
