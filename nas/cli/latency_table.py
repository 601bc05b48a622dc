"""`nas latency-table`: a latency table of a space, measured here or elsewhere, and what it says."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas.cli.adding import shape_of
from nas.errors import UsageError
from nas.report.activity import Activity
from nas.report.printing import emit, make_console, show_seconds
from nas.spaces import BUILT_IN, find_space
from nas.units import hint

if TYPE_CHECKING:
    from nas.latency.table.table import LatencyTable
    from search_spaces import SearchSpace


def run(arguments: Namespace) -> int:
    """Measures, or writes a form, or reads one, or shows a table."""
    _check_task(arguments)
    from nas.latency.stored import require_writable
    from nas.latency.table.table import LatencyTable

    if arguments.show is not None:
        return _print(LatencyTable.load(arguments.show), arguments.show, arguments)
    space = _space_of(arguments)
    if arguments.write_blocks is not None:
        return _write_form(space, arguments)
    out = Path(arguments.out).expanduser()
    require_writable(out)
    if arguments.from_csv is not None:
        from nas.latency.table.form import read_form

        folder = Path(arguments.from_csv).expanduser()
        table = read_form(space, folder, device_name=arguments.device_name)
    else:
        table = _measure(space, arguments)
    table.save(out)
    return _print(table, str(out), arguments)


def _check_task(arguments: Namespace) -> None:
    """The four tasks exclude one another, and each needs what it needs."""
    tasks = [name for name in ("show", "write_blocks", "from_csv") if getattr(arguments, name) is not None]
    if len(tasks) > 1:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in tasks)
        raise UsageError(f"{options} exclude each other: give one of them", field=tasks[1])
    if arguments.show is None and arguments.space is None:
        raise UsageError(
            f"--space is needed: {hint('', BUILT_IN)}, or file.py:name of your own", field="space"
        )
    if arguments.out is None and not {"show", "write_blocks"} & set(tasks):
        raise UsageError(
            "--out is needed: the file that the table is written to, such as runs/table.json", field="out"
        )
    if arguments.from_csv is not None and arguments.device_name is None:
        raise UsageError(
            '--from-csv needs --device-name, such as --device-name "Pixel 8"', field="device_name"
        )
    if arguments.device_name is not None and arguments.from_csv is None:
        raise UsageError(
            "--device-name names the device of --from-csv: leave it out, this machine's name is read from it",
            field="device_name",
        )


def _space_of(arguments: Namespace) -> SearchSpace:
    source = find_space(arguments.space)
    return source.make(**shape_of(arguments, source.space), width=arguments.width)


def _measure(space: SearchSpace, arguments: Namespace) -> LatencyTable:
    from nas.cli.measure import device_settings, quiet_device
    from nas.latency.passes import require_device
    from nas.latency.table.building import measure_table, plan_table

    settings = device_settings(arguments)
    require_device(settings)
    console = make_console(to_stderr=True)
    with Activity(console, "finding the blocks of the space"):
        plan = plan_table(
            space, most_blocks=arguments.most_blocks, check=arguments.check, seed=arguments.seed
        )
    sys.stderr.write(f"{len(plan.found.blocks):,} distinct blocks, from {plan.found.origin}\n")
    busyness = quiet_device(settings, arguments)
    with Activity(console, is_quiet=True) as activity:
        return measure_table(
            plan,
            settings,
            busyness=busyness,
            rounds=arguments.rounds,
            say=activity.print,
            progress=activity,
            on_round=_counter("round", activity),
        )


def _write_form(space: SearchSpace, arguments: Namespace) -> int:
    from nas.latency.table.form import write_form
    from nas.report.latency_table_report import form_report

    folder = Path(arguments.write_blocks).expanduser()
    with Activity(make_console(to_stderr=True), f"writing to {folder}") as activity:
        plan = write_form(
            space,
            folder,
            most_blocks=arguments.most_blocks,
            check=arguments.check,
            seed=arguments.seed,
            on_model=_counter("model", activity),
        )
    emit(form_report(plan, folder, space_option=arguments.space), as_json=arguments.json)
    return 0


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
