"""Measuring, after a search by a latency table, what the table predicted: the winner and the front."""

from __future__ import annotations

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.table.table import LatencyTable
from nas.report.latency_report import show_ms
from nas.report.printing import Column, Table, show_accuracy, show_share
from nas.study.study import Study
from nas.study.study_trial import StudyTrial

MOST = 8
"""Networks that are measured: the winner, and the most accurate of the front."""

COLUMNS = (
    Column(key="trial", heading="trial", is_number=True),
    Column(key="accuracy", heading="accuracy", show=show_accuracy, is_number=True),
    Column(key="predicted_ms", heading="predicted ms", show=show_ms, is_number=True),
    Column(key="median_ms", heading="measured ms", show=show_ms, is_number=True),
    Column(key="q1_ms", heading="q1", show=show_ms, is_number=True),
    Column(key="q3_ms", heading="q3", show=show_ms, is_number=True),
    Column(key="error", heading="predicted is off by", show=show_share, is_number=True),
)


def finalists_table(study: Study, winner: StudyTrial, table: LatencyTable) -> Table:
    """Measures finalists on this machine where the table is of it; keeps every sample.

    Where they cannot be measured, the table's notes say why: a search that has ended is not spoilt by it.
    """
    finalists = _finalists(study, winner)
    title = f"Finalists on {table.device_name}: predicted, and measured now"
    rows = [_row(trial, table) for trial in finalists]
    try:
        notes = _measure(study, finalists, rows, table)
    except LatencyError as error:
        notes = (f"not measured: {error}",)
    notes = (*notes, f"the table's own check: {table.error_text}")
    return Table(key="finalists", title=title, columns=COLUMNS, rows=tuple(rows), notes=notes)


def _finalists(study: Study, winner: StudyTrial) -> list[StudyTrial]:
    """The winner first, then the front from its most accurate end; no network twice."""
    chosen: dict[str, StudyTrial] = {winner.digest: winner}
    for trial in sorted(study.pareto_front(), key=lambda trial: -(trial.accuracy or 0.0)):
        chosen.setdefault(trial.digest, trial)
    return [*chosen.values()][:MOST]


def _row(trial: StudyTrial, table: LatencyTable) -> dict[str, object]:
    return {
        "trial": trial.number,
        "accuracy": trial.accuracy,
        "predicted_ms": table.predict(trial.network),
        **dict.fromkeys(("median_ms", "q1_ms", "q3_ms", "error")),
    }


def _measure(
    study: Study, finalists: list[StudyTrial], rows: list[dict[str, object]], table: LatencyTable
) -> tuple[str, ...]:
    """Adds what is measured to the rows; returns what speaks against it.

    Raises:
        LatencyError: This is another machine, or it is busy, or cannot measure.
    """
    from nas.latency.environment import require_quiet
    from nas.latency.measurement import add_measurements, measure_networks

    settings = _settings_here(table)
    names = {f"trial {trial.number}": trial.network for trial in finalists}
    measurements = measure_networks(names, settings, busyness=require_quiet(settings))
    for row, found in zip(rows, measurements, strict=True):
        timing = found.timing
        row.update(median_ms=timing.median_ms, q1_ms=timing.q1_ms, q3_ms=timing.q3_ms)
        row["error"] = float(str(row["predicted_ms"])) / timing.median_ms - 1
    path = study.folder / f"latency-{settings.device}.json"
    add_measurements(path, measurements)
    session = measurements[0].session
    error = (
        "" if session.repeat_error is None else f"; two halves differ by {show_share(session.repeat_error)}"
    )
    doubts = dict.fromkeys(flag for found in measurements for flag in found.flags)
    return (
        f"{session.rounds} rounds in turns{error}; every sample is in {path}",
        *(f"doubtful: {doubt}" for doubt in doubts),
    )


def _settings_here(table: LatencyTable) -> DeviceSettings:
    """The table's settings, where this machine is its device.

    Raises:
        LatencyError: It is not.
    """
    from nas.latency.environment import describe_environment
    from nas.latency.passes import require_device

    if table.settings is None:
        raise LatencyError(f"latency on {table.device_name} is measured by other means: measure them there")
    require_device(table.settings)
    name = describe_environment(table.settings).device_name
    if name != table.device_name:
        raise LatencyError(f"this machine is {name}: measure them on {table.device_name} with nas measure")
    return table.settings
