"""What it means that no candidate is better in everything: domination, fronts, crowding, hypervolume.

Points `(n, objectives)` are rows of finite numbers of which smaller is better in every column, unless it
is said otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from controllers.contract import Floats

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def is_dominated(points: Floats) -> Flags:
    """Returns of which points another is nowhere worse and somewhere better, `(n,)`.

    Equal points do not dominate each other. Time grows with the number of points times those not dominated.
    """
    result = np.zeros(len(points), dtype=np.bool_)
    # In this order a point is dominated by an earlier one or by none, so those that are left are the front.
    order = np.lexsort(points.T)
    while len(order):
        front, order = order[0], order[1:]
        is_behind = _dominates(points[front], points[order])
        result[order[is_behind]] = True
        order = order[~is_behind]
    return result


def fronts(points: Floats) -> Ints:
    """Returns the front of each point, `(n,)`: 0 where none dominates it, 1 where only points of 0 do, ...

    Memory grows with the square of the number of points.

    Source: Deb et al., IEEE TEC 2002, section III-A, fast non-dominated sorting.
    """
    dominates = _dominates(points[:, None], points[None])
    dominators = dominates.sum(axis=0)
    result = np.full(len(points), -1, dtype=np.int64)
    number = 0
    while (result < 0).any():
        is_next = (result < 0) & (dominators == 0)
        result[is_next] = number
        dominators -= dominates[is_next].sum(axis=0)
        number += 1
    return result


def crowding(points: Floats) -> Floats:
    """Returns how much room each point of one front has, `(n,)`: infinite at the ends of an objective.

    Elsewhere it is the distance between its neighbours along each objective, in parts of that objective's
    range, summed. Of equal points the first has the room and the others none: they add nothing to a front.

    Source: Deb et al., IEEE TEC 2002, section III-B; equal points, Fortin and Parizeau, GECCO 2013.
    """
    distinct, first = np.unique(points, axis=0, return_index=True)
    room = np.zeros(len(distinct))
    for column in distinct.T:
        order = column.argsort(kind="stable")
        ordered = column[order]
        room[order[[0, -1]]] = np.inf
        if ordered[-1] > ordered[0]:
            room[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    result = np.zeros(len(points))
    result[first] = room
    return result


def hypervolume(accuracies: Floats, costs: Floats, *, least_accuracy: float, most_cost: float) -> float:
    """Returns the area of accuracy and cost that is beaten or met by some candidate, up to a reference point.

    Args:
        accuracies: Of the candidates, `(n,)`; more is better.
        costs: Of the candidates, `(n,)`; less is better.
        least_accuracy: The reference point; a candidate that is no better in both adds nothing.
        most_cost: Likewise.

    Returns:
        The area in units of accuracy times cost, 0 without candidates.

    Source: Zitzler and Thiele, IEEE TEC 1999, for two objectives.
    """
    order = np.argsort(costs, kind="stable")
    # The best accuracy that may be had for at most this cost, from here to the next cost.
    reached = np.maximum.accumulate(np.maximum(accuracies[order] - least_accuracy, 0.0))
    widths = np.diff(np.minimum(costs[order], most_cost), append=most_cost)
    return float(reached @ widths)


def _dominates(these: Floats, those: Floats) -> Flags:
    return np.logical_and((these <= those).all(axis=-1), (these < those).any(axis=-1))
