"""A front in numbers: its hypervolume after each trial, and its members from the knee on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from controllers.pareto import by_knee, hypervolume, is_dominated
from nas.metrics import Goal, losses
from nas.study.checkpoints import Entry, front_of, of_highest_fidelity


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How the hypervolume of a front grew; further goals that are minimised and above 0 by their logarithm.

    Attributes:
        axes: What it is the volume of, such as `accuracy`, `log macs`.
        reference: The reference point, the worst of each goal among the trials, `(goals,)`.
        numbers: Trials of the highest fidelity, in order.
        volumes: The hypervolume once each of them was known.
    """

    axes: tuple[str, ...]
    reference: tuple[float, ...]
    numbers: tuple[int, ...]
    volumes: tuple[float, ...]

    @classmethod
    def of(cls, entries: Sequence[Entry], goals: Sequence[Goal]) -> Self:
        """The growth over some trials, at least one."""
        ordered = sorted(of_highest_fidelity(entries), key=lambda entry: entry.number)
        points, are_logs = _scaled(ordered, goals)
        reference = points.max(axis=0)
        front, volume, volumes = points[:0], 0.0, []
        for point in points:
            grown = np.concatenate([front, point[None]])
            if not is_dominated(grown)[-1]:
                front = grown[~is_dominated(grown)]
                volume = hypervolume(front, reference)
            volumes.append(volume)
        own = np.array([(entry.value, *entry.costs) for entry in ordered])
        worst = [
            column.min() if goal.direction == "max" else column.max()
            for goal, column in zip(goals, own.T, strict=True)
        ]
        return cls(
            axes=tuple("log " * is_log + goal.metric for is_log, goal in zip(are_logs, goals, strict=True)),
            reference=tuple(map(float, worst)),
            numbers=tuple(entry.number for entry in ordered),
            volumes=tuple(volumes),
        )


def from_knee(entries: Sequence[Entry], goals: Sequence[Goal]) -> list[Entry]:
    """The front of some trials, its knee first; costs count as in `Growth`."""
    front = front_of(entries, goals)
    return [front[row] for row in by_knee(_scaled(front, goals)[0])] if front else []


def _scaled(
    entries: Sequence[Entry], goals: Sequence[Goal]
) -> tuple[npt.NDArray[np.float64], tuple[bool, ...]]:
    """Points `(n, goals)` of which less is better, as the controller of fronts has them; which are logs."""
    points = losses([(entry.value, *entry.costs) for entry in entries], goals)
    are_logs = [
        place > 0 and goal.direction == "min" and bool((points[:, place] > 0).all())
        for place, goal in enumerate(goals)
    ]
    points[:, are_logs] = np.log(points[:, are_logs])
    return points, tuple(are_logs)
