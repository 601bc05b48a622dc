"""Measuring, after a search by a latency table, what the table predicted: the winner and the front."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.session import Timing
from nas.latency.table.table import LatencyTable
from nas.metrics import metric_info, show_metric
from nas.report.latency_report import show_ms
from nas.report.printing import TRIAL, Column, Table, show_share
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.task_objective import judged_by

MOST = 8
"""Networks that are measured: the winner, and the best of the front."""

COLUMNS = (
    Column(key="predicted_ms", heading="predicted ms", show=show_ms, is_number=True),
    Column(key="median_ms", heading="measured ms", show=show_ms, is_number=True),
    Column(key="q1_ms", heading="q1", show=show_ms, is_number=True),
    Column(key="q3_ms", heading="q3", show=show_ms, is_number=True),
    Column(key="error", heading="predicted is off by", show=show_share, is_number=True),
)


def finalists_table(study: Study, winner: StudyTrial, table: LatencyTable) -> Table:
    """Measures finalists on this machine where the table is of it; keeps every sample.

    Where they cannot be measured, the table's notes say why; the search has ended well all the same.
    """
    finalists, metric = _finalists(study, winner), winner.quality_metric
    label, show = metric_info(metric).label, partial(show_metric, metric)
    timings: Sequence[Timing | None] = (None,) * len(finalists)
    try:
        timings, notes = _measure(study, finalists, table)
    except LatencyError as error:
        notes = (f"not measured: {error}",)
    return Table(
        key="finalists",
        title=f"Finalists on {table.device_name}: predicted, and measured now",
        columns=(
            TRIAL,
            Column(key=metric, heading=label, show=show, is_number=True),
            *COLUMNS,
        ),
        rows=tuple(_row(trial, timing, table) for trial, timing in zip(finalists, timings, strict=True)),
        notes=(*notes, f"the table's own check: {table.error_text}"),
    )


def _finalists(study: Study, winner: StudyTrial) -> list[StudyTrial]:
    """The winner first, then the front from its best end; no network twice."""
    sign = judged_by(study.objective).sign
    chosen: dict[str, StudyTrial] = {winner.digest: winner}
    for trial in sorted(study.pareto_front(), key=lambda trial: -sign * (trial.quality or 0.0)):
        chosen.setdefault(trial.digest, trial)
    return [*chosen.values()][:MOST]


def _row(trial: StudyTrial, timing: Timing | None, table: LatencyTable) -> dict[str, float | None]:
    predicted = table.predict(trial.network)
    return {
        "trial": trial.number,
        trial.quality_metric: trial.quality,
        "predicted_ms": predicted,
        "median_ms": None if timing is None else timing.median_ms,
        "q1_ms": None if timing is None else timing.q1_ms,
        "q3_ms": None if timing is None else timing.q3_ms,
        "error": None if timing is None else predicted / timing.median_ms - 1,
    }


def _measure(
    study: Study, finalists: list[StudyTrial], table: LatencyTable
) -> tuple[tuple[Timing, ...], tuple[str, ...]]:
    """Measures the finalists and stores that in the study's folder; returns what speaks against it too.

    Raises:
        LatencyError: This is another machine, or it is busy, or cannot measure.
    """
    from nas.latency.environment import require_quiet
    from nas.latency.measurement import add_measurements, measure_networks

    settings = _settings_here(table)
    networks = {f"trial {trial.number}": trial.network for trial in finalists}
    measurements = measure_networks(networks, settings, busyness=require_quiet(settings))
    path = study.folder / f"latency-{settings.device}.json"
    add_measurements(path, measurements)
    session = measurements[0].session
    error = "" if session.repeat_error is None else f"; halves differ by {show_share(session.repeat_error)}"
    flags = dict.fromkeys(flag for found in measurements for flag in found.flags)
    notes = (f"{session.rounds} rounds{error}; every sample is in {path}",)
    return (
        tuple(found.timing for found in measurements),
        (*notes, *(f"unreliable: {flag}" for flag in flags)),
    )


def _settings_here(table: LatencyTable) -> DeviceSettings:
    """The table's settings, where this machine is its device.

    Raises:
        LatencyError: It is not.
    """
    from nas.latency.environment import describe_environment
    from nas.latency.passes import require_device

    if table.settings is None:
        raise LatencyError(f"latency on {table.device_name} is measured with other tools: measure them there")
    require_device(table.settings)
    name = describe_environment(table.settings).device_name
    if name != table.device_name:
        raise LatencyError(f"this machine is {name}: measure them on {table.device_name} with nas measure")
    return table.settings
