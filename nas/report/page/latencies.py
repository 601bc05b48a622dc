"""Latencies: what was measured, and how well a latency table predicts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.latency.measurement import LatencyMeasurement
from nas.latency.table.table import LatencyTable
from nas.report.latency_report import COLUMNS
from nas.report.latency_table_report import NETWORK_COLUMNS, latency_table_report
from nas.report.page.attached import Attached
from nas.report.page.charting import axis, bars, line, rows_axis
from nas.report.page.parts import BLUE, GREY, ORANGE, Absent, Block, Chart, Section
from nas.report.printing import Report, Table, show_share
from nas.units import show_milliseconds

KEY, TITLE = "latency", "Latency"

MOST_BARS = 40


def latencies(found: Attached) -> Section | Absent:
    """The measurements and tables that were given, and those in the folders that were."""
    if not (found.tables or found.measurements):
        return Absent(
            key=KEY,
            title=TITLE,
            reason="no latency was measured apart from the search, or the file of nas measure or nas "
            "latency-table was not given beside the study",
        )
    blocks: list[Block] = []
    for place, (path, measured) in enumerate(found.measurements):
        blocks += _measured(path, measured, place)
    for place, (path, table) in enumerate(found.tables):
        blocks += _table(path, table, place)
    return Section(key=KEY, title=TITLE, lead=_lead(found), blocks=tuple(blocks))


def _lead(found: Attached) -> str:
    words = []
    count = sum(len(measured) for _, measured in found.measurements)
    if count:
        words.append(f"{count} latencies were measured by nas measure.")
    for _, table in found.tables:
        words.append(
            f"A table predicts networks of {table.space.name} on {table.device_name}: {table.error_text}."
        )
    return " ".join(words)


def _measured(path: Path, measured: Sequence[LatencyMeasurement], place: int) -> Iterator[Block]:
    """Each device and session of a file apart: only what was measured in turns can be ranked."""
    sessions: dict[tuple[str, str], list[LatencyMeasurement]] = {}
    for one in measured:
        sessions.setdefault((one.settings.text, one.session.taken_at), []).append(one)
    for number, ((settings, taken_at), group) in enumerate(sessions.items()):
        ranked = sorted(group, key=lambda one: one.median_ms)
        table = Table(
            key="latencies",
            title=f"Latency on {settings}, {taken_at or path.name}",
            columns=tuple(column for column in COLUMNS if column.key not in ("macs", "params")),
            rows=tuple(
                {
                    "rank": rank,
                    "name": one.timing.name,
                    "digest": one.digest,
                    "median_ms": one.timing.median_ms,
                    "q1_ms": one.timing.q1_ms,
                    "q3_ms": one.timing.q3_ms,
                    "n": one.timing.n,
                    "repeat_error": one.timing.repeat_error,
                    "status": "rankable" if one.is_rankable else "doubtful",
                }
                for rank, one in enumerate(ranked, start=1)
            ),
            notes=(ranked[0].environment.text, *dict.fromkeys(flag for one in ranked for flag in one.flags)),
        )
        yield _bars(ranked[:MOST_BARS], table, f"{place}-{number}")


def _bars(ranked: Sequence[LatencyMeasurement], table: Table, key: str) -> Chart:
    first, last = ranked[0], ranked[-1]
    words = [
        f"{one.timing.name}\n{show_milliseconds(one.median_ms)} (quartiles "
        f"{show_milliseconds(one.timing.q1_ms)} to {show_milliseconds(one.timing.q3_ms)}, "
        f"n = {one.timing.n})"
        for one in ranked
    ]
    colors = [BLUE if one.is_rankable else ORANGE for one in ranked]
    quartiles = {
        "type": "data",
        "symmetric": False,
        "array": [one.timing.q3_ms - one.median_ms for one in ranked],
        "arrayminus": [one.median_ms - one.timing.q1_ms for one in ranked],
        "color": GREY,
    }
    return Chart(
        key=f"{KEY}-{key}",
        title=table.title,
        figure={
            "data": [bars([one.median_ms for one in ranked], words, colors) | {"error_x": quartiles}],
            "layout": {
                "showlegend": False,
                "xaxis": axis("median latency (ms); line: quartiles", rangemode="tozero"),
                "yaxis": rows_axis([one.timing.name for one in ranked]),
            },
        },
        alt=f"{len(ranked)} networks: from {first.timing.name}, {show_milliseconds(first.median_ms)}, to "
        f"{last.timing.name}, {show_milliseconds(last.median_ms)}.",
        table=table,
        notes=("Orange: something speaks against ranking by it.",)
        * any(not one.is_rankable for one in ranked),
        height=130 + 30 * len(ranked),
    )


def _table(path: Path, table: LatencyTable, place: int) -> Iterator[Block]:
    report = latency_table_report(table, file=str(path))
    networks = [one for one in report.tables if one.key == "networks"]
    yield Report(
        title=report.title,
        facts=report.facts,
        tables=tuple(one for one in report.tables if one.key != "networks"),
        notes=report.notes,
    )
    if networks and table.check is not None and len(table.check.networks) > 1:
        yield _predicted(table, networks[0], place)


def _predicted(table: LatencyTable, shown: Table, place: int) -> Chart:
    assert table.check is not None
    found = sorted(table.check.networks, key=lambda one: one.latency_ms)
    both = [value for one in found for value in (one.latency_ms, one.predicted_ms)]
    ends = [min(both), max(both)]
    return Chart(
        key=f"{KEY}-table-{place}",
        title=f"Latency on {table.device_name}: predicted from blocks, and measured as a whole",
        figure={
            "data": [
                line(ends, ends, color=GREY, dash="dash"),
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [one.predicted_ms for one in found],
                    "y": [one.latency_ms for one in found],
                    "text": [
                        f"network {one.digest}\npredicted {show_milliseconds(one.predicted_ms)}\nmeasured "
                        f"{show_milliseconds(one.latency_ms)}"
                        for one in found
                    ],
                    "hoverinfo": "text",
                    "marker": {"color": BLUE, "size": 9},
                },
            ],
            "layout": {
                "showlegend": False,
                "xaxis": axis("predicted (ms)"),
                "yaxis": axis("measured (ms)"),
            },
        },
        alt=f"{len(found)} random networks, each predicted by a fit that left it out: mean relative error "
        f"{show_share(table.check.mape)}, Kendall's tau {table.check.tau:.2f}.",
        table=Table(key=shown.key, title=shown.title, columns=NETWORK_COLUMNS, rows=shown.rows),
        notes=("On the dashed line predictions are right.",),
    )
