"""What `nas measure` says: latency of each network with its spread, their order, the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from nas.latency.measurement import LatencyMeasurement
from nas.latency.session import compare_timings
from nas.report.printing import MACS, PARAMS, Column, Fact, Report, Table, show_seconds, show_share
from search_spaces import Network, cost


def show_ms(value: float) -> str:
    """Four digits that mean something, from a hundredth of a millisecond to seconds."""
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


COLUMNS = (
    Column(key="rank", heading="#", is_number=True),
    Column(key="name", heading="network"),
    Column(key="median_ms", heading="median ms", show=show_ms, is_number=True),
    Column(key="q1_ms", heading="q1", show=show_ms, is_number=True),
    Column(key="q3_ms", heading="q3", show=show_ms, is_number=True),
    Column(key="n", heading="n", is_number=True),
    Column(key="repeat_error", heading="halves differ", show=show_share, is_number=True),
    MACS,
    PARAMS,
    Column(key="status", heading="status"),
)


def latency_report(
    measurements: Sequence[LatencyMeasurement], networks: Mapping[str, Network], files: Mapping[str, Path]
) -> Report:
    """The report of one measurement session.

    Args:
        measurements: Of all networks.
        networks: By name.
        files: Where each name's measurement was stored.
    """
    ranked = sorted(measurements, key=lambda measurement: measurement.median_ms)
    error = ranked[0].session.repeat_error
    pairs = [compare_timings(fast.timing, slow.timing, repeat_error=error) for fast, slow in pairwise(ranked)]
    is_sound = all(found.is_rankable for found in ranked)
    is_safe = is_sound and all(pair.is_safe for pair in pairs) if pairs else None
    table = Table(
        key="networks",
        title="Latency of one forward pass",
        columns=COLUMNS,
        rows=tuple(_row(rank, found, networks, files) for rank, found in enumerate(ranked, start=1)),
        notes=tuple(pair.text for pair in pairs),
    )
    order = {
        None: (),
        True: ("the order is reliable: each network differs from the next",),
        False: ("the order is not reliable: see above which networks do not differ",)
        if is_sound
        else ("the order is not reliable, since results are flagged: measure again on an idle machine",),
    }[is_safe]
    stored = ", ".join(dict.fromkeys(str(path) for path in files.values()))
    return Report(
        title=f"Latency on {ranked[0].settings.text}",
        facts=(*_facts(ranked[0]), Fact(key="is_ranking_safe", label="", value=is_safe)),
        tables=(table,),
        notes=(*_flags(ranked), *order, f"stored with every sample in {stored}"),
    )


def _facts(first: LatencyMeasurement) -> tuple[Fact, ...]:
    session, data = first.session, first.data
    shares = ((session.others, "before"), (session.others_during, "during"))
    others = " and ".join(f"{show_share(share)} {when}" for share, when in shares if share is not None)
    taken = f"{session.rounds} rounds in random order in {show_seconds(session.seconds)}"
    facts = [
        Fact(key="settings", label="", value=data["settings"]),
        Fact(key="environment", label="environment", value=data["environment"], text=first.environment.text),
        Fact(
            key="others",
            label="machine",
            value=session.others,
            text=f"others used {others} the session" if others else "what others used is not known",
        ),
        Fact(key="others_during", label="", value=session.others_during),
        Fact(key="seconds", label="session", value=session.seconds, text=taken),
    ]
    if session.drift is not None and session.reference_ms is not None:
        varied = f"varied by {show_share(session.drift)} around {show_ms(session.reference_ms)} ms"
        text = f"the speed of the reference {varied}"
        facts.append(Fact(key="drift", label="drift", value=session.drift, text=f"{text}; it is divided out"))
    error, tau = session.repeat_error, session.repeat_tau
    if error is not None:
        text = f"even and odd rounds differ by {show_share(error)}"
        text += "" if tau is None else f"; Kendall's tau between their orders is {tau:.2f}"
        facts.append(Fact(key="repeat_error", label="repeat error", value=error, text=text))
        facts.append(Fact(key="repeat_tau", label="", value=tau))
    return tuple(facts)


def _row(
    rank: int, found: LatencyMeasurement, networks: Mapping[str, Network], files: Mapping[str, Path]
) -> dict[str, Any]:
    timing = found.timing
    counted = cost(networks[timing.name])
    return {
        "rank": rank,
        "name": timing.name,
        "digest": found.digest,
        "median_ms": timing.median_ms,
        "q1_ms": timing.q1_ms,
        "q3_ms": timing.q3_ms,
        "n": timing.n,
        "repeat_error": timing.repeat_error,
        "macs": counted.macs,
        "params": counted.params,
        "status": "rankable" if found.is_rankable else "doubtful",
        "flags": found.flags,
        "samples_ms": timing.samples_ms,
        "normalised_ms": timing.normalised_ms,
        "taken_at": found.session.taken_at,
        "file": str(files[timing.name]),
    }


def _flags(ranked: Sequence[LatencyMeasurement]) -> tuple[str, ...]:
    """Every reason against a result once, with the networks that it holds for."""
    reasons: dict[str, list[str]] = {}
    for found in ranked:
        for flag in found.flags:
            reasons.setdefault(flag, []).append(found.timing.name)
    return tuple(f"unreliable, {', '.join(names)}: {reason}" for reason, names in reasons.items())
