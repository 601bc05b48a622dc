"""`nas measure`: the latency of networks on this machine, from one measurement session."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from nas.config.architectures import Architecture, find_architecture
from nas.errors import LatencyError, UsageError
from nas.latency.devices import DeviceSettings
from nas.latency.environment import Busyness, busy
from nas.latency.measurement import LatencyMeasurement, add_measurements, measure_networks, read_measurements
from nas.latency.passes import require_device
from nas.report.activity import Activity
from nas.report.latency_report import latency_report
from nas.report.printing import emit, make_console


def run(arguments: Namespace) -> int:
    """Measures, prints and stores."""
    settings = DeviceSettings(
        device=arguments.device,
        batch=arguments.batch,
        threads=arguments.threads,
        precision=arguments.precision,
        channels_last=arguments.channels_last,
    )
    found = _find(arguments.architectures)
    places = {
        architecture.name: _place(arguments.out, text, architecture, settings)
        for text, architecture in found.items()
    }
    require_device(settings)
    _check_places(places)
    busyness = busy(settings)
    _check_busyness(busyness, is_forced=arguments.force)
    networks = {architecture.name: architecture.network for architecture in found.values()}
    with Activity(make_console(to_stderr=True), "measuring", is_quiet=True) as activity:
        session, measurements = measure_networks(
            networks,
            settings,
            busyness=busyness,
            rounds=arguments.runs,
            on_round=lambda done, rounds: activity(f"round {done} of {rounds}"),
        )
    _store(measurements, places)
    files = {name: str(path) for name, path in places.items()}
    emit(latency_report(measurements, session, networks, busyness, files), as_json=arguments.json)
    return 0


def _find(texts: list[str]) -> dict[str, Architecture]:
    """The networks by what the person called them; two of one name are refused."""
    found: dict[str, Architecture] = {}
    names: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        architecture = find_architecture(text)
        other = names.setdefault(architecture.name, text)
        if other != text:
            raise UsageError(
                f"networks measured together need names of their own, but {other} and {text} are both called "
                f"{architecture.name!r}: rename one's file or folder"
            )
        found[text] = architecture
    return found


def _place(out: str | None, text: str, architecture: Architecture, settings: DeviceSettings) -> Path:
    """Where a measurement is stored: as asked, in a bundle's or study's folder, or under runs/latency."""
    if out is not None:
        return Path(out).expanduser()
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder / f"latency-{settings.device}.json"
    return Path("runs/latency") / f"{architecture.name}-{settings.device}.json"


def _check_places(places: dict[str, Path]) -> None:
    """Fails before the session where its results could not be added."""
    for path in dict.fromkeys(places.values()):
        if path.is_dir():
            raise LatencyError(f"--out must be a file, but {path} is a folder: name a file in it")
        if path.exists():
            read_measurements(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LatencyError(f"{path} cannot be written ({error}): choose another --out") from error
        if not os.access(path.parent, os.W_OK):
            raise LatencyError(f"{path.parent} must be a folder you may write to: choose another --out")


def _check_busyness(busyness: Busyness, *, is_forced: bool) -> None:
    if busyness.is_too_busy and not is_forced:
        raise LatencyError(
            f"a latency needs a quiet machine, but {busyness.text}: end what else runs here, or measure all "
            "the same with --force (the result is then flagged as doubtful)"
        )
    if busyness.is_busy:
        _say(f"WARNING: {busyness.text}; the result is flagged as doubtful")


def _store(measurements: tuple[LatencyMeasurement, ...], places: dict[str, Path]) -> None:
    by_path: dict[Path, list[LatencyMeasurement]] = {}
    for measurement in measurements:
        by_path.setdefault(places[measurement.name], []).append(measurement)
    for path, group in by_path.items():
        add_measurements(path, group)


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
