"""What a page shows of one trial when a reader asks for it: drawing, measurements, command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nas.metrics import metric_info, show_metric
from nas.report.network_lines import UNREADABLE, stage_lines
from nas.report.printing import show_count, show_seconds, show_share
from nas.study.study_trial import StudyTrial

Values = Mapping[str, str]


def trial_cards(trials: Iterable[StudyTrial]) -> dict[str, Any]:
    """The trials as `Page.trials` has them: what many have in common is written once."""
    pool: dict[tuple[Any, ...], int] = {}
    drawn: dict[str, list[int]] = {}
    labels: dict[str, None] = {}
    found = []
    for trial in trials:
        if trial.digest not in drawn:
            drawn[trial.digest] = [pool.setdefault(line, len(pool)) for line in _lines(trial)]
        values = _values(trial)
        labels |= dict.fromkeys(values)
        found.append((trial, values))
    cards = {
        trial.number: {
            "title": f"Trial {trial.number}",
            "note": _note(trial),
            "values": [values.get(label) for label in labels],
            "lines": drawn[trial.digest],
            "command": export_command(trial),
        }
        for trial, values in found
    }
    return {"cards": cards, "order": list(cards), "labels": list(labels), "pool": list(pool)}


def export_command(trial: StudyTrial) -> str:
    """The command that writes a trial's network as a bundle; empty where its weights are not kept."""
    if trial.weights_file is None:
        return ""
    return f"nas export {shlex.quote(place(trial.folder))} --trial {trial.number}"


def place(folder: Path) -> str:
    """The folder as a command names it from anywhere."""
    return str(folder.resolve())


def _lines(trial: StudyTrial) -> list[tuple[Any, ...]]:
    """Its stages as the page draws them; none where its network cannot be read."""
    try:
        lines = stage_lines(trial.network)
    except UNREADABLE:
        return []
    return [
        (
            line.stage,
            line.operator,
            line.details,
            line.layers,
            line.channels,
            line.resolution,
            round(line.share, 3),
            show_share(line.share),
            show_count(line.params),
        )
        for line in lines
    ]


def _values(trial: StudyTrial) -> dict[str, str]:
    values = {"status": trial.status.value}
    if trial.reward is not None:
        values["reward"] = f"{trial.reward:.4f}"
    values |= {"multiply-adds": f"{trial.macs:,}", "parameters": f"{trial.params:,}"}
    for metric in trial.metrics:
        where = f"  ({metric.environment})" if metric.environment else ""
        label = metric_info(metric.name).label
        values[label] = values.get(label, "") + ("; " if label in values else "")
        values[label] += f"{show_metric(metric.name, metric.value)}{where}"
    if trial.values:
        values["trainings of this network"] = ", ".join(
            show_metric(trial.quality_metric, one) for one in trial.values
        )
    if trial.fidelity != 1:
        values["fidelity"] = f"{trial.fidelity:.3g} of the schedule"
    if trial.seconds:
        values["time in workers"] = show_seconds(trial.seconds)
    if trial.message:
        values["message"] = trial.message
    values |= {"proposed by": trial.origin, "digest": trial.digest}
    return values


def _note(trial: StudyTrial) -> str:
    if trial.copied_from is not None:
        return f"Its result is that of trial {trial.copied_from}, whose network is equal."
    if trial.weights_file is None:
        return "Its weights were not kept, so that it cannot be exported: train its network again."
    return ""
