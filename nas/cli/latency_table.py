"""`nas latency-table`: a latency table of a space, measured here or elsewhere, and what it says."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import LatencyError, UsageError
from nas.report.activity import Activity
from nas.report.printing import Fact, Report, emit, make_console, show_seconds
from nas.spaces import BUILT_IN, find_space
from nas.units import hint

if TYPE_CHECKING:
    from nas.latency.table.session import TablePlan
    from nas.latency.table.table import LatencyTable
    from search_spaces import SearchSpace

CLASSES, CHANNELS, RESOLUTION = 1000, 3, 224
"""ImageNet's, for which the published spaces were made."""


def run(arguments: Namespace) -> int:
    """Measures, or writes a form, or reads one, or shows a table."""
    _check_ways(arguments)
    if arguments.show is not None:
        from nas.latency.table.table import LatencyTable

        return _print(LatencyTable.load(arguments.show), arguments.show, arguments)
    space = _space_of(arguments)
    if arguments.write_blocks is not None:
        return _write_form(space, arguments)
    out = _place(arguments.out)
    if arguments.from_csv is not None:
        from nas.latency.table.csv_form import read_form

        place = Path(arguments.from_csv).expanduser()
        table = read_form(space, place, device_name=arguments.device_name)
    else:
        table = _measure(space, arguments)
    table.save(out)
    return _print(table, str(out), arguments)


def _check_ways(arguments: Namespace) -> None:
    """The four ways to call it exclude one another, and each needs what it needs."""
    ways = [name for name in ("show", "write_blocks", "from_csv") if getattr(arguments, name) is not None]
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(map(_option, ways))} are different tasks: give one of them")
    if arguments.show is None and arguments.space is None:
        raise UsageError(f"--space is needed: {hint('', BUILT_IN)}, or file.py:name of your own")
    if arguments.out is None and not {"show", "write_blocks"} & set(ways):
        raise UsageError("--out is needed: the file that the table is written to, such as runs/table.json")
    if arguments.from_csv is not None and arguments.device_name is None:
        raise UsageError('--from-csv needs --device-name, such as --device-name "Pixel 8"')
    if arguments.device_name is not None and arguments.from_csv is None:
        raise UsageError(
            "--device-name names the device of --from-csv: leave it out, this machine's name is read from it"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _space_of(arguments: Namespace) -> SearchSpace:
    source = find_space(arguments.space)
    defaults = {"resolution": RESOLUTION, "num_classes": CLASSES, "in_channels": CHANNELS}
    if source.space is not None:
        defaults = {name: getattr(source.space.template, name) for name in defaults}
    given = {name: getattr(arguments, name) for name in defaults}
    wanted = {name: defaults[name] if given[name] is None else given[name] for name in defaults}
    return source.make(**wanted, width=arguments.width)


def _measure(space: SearchSpace, arguments: Namespace) -> LatencyTable:
    from nas.latency.devices import DeviceSettings
    from nas.latency.environment import busy
    from nas.latency.passes import require_device
    from nas.latency.table.session import measure_table, plan_table

    settings = DeviceSettings(
        device=arguments.device,
        batch=arguments.batch,
        threads=arguments.threads,
        precision=arguments.precision,
        channels_last=arguments.channels_last,
    )
    require_device(settings)
    console = make_console(to_stderr=True)
    with Activity(console, "finding the blocks of the space"):
        plan = plan_table(
            space, most_blocks=arguments.most_blocks, check=arguments.check, seed=arguments.seed
        )
    _say(f"{len(plan.found.blocks):,} distinct blocks, from {plan.found.origin}")
    busyness = busy(settings)
    if busyness.is_too_busy and not arguments.force:
        raise LatencyError(
            f"a latency table needs a quiet machine, but {busyness.text}: end what else runs here, or "
            "measure all the same with --force (the table then says so)"
        )
    notes = (f"{busyness.text} before the session",) if busyness.is_busy else ()
    for note in notes:
        _say(f"WARNING: {note}")
    with Activity(console, is_quiet=True) as activity:
        return measure_table(
            plan,
            settings,
            rounds=arguments.rounds,
            notes=notes,
            say=activity.print,
            progress=activity,
            on_round=_counter("round", activity),
        )


def _write_form(space: SearchSpace, arguments: Namespace) -> int:
    from nas.latency.table.csv_form import write_form
    from nas.latency.table.session import plan_table

    folder = Path(arguments.write_blocks).expanduser()
    plan = plan_table(space, most_blocks=arguments.most_blocks, check=arguments.check, seed=arguments.seed)
    with Activity(make_console(to_stderr=True), f"writing to {folder}") as activity:
        models = write_form(
            plan,
            folder,
            most_blocks=arguments.most_blocks,
            check=arguments.check,
            on_model=_counter("model", activity),
        )
    report = Report(
        title=f"Blocks of {space.name} to be measured elsewhere",
        facts=(
            Fact(key="folder", label="folder", value=str(folder)),
            Fact(key="blocks", label="blocks", value=len(plan.blocks), text=_blocks_text(plan)),
            Fact(key="networks", label="networks", value=len(plan.networks)),
            Fact(key="models", label="ONNX files", value=models),
        ),
        notes=(
            f"measure each model, fill in latency_ms in {folder / 'blocks.csv'} and "
            f"{folder / 'networks.csv'}, then:",
            f"nas latency-table --space {arguments.space} --from-csv {folder} --device-name NAME --out FILE "
            "(with the same --resolution, --width, --num-classes and --in-channels)",
            "networks may be left empty; predictions are then plain sums, and their error is unknown",
        ),
    )
    emit(report, as_json=arguments.json)
    return 0


def _blocks_text(plan: TablePlan) -> str:
    total = len(plan.found.blocks)
    rest = "" if len(plan.blocks) == total else f" of {total:,}; the rest is estimated from them"
    return f"{len(plan.blocks):,}{rest}"


def _place(text: str) -> Path:
    """Where the table is written; fails before the session where it could not be."""
    path = Path(text).expanduser()
    if path.is_dir():
        raise LatencyError(f"--out must be a file, but {path} is a folder: name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LatencyError(
            f"{path} cannot be written ({error.strerror or error}): choose another --out"
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise LatencyError(f"{path.parent} must be a folder you may write to: choose another --out")
    return path


def _print(table: LatencyTable, file: str, arguments: Namespace) -> int:
    from nas.report.latency_table_report import latency_table_report

    emit(latency_table_report(table, file=file), as_json=arguments.json)
    return 0


def _counter(what: str, activity: Activity) -> Callable[[int, int], None]:
    """Has an activity say how much is done, and about how long the rest takes."""
    moments: list[float] = []

    def show(done: int, count: int) -> None:
        moments.append(time.monotonic())  # the first says nothing of the rest: it had the warm-up before it
        left = (moments[-1] - moments[0]) / max(1, len(moments) - 1) * (count - done)
        activity(f"{what} {done} of {count}" + (f", about {show_seconds(left)} left" if left else ""))

    return show


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
