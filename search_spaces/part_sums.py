"""Sums, over the parts of a network, of any value a part has: for many candidates at once.

What a part is worth is asked once for each part that occurs, and looked up by whole arrays from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from search_spaces.cost_tables import CHUNK, Array, CostTables
from search_spaces.errors import SpaceError
from search_spaces.lowering import Part
from search_spaces.network import lower
from search_spaces.slots import Slots

if TYPE_CHECKING:
    from search_spaces.network import Network

Value = Callable[[Part], float]
Sums = npt.NDArray[np.float64]


def inference_parts(network: Network) -> tuple[Part, ...]:
    """The parts of a network as inference sees them: those of `lower`, without stochastic depth.

    Raises:
        SpaceError: An op does not fit in its place; the message names the stage.
    """
    return lower(replace(network, drop_path_rate=0.0) if network.drop_path_rate else network)


class PartSums:
    """Sums of a value over the parts of candidates; made by `SearchSpace.part_sums`.

    Args:
        tables: The tables of the space.
        slots: Its places.
        value: What a part is worth. It sees the parts of `inference_parts`, and must depend on nothing else.
        check: Checks candidates and returns them as an array.
    """

    def __init__(
        self, tables: CostTables, slots: Slots, value: Value, check: Callable[[npt.ArrayLike], Array]
    ) -> None:
        self._tables = tables
        self._slots = slots
        self._value = value
        self._check = check
        self._known: dict[int, Sums] = {}

    def __call__(self, tokens: npt.ArrayLike) -> Sums:
        """The sum of each candidate, equal to the sum of `value` over its `inference_parts`.

        Args:
            tokens: Integers (candidates, decisions); the tokens of inactive decisions mean nothing.

        Returns:
            Sums (candidates,) in float64.

        Raises:
            SpaceError: The tokens are not of this space, or a combination is not valid; the message says in
                which row. What `value` raises is passed on.
        """
        array = self._check(tokens)
        found = np.zeros(len(array))
        add_up = self._add_up if self._tables.is_tabular else self._add_up_one_by_one
        for start in range(0, len(array), CHUNK):
            found[start : start + CHUNK] = add_up(array[start : start + CHUNK], start)
        return found

    def extremes(self) -> tuple[float, float] | None:
        """The least and the most that candidates sum to; None where that cannot be said exactly.

        Exact where every decision reaches one part only and the parts have few enough variants.

        Raises:
            SpaceError: No candidate can be built. What `value` raises is passed on.
        """
        walk = None if self._tables.is_tied else self._tables.walk()
        if walk is None:
            return None
        least, most = np.zeros(1), np.zeros(1)
        for place, variants in enumerate(walk):
            if not len(variants.numbers):
                raise SpaceError("no candidate of the space can be built")
            values = self._values(place, variants.numbers)
            low = np.full(int(variants.next_states.max()) + 1, np.inf)
            high = np.full(len(low), -np.inf)
            np.minimum.at(low, variants.next_states, least[variants.states] + values)
            np.maximum.at(high, variants.next_states, most[variants.states] + values)
            least, most = low, high
        return float(least.min()), float(most.max())

    def _add_up(self, tokens: Array, start: int) -> Sums:
        rows, errors = self._tables.rows(tokens)
        if errors:
            row = min(errors)
            raise SpaceError(f"{errors[row]} (candidate {start + row})", field=errors[row].field)
        total = np.zeros(len(tokens))
        for place in range(rows.shape[1]):
            total += self._values(place, rows[:, place])
        return total

    def _values(self, place: int, numbers: Array) -> Sums:
        """What the rows of a table are worth; a row that is new is asked about."""
        known = self._known.get(place, np.zeros(0))
        size = int(numbers.max(initial=-1)) + 1
        if len(known) < size:
            known = np.concatenate([known, np.full(size - len(known), np.nan)])
        self._known[place] = known
        for number in np.unique(numbers[np.isnan(known[numbers])]):
            part = self._tables.part(place, int(number))
            known[number] = 0.0 if part is None else self._value(part)
        return known[numbers]

    def _add_up_one_by_one(self, tokens: Array, start: int) -> Sums:
        """The same where parts depend on more than a table holds, such as the number of a block."""
        total = np.zeros(len(tokens))
        for row, candidate in enumerate(tokens.tolist()):
            try:
                parts = inference_parts(self._slots.network(candidate))
            except SpaceError as error:
                raise SpaceError(f"{error} (candidate {start + row})", field=error.field) from None
            total[row] = sum(self._value(part) for part in parts)
        return total
