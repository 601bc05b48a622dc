"""`nas measure`: the latency of networks on this machine, from one measurement session."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from nas.architectures import Architecture, find_architecture
from nas.config.request import given_options
from nas.errors import UsageError
from nas.latency.devices import DeviceSettings
from nas.latency.environment import Busyness, require_quiet
from nas.latency.measurement import LatencyMeasurement, add_measurements, measure_networks, read_measurements
from nas.latency.passes import require_device
from nas.latency.stored import require_writable
from nas.report.activity import Activity
from nas.report.latency_report import latency_report
from nas.report.printing import emit, make_console


def run(arguments: Namespace) -> int:
    """Measures, prints and stores."""
    settings = device_settings(arguments)
    found = _find(arguments.architectures)
    files = {
        architecture.name: _file_of(arguments.out, text, architecture, settings)
        for text, architecture in found.items()
    }
    require_device(settings)
    for path in dict.fromkeys(files.values()):  # before time is spent
        require_writable(path)
        if path.exists():
            read_measurements(path)
    busyness = quiet_device(settings, arguments)
    networks = {architecture.name: architecture.network for architecture in found.values()}
    with Activity(make_console(to_stderr=True), "measuring", is_quiet=True) as activity:
        measurements = measure_networks(
            networks,
            settings,
            busyness=busyness,
            rounds=arguments.runs,
            on_round=lambda done, rounds: activity(f"round {done} of {rounds}"),
        )
    _store(measurements, files)
    emit(latency_report(measurements, networks, files), as_json=arguments.json)
    return 0


def device_settings(arguments: Namespace) -> DeviceSettings:
    """The device that the options of a command name.

    Raises:
        LatencyError: Two of them do not fit together.
    """
    return DeviceSettings(**given_options(arguments, DeviceSettings))


def quiet_device(settings: DeviceSettings, arguments: Namespace) -> Busyness:
    """Measures how busy the device is, and warns if results will be unreliable.

    Raises:
        LatencyError: It is too busy, and the command is not forced to measure all the same.
    """
    busyness = require_quiet(settings, is_forced=arguments.force)
    if busyness.is_busy:
        sys.stderr.write(f"WARNING: {busyness.text}; the result is flagged as unreliable\n")
        sys.stderr.flush()
    return busyness


def _find(texts: list[str]) -> dict[str, Architecture]:
    """The networks by what the user called them; two of one name are refused."""
    found: dict[str, Architecture] = {}
    names: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        architecture = find_architecture(text)
        other = names.setdefault(architecture.name, text)
        if other != text:
            raise UsageError(
                f"networks measured together need names of their own, but {other} and {text} are both called "
                f"{architecture.name!r}: rename one's file or folder",
                field="architectures",
            )
        found[text] = architecture
    return found


def _file_of(out: str | None, text: str, architecture: Architecture, settings: DeviceSettings) -> Path:
    """Where a measurement is stored: as asked, in a bundle's or study's folder, or under runs/latency."""
    if out is not None:
        return Path(out).expanduser()
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder / f"latency-{settings.device}.json"
    return Path("runs/latency") / f"{architecture.name}-{settings.device}.json"


def _store(measurements: tuple[LatencyMeasurement, ...], files: dict[str, Path]) -> None:
    by_path: dict[Path, list[LatencyMeasurement]] = {}
    for measurement in measurements:
        by_path.setdefault(files[measurement.timing.name], []).append(measurement)
    for path, group in by_path.items():
        add_measurements(path, group)
