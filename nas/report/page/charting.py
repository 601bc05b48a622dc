"""What the charts of a page share: axes of metrics, traces of trials, a trial in a few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nas.metrics import COUNT, FRACTION, SHARED_WEIGHTS, metric_info, show_metric
from nas.report.network_lines import stage_lines
from nas.report.page.parts import BLUE, GREEN, GREY, INK, ORANGE, SKY, VERMILION, Drawing
from nas.report.printing import Column, show_accuracy, show_count
from nas.study.study_trial import StudyTrial
from search_spaces import Cost, cost

Trace = dict[str, Any]
Layout = dict[str, Any]

COLORS = (BLUE, VERMILION, GREEN, ORANGE, SKY, INK, GREY)
"""Colours of what is drawn over each other, in the order in which it was given."""

LOG_RANGE = 10.0
"""An axis is logarithmic where its largest value is more than so many times its smallest."""


def metric_column(name: str, *, key: str = "", where: str = "") -> Column:
    """A column of a metric's values, under its own name where no other key is given."""
    info = metric_info(name)
    return Column(key=key or name, heading=f"{info.label}{where}", show=info.unit.show, is_number=True)


def metric_axis(name: str, values: Iterable[float] = (), *, where: str = "") -> Layout:
    """An axis for a metric: its name and unit, and a logarithmic scale where the values need one."""
    info = metric_info(name)
    symbol = f" ({info.unit.symbol})" if info.unit.symbol else ""
    known = [value for value in values if value is not None]
    is_log = bool(known) and min(known) > 0 and max(known) > LOG_RANGE * min(known)
    axis: Layout = {"title": {"text": f"{info.label}{where}{symbol}"}}
    if info.unit is not FRACTION:
        axis["tickformat"] = "~s"
    if is_log:
        axis |= {"type": "log", "dtick": "D2"}
    return axis


def titled(metric: str) -> str:
    """A metric's name as the first word of a title."""
    label = metric_info(metric).label
    return f"{label[:1].upper()}{label[1:]}"


def axis(title: str, **more: Any) -> Layout:
    """An axis with a title."""
    return {"title": {"text": title}, **more}


def trial_points(
    trials: Sequence[StudyTrial],
    x: Sequence[Any],
    y: Sequence[Any],
    *,
    name: str,
    metrics: Sequence[str],
    color: str = SKY,
    size: int = 8,
    symbol: str = "circle",
    **more: Any,
) -> Trace:
    """A trace with a point for each trial, which opens it when it is clicked."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "customdata": [trial.number for trial in trials],
        "text": [trial_words(trial, metrics) for trial in trials],
        "hoverinfo": "text",
        "marker": {"color": color, "size": size, "symbol": symbol, "line": {"width": 0}},
        **more,
    }


def trial_words(trial: StudyTrial, metrics: Sequence[str] = ()) -> str:
    """A trial in a few lines: its reward, and what is asked for of it."""
    lines = [f"trial {trial.number}"]
    if trial.reward is not None:
        lines.append(f"reward {show_accuracy(trial.reward)}")
    for name in dict.fromkeys(metrics):
        value = trial.costs.get(name)
        if value is not None:
            lines.append(f"{metric_info(name).label} {show_metric(name, value)}")
    if trial.fidelity != 1:
        lines.append(f"fidelity {trial.fidelity:.3g}")
    return "\n".join(lines)


def rows_axis(labels: Sequence[str], **more: Any) -> Layout:
    """A vertical axis with a label for each row, the first at the top."""
    ticks = {"tickvals": list(range(len(labels))), "ticktext": list(labels)}
    return {**ticks, "autorange": "reversed", "showgrid": False, **more}


def line(x: Sequence[Any], y: Sequence[Any], *, name: str = "", color: str, **style: Any) -> Trace:
    """A line that says nothing under the pointer."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "hoverinfo": "skip",
        "line": {"color": color, "width": 1.5, **style},
    }


def network_text(price: Cost, metric: str, value: float | None, *, split: str = "") -> str:
    """A network's costs and quality in a few words."""
    words = f"{show_count(price.macs)} multiply-adds, {show_count(price.params)} parameters"
    if value is not None:
        words += f", {metric_info(metric).label} {show_metric(metric, value)}{f' ({split})' * bool(split)}"
    return words


def trial_drawing(trial: StudyTrial, *, title: str = "") -> Drawing:
    """The network of a trial; raises one of `UNREADABLE` where it cannot be read."""
    network = trial.network
    text = network_text(cost(network), trial.quality_metric, trial.mean_quality)
    text += f" ({SHARED_WEIGHTS})" if trial.has_shared_weights else ""
    return Drawing(title=title or f"Trial {trial.number}", lines=stage_lines(network), text=text)


def steps(x: Sequence[Any], y: Sequence[Any], *, name: str, color: str = BLUE, **style: Any) -> Trace:
    """A line that keeps each value until the next."""
    return line(x, y, name=name, color=color, **{"width": 2.5, "shape": "hv", **style})


def band(
    x: Sequence[Any],
    low: Sequence[float],
    high: Sequence[float],
    *,
    opacity: float,
    shape: str = "linear",
    name: str = "",
) -> list[Trace]:
    """The grey between two lines; without a name it is not in the legend."""
    below, above = (line(x, y, color=GREY, width=0, shape=shape) for y in (low, high))
    filled = {"fill": "tonexty", "fillcolor": f"rgba(128,128,128,{opacity})"}
    return [{**below, "showlegend": False}, {**above, **filled, "name": name, "showlegend": bool(name)}]


def bars(values: Sequence[float], words: Sequence[str], color: str | Sequence[str]) -> Trace:
    """A horizontal bar in each row, which says its words under the pointer."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": list(values),
        "y": list(range(len(values))),
        "text": list(words),
        "textposition": "none",
        "hoverinfo": "text",
        "marker": {"color": color},
    }


def share_map(shares: Sequence[Sequence[float | None]], words: Sequence[Sequence[str]]) -> Trace:
    """A heat map of shares, the larger the stronger."""
    return {
        "type": "heatmap",
        "z": shares,
        "text": words,
        "hoverinfo": "text",
        "colorscale": [[0, "palette:paper"], [1, "palette:blue"]],
        "zmin": 0,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
    }


def errors(values: Sequence[float], color: str, *, thickness: int = 1) -> Trace:
    """Lines to both sides of points, so long."""
    return {
        "type": "data",
        "array": list(values),
        "color": color,
        "thickness": thickness,
        "width": 3 * thickness,
    }


def costs_of(trial: StudyTrial, metrics: Sequence[str]) -> str:
    """A trial's costs in a few words."""
    return ", ".join(_cost_words(name, trial.costs[name]) for name in metrics if name in trial.costs)


def _cost_words(name: str, value: float) -> str:
    info = metric_info(name)
    shown = show_metric(name, value)
    return f"{shown} {info.label}" if info.unit is COUNT else f"{info.label} {shown}"
