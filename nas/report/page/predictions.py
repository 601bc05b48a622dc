"""Predicted against measured: the model of a study's results, and latencies from a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from nas.metrics import metric_info, show_difference, show_metric
from nas.report.page.charting import line, metric_axis, titled, trial_points
from nas.report.page.parts import GREY, Absent, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import TRIAL, Column, Table
from nas.statistics import spearman
from nas.study.study_trial import StudyTrial

KEY, TITLE = "predicted", "Predicted against measured"

LATENCY, PREDICTED_LATENCY = "latency_ms", "predicted_latency_ms"

Pair = tuple[StudyTrial, float, float]
"""A trial, what was predicted of it, and what was measured."""


def predictions(source: Source) -> Section | Absent:
    """What was predicted beside what was measured."""
    charts = [chart for chart in (_model(source), _latency(source)) if chart is not None]
    if not charts:
        why = source.unexplained or "needs results to learn from"
        return Absent(
            key=KEY, title=TITLE, reason=f"the model {why}, and no latency was both predicted and measured"
        )
    return Section(key=KEY, title=TITLE, lead=charts[0].alt, blocks=tuple(charts))


def _model(source: Source) -> Chart | None:
    insight, study = source.insight, source.study
    if insight is None:
        return None
    metric = study.objective.goal.metric
    pairs = [
        (study.trials[number], value, measured)
        for number, value in sorted(insight.predicted.items())
        if (measured := study.trials[number].value) is not None and math.isfinite(value)
    ]
    if len(pairs) < 2:
        return None
    label, calibration = metric_info(metric).label, insight.calibration
    alt = (
        f"Predicting the {label} of each of {len(pairs)} trials from all others: rank correlation "
        f"{calibration.rank_correlation:.2f} (Spearman), error {show_difference(metric, calibration.error)} "
        "(root mean square)."
    )
    return _chart(
        "model",
        f"{titled(metric)}: predicted by a model from all other trials, and measured",
        pairs,
        metric,
        alt,
        notes=(
            "The model is fitted to the finished study for this page, as nas show does; the search's own "
            "knew less when it chose. Points on the line were predicted right. "
            f"Noise of one training: {show_difference(metric, insight.noise)}.",
        ),
    )


def _latency(source: Source) -> Chart | None:
    pairs = [
        (trial, trial.costs[PREDICTED_LATENCY], trial.costs[LATENCY])
        for trial in source.shown
        if {PREDICTED_LATENCY, LATENCY} <= trial.costs.keys()
    ]
    if len(pairs) < 2:
        return None
    predicted, measured = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    error = fmean(abs(p - m) / m for p, m in zip(predicted, measured, strict=True) if m > 0)
    tau = spearman(predicted, measured)
    alt = (
        f"Latency of {len(pairs)} trials, predicted from a table and measured: rank correlation {tau:.2f} "
        f"(Spearman), mean relative error {100 * error:.1f} %."
    )
    return _chart(
        "latency",
        "Latency: predicted from a table, and measured beside the training",
        pairs,
        LATENCY,
        alt,
        notes=("Table and measurement may be of different devices: a trial says what each is of.",),
    )


def _chart(
    key: str, title: str, pairs: Sequence[Pair], metric: str, alt: str, *, notes: tuple[str, ...]
) -> Chart:
    predicted, measured = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    ends = [min(*predicted, *measured), max(*predicted, *measured)]
    points = trial_points(
        [trial for trial, _, _ in pairs],
        predicted,
        measured,
        name="trial",
        metrics=(metric,),
        size=7 if len(pairs) > 100 else 9,
        opacity=0.75,
    )
    points["text"] = [
        f"trial {trial.number}\npredicted {show_metric(metric, p)}\nmeasured {show_metric(metric, m)}"
        for trial, p, m in pairs
    ]
    rows = tuple({"trial": trial.number, "predicted": p, metric: m} for trial, p, m in pairs)
    show = metric_info(metric).unit.show
    columns = (
        TRIAL,
        Column(key="predicted", heading="predicted", show=show, is_number=True),
        Column(key=metric, heading="measured", show=show, is_number=True),
    )
    return Chart(
        key=f"{KEY}-{key}",
        title=title,
        figure={
            "data": [line(ends, ends, color=GREY, dash="dash"), points],
            "layout": {
                "showlegend": False,
                "xaxis": metric_axis(metric, where=", predicted"),
                "yaxis": metric_axis(metric, where=", measured"),
            },
        },
        alt=alt,
        table=Table(key=f"predicted_{key}", title=title, columns=columns, rows=rows),
        notes=notes,
    )
