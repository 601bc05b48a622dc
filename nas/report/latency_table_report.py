"""What `nas latency-table` says: how a table was made, how far its predictions are off, their range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nas.latency.table.building import TablePlan
from nas.latency.table.table import LatencyTable
from nas.report.printing import MACS, Column, Fact, Report, Table, show_seconds, show_share

SLOWEST = 5


def _show_ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


NETWORK_COLUMNS = (
    Column(key="digest", heading="network"),
    MACS,
    Column(key="latency_ms", heading="measured ms", show=_show_ms, is_number=True),
    Column(key="predicted_ms", heading="predicted ms", show=_show_ms, is_number=True),
    Column(key="error", heading="error", show=show_share, is_number=True),
)
BLOCK_COLUMNS = (
    Column(key="stage", heading="stage"),
    Column(key="words", heading="block"),
    Column(key="in_shape", heading="input", show=lambda shape: " x ".join(map(str, shape))),
    MACS,
    Column(key="latency_ms", heading="alone ms", show=_show_ms, is_number=True),
    Column(key="how", heading=""),
)


def latency_table_report(table: LatencyTable, *, file: str) -> Report:
    """The report of a table.

    Args:
        table: The table.
        file: Where it is.
    """
    return Report(
        title=f"Latency table: {table.space.text}",
        facts=(*_origin(table, file), *_session(table), *_quality(table)),
        tables=(*_networks(table), _blocks(table)),
        notes=tuple(f"unreliable: {flag}" for flag in table.flags),
    )


def form_report(plan: TablePlan, folder: Path, *, space_option: str) -> Report:
    """The report of a form that was written: what is in it, and what to do with it.

    Args:
        plan: What is to be measured.
        folder: Where the form is.
        space_option: The space as the user gave it.
    """
    total = len(plan.found.blocks)
    rest = "" if len(plan.blocks) == total else f" of {total:,}; the rest is estimated from them"
    return Report(
        title=f"Blocks of {plan.space.name} to be measured elsewhere",
        facts=(
            Fact(key="folder", label="folder", value=str(folder)),
            Fact(key="blocks", label="blocks", value=len(plan.blocks), text=f"{len(plan.blocks):,}{rest}"),
            Fact(key="networks", label="networks", value=len(plan.networks)),
        ),
        notes=(
            f"measure each ONNX file, fill in latency_ms in {folder / 'latencies.csv'}, then:",
            f"nas latency-table --space {space_option} --from-csv {folder} --device-name NAME --out FILE "
            "(with the same --resolution, --width, --num-classes and --in-channels)",
            "networks may be left empty; predictions are then plain sums, and their error is unknown",
        ),
    )


def _origin(table: LatencyTable, file: str) -> Iterator[Fact]:
    how = table.device_name if table.settings is None else f"{table.settings.text}; {table.environment}"
    yield Fact(key="file", label="file", value=file)
    yield Fact(key="space", label="", value=asdict(table.space))
    yield Fact(key="environment", label="", value=table.environment)
    yield Fact(key="device_name", label="device", value=table.device_name, text=how)
    estimated = sum(block.is_estimated for block in table.blocks)
    measured = len(table.blocks) - estimated
    rest = f" and {estimated:,} estimated" if estimated else ""
    words = f"{measured:,} measured{rest}, from {table.blocks_origin}"
    yield Fact(key="blocks_measured", label="blocks", value=measured, text=words)
    yield Fact(key="blocks_estimated", label="", value=estimated)
    if table.estimator is not None:
        error = table.estimator.error
        yield Fact(key="estimate_error", label="estimates", value=error, text=table.estimator.text)


def _session(table: LatencyTable) -> Iterator[Fact]:
    session = table.session
    if session is None:
        return
    text = f"{show_seconds(session.seconds)}, {session.rounds} rounds in random order"
    if session.drift is not None:
        text += f"; the speed of the reference varied by {show_share(session.drift)}, which is divided out"
    if session.repeat_error is not None:
        text += f"; even and odd rounds differ by {show_share(session.repeat_error)}"
    yield Fact(key="session", label="session", value=asdict(session), text=text)


def _quality(table: LatencyTable) -> Iterator[Fact]:
    check, correction = table.check, table.correction
    fitted = f"fitted on {correction.networks} networks" if correction.networks else "not fitted"
    text = f"latency = {correction.text}, {fitted}"
    yield Fact(key="correction", label="prediction", value=correction.text, text=text)
    yield Fact(key="error_text", label="error", value=table.error_text)
    if check is not None:
        yield Fact(key="mape", label="", value=check.mape)
        yield Fact(key="tau", label="", value=check.tau)
        yield Fact(key="repeat_error", label="", value=check.repeat_error)
        yield Fact(key="repeat_tau", label="", value=check.repeat_tau)
        yield Fact(key="is_good_to_rank", label="", value=check.is_good_to_rank)
        yield Fact(key="advice", label="advice", value=check.advice)
    if table.range is not None:
        low, high = table.range.least_ms, table.range.most_ms
        yield Fact(key="least_ms", label="", value=low)
        text = f"{_show_ms(low)} to {_show_ms(high)} ms, of {table.range.origin}"
        yield Fact(key="most_ms", label="predicted", value=high, text=text)


def _networks(table: LatencyTable) -> Iterator[Table]:
    if table.check is None:
        return
    ranked = sorted(table.check.networks, key=lambda one: one.latency_ms)
    title = "Random networks, each predicted by a fit that left it out"
    rows = tuple({**asdict(one), "error": one.error} for one in ranked)
    yield Table(key="networks", title=title, columns=NETWORK_COLUMNS, rows=rows)


def _blocks(table: LatencyTable) -> Table:
    rows = tuple(
        {**asdict(block), "how": "estimated" if block.is_estimated else "measured"} for block in table.blocks
    )
    slowest = tuple(sorted(rows, key=lambda row: -row["latency_ms"])[:SLOWEST])
    title = f"The {len(slowest)} slowest of {len(rows):,} blocks"
    return Table(key="blocks", title=title, columns=BLOCK_COLUMNS, rows=rows, drawn=slowest)
