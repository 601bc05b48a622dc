"""The pictures of a finished search: reward or hypervolume over trials, and its metric against cost.

`draw_network` is at home in `nas.report.network_picture`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from nas.errors import NasError
from nas.metrics import ACCURACY, FRACTION, Goal, metric_info, show_metric, show_metrics
from nas.report.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LARGE,
    NORMAL,
    ORANGE,
    PALE,
    SKY,
    SMALL,
    VERMILION,
    new_figure,
    quiet,
    save,
    scale_of,
    to_png,
)
from nas.report.network_picture import draw_network
from nas.study.checkpoints import Entry, front_of, of_highest_fidelity
from nas.study.fronts import Growth
from nas.study.study import Study
from nas.values import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Mark", "SearchPicture", "draw_network", "draw_pareto", "draw_search"]

LEAST_FOR_MEDIAN = 50
"""Trials from which on a running median of the reward is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A network to compare with, trained alike.

    Attributes:
        name: What it is called in the legend.
        value: What the trials are compared by, measured on the same split as theirs.
        costs: One for each of the picture's costs, in its unit.
        values: Those that the value is the mean of; empty where it is a single one.
    """

    name: str
    value: float
    costs: tuple[float, ...]
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPicture:
    """What there is to draw of a search.

    Attributes:
        points: The completed trials; value against cost is drawn of the highest fidelity among them.
        title: First line of the picture; empty for none.
        goals: What the points' value and their costs are, a panel for each of the costs.
        targets: The cost aimed at for each of them; None draws no line, and no tuple draws none at all.
        reference: The space's published network, trained alike; None where it was not.
        random_runs: Rewards of random searches in the order of their trials, one tuple for each search.
        failed: Number of trials that gave no value.
        split: Where it was measured, in words.
        chosen: The network to go with; None marks the point of highest reward as the winner.
        is_front: Whether a front was looked for: its hypervolume is drawn in place of the reward.

    Raises:
        NasError: A number is not finite, a cost or a target is not positive, a point or the reference does
            not have every cost, or a random search is empty.
    """

    points: tuple[Entry, ...]
    title: str = ""
    goals: tuple[Goal, ...] = (ACCURACY, Goal.of("macs"))
    targets: tuple[float | None, ...] = ()
    reference: Mark | None = None
    random_runs: tuple[tuple[float, ...], ...] = ()
    failed: int = 0
    split: str = "search split"
    chosen: Mark | None = None
    is_front: bool = False

    def __post_init__(self) -> None:
        for point in self.points:
            numbers = (point.value, point.reward, *point.costs)
            if not all(map(math.isfinite, numbers)) or min(point.costs, default=0) <= 0:
                raise NasError(f"a point needs finite numbers and a cost above 0, but got {point}")
        rows: list[tuple[float | None, ...]] = [point.costs for point in self.points]
        rows += [mark.costs for mark in (self.reference, self.chosen) if mark is not None]
        rows += [self.targets] if self.targets else []
        for row in rows:
            if len(row) != len(self.costs):
                raise NasError(f"one number is needed for each of {', '.join(self.costs)}, but got {row}")
        for target in self.targets:
            if target is not None and not 0 < target < math.inf:
                raise NasError(f"`target > 0` must hold for a finite number, but got target={target!r}")
        if not all(self.random_runs):
            raise NasError("a random search to compare with must have at least one trial, but one is empty")

    @classmethod
    def of(cls, study: Study) -> Self:
        """What there is to draw of a study."""
        goal, *others = study.objective.front
        costs = tuple(other.metric for other in others)
        targets = study.objective.targets
        return cls(
            points=tuple(entry for entry in study.entries((goal, *others)) if min(entry.costs) > 0),
            goals=(goal, *others),
            title=f"{study.folder.name}: {counted(len(study.trials), 'trial')} of "
            f"{study.provenance.space_name}",
            targets=tuple(targets.get(metric) for metric in costs),
            failed=len(study.trials) - len(study.completed),
            split=_measured_on(study),
            chosen=_chosen(study, costs),
            is_front=study.objective.is_front,
        )

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the costs, in the order of the points'."""
        return tuple(goal.metric for goal in self.goals[1:])

    @property
    def metric(self) -> str:
        """Name of the value."""
        return self.goals[0].metric

    def height(self, value: float) -> float:
        """A value as it is drawn: a fraction in percent."""
        return 100 * value if metric_info(self.metric).unit is FRACTION else value

    @property
    def winner(self) -> Entry | None:
        """The point of highest reward at the highest fidelity, of equals the earliest; None for no points."""
        points = of_highest_fidelity(self.points)
        return max(points, key=lambda point: (point.reward, -point.number), default=None)


def _measured_on(study: Study) -> str:
    is_shared = bool(study.completed) and study.best.has_shared_weights
    return study.best.measured_on if is_shared else "search split"


def _chosen(study: Study, costs: tuple[str, ...]) -> Mark | None:
    """The trial to go with, where all of the costs are known of it."""
    best = study.best if study.completed else None
    if best is None or best.mean_value is None or not all(best.costs.get(cost, 0) > 0 for cost in costs):
        return None
    has_knee = study.objective.is_front and len(study.pareto_front()) > 2
    return Mark(
        name=f"{'knee' if has_knee else 'winner'}, trial {best.number}",
        value=best.mean_value,
        costs=tuple(best.costs[cost] for cost in costs),
        values=best.values if best.quality_metric == study.objective.goal.metric else (),
    )


def draw_search(picture: SearchPicture, path: Path) -> Path:
    """Draws reward over trials beside the metric against each cost, as PNG or SVG by the path's suffix.

    Where a front was looked for, it draws the hypervolume of the front over trials in place of the reward.

    Raises:
        NasError: The name ends in neither, or the file cannot be written.
    """
    figure, panels = _panels(1 + len(picture.costs))
    draw_first = _draw_hypervolume if picture.is_front else _draw_rewards
    draw_first(panels[0], picture)
    for place, axes in enumerate(panels[1:]):
        _draw_pareto(axes, picture, place)
    if picture.title:
        figure.suptitle(picture.title, fontsize=LARGE, color=INK, fontweight="bold")
    return save(figure, path)


def draw_pareto(picture: SearchPicture, path: Path | None = None) -> bytes:
    """Draws the metric against each cost; gives the PNG's bytes, and writes PNG or SVG where a path is given.

    Raises:
        NasError: The path ends in neither, or the file cannot be written.
    """
    figure, panels = _panels(len(picture.costs))
    for place, axes in enumerate(panels):
        _draw_pareto(axes, picture, place)
    if path is not None:
        save(figure, path)
    return to_png(figure)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, at most three in a row."""
    across = min(count, 3) if count != 4 else 2
    down = math.ceil(count / across)
    figure = new_figure(6.0 if across == 1 else 5.5 * across, 5 * down)
    grid = figure.subplots(down, across, squeeze=False)
    for spare in grid.flat[count:]:
        spare.remove()
    return figure, list(grid.flat[:count])


def _draw_rewards(axes: Axes, picture: SearchPicture) -> None:
    quiet(axes)
    points = sorted(of_highest_fidelity(picture.points), key=lambda point: point.number)
    shorter = [point for point in picture.points if points and point.fidelity < points[0].fidelity]
    numbers = [point.number for point in points]
    rewards = np.array([point.reward for point in points])
    name = picture.metric if all(p.reward == p.value for p in points) else "reward"
    if shorter:
        label = f"lower fidelity (n = {len(shorter)})"
        x, y = [point.number for point in shorter], [point.reward for point in shorter]
        axes.scatter(x, y, s=_dot_size(len(picture.points)), color=PALE, linewidths=0, label=label)
    if points:
        _draw_dots(axes, numbers, rewards)
        best = np.maximum.accumulate(rewards)
        axes.step(numbers, best, where="post", color=BLUE, linewidth=2, label="best so far", zorder=4)
    if len(points) >= LEAST_FOR_MEDIAN:
        width = max(10, len(points) // 10)
        label = f"median of the last {width}"
        axes.plot(numbers[width - 1 :], _running_median(rewards, width), color=ORANGE, label=label)
    _draw_random(axes, picture.random_runs, numbers[-1] + 1 if points else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    failed = f", {picture.failed} more failed" if picture.failed else ""
    _label(axes, f"{name.capitalize()} of each trial (n = {len(points)}{failed})", "trial", name)


def _draw_hypervolume(axes: Axes, picture: SearchPicture) -> None:
    quiet(axes)
    failed = f", {picture.failed} more failed" if picture.failed else ""
    count = len(of_highest_fidelity(picture.points))
    if picture.points:
        growth = Growth.of(picture.points, picture.goals)
        worst = zip(picture.goals, growth.reference, strict=True)
        point = ", ".join(f"{goal.metric} {show_metric(goal.metric, number)}" for goal, number in worst)
        label = f"{' by '.join(growth.axes)},\nup to {point}"
        axes.step(growth.numbers, growth.volumes, where="post", color=BLUE, linewidth=2, label=label)
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(axes, f"Hypervolume of the front (n = {count}{failed})", "trial", "hypervolume")


def _draw_dots(axes: Axes, x: Sequence[float], y: npt.NDArray[np.float64]) -> None:
    """Draws one dot for each trial; those so far below that they would flatten all others, as triangles."""
    at, floor = np.array(x), _floor(y)
    inside = y >= floor
    axes.scatter(at[inside], y[inside], s=_dot_size(len(y)), color=SKY, linewidths=0, label="one trial")
    below = at[~inside]
    if below.size:
        bottom = floor - 0.04 * (y.max() - floor)
        axes.set_ylim(bottom=bottom)
        triangles = axes.scatter(
            below, np.full(below.size, bottom), s=26, marker="v", color=SKY, linewidths=0
        )
        triangles.set(clip_on=False, label=f"below the axis (n = {below.size})")


def _draw_random(axes: Axes, runs: tuple[tuple[float, ...], ...], trials: int | None) -> None:
    """Draws the best so far of random searches, as far as trials go: one, or the median of several."""
    if not runs:
        return
    length = min(len(run) for run in runs)
    length = length if trials is None else min(length, trials)
    best = np.maximum.accumulate(np.array([run[:length] for run in runs]), axis=1)
    x = np.arange(length)
    label = "random search, best so far"
    if len(runs) > 1:
        label += f"\n(median and range of {len(runs)} runs)"
        low, high = best.min(axis=0), best.max(axis=0)
        axes.fill_between(x, low, high, step="post", color=GREY, alpha=0.18, linewidth=0)
    axes.step(
        x, np.median(best, axis=0), where="post", color=GREY, linewidth=1.5, linestyle="--", label=label
    )


def _floor(rewards: npt.NDArray[np.float64]) -> float:
    """Where the axis begins: lower rewards are so far off that they would flatten all others."""
    low, middle = np.percentile(rewards, [10, 50])
    reach = float(rewards.max() - low)
    least = float(rewards.min())
    return least if float(middle) - least <= 2 * reach or not reach else float(low) - 0.5 * reach


def _running_median(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Median of each `width` successive values."""
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    return np.asarray(np.median(windows, axis=1), dtype=np.float64)


def _draw_pareto(axes: Axes, picture: SearchPicture, place: int) -> None:
    """Draws the metric against a cost: a line through the front where it is the only one, else points."""
    quiet(axes)
    metric, target = picture.costs[place], picture.targets[place] if picture.targets else None
    points, winner = of_highest_fidelity(picture.points), picture.winner
    costs = [point.costs[place] for point in points]
    costs += [picture.reference.costs[place]] if picture.reference is not None else []
    scale, word = scale_of(max(costs, default=1.0))
    if points:
        x = [point.costs[place] / scale for point in points]
        _draw_dots(axes, x, np.array([picture.height(point.value) for point in points]))
        _draw_front(axes, picture, place, scale)
    if target is not None:
        label = f"target: {show_metric(metric, target)}"
        axes.axvline(target / scale, color=GREY, linestyle="--", linewidth=1.2, label=label)
    if picture.reference is not None:
        axes.set_ylim(bottom=min(axes.get_ylim()[0], picture.height(picture.reference.value) - 0.5))
        _draw_mark(axes, picture, picture.reference, place, scale, _Style("D", GREEN, 55))
    mark = picture.chosen
    if mark is None and winner is not None:
        mark = Mark(name=f"winner, trial {winner.number}", value=winner.value, costs=winner.costs)
    if mark is not None:
        _draw_mark(axes, picture, mark, place, scale, _Style("*", VERMILION, 190))
    if costs and max(costs) > 10 * min(costs):
        _log_axis(axes)
    name, unit = metric_info(metric).label, metric_info(metric).unit.symbol
    units = " ".join(part for part in (word, unit and f"of {unit}" if word else unit) if part)
    of = metric_info(picture.metric)
    title = f"{of.label.capitalize()} against {name} (n = {len(points)})"
    x_label = f"{name} ({units})" if units else name
    symbol = "%" if of.unit is FRACTION else of.unit.symbol
    _label(axes, title, x_label, f"{of.label} on the {picture.split}{f' ({symbol})' if symbol else ''}")


def _draw_front(axes: Axes, picture: SearchPicture, place: int, scale: float) -> None:
    front = front_of(picture.points, picture.goals)
    x = [entry.costs[place] / scale for entry in front]
    y = [picture.height(entry.value) for entry in front]
    label = f"Pareto front (n = {len(front)})"
    if len(picture.costs) > 1:
        label = f"Pareto front over all costs (n = {len(front)})"
        axes.scatter(x, y, s=18, color=BLUE, linewidths=0, zorder=3, label=label)
        return
    (line,) = axes.plot(x, y, color=BLUE, marker="o", markersize=4, drawstyle="steps-post")
    line.set(linewidth=1.5, label=label)


@dataclass(frozen=True, slots=True)
class _Style:
    marker: str
    color: str
    size: float


def _draw_mark(
    axes: Axes, picture: SearchPicture, mark: Mark, place: int, scale: float, style: _Style
) -> None:
    cost = show_metric(picture.costs[place], mark.costs[place])
    value = show_metric(picture.metric, mark.value)
    if metric_info(picture.metric).unit is FRACTION:
        value = f"{100 * mark.value:.2f} %"
    if mark.values:
        value = show_metrics(picture.metric, mark.values)
    axes.scatter(
        [mark.costs[place] / scale],
        [picture.height(mark.value)],
        s=style.size,
        marker=style.marker,
        color=style.color,
        edgecolors="white",
        linewidths=0.9,
        zorder=5,
        label=f"{mark.name}:\n{value}, {cost}",
    )


def _log_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", color=GREY)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    """Labels a panel; the legend stands below it, where it cannot hide data."""
    axes.set_title(title, fontsize=NORMAL, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=NORMAL, color=INK)
    axes.set_ylabel(y, fontsize=NORMAL, color=INK)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=2,
            fontsize=SMALL,
            frameon=False,
            labelcolor=INK,
        )


def _dot_size(count: int) -> float:
    return 28 if count <= 60 else 18 if count <= 300 else 9
