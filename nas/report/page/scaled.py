"""Scaling: the law over directions, growth at real cost, and a trained family beside its references."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from nas.metrics import Goal, metric_info, show_metric
from nas.report.family_report import trained_columns
from nas.report.page.attached import Attached, Scaling, blocks_of, picture_of
from nas.report.page.charting import Trace, axis, errors, metric_axis, titled
from nas.report.page.law_chart import SHARES, law_chart
from nas.report.page.parts import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    Absent,
    Block,
    Chart,
    Section,
    Words,
)
from nas.report.page.training_files import Values, number
from nas.report.printing import Fact, Report, Table, show_count
from nas.report.scaling_report import law_column, scaled_columns
from nas.units import show_number

KEY, TITLE = "scaling", "Scaling"

STYLES = {
    "depth": (BLUE, "square", "dash"),
    "width": (ORANGE, "triangle-up", "dash"),
    "resolution": (GREEN, "triangle-down", "dash"),
    "found": (VERMILION, "circle", "solid"),
    "efficientnet": (INK, "diamond", "solid"),
    "fast": (SKY, "cross", "solid"),
}

DOUBLINGS = [2**power for power in range(-3, 11)]
"""Where an axis of costs has marks."""

PANELS = (("params", "params"), ("macs", "macs"), ("latency_ms", "latency_ms"))


def scaled(found: Attached) -> Section | Absent:
    """The searches for a direction and the families that were given, and those in the folders that were."""
    if not found.scalings:
        return Absent(
            key=KEY,
            title=TITLE,
            reason="no network was scaled, or the folder of nas scale was not given beside the study",
        )
    blocks = blocks_of(found.scalings, _of_one, "what nas scale --json prints")
    return Section(key=KEY, title=TITLE, lead=_lead(found.scalings), blocks=tuple(blocks))


def _lead(scalings: Sequence[Scaling]) -> str:
    words = []
    for one in scalings:
        found = one.values.get("found")
        if found:
            shares = ", ".join(f"{name} {number(found[name]) or 0.0:.2f}" for name in SHARES)
            words.append(f"The network grows best with the shares {shares} of log-cost.")
        if one.values.get("trained"):
            words.append(f"{len(one.values['trained'])} networks were trained in full and tested.")
    return " ".join(words) or "The folder holds trainings of scaled networks."


def _of_one(one: Scaling, place: int) -> Iterator[Block]:
    values = one.values
    if one.study:
        yield Words(lines=(f"Scaled from a network of {one.study}.",))
    if "lattice" in values:
        yield from _search(values, place)
    if values.get("trained"):
        yield from _family(values, place)
    notes = _notes(values)
    if notes:
        yield Words(lines=notes)
    if not values:
        yield Words(
            lines=(
                "An earlier version drew this search and kept no numbers beside it. The same command of nas "
                "scale again writes them into search.json; it trains nothing anew.",
            )
        )
        yield from _pictures(one)


def _notes(values: Values) -> tuple[str, ...]:
    """What the command said at the end; an empty line parts it from the notes of its tables."""
    said = [str(note) for note in values.get("notes") or ()]
    after = said[said.index("") + 1 :] if "" in said else said
    return tuple(note for note in after if note and not note.startswith("picture: "))


def _pictures(one: Scaling) -> Iterator[Block]:
    for path in one.pictures:
        alt = f"The picture {path.name} of nas scale; its numbers were not kept."
        yield picture_of(path, title=path.stem, alt=alt)


def _metric(values: Values) -> str:
    return str(values.get("trained_metric") or values["lattice"].get("metric") or "accuracy")


def _search(values: Values, place: int) -> Iterator[Block]:
    metric = str(values["lattice"].get("metric", "accuracy"))
    yield Report(title="Which direction", facts=tuple(_facts(values, metric)))
    members, finalists = values["members"], values["finalists"]
    table = Table(
        key="members",
        title=f"The lattice ({len(members)}), best first",
        columns=scaled_columns(metric),
        rows=tuple(members),
        notes=("Depth, width, side: shares of the growth of log-cost.",),
    )
    yield law_chart(values, metric, table, f"{KEY}-{place}-law")
    has_law = any("law" in row for row in finalists)
    yield Table(
        key="finalists",
        title="Finalists, from several seeds",
        columns=(*scaled_columns(metric), *((law_column(metric),) if has_law else ())),
        rows=tuple(finalists),
    )
    if values.get("curves"):
        yield from _curves(values, metric, place)


def _facts(values: Values, metric: str) -> Iterator[Fact]:
    found, lattice = values["found"], values["lattice"]
    if values.get("images"):
        yield Fact(key="images", label="images", value=values["images"])
    intervals = found.get("intervals") or {}
    for name in SHARES:
        within = (
            f"  (9 of 10 laws: {intervals[name][0]:.2f} to {intervals[name][1]:.2f})" if intervals else ""
        )
        yield Fact(key=name, label=f"share of {name}", value=found[name], text=f"{found[name]:.2f}{within}")
    bases = ", ".join(f"{base:.3f}" for base in found["bases"])
    yield Fact(key="bases", label="for each phi", value=found["bases"], text=f"depth, width, side x {bases}")
    baseline = values.get("baseline") or {}
    if baseline.get("values"):
        mean = statistics.fmean(baseline["values"])
        text = f"{show_metric(metric, mean)} (n = {len(baseline['values'])})"
        text += f", {show_count(baseline['macs'])} macs"
        yield Fact(key="baseline", label="baseline", value=mean, text=text)
    if "cost_factor" in lattice:
        text = (
            f"{lattice['cost_factor']:g} times the baseline's {lattice['cost']}, {lattice['epochs']:g} epochs"
        )
        yield Fact(key="lattice", label="lattice", value=lattice["members"], text=text)


def _curves(values: Values, metric: str, place: int) -> Iterator[Chart]:
    """The metric over the real cost: each dimension alone and together, then width from several starts."""
    for figure, title in (
        (3, "Each dimension alone, and together"),
        (4, "Wider networks, from several starts"),
    ):
        rows = [
            row for row in values["curves"] if row.get("figure") == figure and row.get("mean") is not None
        ]
        if not rows:
            continue
        names = list(dict.fromkeys(str(row["name"]) for row in rows))
        traces = [
            _curve(name, [row for row in rows if row["name"] == name], metric, number_of)
            for number_of, name in enumerate(names)
        ]
        ends = []
        for name in names[:4]:
            last = [row for row in rows if row["name"] == name][-1]
            ends.append(
                f"{name} {show_metric(metric, last['mean'])} at {last['cost_factor']:.3g} times the cost"
            )
        yield Chart(
            key=f"{KEY}-{place}-curves-{figure}",
            title=f"{title}: {metric_info(metric).label} at real cost",
            figure={
                "data": traces,
                "layout": {
                    "xaxis": axis(
                        "cost over the baseline's", type="log", tickvals=DOUBLINGS, ticktext=DOUBLINGS
                    ),
                    "yaxis": metric_axis(metric, where=", search split"),
                },
            },
            alt=f"{'; '.join(ends)}.",
            table=Table(
                key=f"curves_{figure}",
                title=title,
                columns=scaled_columns(metric, has_direction=False),
                rows=tuple(rows),
            ),
            notes=("Points: means over seeds; lines at them: one standard error.",),
        )


def _curve(name: str, rows: Sequence[Values], metric: str, place: int) -> Trace:
    others = list(STYLES.values())
    color, symbol, dash = STYLES.get(name, others[place % len(others)])
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [row["cost_factor"] for row in rows],
        "y": [row["mean"] for row in rows],
        "text": [
            f"{name} x{row['cost_factor']:.3g}\n{show_metric(metric, row['mean'])}, "
            f"n = {len(row['values'])}\n{row['blocks']} blocks, {row['pixels']} pixels"
            for row in rows
        ],
        "hoverinfo": "text",
        "error_y": errors([_error(row) for row in rows], color),
        "marker": {"color": color, "symbol": symbol, "size": 9},
        "line": {"color": color, "width": 1.8, "dash": dash},
    }


def _error(row: Values) -> float:
    values = [float(value) for value in row["values"]]
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def _family(values: Values, place: int) -> Iterator[Block]:
    metric, rows = _metric({"lattice": {}, **values}), values["trained"]
    table = Table(
        key="trained",
        title="Trained in full, on the test split",
        columns=trained_columns(metric),
        rows=tuple(rows),
        notes=("ms: one image on one thread of the CPU, all networks in turns.",),
    )
    yield table
    for key, cost in PANELS:
        known = [row for row in rows if number(row.get(key)) is not None]
        if len(known) < 2:
            continue
        traces = [
            _group(
                [row for row in known if bool(row.get("is_reference")) == is_reference],
                key,
                metric,
                is_reference,
            )
            for is_reference in (False, True)
        ]
        yield Chart(
            key=f"{KEY}-{place}-family-{key.replace('_', '-')}",
            title=f"{titled(metric)} on the test split against {metric_info(cost).label}",
            figure={
                "data": [trace for trace in traces if trace["x"]],
                "layout": {
                    "xaxis": metric_axis(cost, [float(row[key]) for row in known]),
                    "yaxis": metric_axis(metric, where=", test split"),
                },
            },
            alt=_family_alt(known, key, metric),
            table=table,
            notes=("Lines at points: one standard deviation between seeds.",),
        )


def _group(rows: Sequence[Values], key: str, metric: str, is_reference: bool) -> Trace:
    rows = sorted(rows, key=lambda row: float(row[key]))
    color = ORANGE if is_reference else BLUE
    return {
        "type": "scatter",
        "mode": "markers" if is_reference else "lines+markers",
        "name": "references" if is_reference else "the family",
        "x": [row[key] for row in rows],
        "y": [row["mean"] for row in rows],
        "text": [
            f"{row['name']}\n{show_metric(metric, row['mean'])} (n = {row['n']})\n"
            f"{show_count(row['params'])} params, {show_count(row['macs'])} macs"
            + ("" if row.get("latency_ms") is None else f", {show_number(row['latency_ms'])} ms")
            for row in rows
        ],
        "hoverinfo": "text",
        "error_y": errors([row.get("deviation") or 0.0 for row in rows], color),
        "marker": {"color": color, "size": 10, "symbol": "square" if is_reference else "circle"},
        "line": {"color": color, "width": 2},
    }


def _family_alt(rows: Sequence[Values], key: str, metric: str) -> str:
    sign = Goal.of(metric).sign
    best = max(rows, key=lambda row: sign * float(row["mean"]))
    least = min(rows, key=lambda row: float(row[key]))
    return (
        f"{len(rows)} networks. The best, {best['name']}, has {show_metric(metric, best['mean'])}; the "
        f"smallest here, {least['name']}, {show_metric(metric, least['mean'])}."
    )
