"""Who worked when: a timeline of the workers, how busy each was, and what the search cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from nas.report.page.charting import Trace, rows_axis
from nas.report.page.parts import BLUE, ORANGE, PALE, VERMILION, Absent, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import TRIAL, Column, Fact, Report, Table, show_seconds, show_share
from nas.study.attempts import Attempt, read_attempts, span
from nas.study.study import Study

KEY, TITLE = "workers", "Workers and cost"

MOST_BARS = 1_200
"""Attempts that are drawn one by one; of more, those that follow each other closely are drawn as one."""

MOST_WORKERS = 40

CLOSE = 1 / 400
"""Share of the whole time below which a pause between two attempts is not seen."""

COLORS = {"completed": BLUE, "infeasible": ORANGE, "lost": VERMILION, "running": PALE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """A worker and what it did.

    Attributes:
        name: Its machine and process.
        attempts: Its attempts that have ended, in order.
    """

    name: str
    attempts: tuple[Attempt, ...]

    @property
    def busy(self) -> float:
        """Seconds in which it worked."""
        return sum(one.seconds for one in self.attempts)

    @property
    def window(self) -> float:
        """Seconds from its first attempt to the end of its last."""
        whole = span(self.attempts)
        return self.busy if whole is None else max(self.busy, whole.total_seconds())

    @property
    def longest_pause(self) -> float:
        """Its longest pause, seconds."""
        ends = [one.ended for one in self.attempts if one.ended is not None]
        pauses = [
            (after.begun - end).total_seconds()
            for end, after in zip(ends[:-1], self.attempts[1:], strict=True)
        ]
        return max((0.0, *pauses))


def timeline(source: Source) -> Section | Absent:
    """The workers over time, and the cost of the search."""
    attempts = read_attempts(source.study.folder)
    workers, whole = _workers(attempts), span(attempts)
    if whole is None:
        return Absent(key=KEY, title=TITLE, reason="no attempt at a trial has ended")
    busy, window = sum(w.busy for w in workers), sum(w.window for w in workers)
    share = busy / window if window else 1.0
    many = f"{len(workers)} workers were" if len(workers) > 1 else "One worker was"
    wall = whole.total_seconds()
    lead = (
        f"{many} busy for {show_share(share)} of the time between the first and the last attempt of each; "
        f"the search took {show_seconds(wall)} from its first attempt to its last."
    )
    blocks = (_chart(workers, attempts, whole), _worker_table(workers), _cost(source.study, attempts, wall))
    return Section(key=KEY, title=TITLE, lead=lead, blocks=blocks)


def _workers(attempts: Sequence[Attempt]) -> list[_Worker]:
    ended = sorted((one for one in attempts if one.ended is not None), key=lambda one: (one.node, one.begun))
    workers = [
        _Worker(name=node, attempts=tuple(group)) for node, group in groupby(ended, key=lambda one: one.node)
    ]
    return sorted(workers, key=lambda worker: worker.attempts[0].begun)


def _chart(workers: Sequence[_Worker], attempts: Sequence[Attempt], whole: timedelta) -> Chart:
    shown = sorted(workers, key=lambda worker: -worker.busy)[:MOST_WORKERS]
    shown = [worker for worker in workers if worker in shown]
    total = sum(len(worker.attempts) for worker in shown)
    is_joined = total > MOST_BARS
    bars: dict[str, list[tuple[int, datetime, float, str, int | None]]] = {}
    for row, worker in enumerate(shown):
        for status, begun, seconds, words, trial in _bars(worker, whole if is_joined else None):
            bars.setdefault(status, []).append((row, begun, seconds, words, trial))
    notes = [
        "A worker is a process on a machine. Times are UTC. Its time is what it said itself, up to the "
        "moment when its result was there."
    ]
    if is_joined:
        notes.append(f"There are {total:,} attempts: those that follow each other closely are drawn as one.")
    if len(shown) < len(workers):
        notes.append(f"{len(workers) - len(shown):,} workers that worked least are in the table alone.")
    running = sum(one.ended is None for one in attempts)
    if running:
        notes.append(f"{running} attempts had not ended and are not drawn.")
    return Chart(
        key=KEY,
        title="What each worker did when",
        figure={
            "data": [_trace(status, found) for status, found in bars.items()],
            "layout": {
                "barmode": "overlay",
                "bargap": 0.35,
                "xaxis": {"type": "date"},
                "yaxis": rows_axis([_short(worker.name) for worker in shown]),
            },
        },
        alt=f"{len(shown)} workers and {total:,} attempts over {show_seconds(whole.total_seconds())}.",
        table=_attempt_table(attempts),
        notes=tuple(notes),
        height=130 + 30 * len(shown),
    )


def _bars(worker: _Worker, whole: timedelta | None) -> Iterator[tuple[str, datetime, float, str, int | None]]:
    """Bars of a worker: status, begin, seconds, words, and the trial where it is of one alone."""
    if whole is None:
        for one in worker.attempts:
            words = f"trial {one.trial}, attempt {one.number}: {one.status}\n{show_seconds(one.seconds)}"
            words += f"\n{one.cause.replace('_', ' ')}" if one.cause else ""
            yield one.status, one.begun, one.seconds, f"{words}\n{worker.name}", one.trial
        return
    runs: list[list[Attempt]] = []
    for one in worker.attempts:
        last = runs[-1][-1].ended if runs else None
        if last is None or one.begun - last > whole * CLOSE:
            runs.append([])
        runs[-1].append(one)
    for run in runs:
        end = max(one.ended for one in run if one.ended is not None)
        seconds = (end - run[0].begun).total_seconds()
        words = f"{len(run)} attempts in {show_seconds(seconds)}\n{worker.name}"
        yield "completed" if len(run) > 1 else run[0].status, run[0].begun, seconds, words, None


def _trace(status: str, found: Sequence[tuple[int, datetime, float, str, int | None]]) -> Trace:
    return {
        "type": "bar",
        "orientation": "h",
        "name": status,
        "y": [row for row, *_ in found],
        "base": [begun.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] for _, begun, *_ in found],
        "x": [round(1000 * seconds) for _, _, seconds, *_ in found],
        "text": [words for *_, words, _ in found],
        "textposition": "none",
        "hoverinfo": "text",
        "customdata": [trial for *_, trial in found],
        "marker": {"color": COLORS.get(status, PALE), "line": {"width": 0.5, "color": "palette:card"}},
        "width": 0.7,
    }


def _short(name: str) -> str:
    """A worker's name as an axis has room for it."""
    name = name.replace(", process ", ":")
    return name if len(name) <= 20 else f"{name[:9]}…{name[-10:]}"


def _attempt_table(attempts: Sequence[Attempt]) -> Table:
    rows = tuple(
        {
            "trial": one.trial,
            "attempt": one.number,
            "status": one.status,
            "worker": one.node,
            "begun": f"{one.begun:%Y-%m-%d %H:%M:%S}",
            "seconds": None if one.ended is None else one.seconds,
        }
        for one in attempts
    )
    columns = (
        TRIAL,
        Column(key="attempt", heading="attempt", is_number=True),
        Column(key="status", heading="status"),
        Column(key="worker", heading="worker"),
        Column(key="begun", heading="begun, UTC"),
        Column(key="seconds", heading="time", show=show_seconds, is_number=True),
    )
    return Table(key="attempts", title=f"Attempts ({len(rows):,})", columns=columns, rows=rows)


def _worker_table(workers: Sequence[_Worker]) -> Table:
    rows = tuple(
        {
            "worker": worker.name,
            "attempts": len(worker.attempts),
            "busy": worker.busy,
            "idle": worker.window - worker.busy,
            "longest": worker.longest_pause,
            "share": worker.busy / worker.window if worker.window else 1.0,
        }
        for worker in workers
    )
    columns = (
        Column(key="worker", heading="worker"),
        Column(key="attempts", heading="attempts", is_number=True),
        Column(key="busy", heading="busy", show=show_seconds, is_number=True),
        Column(key="idle", heading="idle", show=show_seconds, is_number=True),
        Column(key="longest", heading="longest pause", show=show_seconds, is_number=True),
        Column(key="share", heading="utilisation", show=show_share, is_number=True),
    )
    return Table(
        key="workers",
        title=f"Utilisation of the workers ({len(workers)})",
        columns=columns,
        rows=rows,
        notes=(
            "Idle is the time between the first and the last attempt of a worker in which it had none: while "
            "others finished, while the controller thought, or while the search was stopped.",
        ),
    )


def _cost(study: Study, attempts: Sequence[Attempt], wall: float) -> Report:
    """Hours of the search: of workers, of GPUs, of what gave a result and what did not."""
    hours: dict[str, float] = {}
    for one in attempts:
        hours[one.status] = hours.get(one.status, 0.0) + one.seconds / 3600
    total = sum(hours.values())
    wasted = total - hours.get("completed", 0.0)
    copied = sum(trial.copied_from is not None for trial in study.trials)
    facts = [
        Fact(key="wall_hours", label="wall time", value=wall / 3600, text=show_seconds(wall)),
        Fact(key="worker_hours", label="time in workers", value=total, text=show_seconds(3600 * total)),
        gpu_fact(study, total),
        Fact(
            key="unused_hours",
            label="without a result",
            value=wasted,
            text=f"{show_seconds(3600 * wasted)} in attempts that were infeasible or lost",
        ),
    ]
    if copied:
        text = f"{copied:,} trials copied the result of an equal candidate, and cost nothing"
        facts.append(Fact(key="copied", label="saved", value=copied, text=text))
    return Report(title="Cost of the search", facts=tuple(facts))


def gpu_fact(study: Study, worker_hours: float) -> Fact:
    """GPU-hours of a search: known, at most so many, or none."""
    share = study.settings.get("gpus_per_worker")
    has_gpu = any("cuda" in metric.environment for trial in study.trials for metric in trial.metrics)
    if isinstance(share, int | float) and share > 0:
        value = share * worker_hours
        return Fact(
            key="gpu_hours",
            label="GPU-hours",
            value=value,
            text=f"{value:.2f} h ({share:g} of a GPU a worker)",
        )
    if has_gpu:
        text = f"at most {worker_hours:.2f} h: workers used GPUs, and the study does not say how many each"
        return Fact(key="gpu_hours", label="GPU-hours", value=None, text=text)
    return Fact(key="gpu_hours", label="GPU-hours", value=0.0, text="0 h: nothing was measured on a GPU")
