"""What is logged of a search at each step; docs/tensorboard.md explains each name.

The journal is the truth; this is for watching.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass

from nas.events import Best, SearchStart, TrialReport
from nas.metrics import SHARED_WEIGHTS, metric_info, show_metrics
from nas.outcome import all_costs
from nas.report.printing import show_count, show_metric
from nas.study.checkpoints import entry_of
from nas.study.insight import entropy
from nas.study.study import open_study
from nas.values import counted
from search_spaces import Decision, describe
from search_spaces.choices import has_choice

EVERY_STEP = 10_000
"""Each of the first so many steps is logged, then of as many every other one, then every third and so on."""

POLICY_SECONDS = 2.5e-4
"""What asking a controller for its policy may cost per trial on average; an LSTM is asked less often."""

FIGURE_GROWTH = 1.05
"""How much a search has grown, in trials, when the next figure is drawn."""


def tag(*parts: object) -> str:
    """Joins the parts of a name with `/`; whatever TensorBoard would not take in a name becomes `_`."""
    return "/".join(re.sub(r"[^\w.=-]+", "_", str(part)).strip("_") for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number under a name."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A text in Markdown under a name."""

    name: str
    markdown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture under a name, as a PNG file."""

    name: str
    png: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """Which numbers belong in one chart: by the chart's title, the names that are its lines."""

    category: str
    lines: Mapping[str, tuple[str, ...]]


Entry = Number | Words | Picture | Charts


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Everything that is logged at one step, which is the number of finished trials."""

    number: int
    entries: tuple[Entry, ...]


class RunLog:
    """What is logged of one run of a search, step by step; reporters write it down.

    A step is a finished trial: step 1 is the first that finished, whatever its number. A resumed search goes
    on at the next step.

    Args:
        start: The start of this run; what earlier runs of the study have done is read from its folder.
        policy_every: The controller's probabilities are logged at the first trial, every so many trials, and
            at the last that was asked for; less often where asking takes long.
        figure_share: Share of the time since the last Pareto figure that drawing one may take; none is drawn
            before the trials have grown by a twentieth, and the last one is drawn anyway.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        start: SearchStart,
        *,
        policy_every: int = 10,
        figure_share: float = 0.01,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        study = open_study(start.folder)
        self._policy_every = policy_every
        self._policy_from = 0.0
        self._clock = clock
        self._figures = _FigureTimer(figure_share, clock)
        self._start = start
        self._goals = study.objective.front[:2]
        self._target = study.objective.targets.get(self._goals[1].metric)
        self._options = option_tags(start.decisions)
        self._entries = [entry for entry in study.entries(self._goals) if min(entry.costs) > 0]
        self._causes = Counter(trial.cause.value for trial in study.trials if trial.cause is not None)
        self._events = Counter(kind for _, kind, _ in study.events)
        self._diagnostics: Mapping[str, float] = {}
        self._best: int | None = None if start.best is None else start.best.number
        self._last: TrialReport | None = None
        self._has_charts = False
        self._has_figure = False
        self._figures.begin()

    def of_trial(self, report: TrialReport) -> Step:
        """Everything that is new with a trial that has finished; nothing where its step is not logged."""
        is_first = self._last is None
        self._last = report
        self._remember(report)
        step = report.counts.done
        if step % (1 + step // EVERY_STEP) and not (is_first or report.is_best or step == report.total):
            return Step(number=step, entries=())
        entries = self._values_of(report)
        if step in (1, report.total) or (step % self._policy_every == 0 and step >= self._policy_from):
            entries += self._policy(report)
        self._has_figure = self._figures.is_due(step)
        if self._has_figure:
            entries += self._figure()
        return Step(number=step, entries=(*entries, *([self._about()] if is_first else [])))

    def count(self, kind: str) -> None:
        """Counts another event; the count goes with the next trial."""
        self._events[kind] += 1

    def ending(self) -> Step | None:
        """The winner and the last figure, unless the last trial has it; None where this run has no trial."""
        if self._last is None:
            return None
        entries = (*self._winner(), *([] if self._has_figure else self._figure()))
        return Step(number=self._last.counts.done, entries=entries)

    def _values_of(self, report: TrialReport) -> list[Entry]:
        """What every trial says: itself, the best so far, counts, and what the controller has learnt."""
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
        numbers |= {tag("events", kind): count for kind, count in self._events.items()}
        if report.diagnostics != self._diagnostics:
            self._diagnostics = dict(report.diagnostics)
            numbers |= {tag("controller", name): value for name, value in self._diagnostics.items()}
        entries: list[Entry] = [Number(name=name, value=float(value)) for name, value in numbers.items()]
        if best is not None and best.number != self._best:
            self._best = best.number
            entries.append(Words(name=tag("best", "architecture"), markdown=_architecture(best, metric)))
        return entries

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

    def _policy(self, report: TrialReport) -> list[Entry]:
        """The probability of each option and the entropy of each decision; nothing where there are none."""
        began = self._clock()
        entries = self._probabilities(report)
        self._policy_from = report.counts.done + (self._clock() - began) / POLICY_SECONDS
        return entries

    def _probabilities(self, report: TrialReport) -> list[Entry]:
        probabilities = report.probabilities()
        if probabilities is None:
            return []
        entries: list[Entry] = [
            Number(name=name, value=float(probability))
            for names, of_decision in zip(self._options, probabilities, strict=True)
            for name, probability in zip(names, of_decision, strict=True)
        ]
        entries += [
            Number(name=tag("policy_entropy", decision.name), value=entropy(of_decision.tolist()))
            for decision, of_decision in zip(self._start.decisions, probabilities, strict=True)
        ]
        if not self._has_charts:
            self._has_charts = True
            titles = [decision.name for decision in self._start.decisions]
            lines = {title: tuple(names) for title, names in zip(titles, self._options, strict=True)}
            entries.append(Charts(category="policy", lines=lines))
        return entries

    def _figure(self) -> list[Entry]:
        """The figure of metric against cost; nothing where the study has no point."""
        with self._figures:
            if not self._entries:
                return []
            from nas.report.pictures import SearchPicture, draw_pareto

            picture = SearchPicture(points=tuple(self._entries), goals=self._goals, targets=(self._target,))
            name = tag("pareto", "_".join(goal.metric for goal in self._goals))
            return [Picture(name=name, png=draw_pareto(picture))]

    def _about(self) -> Words:
        """The study in words."""
        start = self._start
        until = "no limit of trials" if start.trials is None else counted(start.trials, "trial")
        lines = [
            f"- space: {start.space_name}, {counted(len(start.decisions), 'decision')}",
            f"- objective: {start.objective}",
            f"- controller: {start.controller}",
            f"- {until}, {start.workers} at a time",
            *([f"- note: {start.note}"] if start.note else []),
            *(f"- training: {note}" for note in start.training_notes),
        ]
        return Words(name=tag("study", "about"), markdown="\n".join(lines))

    def _winner(self) -> list[Entry]:
        """The network to go with, with the metric of all its trainings; nothing where none completed."""
        study = open_study(self._start.folder)
        if not study.completed or (best := study.best).quality is None:
            return []
        found = show_metrics(best.quality_metric, best.values or (best.quality,))
        label = metric_info(best.quality_metric).label
        label += f" ({SHARED_WEIGHTS})" if best.has_shared_weights else ""
        words = f"Trial {best.number}: {label} {found}, {show_count(best.macs)} multiply-adds"
        return [Words(name=tag("study", "winner"), markdown=words)]


def begun(log: RunLog | None) -> RunLog:
    """The log of a reporter that was started; raises `RuntimeError` where it was not."""
    if log is None:
        raise RuntimeError("`on_start` must be called before any other method of a reporter")
    return log


class _FigureTimer:
    """Says when a figure may be drawn: when there is more to see, and drawing takes no more than its share.

    A figure has some 60 KiB. With `FIGURE_GROWTH` a search of 100,000 trials draws at most 186 of them.
    """

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._began = self._ended = 0.0
        self._cost_seconds = 1.0
        self._trials = 0

    def begin(self) -> None:
        """Starts counting the time; the first figure is taken to cost a second, for its imports."""
        self._ended = self._clock()

    def is_due(self, trials: int) -> bool:
        """Whether enough trials were added since the last figure, and enough time has passed."""
        has_grown = trials >= self._trials * FIGURE_GROWTH
        is_due = has_grown and (self._clock() - self._ended) * self._share > self._cost_seconds
        self._trials = trials if is_due else self._trials
        return is_due

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        self._ended = self._clock()
        self._cost_seconds = self._ended - self._began


def _of_trial(report: TrialReport) -> dict[str, float]:
    """Everything measured of a trial, and its exact costs."""
    numbers = {metric.name: metric.value for metric in report.metrics}
    numbers |= {"macs": report.trial.cost.macs, "params": report.trial.cost.params}
    numbers |= {} if report.reward is None else {"reward": report.reward}
    numbers |= {"worker_seconds": report.seconds} if report.seconds else {}
    return {tag("trial", name): value for name, value in numbers.items()}


def option_tags(decisions: Sequence[Decision]) -> list[list[str]]:
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
