"""Draws random candidates whose costs lie between bounds, exactly, however rare they are.

A cost that is a sum over the parts of a network is drawn part by part: a table says how many paths the
parts to come have of reaching each sum, so every draw ends within the bounds. Sums are counted in bins, a
little too generously; what is outside after all is thrown away, so the draws are those of plain
rejection, without its wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from search_spaces.cost_tables import Array, CostTables, PartChoices
from search_spaces.errors import SpaceError

Bound = tuple[float, float]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.float64]

WIDE_CHUNK = 65_536
"""Candidates drawn at a time where most are thrown away."""

CHUNK = 4096
"""Candidates drawn at a time."""

MOST_BINS = 50_000
MOST_DRAWS = 50_000_000
"""Candidates looked at before bounds are said to be beyond reach, where no table can be made."""

MOST_SLOW_DRAWS = 100_000
"""The same where candidates are looked at one by one."""

MOST_ROUNDS = 500
"""Chunks drawn from the tables before bounds are said to be beyond reach."""


def check_bounds(bounds: Mapping[str, Bound | None]) -> dict[str, Bound]:
    """The bounds that are given.

    Raises:
        SpaceError: One is not a pair of numbers with the least first.
    """
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    for name, bound in given.items():
        is_pair = isinstance(bound, tuple | list) and len(bound) == 2
        if not is_pair or math.isnan(bound[0]) or not bound[0] <= bound[1]:
            raise SpaceError(
                f"a bound must be (least, most), such as {name}=(270e6, 330e6), but got {bound!r}", field=name
            )
    return {name: (float(least), float(most)) for name, (least, most) in given.items()}


def are_within(tables: CostTables, tokens: Array, bounds: Mapping[str, Bound]) -> Mask:
    """Which candidates (n, decisions) can be built and cost what the bounds allow."""
    records, errors = tables.fold(tokens)
    kept = np.ones(len(tokens), bool)
    kept[list(errors)] = False
    for name, (least, most) in bounds.items():
        kept &= (records[name] >= least) & (records[name] <= most)
    return kept


def draw_within(
    tables: CostTables,
    draw: Callable[[int], Array],
    rng: np.random.Generator,
    count: int,
    bounds: Mapping[str, Bound],
) -> Array:
    """Draws raw tokens (count, decisions) of candidates whose costs lie between the bounds.

    Args:
        tables: The costs.
        draw: Draws so many raw tokens, whatever they cost.
        rng: Where randomness comes from.
        count: How many candidates.
        bounds: Least and most of each cost.

    Raises:
        SpaceError: No candidate is found; the message says what the first cost can be, where that is known.
    """

    def keeps(tokens: Array) -> Mask:
        return are_within(tables, tokens, bounds)

    words = ", ".join(f"{least:,.12g} <= {name} <= {most:,.12g}" for name, (least, most) in bounds.items())
    summed = next((name for name in ("macs", "params", "activations") if name in bounds), "")
    parts = tables.part_choices(summed) if summed else None
    if parts is None:
        size, most = (WIDE_CHUNK, MOST_DRAWS) if tables.is_tabular else (CHUNK, MOST_SLOW_DRAWS)
        found = _draw_until(lambda: draw(size), keeps, count, most // size)
        reach = ""
    else:
        sampler = SumSampler(parts, bounds[summed])
        size = min(CHUNK, max(64, 2 * count))
        found = None
        if not sampler.is_empty:
            found = _draw_until(lambda: sampler.draw(rng, size), keeps, count, MOST_ROUNDS)
        reach = "; {} can be {:,} to {:,}".format(summed, *extremes(parts))
    if found is None:
        raise SpaceError(f"no candidate was found with {words}{reach}")
    return found


def _draw_until(
    draw: Callable[[], Array], keeps: Callable[[Array], Mask], count: int, most_rounds: int
) -> Array | None:
    """Draws until so many are kept; None once so many rounds in a row have kept nothing."""
    found: list[Array] = []
    have = idle = 0
    while have < count:
        drawn = draw()
        found.append(drawn[keeps(drawn)])
        have += len(found[-1])
        idle = 0 if len(found[-1]) else idle + 1
        if idle >= most_rounds:
            return None
    return np.concatenate(found)[:count]


class SumSampler:
    """Draws raw tokens whose sum over the parts lies, up to a bin, between bounds.

    Every variant of a part is equally likely beforehand, as when each decision is drawn by itself.

    Args:
        parts: The parts in order; the first has one state.
        bound: Least and most sum.
    """

    def __init__(self, parts: Sequence[PartChoices], bound: Bound) -> None:
        least, most = bound
        self._parts = parts
        self._decisions = sum(len(part.indices) for part in parts)
        largest = sum(int(part.values.max(initial=0)) for part in parts)
        most, least = min(most, largest), max(least, 0.0)
        width = max(1, int((most - least) / (4 * len(parts))), math.ceil(most / MOST_BINS))
        self._binned = [part.values // width for part in parts]
        # Each part loses less than a bin by rounding down.
        self._least, self._most = int(least // width) - len(parts), int(most // width)
        self._paths = self._count_paths() if least <= most else []

    @property
    def is_empty(self) -> bool:
        """Whether nothing lies between the bounds."""
        return not self._paths or self._between(0, np.zeros(1, np.int64), np.zeros(1, np.int64))[0] == 0

    def _count_paths(self) -> list[Counts]:
        """For each part and state, the number of paths from there on that reach at most each sum."""
        bins = self._most + 1
        last = np.zeros((1, bins))
        last[0, 0] = 1
        paths = [last]
        for part, binned in zip(reversed(self._parts), reversed(self._binned), strict=True):
            after, here = paths[0], np.zeros((len(binned), bins))
            for state in range(len(binned)):
                valid = part.is_valid[state] & (binned[state] < bins)
                pairs, counts = np.unique(
                    np.stack([binned[state][valid], part.next_state[state][valid]]),
                    axis=1,
                    return_counts=True,
                )
                for (value, next_state), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
                    row = after[next_state if len(after) > 1 else 0]
                    here[state, value:] += count * row[: bins - value]
            paths.insert(0, here)
        return [np.cumsum(table, axis=1) for table in paths]

    def _between(self, place: int, states: Array, sums: Array) -> Counts:
        """Number of paths that end between the bounds from a part on, for states and sums so far."""
        table = self._paths[place]
        states = states if len(table) > 1 else np.zeros_like(states)
        upper = self._most - sums
        lower = np.maximum(self._least - sums, 0) - 1
        high = np.where(upper >= 0, table[states, np.maximum(upper, 0)], 0.0)
        low = np.where(lower >= 0, table[states, np.clip(lower, 0, self._most)], 0.0)
        between: Counts = np.maximum(high - low, 0.0)
        return between

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Draws raw tokens (count, decisions)."""
        tokens = np.zeros((count, self._decisions), np.int64)
        states = np.zeros(count, np.int64)
        sums = np.zeros(count, np.int64)
        for place, (part, binned) in enumerate(zip(self._parts, self._binned, strict=True)):
            after_sums = sums[:, None] + binned[states]
            after_states = part.next_state[states]
            paths = self._between(place + 1, after_states, after_sums) * part.is_valid[states]
            cumulative = np.cumsum(paths, axis=1)
            marks = rng.random(count) * cumulative[:, -1]
            chosen = np.minimum((cumulative <= marks[:, None]).sum(axis=1), paths.shape[1] - 1)
            rows = np.arange(count)
            tokens[:, part.indices] = part.tokens[chosen]
            states, sums = after_states[rows, chosen], after_sums[rows, chosen]
        return tokens


def extremes(parts: Sequence[PartChoices]) -> tuple[int, int]:
    """The least and the most that the sum can be."""
    found = []
    for is_most in (False, True):
        best = np.zeros(1, np.int64)
        for part in reversed(parts):
            after = best[part.next_state] if len(best) > 1 else best[0]
            worst = np.iinfo(np.int64).min // 2 if is_most else np.iinfo(np.int64).max // 2
            total = np.where(part.is_valid, part.values + after, worst)
            best = total.max(axis=1) if is_most else total.min(axis=1)
        found.append(int(best[0]))
    return found[0], found[1]
