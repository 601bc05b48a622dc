"""The registry of metrics: names, units, directions, origins and formats; Pareto fronts over them.

A metric is added here, in `METRICS`, and nowhere else. A metric of a user's evaluator needs no entry.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from controllers.pareto import is_dominated
from nas.errors import ObjectiveError
from nas.units import (
    parse_bytes,
    parse_count,
    parse_fraction,
    parse_milliseconds,
    parse_seconds,
    show_accuracy,
    show_bytes,
    show_count,
    show_milliseconds,
    show_number,
    show_seconds,
)

Direction = Literal["max", "min"]
"""Whether more or less of a metric is better."""

Origin = Literal["network", "predicted", "measured"]
"""Where a metric comes from: the network alone, a table measured beforehand, or an evaluator."""

WORD = r"[^\W\d]\w*"
"""What a metric is called in an objective."""

NEAR = 0.85
"""Likeness from which on a word is taken for a metric misspelt; `val_accuracy` is a metric of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How the numbers of a metric are read and printed.

    Attributes:
        name: The unit as it is stored with a measurement.
        symbol: The unit behind a number on an axis; empty for none.
        read: Reads a quantity above 0.
        show: Prints a number.
        example: A quantity as a user may write it.
        is_time: Whether it measures time, which no two runs measure alike.
    """

    name: str
    symbol: str = ""
    read: Callable[[str], float]
    show: Callable[[float], str]
    example: str
    is_time: bool = False


FRACTION = Unit(name="fraction", read=parse_fraction, show=show_accuracy, example="0.75")
COUNT = Unit(name="count", read=parse_count, show=show_count, example="300M")
MILLISECONDS = Unit(
    name="ms", symbol="ms", read=parse_milliseconds, show=show_milliseconds, example="5ms", is_time=True
)
SECONDS = Unit(name="s", symbol="s", read=parse_seconds, show=show_seconds, example="30s", is_time=True)
BYTES = Unit(name="bytes", symbol="bytes", read=parse_bytes, show=show_bytes, example="2GiB")
NATS = Unit(name="nats", symbol="nats", read=parse_count, show=show_number, example="0.5")
PER_SECOND = Unit(name="1/s", symbol="1/s", read=parse_count, show=show_number, example="1000", is_time=True)
NUMBER = Unit(name="number", read=parse_count, show=show_number, example="0.5")

_NEAR_BUT_MEANT = frozenset({"micro_f1", "mse"})
"""Metrics that others have, of names that look like one of ours misspelt."""

_LESS_IS_BETTER = frozenset(("distance", "error", "loss", "mae", "mse", "perplexity", "rmse"))
"""Words in the name of a metric that is minimised."""

_ENDINGS = {"_ms": MILLISECONDS, "_bytes": BYTES, "_seconds": SECONDS}
"""The unit of a metric that is not in the registry, by the end of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """What is known of a metric by its name.

    Attributes:
        name: The name in journals, objectives and JSON.
        label: What it is called in a picture or a report.
        unit: How its numbers are read and printed.
        direction: Whether more or less of it is better, where an objective does not say.
        origin: Where it comes from.
        aliases: Short names that an objective may use.
        is_reported: Whether the report of a network shows it, also where the objective does not look at it.
        is_in_trial_line: Whether the line that is printed of each trial shows it.
    """

    name: str
    label: str
    unit: Unit
    direction: Direction = "min"
    origin: Origin = "measured"
    aliases: tuple[str, ...] = ()
    is_reported: bool = False
    is_in_trial_line: bool = False

    @property
    def is_known_before_training(self) -> bool:
        """Whether it follows from the network, or from a table measured beforehand."""
        return self.origin != "measured"


METRICS = (
    MetricInfo(name="accuracy", label="accuracy", unit=FRACTION, direction="max"),
    MetricInfo(name="balanced_accuracy", label="balanced accuracy", unit=FRACTION, direction="max"),
    MetricInfo(name="macro_f1", label="macro F1", unit=FRACTION, direction="max"),
    MetricInfo(name="top5", label="top-5 accuracy", unit=FRACTION, direction="max"),
    MetricInfo(name="auroc", label="AUROC", unit=FRACTION, direction="max"),
    MetricInfo(name="mean_average_precision", label="mean average precision", unit=FRACTION, direction="max"),
    MetricInfo(name="r2", label="R2", unit=NUMBER, direction="max"),
    MetricInfo(name="rmse", label="RMSE", unit=NUMBER),
    MetricInfo(name="mae", label="MAE", unit=NUMBER),
    MetricInfo(
        name="params_taken",
        label="parameters taken",
        unit=COUNT,
        direction="max",
        is_in_trial_line=True,
    ),
    MetricInfo(name="macs", label="multiply-adds", unit=COUNT, origin="network"),
    MetricInfo(name="params", label="parameters", unit=COUNT, origin="network"),
    MetricInfo(name="activations", label="activations", unit=COUNT, origin="network"),
    MetricInfo(
        name="predicted_latency_ms",
        label="predicted latency",
        unit=MILLISECONDS,
        origin="predicted",
        aliases=("predicted_latency",),
        is_in_trial_line=True,
    ),
    MetricInfo(
        name="latency_ms",
        label="latency",
        unit=MILLISECONDS,
        aliases=("latency",),
        is_reported=True,
        is_in_trial_line=True,
    ),
    MetricInfo(
        name="peak_memory_bytes", label="peak memory", unit=BYTES, aliases=("memory",), is_reported=True
    ),
    MetricInfo(name="inference_memory_bytes", label="inference memory", unit=BYTES),
    MetricInfo(name="train_step_ms", label="training step", unit=MILLISECONDS, aliases=("step_time",)),
    MetricInfo(name="train_seconds", label="training time", unit=SECONDS, is_reported=True),
    MetricInfo(name="images_per_second", label="images per second", unit=PER_SECOND, direction="max"),
    MetricInfo(name="loss", label="training loss", unit=NATS),
)
"""Every metric that our own evaluators, tables and networks have."""

REGISTRY: Mapping[str, MetricInfo] = {info.name: info for info in METRICS}
_BY_ALIAS: Mapping[str, str] = {alias: info.name for info in METRICS for alias in info.aliases}

NETWORK_METRICS = tuple(info.name for info in METRICS if info.origin == "network")
"""Costs that follow from the network alone."""

PREDICTED_METRICS = tuple(info.name for info in METRICS if info.origin == "predicted")
"""Costs that follow from the network and a table that was measured beforehand."""

KNOWN_METRICS = NETWORK_METRICS + PREDICTED_METRICS
"""Costs that are known before anything is trained."""


SHARED_WEIGHTS = "shared weights"
"""In the environment of a metric: it was measured of a slice of a supernet, not of a trained network."""

MEASURING_SECONDS = "measuring_seconds"
"""How long it took to measure a slice of a supernet, its statistics included."""


def metric_info(name: str) -> MetricInfo:
    """What is known of a metric; of one that is not in the registry, what the end of its name says."""
    if name in REGISTRY:
        return REGISTRY[name]
    unit = next((unit for ending, unit in _ENDINGS.items() if name.endswith(ending)), NUMBER)
    return MetricInfo(name=name, label=name, unit=unit)


def direction_of(name: str) -> Direction | None:
    """Whether more or less of a metric is better; None where neither its entry nor its name says so."""
    if name in REGISTRY:
        return REGISTRY[name].direction
    is_lesser = metric_info(name).unit is not NUMBER or _LESS_IS_BETTER & set(name.lower().split("_"))
    return "min" if is_lesser else None


def show_metric(name: str, value: float) -> str:
    """Formats a metric's number with its unit: `29.8M`, `4.20 ms`, `512 MiB`."""
    return metric_info(name).unit.show(value)


def show_metrics(name: str, values: Sequence[float]) -> str:
    """Formats a metric of one network's trainings: `0.9130 ± 0.0080 (n=3)`, or one number."""
    show = metric_info(name).unit.show
    if len(values) == 1:
        return show(values[0])
    return f"{show(statistics.fmean(values))} ± {show(statistics.stdev(values))} (n={len(values)})"


def show_difference(name: str, value: float) -> str:
    """Formats a spread or a difference of a metric: points of a fraction, `2.10 points`, else its number."""
    unit = metric_info(name).unit
    return f"{100 * value:.2f} points" if unit is FRACTION else unit.show(value)


def metric_name(word: str) -> str:
    """The metric that a word of an objective names: one of the registry, also by its alias, or a user's own.

    Raises:
        ObjectiveError: It nearly names one of the registry, but not quite.
    """
    name = _BY_ALIAS.get(word, word)
    is_known = name in REGISTRY or word in _NEAR_BUT_MEANT
    near = [] if is_known else get_close_matches(word, [*_BY_ALIAS, *REGISTRY], n=1, cutoff=NEAR)
    if near and _digits(near[0]) == _digits(word):  # `macro_f2` is no misspelt `macro_f1`
        raise ObjectiveError(f"there is no metric {word!r}: did you mean {near[0]!r}?", field="metric")
    return name


def like_ours(name: str) -> str:
    """The metric of the registry that a name is a part of, as f1 is of macro_f1; empty for none or itself."""
    return (
        "" if name in REGISTRY else next((ours for ours in REGISTRY if name.lower() in ours.split("_")), "")
    )


def _digits(word: str) -> str:
    return "".join(filter(str.isdigit, word))


def check_metric(name: object) -> None:
    """Checks the full name of a metric; any word will do, but not an alias or a near miss of ours.

    Raises:
        ObjectiveError: It is none.
    """
    if not isinstance(name, str) or not re.fullmatch(WORD, name):
        raise ObjectiveError(
            f"a metric must be a word such as {', '.join(REGISTRY)}, but got {name!r}", field="metric"
        )
    if metric_name(name) != name:
        raise ObjectiveError(
            f"there is no metric {name!r}: did you mean {metric_name(name)!r}?", field="metric"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A metric, and whether it is to be maximised or minimised.

    Attributes:
        metric: Name of the metric.
        direction: `max` or `min`.

    Raises:
        ObjectiveError: The metric is none, or the direction is another.
    """

    metric: str
    direction: Direction

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if self.direction not in get_args(Direction):
            raise ObjectiveError(
                f"`direction in ('max', 'min')` must hold, but got direction={self.direction!r}",
                field="direction",
            )

    @classmethod
    def of(cls, metric: str) -> Goal:
        """The goal of a metric by its default direction; a metric that is not in the registry is a cost."""
        return cls(metric=metric, direction=metric_info(metric).direction)

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return 1.0 if self.direction == "max" else -1.0

    def describe(self) -> str:
        """The goal as an objective has it; a bare `accuracy` is maximised."""
        return "accuracy" if self == ACCURACY else f"{self.direction} {self.metric}"


ACCURACY = Goal(metric="accuracy", direction="max")
"""What is maximised where nothing else is asked for."""


def losses(points: npt.ArrayLike, goals: Sequence[Goal]) -> npt.NDArray[np.float64]:
    """Points `(n, goals)` with every column turned so that less is better."""
    signs = np.array([goal.sign for goal in goals])
    return -signs * np.asarray(points, dtype=np.float64).reshape(-1, len(goals))


def pareto_front(points: npt.ArrayLike, goals: Sequence[Goal]) -> tuple[int, ...]:
    """Which points no other beats: none is at least as good in every goal and better in one.

    Args:
        points: The metrics of each, finite numbers, `(n, goals)`.
        goals: What each column is, and its direction.

    Returns:
        Their rows in rising order; of equal points the first.
    """
    turned = losses(points, goals)
    if not len(turned):
        return ()
    order = np.lexsort(turned.T)  # of equal points the first comes first
    is_new = np.append(True, (np.diff(turned[order], axis=0) != 0).any(axis=1))
    rows = np.sort(order[is_new])
    return tuple(rows[~is_dominated(turned[rows])].tolist())
