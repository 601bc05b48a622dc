"""What TensorBoard shows of a search, and under which tags; docs/tensorboard.md explains each.

The journal is the truth; this is for watching.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass

from nas.events import Best, SearchEnd, SearchStart, TrialReport
from nas.metrics import metric_info, show_metrics
from nas.outcome import all_costs
from nas.report.event_file import EventFile, Value, charts, image, scalar, tag, text
from nas.report.printing import show_count, show_metric
from nas.study.checkpoints import entry_of
from nas.study.insight import entropy
from nas.study.study import Study, open_study
from nas.trial import Progress
from search_spaces import Decision, describe
from search_spaces.choices import has_choice

FOLDER = "tensorboard"
"""Name of the folder inside the study's folder."""

POLICY_SECONDS = 2.5e-4
"""What asking a controller for its policy may cost per trial on average; an LSTM is asked less often."""


class TensorBoardReporter:
    """Writes a search to `tensorboard/` in its study's folder; a `nas.Reporter`.

    A step is a finished trial: step 1 is the first that finished, whatever its number. A resumed search goes
    on in the same folder at the next step.

    Args:
        policy_every: The controller's probabilities are written at the first trial, every so many trials, and
            at the last that was asked for; less often where asking takes long.
        figure_share: Share of the time since the last Pareto figure that drawing one may take; the last one
            is drawn anyway.
        clock: Gives the time in seconds.

    Raises:
        StudyError: While searching, when the files cannot be written.
    """

    def __init__(
        self,
        *,
        policy_every: int = 10,
        figure_share: float = 0.01,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if policy_every < 1 or not 0 <= figure_share <= 1:
            raise ValueError(
                "`policy_every >= 1` and `0 <= figure_share <= 1` must hold, but got "
                f"policy_every={policy_every!r}, figure_share={figure_share!r}"
            )
        self._policy_every = policy_every
        self._policy_from = 0.0
        self._clock = clock
        self._figures = _FigureTimer(figure_share, clock)
        self._run: _Run | None = None

    def on_start(self, start: SearchStart) -> None:
        """Reads what earlier runs of the study have done; writes nothing yet."""
        self._run = _Run(start, open_study(start.folder))
        self._figures.begin()

    def on_trial(self, report: TrialReport) -> None:
        """Writes one record with everything that is new."""
        run = self._begun()
        step = report.counts.done
        values = run.values_of(report)
        if step in (1, report.total) or (step % self._policy_every == 0 and step >= self._policy_from):
            values += self._policy(run, report)
        run.has_figure = self._figures.is_due()
        if run.has_figure:
            values += self._figure(run)
        run.write(step, values)

    def on_event(self, kind: str, message: str) -> None:  # noqa: ARG002 - the journal has the message
        """Counts it; the count goes with the next trial."""
        self._begun().events[kind] += 1

    def on_progress(self, progress: Progress) -> None:
        """Writes nothing: progress is for the terminal."""

    def on_end(self, end: SearchEnd) -> None:  # noqa: ARG002 - the last trial has said all of it
        """Draws the last figure, unless the last trial's record has it, and closes the file."""
        run, self._run = self._run, None
        if run is not None:
            run.finish([*run.winner(), *([] if run.has_figure else self._figure(run))])

    def _begun(self) -> _Run:
        if self._run is None:
            raise RuntimeError("`on_start` must be called before any other method of a reporter")
        return self._run

    def _policy(self, run: _Run, report: TrialReport) -> list[Value]:
        began = self._clock()
        values = run.policy(report)
        self._policy_from = report.counts.done + (self._clock() - began) / POLICY_SECONDS
        return values

    def _figure(self, run: _Run) -> list[Value]:
        with self._figures:
            return run.pareto()


class _FigureTimer:
    """Says when a figure may be drawn, so that drawing takes no more than its share of the time."""

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._began = self._ended = 0.0
        self._cost_seconds = 1.0

    def begin(self) -> None:
        """Starts counting the time; the first figure is taken to cost a second, for its imports."""
        self._ended = self._clock()

    def is_due(self) -> bool:
        """Whether enough time has passed since the last figure."""
        return (self._clock() - self._ended) * self._share > self._cost_seconds

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        self._ended = self._clock()
        self._cost_seconds = self._ended - self._began


class _Run:
    """What one run of a search has to remember between trials."""

    def __init__(self, start: SearchStart, study: Study) -> None:
        self._start = start
        self._goals = study.objective.front[:2]
        self._target = study.objective.targets.get(self._goals[1].metric)
        self._options = _option_tags(start.decisions)
        self._entries = [entry for entry in study.entries(self._goals) if min(entry.costs) > 0]
        self._causes = Counter(trial.cause.value for trial in study.trials if trial.cause is not None)
        self.events = Counter(kind for _, kind, _ in study.events)
        self._diagnostics: Mapping[str, float] = {}
        self._best: int | None = None if start.best is None else start.best.number
        self._last: TrialReport | None = None
        self._file: EventFile | None = None
        self._has_charts = False
        self.has_figure = False

    def values_of(self, report: TrialReport) -> list[Value]:
        """What every trial says: itself, the best so far, counts, and what the controller has learnt."""
        self._last = report
        self._remember(report)
        numbers = {tag("trial", "number"): float(report.number), **_of_trial(report)}
        metric, best = self._goals[0].metric, report.best
        if best is not None:
            of_best = {"reward": best.reward, metric: best.value, "macs": best.macs}
            numbers |= {tag("best", name): value for name, value in of_best.items()}
        counts = report.counts
        numbers |= {
            tag("count", name): getattr(counts, name)
            for name in ("completed", "infeasible", "lost", "rejected")
        }
        numbers |= {tag("failures", cause): count for cause, count in self._causes.items()}
        numbers |= {tag("events", kind): count for kind, count in self.events.items()}
        if report.diagnostics != self._diagnostics:
            self._diagnostics = dict(report.diagnostics)
            numbers |= {tag("controller", name): value for name, value in self._diagnostics.items()}
        values = [scalar(name, value) for name, value in numbers.items()]
        if best is not None and best.number != self._best:
            self._best = best.number
            values.append(text(tag("best", "architecture"), _architecture(best, metric)))
        return values

    def _remember(self, report: TrialReport) -> None:
        if report.outcome.cause is not None:
            self._causes[report.outcome.cause.value] += 1
        entry = entry_of(
            report.number,
            reward=report.reward,
            metrics=all_costs(report.trial.cost, report.metrics),
            goals=self._goals,
            fidelity=report.trial.fidelity,
        )
        if entry is not None and min(entry.costs) > 0:
            self._entries.append(entry)

    def policy(self, report: TrialReport) -> list[Value]:
        """The probability of each option and the entropy of each decision; nothing where there are none."""
        probabilities = report.probabilities()
        if probabilities is None:
            return []
        values = [
            scalar(name, float(probability))
            for tags, of_decision in zip(self._options, probabilities, strict=True)
            for name, probability in zip(tags, of_decision, strict=True)
        ]
        values += [
            scalar(tag("policy_entropy", decision.name), entropy(of_decision.tolist()))
            for decision, of_decision in zip(self._start.decisions, probabilities, strict=True)
        ]
        if not self._has_charts:
            self._has_charts = True
            names = [decision.name for decision in self._start.decisions]
            values.append(charts({"policy": dict(zip(names, self._options, strict=True))}))
        return values

    def pareto(self) -> list[Value]:
        """The figure of metric against cost; nothing where this run has no trial or the study no point."""
        if not self._entries or self._last is None:
            return []
        from nas.report.pictures import SearchPicture, draw_pareto

        picture = SearchPicture(points=tuple(self._entries), goals=self._goals, targets=(self._target,))
        return [image(tag("pareto", "_".join(goal.metric for goal in self._goals)), draw_pareto(picture))]

    def write(self, step: int, values: list[Value]) -> None:
        """Appends a record, opening the file at the first."""
        if self._file is None:
            self._file = EventFile(self._start.folder / FOLDER, first_step=step)
            values = [*values, self._about()]
        self._file.write(step, values)

    def _about(self) -> Value:
        """The study in words."""
        start = self._start
        until = "no limit of trials" if start.trials is None else f"{start.trials} trials"
        lines = [
            f"- space: {start.space_name}, {len(start.decisions)} decisions",
            f"- objective: {start.objective}",
            f"- controller: {start.controller}",
            f"- {until}, {start.workers} at a time",
            *([f"- note: {start.note}"] if start.note else []),
            *(f"- training: {note}" for note in start.training_notes),
        ]
        return text(tag("study", "about"), "\n".join(lines))

    def winner(self) -> list[Value]:
        """The network to go with, with the metric of all its trainings; nothing where none completed."""
        study = open_study(self._start.folder)
        if not study.completed or (best := study.best).quality is None:
            return []
        found = show_metrics(best.quality_metric, best.values or (best.quality,))
        label = metric_info(best.quality_metric).label
        words = f"Trial {best.number}: {label} {found}, {show_count(best.macs)} multiply-adds"
        return [text(tag("study", "winner"), words)]

    def finish(self, figure: list[Value]) -> None:
        """Writes what is left at the last step and closes; nothing where this run has written nothing."""
        if self._file is None or self._last is None:
            return
        try:
            if figure:
                self._file.write(self._last.counts.done, figure)
        finally:
            self._file.close()


def _of_trial(report: TrialReport) -> dict[str, float]:
    """Everything measured of a trial, and its exact costs."""
    numbers = {metric.name: metric.value for metric in report.metrics}
    numbers |= {"macs": report.trial.cost.macs, "params": report.trial.cost.params}
    numbers |= {} if report.reward is None else {"reward": report.reward}
    numbers |= {"worker_seconds": report.seconds} if report.seconds else {}
    return {tag("trial", name): value for name, value in numbers.items()}


def _option_tags(decisions: tuple[Decision, ...]) -> list[list[str]]:
    """A tag for each option of each decision; equal words get the option's index."""
    tags = []
    for decision in decisions:
        names = [tag("policy", decision.name, _words(option)) for option in decision.options]
        unique = len(set(names)) == len(names)
        tags.append(names if unique else [f"{name}.{index}" for index, name in enumerate(names)])
    return tags


def _words(option: object) -> str:
    """An option in words: an op by its name and the fields that are not decisions of their own."""
    if not is_dataclass(option) or isinstance(option, type):
        return str(option)
    closed = [
        f"{field.name}={getattr(option, field.name)}"
        for field in fields(option)
        if getattr(option, field.name) is not None and not has_choice(getattr(option, field.name))
    ]
    return "-".join([type(option).__name__, *closed])


def _architecture(best: Best, metric: str) -> str:
    """The best network as a table in Markdown."""
    lines = [
        f"Trial {best.number}: reward {best.reward:.4f}, {metric} {show_metric(metric, best.value)}, "
        f"{show_count(best.macs)} multiply-adds",
        "",
        "| stage | operator | resolution | channels | layers | multiply-adds | parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.stage} | {row.operator} | {row.resolution} | {row.channels} | {row.layers} "
        f"| {show_count(row.macs)} | {show_count(row.params)} |"
        for row in describe(best.network)
    ]
    return "\n".join(lines)
