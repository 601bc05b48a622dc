"""Prints what finalizing a search comes to, as it comes, or as JSON at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nas.data.description import DataDescription
from nas.evaluation.comparison import Comparison
from nas.jobs import Finished
from nas.report.activity import Activity
from nas.report.comparison_report import comparison_report
from nas.report.printing import Fact, Report, Table, draw, draw_table, write_json
from nas.report.trainings import TrainingsDisplay
from nas.report.winner_report import winner_report
from nas.study.study import Study
from nas.task_objective import judged_by
from nas.trial import Progress

if TYPE_CHECKING:
    from rich.console import Console


class FinalizeDisplay:
    """Shows what `nas.finalize` does; a `nas.finalizing.Watcher`, and a context that ends what is going on.

    Args:
        console: Where to.
        study: The study that is finalized.
        as_json: Whether results are printed as one JSON value by `on_saved`, and not drawn.
    """

    def __init__(self, console: Console, study: Study, *, as_json: bool = False) -> None:
        self._console = console
        self._study = study
        self._as_json = as_json
        self._data: dict[str, Any] = {}
        self._step = ExitStack()
        self._trainings: TrainingsDisplay | None = None
        self._metric = judged_by(study.objective).metric

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._step.close()

    def on_winner(self, images: DataDescription | None) -> None:
        """Draws the winner."""
        if images is not None:
            self._metric = judged_by(self._study.objective, images.task).metric
        report = winner_report(self._study, images)
        self._data["winner"] = report.to_data()
        if not self._as_json:
            self._console.print()
            draw(report, self._console)
            self._console.print()

    def on_step(self, text: str, *, is_quiet: bool = False) -> None:
        """Shows what is going on from now on."""
        if self._trainings is not None:
            self._trainings.activity(text)
            return
        self._step.close()
        self._step.enter_context(Activity(self._console, text, is_quiet=is_quiet))

    def on_finalists(self, table: Table) -> None:
        """Draws what was measured on the finalists."""
        self._step.close()
        self._data["finalists"] = Report(title="", tables=(table,)).to_data()
        if not self._as_json:
            draw_table(table, self._console)
            self._console.print()

    def on_comparing(self, labels: Sequence[str]) -> None:
        """Shows the trainings of the comparison from now on."""
        self._step.close()
        self._console.print(
            "Comparing on the test split: every network is trained with the same recipe and new seeds",
            soft_wrap=True,
        )
        display = TrainingsDisplay(self._console, "comparing", labels, metric=self._metric)
        self._trainings = self._step.enter_context(display)

    def on_finished(self, finished: Finished) -> None:
        """Prints a line for a training of the comparison."""
        if self._trainings is not None:
            self._trainings.on_finished(finished)

    def on_progress(self, progress: Progress) -> None:
        """Shows what is going on in the comparison."""
        if self._trainings is not None:
            self._trainings.on_progress(progress)

    def on_compared(self, comparison: Comparison) -> None:
        """Draws the comparison."""
        self._step.close()
        self._trainings = None
        report = comparison_report(comparison, self._study.objective)
        self._data["comparison"] = report.to_data()
        if not self._as_json:
            self._console.print()
            draw_table(report.tables[0], self._console)
            self._console.print()

    def on_saved(self, pictures: Sequence[Path], bundle: Path | None, why_none: str) -> None:
        """Says where everything is; ends what is shown."""
        self._step.close()
        search, winner = map(str, pictures)
        saved = {
            "study": str(self._study.folder),
            "picture of the search": search,
            "picture of the winner": winner,
            "bundle": f"none: {why_none}" if bundle is None else _bundle_words(bundle),
            "watch": f"tensorboard --logdir {self._study.folder}",
        }
        if self._as_json:
            write_json({**self._data, "saved": saved})
            return
        facts = tuple(Fact(key=name, label=name, value=path) for name, path in saved.items())
        draw(Report(title="Saved", facts=facts), self._console)


def _bundle_words(bundle: Path) -> str:
    """Where the bundle is and what is in it."""
    program = "predict.py, " if (bundle / "predict.py").is_file() else ""
    return f"{bundle}  (model.py, {program}weights, ONNX; see card.md)"
