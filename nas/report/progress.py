"""How a running search looks in a terminal: one line per trial, and below them a live summary.

Where the output is no terminal, the lines alone are printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nas.events import Best, Counts, SearchEnd, SearchStart, TrialReport
from nas.metrics import SHARED_WEIGHTS, metric_info
from nas.report.activity import TICK_SECONDS, Activity, Running
from nas.report.printing import make_console, show_count, show_metric, show_seconds
from nas.trial import Progress, Status
from nas.values import counted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

SILENT_SECONDS = 10.0
"""Outside a terminal, a search that has printed nothing for so long prints what is running."""

LOG_LINES = 25
"""Lines shown of the first failure's log; the file has all of them."""

ENDINGS = {
    "trials": "all trials are done",
    "max_hours": "the time is up",
    "patience": "no better reward within the patience",
    "exhausted": "the controller proposed nothing more",
    "interrupted": "stopped",
    "failed": "failed",
}


class TerminalReporter:
    """Shows a search as it runs; a `nas.reporters.Reporter`.

    Args:
        console: Where to; a new one on standard output by default.
        clock: Seconds.
        tick_seconds: See `Activity`.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float | None = TICK_SECONDS,
    ) -> None:
        self._console = console or make_console()
        self._clock = clock
        self._running = Running()
        self._activity = Activity(
            self._console, first_seconds=SILENT_SECONDS, clock=clock, tick_seconds=tick_seconds
        )
        self._live: Live | None = None
        self._start: SearchStart | None = None
        self._counts = Counts()
        self._best: Best | None = None
        self._metric = self._label = "accuracy"
        self._began = clock()
        self._is_ended = False
        self._worker_seconds: list[float] = []

    def on_start(self, start: SearchStart) -> None:
        """Prints what is searched, and opens the live summary in a terminal."""
        self._start, self._metric = start, start.metric
        self._label = start.metric
        self._is_ended = False
        self._counts, self._best = start.counts, start.best
        self._began = self._clock()
        self._print_header(start)
        self._activity.heard()
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._summary, console=self._console, refresh_per_second=4, transient=True
            )
            self._live.start()
        else:
            self._activity.__enter__()

    def on_trial(self, report: TrialReport) -> None:
        """Prints the trial's line, and the log of the first failure."""
        self._counts, self._best = report.counts, report.best
        self._running.end(report.number)
        if report.seconds > 0:
            self._worker_seconds.append(report.seconds)
        self._console.print(self._line(report), soft_wrap=True)
        self._activity.heard()
        if report.status is not Status.COMPLETED and report.is_first_failure:
            self._print_log(report)

    def on_event(self, kind: str, message: str) -> None:
        """Prints it."""
        from rich.text import Text

        self._console.print(Text(f"{kind.replace('_', ' ')}: {message}", style="yellow"), soft_wrap=True)
        self._activity.heard()

    def on_progress(self, progress: Progress) -> None:
        """Shows it in the live summary; where there is none, prints it after some silence."""
        if self._is_ended:
            return  # the last line is printed
        if self._start is None and not self._running.text:
            self._activity.begin()
        self._running.note(progress)
        if self._live is None:
            self._activity(self._running.text)

    def on_end(self, end: SearchEnd) -> None:
        """Closes the live summary and prints how it ended."""
        self.close()
        self._is_ended = True
        self._console.print(self._closing(end), soft_wrap=True)

    def close(self) -> None:
        """Closes the live summary, and ends what prints in its place; safe to call twice."""
        self._activity.close()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print_header(self, start: SearchStart) -> None:
        from nas.report.printing import Fact, draw_facts

        until = "until stopped" if start.trials is None else counted(start.trials, "trial")
        workers = f"{start.workers} worker{'s' * (start.workers != 1)}"
        facts = [
            Fact(
                key="space",
                label="space",
                value=f"{start.space_name}, {counted(len(start.decisions), 'decision')}",
            ),
            Fact(key="objective", label="objective", value=start.objective),
            Fact(key="search", label="search", value=f"{start.controller}, {until}, {workers}"),
            Fact(key="folder", label="folder", value=str(start.folder)),
        ]
        if start.note:
            facts.append(Fact(key="note", label="note", value=start.note))
        facts += [Fact(key="training", label="training", value=note) for note in start.training_notes]
        if start.is_resumed:
            facts.append(
                Fact(key="resumed", label="resumed", value=f"{counted(start.counts.done, 'trial')} done")
            )
        draw_facts(tuple(facts), self._console)
        self._console.print()

    def _line(self, report: TrialReport) -> Text:
        from rich.text import Text

        total = "" if report.total is None else f"/{report.total}"
        width = len(str(report.total or report.counts.done))
        line = Text(f"[{report.counts.done:>{width}}{total}] ", style="dim")
        line.append(f"trial {report.number:<{width}}  ", style="none")
        if report.reward is None or report.value is None:
            line.append(_failure(report), style="red")
            return line
        shared = any(SHARED_WEIGHTS in metric.environment for metric in report.metrics)
        self._label = f"{self._metric} ({SHARED_WEIGHTS})" if shared else self._metric
        value = show_metric(self._metric, report.value)
        values = f"reward {report.reward:.4f}  {self._label} {value}  "
        line.append(values, style="bold green" if report.is_best else "none")
        line.append(f"macs {show_count(report.macs):<6}", style="none")
        for metric in report.metrics:
            if (info := metric_info(metric.name)).is_in_trial_line:
                line.append(f"  {info.label} {info.unit.show(metric.value)}", style="none")
        if report.trial.fidelity < 1 or report.trial.continues is not None:
            line.append(f"  rung {report.trial.fidelity:.2g}", style="none")
        if report.seconds:
            line.append(f"  {show_seconds(report.seconds)}", style="dim")
        if report.on_front is not None:
            line.append(f"  on the front of {report.on_front}", style="green")
        elif report.is_best:
            line.append("  best so far", style="green")
        return line

    def _print_log(self, report: TrialReport) -> None:
        from rich.text import Text

        lines = report.log.rstrip().splitlines()
        if len(lines) > LOG_LINES:
            lines = [f"... {len(lines) - LOG_LINES} lines above", *lines[-LOG_LINES:]]
        for line in lines:
            self._console.print(Text(f"    {line}", style="red"), soft_wrap=True)
        if report.log_file is not None and report.log_file.is_file():
            self._console.print(
                Text(f"    the first failure of this run; all of it: {report.log_file}"), soft_wrap=True
            )

    def _summary(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        total = None if self._start is None else self._start.trials
        done = self._counts.done
        head = Table.grid(padding=(0, 2))
        width = max(10, min(40, self._console.width - 60))
        bar = ProgressBar(total=total, completed=done, width=width, pulse=total is None)
        elapsed = self._clock() - self._began
        of = f"{done}/{total} trials" if total is not None else counted(done, "trial")
        eta = self.eta_seconds()
        left = "" if eta is None else f"about {show_seconds(eta)} left"
        head.add_row(bar, of, show_seconds(elapsed), left)
        failures = self._counts.infeasible + self._counts.lost
        style = "red" if failures else "dim"
        now = Text(self._running.text, style="dim", no_wrap=True, overflow="ellipsis")
        if not self._worker_seconds and not failures:
            return Group(Text(), head, now)
        states = Text(f"failures {failures}   ", style=style)
        states.append(f"rejected before training {self._counts.rejected}", style="dim")
        return Group(Text(), head, _best_line(self._best, self._metric, self._label), states, now)

    def eta_seconds(self) -> float | None:
        """Seconds until the last trial, from the mean trial of this run; None while unknown."""
        if self._start is None or self._start.trials is None or not self._worker_seconds:
            return None
        left = max(0, self._start.trials - self._counts.done)
        elapsed = self._clock() - self._began
        finished = len(self._worker_seconds)
        # Once every worker has finished a few, wall time per trial says more than their own clocks do.
        if finished >= 2 * self._start.workers:
            return left * elapsed / finished
        return left * sum(self._worker_seconds) / finished / self._start.workers

    def _closing(self, end: SearchEnd) -> Text:
        from rich.text import Text

        counts = end.counts
        words = [f"{counts.completed} completed"]
        words += [f"{counts.infeasible} infeasible"] if counts.infeasible else []
        words += [f"{counts.lost} lost"] if counts.lost else []
        words += [f"{counts.rejected} rejected before training"] if counts.rejected else []
        why = ENDINGS.get(end.ending, end.ending)
        text = Text(f"\n{why} after {show_seconds(end.elapsed_seconds)}: {', '.join(words)}")
        if end.ending == "interrupted" and self._start is not None:
            text.append(f"\nnothing finished is lost; continue with: nas resume {self._start.folder}")
        return text


def _failure(report: TrialReport) -> str:
    cause = report.outcome.cause.value.replace("_", " ") if report.outcome.cause else report.status.value
    return f"{report.status.value} ({cause}): {report.outcome.message}"


def _best_line(best: Best | None, metric: str, label: str) -> Text:
    from rich.text import Text

    if best is None:
        return Text("best so far: none yet", style="dim")
    line = Text("best so far: ", style="dim")
    values = f"trial {best.number}  reward {best.reward:.4f}  {label} {show_metric(metric, best.value)}"
    return line.append(f"{values}  macs {show_count(best.macs)}", style="green")
