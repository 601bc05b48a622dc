"""Shows a list of trainings while it runs: a line for each finished one, and what is running."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.jobs import Finished, value_of
from nas.metrics import metric_info, show_metric
from nas.report.activity import Activity, Running
from nas.report.printing import show_seconds
from nas.report.progress import SILENT_SECONDS

if TYPE_CHECKING:
    from rich.console import Console


class TrainingsDisplay:
    """Shows the trainings of `nas.jobs.run_trainings`; a context, entered for as long as they run.

    Args:
        console: Where to.
        words: What is going on.
        labels: What each training of the list is called.
        metric: What is shown of each.

    Attributes:
        activity: Shows what is going on.
        on_progress: Receives progress.
    """

    def __init__(self, console: Console, words: str, labels: Sequence[str], *, metric: str) -> None:
        self.activity = Activity(console, words, first_seconds=SILENT_SECONDS)
        self._metric = metric
        self._running = Running(labels.__getitem__)
        self._width = max(map(len, labels), default=0)
        self.on_progress = self._running.teller(self.activity)

    def __enter__(self) -> Self:
        self.activity.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.activity.close()

    def on_finished(self, finished: Finished) -> None:
        """Prints a line for a training that has ended."""
        from rich.text import Text

        result, value = finished.result, value_of(finished.result, self._metric)
        total = str(finished.total)
        line = Text(f"[{finished.done:>{len(total)}}/{total}] ", style="dim")
        line.append(f"{finished.training.label:<{self._width}}  ", style="none")
        if value is None:
            line.append(f"failed: {result.message or result.status.value}", style="red")
        else:
            label = metric_info(self._metric).label
            line.append(f"{label} {show_metric(self._metric, value)}", style="none")
            line.append(f"  {show_seconds(result.seconds)}", style="dim")
            line.append("".join(f"  {note}" for note in result.notes), style="yellow")
        self._running.end(result.job.trial)
        self.activity.print(line)
