"""What `nas latency-table` says: how a table was made, how far its predictions are off, their span."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nas.latency.table.table import BlockLatency, LatencyTable
from nas.report.printing import Column, Fact, Report, Table, show_count, show_seconds, show_share

SLOWEST = 5
NETWORK_COLUMNS = (
    Column(key="digest", heading="network"),
    Column(key="macs", heading="macs", show=show_count, is_number=True),
    Column(key="latency_ms", heading="measured ms", show=lambda value: _show_ms(value), is_number=True),
    Column(key="predicted_ms", heading="predicted ms", show=lambda value: _show_ms(value), is_number=True),
    Column(key="error", heading="error", show=show_share, is_number=True),
)
BLOCK_COLUMNS = (
    Column(key="stage", heading="stage"),
    Column(key="words", heading="block"),
    Column(key="in_shape", heading="input", show=lambda shape: " x ".join(map(str, shape))),
    Column(key="macs", heading="macs", show=show_count, is_number=True),
    Column(key="latency_ms", heading="alone ms", show=lambda value: _show_ms(value), is_number=True),
    Column(key="how", heading=""),
)


def latency_table_report(table: LatencyTable, *, file: str) -> Report:
    """Words a table.

    Args:
        table: The table.
        file: Where it is.
    """
    return Report(
        title=f"Latency table: {table.space.text}",
        facts=(*_origin(table, file), *_session(table), *_quality(table), *_range(table)),
        tables=(*_networks(table), *_blocks(table)),
        notes=tuple(f"doubtful: {note}" for note in (table.session.notes if table.session else ())),
    )


def _origin(table: LatencyTable, file: str) -> Iterable[Fact]:
    how = table.device_name if table.settings is None else f"{table.settings.text}; {table.environment}"
    yield Fact(key="file", label="file", value=file)
    yield Fact(key="space", label="", value=table.space.name)
    yield Fact(key="fingerprint", label="", value=table.space.fingerprint)
    yield Fact(key="environment", label="", value=table.environment)
    yield Fact(key="device_name", label="device", value=table.device_name, text=how)
    estimated = sum(block.is_estimated for block in table.blocks)
    measured = len(table.blocks) - estimated
    words = f"{measured:,} measured, from {table.blocks_origin}"
    if estimated:
        words = f"{measured:,} measured and {estimated:,} estimated, from {table.blocks_origin}"
    yield Fact(key="blocks_measured", label="blocks", value=measured, text=words)
    yield Fact(key="blocks_estimated", label="", value=estimated)
    if table.estimator is not None:
        error = table.estimator.error
        yield Fact(key="estimate_error", label="estimates", value=error, text=table.estimator.text)


def _session(table: LatencyTable) -> Iterable[Fact]:
    session = table.session
    if session is None:
        return
    text = f"{show_seconds(session.seconds)}, {session.rounds} rounds in random order"
    yield Fact(key="seconds", label="session", value=session.seconds, text=text)
    yield Fact(key="rounds", label="", value=session.rounds)
    yield Fact(key="taken_at", label="", value=session.taken_at)
    if session.drift is not None:
        text = f"the reference wandered {show_share(session.drift)}; it is divided out"
        yield Fact(key="drift", label="drift", value=session.drift, text=text)
    if session.block_repeat_error is not None:
        text = f"two halves of the session differ by {show_share(session.block_repeat_error)} on blocks"
        yield Fact(
            key="block_repeat_error", label="repeat error", value=session.block_repeat_error, text=text
        )


def _quality(table: LatencyTable) -> Iterable[Fact]:
    check, correction = table.check, table.correction
    if correction.networks:
        text = f"latency = {correction.text}, fitted on {correction.networks} networks"
    else:
        text = f"latency = {correction.text}, not fitted"
    yield Fact(key="correction", label="prediction", value=correction.text, text=text)
    yield Fact(key="error_text", label="error", value=table.error_text)
    if check is None:
        return
    yield Fact(key="mape", label="", value=check.mape)
    yield Fact(key="tau", label="", value=check.tau)
    yield Fact(key="repeat_error", label="", value=check.repeat_error)
    yield Fact(key="repeat_tau", label="", value=check.repeat_tau)
    if check.ratio is not None:
        tau = "" if check.repeat_tau is None else f", whose own order repeats with tau {check.repeat_tau:.2f}"
        text = f"{check.ratio:.2f} times what two halves of the session differ by{tau}"
        yield Fact(key="ratio", label="against repeat", value=check.ratio, text=text)
    yield Fact(key="is_good_to_rank", label="", value=check.is_good_to_rank)
    yield Fact(key="verdict", label="verdict", value=check.verdict)


def _range(table: LatencyTable) -> Iterable[Fact]:
    if table.range is None:
        return
    low, high = table.range.least_ms, table.range.most_ms
    text = f"{_show_ms(low)} to {_show_ms(high)} ms, of {table.range.origin}; {table.error_text}"
    yield Fact(key="least_ms", label="", value=low)
    yield Fact(key="most_ms", label="predicted", value=high, text=text)


def _networks(table: LatencyTable) -> Iterable[Table]:
    if table.check is None:
        return
    rows = [
        {
            "digest": one.digest,
            "macs": one.macs,
            "latency_ms": one.latency_ms,
            "predicted_ms": one.predicted_ms,
            "error": one.error,
            "repeat_error": one.repeat_error,
        }
        for one in sorted(table.check.networks, key=lambda one: one.latency_ms)
    ]
    title = "Random networks, each predicted by a fit that left it out"
    yield Table(key="networks", title=title, columns=NETWORK_COLUMNS, rows=tuple(rows))


def _blocks(table: LatencyTable) -> Iterable[Table]:
    rows = [_block(block) for block in table.blocks]
    slowest = sorted(rows, key=lambda row: -row["latency_ms"])[:SLOWEST]
    title = f"The {len(slowest)} slowest of {len(rows):,} blocks"
    yield Table(key="blocks", title=title, columns=BLOCK_COLUMNS, rows=tuple(rows), drawn=tuple(slowest))


def _block(block: BlockLatency) -> dict[str, Any]:
    return {
        "key": block.key,
        "stage": block.stage,
        "words": block.words,
        "in_shape": block.in_shape,
        "macs": block.macs,
        "latency_ms": block.latency_ms,
        "q1_ms": block.q1_ms,
        "q3_ms": block.q3_ms,
        "n": block.n,
        "how": "estimated" if block.is_estimated else "measured",
    }


def _show_ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
