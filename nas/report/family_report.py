"""How a scaled family is formatted: its members, and beside them what the paper has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nas.evaluation.family import Step
from nas.evaluation.training_budget import Probe
from nas.metrics import metric_info, show_difference, show_metric
from nas.report.printing import (
    MACS,
    PARAMS,
    Column,
    Fact,
    Report,
    Table,
    show_bytes,
    show_count,
    show_seconds,
    show_share,
)
from nas.units import show_number
from search_spaces import DIRECTIONS, Direction, Network, cost, memory, reference
from search_spaces.published import PRINTED
from search_spaces.references import EFFICIENTNET

BASELINE = "efficientnet_b0"

BEST_FITS = {"b0": 0.0, "b1": 0.5, "b2": 1.0, "b3": 2.0, "b4": 3.5, "b5": 5.0, "b6": 6.0, "b7": 7.0}
"""Phis whose formula comes nearest to the published members (issue 390 of the EfficientNet code)."""


def family_report(
    name: str,
    baseline: Network,
    steps: tuple[Step, ...],
    folder: Path,
    files: tuple[str, ...],
    *,
    direction: Direction | None = None,
    probes: Sequence[Probe] = (),
) -> Report:
    """The report of `nas scale`.

    Args:
        name: The baseline's name.
        baseline: The network that was scaled.
        steps: The members.
        folder: Where they were written.
        files: The files there.
        direction: Its shares are printed, and what is left over of the cost; None is the formula.
        probes: Trainings that were measured for a budget.
    """
    price = cost(baseline)
    words = (
        f"{show_count(price.params)} params, {show_count(price.macs)} macs at {baseline.resolution} pixels"
    )
    facts = (
        Fact(
            key="baseline",
            label="baseline",
            value={"name": name, "macs": price.macs, "params": price.params},
            text=f"{name}: {words}",
        ),
        *(() if direction is None else (_direction(direction),)),
        Fact(key="folder", label="written to", value=str(folder)),
        Fact(key="files", label="files", value=list(files), text=", ".join(files)),
    )
    tables = [_members(name, baseline, steps, is_matched=direction is not None)]
    if direction is None and _is_b0(baseline):
        tables.append(_published())
    if probes:
        tables.append(_trainings(probes))
    return Report(title=f"{name}, scaled", facts=facts, tables=tuple(tables))


def _direction(direction: Direction) -> Fact:
    """The direction with its shares of log-cost, and the bases that they are."""
    names = ("depth", "width", "resolution")
    shares = dict(zip(names, direction.shares, strict=True))
    bases = dict(zip(names, direction.bases(), strict=True))
    in_words = ", ".join(f"{name} {share:.3g}" for name, share in shares.items())
    label = f"{direction}: " if str(direction) in DIRECTIONS else ""
    extra = "; new layers rather in late stages" if direction.adds_late else ""
    extra += "" if direction.most_resolution is None else f"; sides up to {direction.most_resolution} pixels"
    twice = ", ".join(f"{base:.4g}" for base in bases.values())
    return Fact(
        key="direction",
        label="direction",
        value={"name": str(direction), "shares": shares, "bases": bases},
        text=f"{label}shares of log-cost {in_words}; factors {twice} for twice the macs, before rounding"
        f"{extra}",
    )


def _is_b0(network: Network) -> bool:
    return network.digest == reference(BASELINE).digest


def _members(name: str, baseline: Network, steps: tuple[Step, ...], *, is_matched: bool) -> Table:
    rows: list[dict[str, Any]] = [_row(name, 0.0, baseline, nominal=1.0, factor=1.0)]
    for step in steps:
        scaling = step.member.scaling
        row = _row(
            step.name,
            step.phi,
            step.member.network,
            nominal=scaling.nominal_factor,
            factor=step.member.macs_factor,
        )
        factors = {"depth": scaling.depth, "width": scaling.width, "resolution": scaling.resolution}
        rows.append(row | factors | ({"error": step.error} if is_matched else {}))
    last = (
        Column(key="error", heading="left over", show=_percent, is_number=True)
        if is_matched
        else Column(key="nominal_factor", heading="x nominal", show=_factor, is_number=True)
    )
    columns = (
        Column(key="name", heading="network"),
        Column(key="depth", heading="depth", show=_factor, is_number=True),
        Column(key="width", heading="width", show=_factor, is_number=True),
        Column(key="pixels", heading="pixels", is_number=True),
        Column(key="blocks", heading="blocks", is_number=True),
        PARAMS,
        MACS,
        Column(key="macs_factor", heading="x macs", show=_factor, is_number=True),
        last,
        Column(key="inference_bytes", heading="memory", show=show_bytes, is_number=True),
    )
    if is_matched:
        note = (
            "x macs: after all rounding; left over: of 2^phi times the baseline's macs, or of the limit that "
            "is nearest"
        )
    else:
        note = "x nominal: depth * width^2 * resolution^2; x macs: after rounding channels, layers and pixels"
    notes = (
        note,
        "memory: peak while one image is classified, float32",
    )
    return Table(key="family", title="The family", columns=columns, rows=tuple(rows), notes=notes)


def _row(name: str, phi: float | None, network: Network, *, nominal: float, factor: float) -> dict[str, Any]:
    price = cost(network)
    return {
        "name": name,
        "phi": phi,
        "depth": 1.0,
        "width": 1.0,
        "resolution": 1.0,
        "pixels": network.resolution,
        "blocks": sum(stage.repeats for stage in network.stages),
        "params": price.params,
        "macs": price.macs,
        "macs_factor": factor,
        "nominal_factor": nominal,
        "inference_bytes": memory(network).inference_bytes,
    }


def trained_columns(metric: str) -> tuple[Column, ...]:
    """The columns of a family that was trained in full and tested by a metric."""
    return (
        Column(key="name", heading="network"),
        Column(key="pixels", heading="pixels", is_number=True),
        PARAMS,
        MACS,
        Column(key="latency_ms", heading="ms", show=show_number, is_number=True),
        Column(key="quartiles", heading="quartiles", is_number=True),
        Column(
            key="mean",
            heading=f"{metric_info(metric).label} (test)",
            show=partial(show_metric, metric),
            is_number=True,
        ),
        Column(key="deviation", heading="±", show=partial(show_difference, metric), is_number=True),
        Column(key="n", heading="n", is_number=True),
    )


def _trainings(probes: Sequence[Probe]) -> Table:
    """The trainings that were measured on the way to a budget."""
    rows = tuple(
        {
            "phi": probe.phi,
            "pixels": probe.network.resolution,
            "macs": cost(probe.network).macs,
            "train_seconds": _finite(probe.load.seconds),
            "train_memory_bytes": _finite(probe.load.memory_bytes),
            "used": _finite(probe.used),
            "keeps": probe.keeps,
        }
        for probe in probes
    )
    columns = (
        Column(key="phi", heading="phi", show=_factor, is_number=True),
        Column(key="pixels", heading="pixels", is_number=True),
        MACS,
        Column(key="train_seconds", heading="training", show=show_seconds, is_number=True),
        Column(key="train_memory_bytes", heading="memory of a step", show=show_bytes, is_number=True),
        Column(key="used", heading="of the budget", show=show_share, is_number=True),
    )
    where = next((probe.load.where for probe in probes if probe.load.where), "")
    notes = (f"from a few steps of each, measured on {where}; a dash: memory ran out",) if where else ()
    return Table(key="trainings", title="Measured trainings", columns=columns, rows=rows, notes=notes)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def probe_in_words(probe: Probe) -> str:
    """A measurement on the way to a budget, in one line."""
    load = probe.load
    words = f"phi {probe.phi:.3g}, {show_count(cost(probe.network).macs)} macs: "
    if not math.isfinite(load.memory_bytes):
        return f"{words}memory ran out"
    taken = f"about {show_seconds(load.seconds)}, {show_bytes(load.memory_bytes)} a step"
    return f"{words}{taken}, {show_share(probe.used)} of the budget"


def _published() -> Table:
    """The paper's family, by its own table: our counts, and what the paper prints."""
    rows = []
    for size, phi in BEST_FITS.items():
        name = f"efficientnet_{size}"
        width, depth, pixels, _ = EFFICIENTNET[size]
        price, printed = cost(reference(name)), PRINTED[name]
        rows.append(
            {
                "name": name,
                "nearest_phi": phi,
                "depth": depth,
                "width": width,
                "pixels": pixels,
                "params": price.params,
                "printed_params": printed.params,
                "macs": price.macs,
                "printed_macs": printed.macs,
            }
        )
    columns = (
        Column(key="name", heading="network"),
        Column(key="depth", heading="depth", show=_factor, is_number=True),
        Column(key="width", heading="width", show=_factor, is_number=True),
        Column(key="pixels", heading="pixels", is_number=True),
        PARAMS,
        Column(key="printed_params", heading="paper", show=_printed, is_number=True),
        MACS,
        Column(key="printed_macs", heading="paper", show=_printed, is_number=True),
        Column(key="nearest_phi", heading="nearest phi", show=_factor, is_number=True),
    )
    return Table(
        key="published",
        title="The paper's family, which does not follow the formula",
        columns=columns,
        rows=tuple(rows),
        notes=("by name: nas describe efficientnet_b1; paper: Tan & Le, ICML 2019, Table 2",),
    )


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _factor(value: float) -> str:
    return f"{value:.3g}"


def _printed(value: float) -> str:
    return f"{value / 1e9:g}G" if value >= 1e8 else f"{value / 1e6:g}M"
