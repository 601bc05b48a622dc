"""Chooses a share of images that have several labels, or numbers, so that both parts are alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.data.copies import Contents
from nas.data.images import Labels
from nas.tasks import MULTILABEL, TaskName

MOST_BINS = 10
"""Quantile bins of a column of numbers of which every split gets its share."""

Flags = npt.NDArray[np.bool_]


def iterative(
    task: TaskName,
    labels: Labels,
    fraction: float,
    rng: np.random.Generator,
    *,
    contents: Contents,
    reserve: int,
) -> npt.NDArray[np.int64]:
    """Chooses a share of each label, or of each quantile of each column of numbers; indices, ascending.

    The rarest label is dealt first, so that each part gets at least one image of it where there are enough.
    Copies of an image are chosen together or not at all; those with different labels are never chosen.

    Args:
        task: `multilabel` or `regression`.
        labels: float32 of shape (images, columns).
        fraction: Share of the images.
        rng: Decides which images.
        contents: Numbers that only copies share, by image.
        reserve: How many images of each label should be left.

    Source: Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-label Data", 2011, algorithm 1.
    """
    _, first, group, sizes = np.unique(contents, return_index=True, return_inverse=True, return_counts=True)
    is_mixed = np.zeros(len(first), dtype=bool)
    np.logical_or.at(is_mixed, group, (labels != labels[first[group]]).any(1))
    usable = np.flatnonzero(~is_mixed)
    if len(usable) <= reserve:  # too few different images: as if all were different
        group, first, sizes = (
            np.arange(len(labels)),
            np.arange(len(labels)),
            np.ones(len(labels), dtype=int),
        )
        usable = first
    usable = rng.permutation(usable)
    rows = labels[first[usable]]
    flags = rows > 0 if task == MULTILABEL else quantile_flags(rows, fraction)
    is_chosen = _deal(flags, sizes[usable], fraction * len(labels), fraction, reserve)
    return np.flatnonzero(np.isin(group, usable[is_chosen]))


def quantile_flags(numbers: Labels, fraction: float) -> Flags:
    """Which quantile of its column each number is in: of shape (count, bins of all columns).

    There are at most ten bins a column, and so few that a share of each holds an image.
    """
    bins = int(np.clip(len(numbers) * min(fraction, 1 - fraction), 1, MOST_BINS))
    flags = []
    for column in numbers.astype(np.float64).T:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)[1:-1]))
        place = np.searchsorted(edges, column, side="right")
        flags.append(place[:, None] == np.arange(len(edges) + 1))
    found: Flags = np.concatenate(flags, axis=1)
    return found


def _deal(flags: Flags, sizes: npt.NDArray[np.int64], wanted: float, fraction: float, reserve: int) -> Flags:
    """Deals groups of images to the chosen part or the rest; returns which are chosen.

    Args:
        flags: Which labels each group has.
        sizes: Images of each group.
        wanted: Images to choose.
        fraction: Share of each label to choose.
        reserve: Groups of each label to leave.
    """
    totals = (flags * sizes[:, None]).sum(0).astype(float)
    groups = flags.sum(0)
    room = np.array([sizes.sum() - wanted, wanted])  # of the rest, of the chosen
    chosen_wants = np.clip(fraction * totals, np.minimum(1, totals), None)
    chosen_wants[groups <= reserve] = 0
    wants = np.stack([totals - chosen_wants, chosen_wants])
    is_chosen, is_open = np.zeros(len(flags), dtype=bool), np.ones(len(flags), dtype=bool)

    def give(index: int, part: int) -> None:
        is_chosen[index], is_open[index] = bool(part), False
        room[part] -= sizes[index]
        wants[part, flags[index]] -= sizes[index]

    while (left := (flags & is_open[:, None]).sum(0)).any():
        rarest = int(np.where(left > 0, left, len(flags) + 1).argmin())
        for index in np.flatnonzero(flags[:, rarest] & is_open).tolist():
            give(index, _most_wanting(wants[:, rarest], room))
    for index in np.flatnonzero(is_open).tolist():
        give(index, int(room[1] > room[0]))
    if not is_chosen.any():
        is_chosen[sizes.argmin()] = True
    elif is_chosen.all():
        is_chosen[sizes.argmin()] = False
    return is_chosen


def _most_wanting(wants: npt.NDArray[np.float64], room: npt.NDArray[np.float64]) -> int:
    """The part that wants most of a label; of equals, the one with more room."""
    if wants[0] == wants[1]:
        return int(room[1] > room[0])
    return int(wants[1] > wants[0])
