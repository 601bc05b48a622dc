"""The law of scaling over all directions, as a triangle of depth, width and resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.metrics import show_metric
from nas.report.page.charting import Layout, Trace, axis, titled
from nas.report.page.parts import GREY, INK, VERMILION, Chart
from nas.report.page.training_files import Values
from nas.report.printing import Table

SHARES = ("depth", "width", "resolution")

STEPS = 28
"""Of the shading of the law, along a side of the triangle."""

Place = tuple[float, float, float]
"""Shares of depth, width and resolution."""


def law_chart(values: Values, metric: str, table: Table, key: str) -> Chart:
    """The directions in a triangle, in the colour of what their networks reach.

    Args:
        values: What the search printed as JSON.
        metric: What directions are compared by.
        table: The networks.
        key: Of the chart.
    """
    found = values["found"]
    trained = [row for row in values["members"] if row.get("mean") is not None]
    grid, shades = _shading(found.get("law"))
    known = [*(float(row["mean"]) for row in trained), *shades] or [0.0, 1.0]
    low, high = min(known), max(known)
    best = max(trained, key=lambda row: float(row["mean"]), default=None)
    at = ", ".join(f"{name} {found[name]:.2f}" for name in SHARES)
    alt = f"{len(trained)} networks in a triangle of depth, width and resolution. The direction found: {at}."
    if best is not None:
        alt += f" The network {best['name']} has the largest value, {show_metric(metric, best['mean'])}."
    return Chart(
        key=key,
        title=f"{titled(metric)} by direction, at equal cost",
        figure={"data": _traces(found, trained, grid, shades, metric, (low, high)), "layout": _layout()},
        alt=alt,
        table=table,
        notes=(
            "A corner: all growth goes into one dimension. Ring: the direction found. Colour: from "
            f"{show_metric(metric, low)} (dark blue) to {show_metric(metric, high)} (yellow).",
        ),
        height=470,
    )


def _traces(
    found: Values,
    trained: Sequence[Values],
    grid: Sequence[Place],
    shades: Sequence[float],
    metric: str,
    limits: tuple[float, float],
) -> list[Trace]:
    """The law below the networks that were trained, and a ring around the direction found."""
    coloured = {"colorscale": "Cividis", "cmin": limits[0], "cmax": limits[1]}
    traces: list[Trace] = []
    if shades:
        words = [f"by the law: {show_metric(metric, value)}" for value in shades]
        marker = {"color": list(shades), "size": 13, "symbol": "hexagon", "opacity": 0.45, **coloured}
        traces.append(_ternary(grid, words, marker, name="the law"))
    words = [f"{row['name']}\n{show_metric(metric, row['mean'])}, {row['pixels']} pixels" for row in trained]
    edge = {"width": 1.5, "color": "palette:card"}
    marker = {"color": [float(row["mean"]) for row in trained], "size": 13, "line": edge, **coloured}
    traces.append(_ternary([_shares(row) for row in trained], words, marker, name="trained"))
    ring = {"color": "rgba(0,0,0,0)", "size": 22, "line": {"width": 3, "color": VERMILION}}
    return [*traces, _ternary([_shares(found)], ["direction found"], ring, name="found")]


def _layout() -> Layout:
    corner: Layout = {"color": INK, "gridcolor": GREY, "linecolor": GREY, "tickformat": ".1f"}
    axes = {f"{letter}axis": axis(name, **corner) for letter, name in zip("abc", SHARES, strict=True)}
    return {
        "ternary": {"sum": 1, "bgcolor": "rgba(0,0,0,0)", **axes},
        "xaxis": {"visible": False},
        "yaxis": {"visible": False},
        "margin": {"l": 55, "r": 80, "t": 30, "b": 50},
    }


def _shares(row: Values) -> Place:
    depth, width, resolution = (float(row[name]) for name in SHARES)
    return depth, width, resolution


def _shading(weights: Sequence[float] | None) -> tuple[list[Place], list[float]]:
    """The law over all directions; nothing where it is not known."""
    if not weights:
        return [], []
    grid = [
        (d / STEPS, w / STEPS, (STEPS - d - w) / STEPS)
        for d in range(STEPS + 1)
        for w in range(STEPS + 1 - d)
    ]
    d, w, r = np.array(grid).T
    terms = np.column_stack([d, w, r, d * w, d * r, w * r])
    return grid, (terms @ np.array(weights, dtype=np.float64)).tolist()


def _ternary(places: Sequence[Place], words: Sequence[str], marker: Trace, *, name: str) -> Trace:
    return {
        "type": "scatterternary",
        "mode": "markers",
        "name": name,
        "a": [place[0] for place in places],
        "b": [place[1] for place in places],
        "c": [place[2] for place in places],
        "text": list(words),
        "hoverinfo": "text",
        "marker": marker,
    }
