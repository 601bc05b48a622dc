"""What `nas measure` says: latency of each network with its spread, their order, the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from nas.latency.environment import Busyness
from nas.latency.measurement import LatencyMeasurement
from nas.latency.session import Session
from nas.report.printing import Column, Fact, Report, Table, show_count, show_seconds, show_share
from search_spaces import Network, cost

COLUMNS = (
    Column(key="rank", heading="#", is_number=True),
    Column(key="name", heading="network"),
    Column(key="median_ms", heading="median ms", show=lambda value: _show_ms(value), is_number=True),
    Column(key="q1_ms", heading="q1", show=lambda value: _show_ms(value), is_number=True),
    Column(key="q3_ms", heading="q3", show=lambda value: _show_ms(value), is_number=True),
    Column(key="n", heading="n", is_number=True),
    Column(key="repeat_error", heading="halves differ", show=show_share, is_number=True),
    Column(key="macs", heading="macs", show=show_count, is_number=True),
    Column(key="params", heading="params", show=show_count, is_number=True),
    Column(key="status", heading="status"),
)


def latency_report(
    measurements: Sequence[LatencyMeasurement],
    session: Session,
    networks: Mapping[str, Network],
    busyness: Busyness,
    files: Mapping[str, str],
) -> Report:
    """Words one measurement session.

    Args:
        measurements: Of all networks.
        session: That they come from.
        networks: By name.
        busyness: What was found before.
        files: Where each name's measurement was stored.
    """
    ranked = sorted(measurements, key=lambda measurement: measurement.median_ms)
    is_safe, words = _order(ranked, session)
    rows = tuple(_row(rank, found, networks, files) for rank, found in enumerate(ranked, start=1))
    table = Table(
        key="networks", title="Latency of one forward pass", columns=COLUMNS, rows=rows, notes=words
    )
    stored = tuple(dict.fromkeys(files.values()))
    return Report(
        title=f"Latency on {ranked[0].settings.text}",
        facts=(*_facts(ranked[0], session, busyness), Fact(key="is_ranking_safe", label="", value=is_safe)),
        tables=(table,),
        notes=(
            *_doubts(ranked),
            *_verdict(ranked, is_safe),
            f"stored with every sample in {', '.join(stored)}",
        ),
    )


def _facts(first: LatencyMeasurement, session: Session, busyness: Busyness) -> tuple[Fact, ...]:
    tau, error = session.repeat_tau, session.repeat_error
    settings, environment = first.to_data()["settings"], first.to_data()["environment"]
    facts = [
        Fact(key="settings", label="", value=settings),
        Fact(key="environment", label="environment", value=environment, text=first.environment.text),
        Fact(key="others", label="machine", value=busyness.share, text=_machine(first, busyness)),
        Fact(key="others_during", label="", value=first.others_during),
        Fact(
            key="seconds",
            label="session",
            value=session.seconds,
            text=f"{session.rounds} rounds in random order in {show_seconds(session.seconds)}, "
            f"{len(session.reference_ms)} readings of the reference workload",
        ),
        Fact(
            key="drift",
            label="drift",
            value=session.drift,
            text=f"the reference wandered {show_share(session.drift)} around "
            f"{_show_ms(session.reference_median_ms)} ms; it is divided out",
        ),
        Fact(
            key="repeat_error",
            label="repeat error",
            value=error,
            text="needs 2 rounds"
            if math.isnan(error)
            else f"even and odd rounds differ by {show_share(error)}",
        ),
    ]
    if not math.isnan(tau):
        text = f"Kendall's tau {tau:.2f} between the orders of even and odd rounds"
        facts.append(Fact(key="repeat_tau", label="repeat order", value=tau, text=text))
    return tuple(facts)


def _machine(first: LatencyMeasurement, busyness: Busyness) -> str:
    during = first.others_during
    return busyness.text + (f", and {show_share(during)} during the session" if during is not None else "")


def _row(
    rank: int, found: LatencyMeasurement, networks: Mapping[str, Network], files: Mapping[str, str]
) -> dict[str, Any]:
    counted = cost(networks[found.name])
    return {
        "rank": rank,
        "name": found.name,
        "digest": found.digest,
        "median_ms": found.median_ms,
        "q1_ms": found.q1_ms,
        "q3_ms": found.q3_ms,
        "n": found.n,
        "repeat_error": None if math.isnan(found.repeat_error) else found.repeat_error,
        "macs": counted.macs,
        "params": counted.params,
        "status": "rankable" if found.is_rankable else "doubtful",
        "flags": found.flags,
        "samples_ms": found.samples_ms,
        "normalised_ms": found.normalised_ms,
        "taken_at": found.taken_at,
        "file": files[found.name],
    }


def _order(ranked: Sequence[LatencyMeasurement], session: Session) -> tuple[bool | None, tuple[str, ...]]:
    """Whether each can be told apart from the next slower one, and that in words; None for a single one."""
    pairs = [session.compare(fast.name, slow.name) for fast, slow in pairwise(ranked)]
    if not pairs:
        return None, ()
    are_sound = all(found.is_rankable for found in ranked)
    return are_sound and all(pair.is_safe for pair in pairs), tuple(pair.text for pair in pairs)


def _doubts(ranked: Sequence[LatencyMeasurement]) -> tuple[str, ...]:
    """Every reason against a result once, with the networks that it holds for."""
    reasons: dict[str, list[str]] = {}
    for found in ranked:
        for flag in found.flags:
            reasons.setdefault(flag, []).append(found.name)
    return tuple(f"doubtful, {', '.join(names)}: {reason}" for reason, names in reasons.items())


def _verdict(ranked: Sequence[LatencyMeasurement], is_safe: bool | None) -> tuple[str, ...]:
    """Whether the order may be relied on, in words; nothing for a single network."""
    if is_safe is None:
        return ()
    if is_safe:
        return ("the order is safe: each network can be told apart from the next",)
    if all(found.is_rankable for found in ranked):
        return ("the order is not safe: see above which networks cannot be told apart",)
    return ("the order is not safe, since results are doubtful: measure again on a quiet machine",)


def _show_ms(value: float) -> str:
    """Four digits that mean something, from a hundredth of a millisecond to seconds."""
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
