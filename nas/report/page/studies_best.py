"""Best so far of several studies over trials and hours, with medians of those that differ in the seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from nas.report.page.best_so_far import corners, whole
from nas.report.page.charting import COLORS, Trace, axis, band, steps
from nas.report.page.parts import Absent, Block, Chart, Section
from nas.report.page.studies import Group, Named, Setup
from nas.report.printing import Column, Table, show_accuracy, show_seconds

Floats = npt.NDArray[np.float64]

DASHES = ("dash", "dot", "dashdot")

LEGEND = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
    "traceorder": "normal",
}

GRID = 200
"""Places at which the median of several studies is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The best reward so far of a study.

    Attributes:
        name: Name of the study.
        trials: Trained candidates, 1 to their number.
        hours: Hours since the search began when each ended, pauses included.
        best: Best reward so far.
    """

    name: str
    trials: Floats
    hours: Floats
    best: Floats

    def x(self, by: str) -> Floats:
        """What it is drawn over: `trials` or `hours`."""
        return self.trials if by == "trials" else self.hours


def curve_of(one: Named) -> Curve | None:
    """The curve of a study; None where nothing was trained whole."""
    trials = whole(one.study)
    if not trials:
        return None
    rewards = np.array([-np.inf if trial.reward is None else trial.reward for trial in trials])
    begun = one.attempts[0].begun if one.attempts else None
    hours = [
        math.nan
        if begun is None or trial.finished_at is None
        else (datetime.fromisoformat(trial.finished_at) - begun).total_seconds() / 3600
        for trial in trials
    ]
    ended = np.maximum.accumulate(np.nan_to_num(np.array(hours), nan=0.0))
    return Curve(
        name=one.name,
        trials=np.arange(1.0, len(trials) + 1),
        hours=ended,
        best=np.maximum.accumulate(rewards),
    )


def best_of_studies(groups: Sequence[Group]) -> Section | Absent:
    """Best so far over trials and over hours: a chart for each kind of studies, never two kinds in one."""
    key, title = "best", "Best so far"
    blocks: list[Block] = []
    for found in groups:
        curves = [(setup, [c for one in setup.studies if (c := curve_of(one))]) for setup in found.setups]
        known = [(setup, each) for setup, each in curves if each]
        if known and not found.studies[0].study.objective.is_front:
            blocks += [_best_chart(found, known, by) for by in ("trials", "hours")]
    if not blocks:
        return Absent(
            key=key,
            title=title,
            reason="no study has a reward: none completed a trial, or they look for fronts",
        )
    lead = "The best reward so far of each study, by trained candidates and by the time of the search."
    if len(groups) > 1:
        lead += " Studies that cannot be compared have charts of their own."
    return Section(key=key, title=title, lead=lead, blocks=tuple(blocks))


Known = Sequence[tuple[Setup, list[Curve]]]
"""Studies that differ in the seed alone together, each with its curve."""


def _best_chart(found: Group, known: Known, by: str) -> Chart:
    curves = [curve for _, each in known for curve in each]
    unit, scale = _unit(curves)
    tops = [float(curve.best[-1]) for curve in curves]
    starts = [float(np.quantile(curve.best, 0.1)) for curve in curves]
    span = (max(tops) - min(starts)) or 1.0
    title = (
        f"Best reward so far by {'trained candidates' if by == 'trials' else f'{unit} since the beginning'}"
    )
    ends = "; ".join(f"{curve.name} ends at {curve.best[-1]:.4f}" for curve in curves[:6])
    return Chart(
        key=f"best-{by}-{found.letter.lower()}",
        title=f"{title} ({found.letter})",
        figure={
            "data": _traces(known, by, scale),
            "layout": {
                "xaxis": axis("trained candidates" if by == "trials" else f"{unit}, pauses included"),
                "yaxis": axis("reward", range=[min(starts) - 0.05 * span, max(tops) + 0.06 * span]),
                "showlegend": True,
                "legend": LEGEND,
            },
        },
        alt=f"{title}: {ends}.",
        table=_ends(curves, by),
        notes=_best_notes(known),
    )


def _unit(curves: Sequence[Curve]) -> tuple[str, float]:
    """Hours, or minutes where no search took an hour."""
    return ("minutes", 60.0) if max(curve.hours[-1] for curve in curves) < 1 else ("hours", 1.0)


def _traces(known: Known, by: str, scale: float) -> list[Trace]:
    traces: list[Trace] = []
    for place, (setup, curves) in enumerate(known):
        color = COLORS[place % len(COLORS)]
        traces += _median(curves, by, color, setup.name) if len(curves) > 1 else []
        traces += [
            _line(curve, by, color, number, alone=len(curves) == 1) for number, curve in enumerate(curves)
        ]
    if by == "trials":
        return traces
    return [{**trace, "x": [scale * x for x in trace["x"]]} for trace in traces]


def _line(curve: Curve, by: str, color: str, number: int, *, alone: bool) -> Trace:
    x, y = curve.x(by), curve.best
    kept = corners(y)
    thin = {} if alone else {"width": 1, "dash": DASHES[number % len(DASHES)]}
    words = [
        f"{curve.name}\n{y[p]:.4f} after {int(curve.trials[p])} trials, {show_seconds(3600 * curve.hours[p])}"
        for p in kept
    ]
    line = steps(x[kept].tolist(), y[kept].tolist(), name=curve.name, color=color, **thin)
    return {**line, "text": words, "hoverinfo": "text", "showlegend": alone}


def _ends(curves: Sequence[Curve], by: str) -> Table:
    rows = tuple(
        {
            "study": curve.name,
            "trials": int(curve.trials[-1]),
            "hours": float(curve.hours[-1]),
            "near": _first_near(curve),
            "best": float(curve.best[-1]),
        }
        for curve in curves
    )
    columns = (
        Column(key="study", heading="study"),
        Column(key="trials", heading="trained candidates", is_number=True),
        Column(key="hours", heading="time", show=lambda hours: show_seconds(3600 * hours), is_number=True),
        Column(key="best", heading="best reward", show=show_accuracy, is_number=True),
        Column(key="near", heading="within 0.01 of it after", is_number=True),
    )
    return Table(key=f"best_{by}", title="Where each ends", columns=columns, rows=rows)


def _first_near(curve: Curve) -> int:
    return 1 + int(np.flatnonzero(curve.best >= curve.best[-1] - 0.01)[0])


def _best_notes(known: Sequence[tuple[Setup, list[Curve]]]) -> tuple[str, ...]:
    notes = []
    if any(len(curves) > 1 for _, curves in known):
        notes.append(
            "Studies that differ in the seed alone are drawn thin; the thick line is their median, and the "
            "band goes from the worst to the best of them, as far as all of them go."
        )
    studies = [one.study for setup, _ in known for one in setup.studies]
    if any(len({trial.fidelity for trial in study.trials}) > 1 for study in studies):
        notes.append("Trials of lower fidelity, on earlier rungs, are not drawn, but take their time.")
    return tuple(notes)


def _median(curves: Sequence[Curve], by: str, color: str, name: str) -> list[Trace]:
    """Median and spread of studies that differ in the seed alone, as far as all of them go."""
    begin = max(float(curve.x(by)[0]) for curve in curves)
    end = min(float(curve.x(by)[-1]) for curve in curves)
    if end < begin:
        return []
    count = int(end - begin) + 1 if by == "trials" and end - begin < GRID else GRID
    grid = np.linspace(begin, end, count)
    values = np.stack([_at(curve.x(by), curve.best, grid) for curve in curves])
    values = np.where(np.isfinite(values), values, np.nanmin(values[np.isfinite(values)]))
    x, low, middle, high = (
        one.tolist() for one in (grid, values.min(0), np.median(values, 0), values.max(0))
    )
    return [
        *band(x, low, high, opacity=0.18, shape="hv"),
        steps(x, middle, name=f"{name}, median", color=color, width=3.5),
    ]


def _at(x: Floats, y: Floats, grid: Floats) -> Floats:
    """What a curve of steps has at each place."""
    places = np.searchsorted(x, grid + 1e-12, side="right") - 1
    return np.where(places < 0, -np.inf, y[np.maximum(places, 0)])
