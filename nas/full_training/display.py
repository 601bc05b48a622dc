"""Shows full trainings while they run: what they will take, a line for each evaluation, progress between."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.full_training.plan import TrainingPlan
from nas.full_training.results import Trained
from nas.full_training.work import TrainingProgress
from nas.metrics import metric_info, show_metric
from nas.report.activity import Activity
from nas.report.agreement_report import agreement_words, marginal_table
from nas.report.printing import (
    MACS,
    PARAMS,
    Column,
    Fact,
    Report,
    Table,
    draw,
    show_bytes,
    show_count,
    show_seconds,
)
from nas.values import counted
from search_spaces import cost

if TYPE_CHECKING:
    from rich.console import Console


class TrainingDisplay:
    """Shows trainings; a `nas.full_training.run.Watcher`, and a context that ends what is going on.

    In a terminal the step, its loss and the time left stand in one line that is written over. Elsewhere such
    a line comes once in a while.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stack = ExitStack()
        self._activity: Activity | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def on_step(self, text: str) -> None:
        """Shows what is going on from now on."""
        self._stack.close()
        self._activity = self._stack.enter_context(Activity(self._console, text))

    def on_plan(self, plan: TrainingPlan) -> None:
        """Draws what a training will take."""
        self._stack.close()
        draw(plan_report(plan), self._console)
        self._activity = self._stack.enter_context(Activity(self._console, "training"))

    def on_progress(self, progress: TrainingProgress) -> None:
        """Shows how far it is; prints a line for an evaluation."""
        if self._activity is None:
            return
        if progress.note:
            self._activity.print(progress.note)
        if progress.row is not None:
            self._activity.print(evaluation_line(progress))
        self._activity(progress_line(progress))


def progress_line(progress: TrainingProgress) -> str:
    """How far a training is, in one line."""
    left = "" if progress.seconds_left is None else f", {show_seconds(progress.seconds_left)} left"
    return (
        f"epoch {progress.epoch:.2f} of {progress.epochs:g}, step {progress.step:,} of {progress.steps:,}, "
        f"loss {progress.loss:.3f}, rate {progress.learning_rate:.3g}, "
        f"{progress.images_per_second:,.0f} images/s{left}"
    )


def evaluation_line(progress: TrainingProgress) -> str:
    """One evaluation of a training, in one line."""
    row = progress.row
    assert row is not None
    width = len(f"{progress.epochs:g}")
    info = metric_info(row.metric)
    averaged = "" if row.averaged_value is None else f"  averaged {info.unit.show(row.averaged_value)}"
    value = "not finite" if row.value is None else info.unit.show(row.value)
    others = "".join(
        f"  {name} {'not finite' if other is None else info.unit.show(other)}" for name, other in row.others
    )
    left = "" if progress.seconds_left is None else f"  {show_seconds(progress.seconds_left)} left"
    return (
        f"epoch {row.epoch:{width}.4g}/{progress.epochs:g}  loss {row.loss:.4f}  "
        f"{info.label} {value}{averaged}{others}  rate {row.learning_rate:.3g}  "
        f"{row.images_per_second:,.0f} images/s{left}"
    )


def plan_report(plan: TrainingPlan) -> Report:
    """What a training will take, as it is printed and as JSON."""
    counted = cost(plan.network)
    chosen = "the best weights are chosen by" if plan.keeps_best else "measured by"
    size = f"{show_count(counted.macs)} multiply-adds, {show_count(counted.params)} parameters"
    return Report(
        title=f"Training {plan.name}",
        facts=(
            Fact(key="name", label="", value=plan.name),
            Fact(key="network", label="network", value=plan.network.digest, text=size),
            Fact(key="data", label="data", value=str(plan.data)),
            Fact(
                key="task",
                label="task",
                value=plan.data.task,
                text=f"{plan.data.task}; {chosen} {metric_info(plan.metric).label}",
            ),
            Fact(key="metric", label="", value=plan.metric),
            *_recipe_facts(plan),
            *_machine_facts(plan),
            *(
                Fact(key=f"note{number}", label="note", value=note)
                for number, note in enumerate(plan.data.notes + plan.notes)
            ),
            *(
                Fact(key=f"warning{number}", label="warning", value=warning)
                for number, warning in enumerate(plan.data.warnings)
            ),
        ),
    )


def _recipe_facts(plan: TrainingPlan) -> tuple[Fact, ...]:
    recipe = plan.recipe
    batch = recipe.batch_for(len(plan.data.train))
    in_words = (
        f"{recipe.name}: {counted(recipe.epochs, 'epoch')}, {batch} images a step, {recipe.optimizer}, "
        f"learning rate {plan.learning_rate:.3g}, {recipe.schedule}"
    )
    steps = f"{plan.steps:,} ({plan.steps_an_epoch:,} an epoch)"
    sizes = f"{', '.join(map(str, plan.sizes))} pixels in training, {plan.data.resolution} in evaluation"
    return (
        Fact(key="recipe", label="recipe", value=recipe.name, text=in_words),
        Fact(key="epochs", label="", value=recipe.epochs),
        Fact(key="batch_size", label="", value=batch),
        Fact(key="learning_rate", label="", value=plan.learning_rate),
        Fact(key="steps", label="steps", value=plan.steps, text=steps),
        Fact(key="sizes", label="image sizes", value=list(plan.sizes), text=sizes),
    )


def _machine_facts(plan: TrainingPlan) -> tuple[Fact, ...]:
    workers = "" if plan.workers == 1 else f", {plan.workers} workers"
    where = f"{plan.device}{workers}, {plan.precision}"
    time, memory = "not measured", ""
    if plan.seconds is not None:
        per_step = ", ".join(f"{1000 * one:.3g}" for one in plan.step_seconds)
        time = f"about {show_seconds(plan.seconds)} ({per_step} ms a step)"
    if plan.memory_bytes is not None:
        memory = f"{show_bytes(plan.memory_bytes)} without the images"
    return (
        Fact(key="device", label="device", value=plan.device, text=where),
        Fact(key="precision", label="", value=plan.precision),
        Fact(key="seconds", label="time", value=plan.seconds, text=time),
        Fact(key="memory_bytes", label="memory" if memory else "", value=plan.memory_bytes, text=memory),
    )


def trained_report(found: Trained) -> Report:
    """What a training came to, as it is printed and as JSON."""
    best = found.fitted.best
    info = metric_info(best.metric)
    tables = (_ranking(found),) if len(found.ranking) > 1 else ()
    agreed = found.agreement
    if agreed is not None and agreed.marginals:
        tables = (*tables, marginal_table(agreed.marginals))
    return Report(
        title=f"Trained {found.fitted.label}",
        facts=(
            Fact(key="metric", label="", value=found.metric),
            *_test_facts(found),
            Fact(key="interval", label="", value=found.interval),
            Fact(
                key=f"search_{best.metric}",
                label=f"search {info.label}",
                value=best.value,
                text=f"{info.unit.show(best.value)} ({best.kind} of epoch {best.epoch:g}, chosen by it)",
            ),
            Fact(
                key="train_seconds",
                label="time",
                value=found.fitted.seconds,
                text=show_seconds(found.fitted.seconds),
            ),
            Fact(
                key="agreement",
                label="",
                value=None if agreed is None else asdict(agreed),
            ),
            Fact(key="bundle", label="bundle", value=str(found.bundle)),
            Fact(key="curves", label="curves", value=str(found.curves)),
            *(
                Fact(key=f"note{number}", label="note", value=note)
                for number, note in enumerate(found.fitted.notes)
            ),
            *(
                Fact(key=f"warning{number}", label="warning", value=warning)
                for number, warning in enumerate(found.warnings)
            ),
        ),
        tables=tables,
        notes=(
            *(() if agreed is None else (agreement_words(agreed),)),
            f"nas evaluate {found.folder} --data ...  and  nas predict {found.folder} IMAGE ...  use it",
        ),
    )


def _test_facts(found: Trained) -> tuple[Fact, ...]:
    """Every metric of the test, that which the weights were chosen by first."""
    names = sorted(found.metrics, key=lambda name: name != found.metric)
    return tuple(
        Fact(
            key=name,
            label=f"test {metric_info(name).label}",
            value=found.metrics[name],
            text=f"{show_metric(name, found.metrics[name])} ({found.tested.where_of(name)})",
        )
        for name in names
    )


def _ranking(found: Trained) -> Table:
    metric = metric_info(found.metric)
    rows = tuple(
        {
            "rank": rank,
            "network": one.label,
            f"search_{metric.name}": one.best.value,
            "macs": one.macs,
            "params": one.params,
            "seconds": one.seconds,
            "folder": str(one.folder),
            "is_best": rank == 1,
        }
        for rank, one in enumerate(found.ranking, start=1)
    )
    columns = (
        Column(key="rank", heading="rank", is_number=True),
        Column(key="network", heading="network"),
        Column(
            key=f"search_{metric.name}",
            heading=f"{metric.label} (search)",
            show=metric.unit.show,
            is_number=True,
        ),
        MACS,
        PARAMS,
        Column(key="seconds", heading="time", show=show_seconds, is_number=True),
    )
    return Table(
        key="ranking", title="Ranked on the search split; the first was tested", columns=columns, rows=rows
    )
