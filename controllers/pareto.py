"""Candidates that none beats in everything: domination, fronts, crowding, hypervolume and knee.

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


def hypervolume(points: Floats, reference: Floats) -> float:
    """Returns the volume that is met or beaten by some point, up to a reference point.

    Args:
        points: `(n, objectives)`; one that is no better than the reference in every objective adds nothing.
        reference: `(objectives,)`.

    Returns:
        The volume, in the product of the objectives' units; 0 without points.

    Source: Zitzler and Thiele, IEEE TEC 1999; slice by slice, While et al., IEEE TEC 2006.
    """
    points = points[(points < reference).all(axis=1)]
    if not len(points):
        return 0.0
    points = points[points[:, -1].argsort(kind="stable")]
    heights = np.diff(points[:, -1], append=reference[-1])
    if points.shape[1] == 1:
        return float(reference[0] - points[0, 0])
    if points.shape[1] == 2:
        return float((reference[0] - np.minimum.accumulate(points[:, 0])) @ heights)
    slices = (hypervolume(points[: n + 1, :-1], reference[:-1]) for n in range(len(points)))
    return float(sum(height * area for height, area in zip(heights, slices, strict=True) if height > 0))


def by_knee(points: Floats) -> Ints:
    """Returns the order of the points of a front from its knee on, `(n,)`.

    Each objective is measured from its least to its largest value on the front, as 0 to 1. The points are in
    the order of their distance from the best of every objective; the first is the knee. The distance from
    the chord between the ends, which is used too, says nothing where two of three objectives go together: it
    then takes an end. Of equals the better one in the first objective comes first, then in the next.

    Args:
        points: A front, `(n, objectives)`.

    Source: the compromise solution of Yu, Management Science 19, 1973, with p = 2.
    """
    if not len(points):
        return np.zeros(0, dtype=np.int64)
    spans = np.ptp(points, axis=0)
    shares = (points - points.min(axis=0)) / np.where(spans > 0, spans, 1.0)
    distances = np.round((shares**2).sum(axis=1), 12)  # equals differ by rounding
    return np.lexsort((*points.T[::-1], distances))


def _dominates(these: Floats, those: Floats) -> Flags:
    return np.logical_and((these <= those).all(axis=-1), (these < those).any(axis=-1))
