"""The costs of many candidates at once: a table for each part of the network, looked up by whole arrays.

A part's cost depends on the decisions within it and on what reaches it (the shape, and what all parts
share), so a candidate is a walk from table to table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from search_spaces.context import SqueezeExcite
from search_spaces.costs import VALUE_BYTES, Tally
from search_spaces.errors import SpaceError, located
from search_spaces.lowering import Part, Surroundings, lower_head, lower_stage, tally_head, tally_stage
from search_spaces.network import image_shape, surroundings, tally
from search_spaces.primitives import Shape
from search_spaces.slots import Slot, Slots
from search_spaces.stages import Stage, has_placed_ops

Array = npt.NDArray[np.int64]

COLUMNS = (
    "macs",
    "params",
    "activations",
    "weights",
    "inference_values",
    "inference_bytes",
    "training_values",
    "traffic",
)
"""Fields of a record of costs: those of `Cost` and `Memory`."""

RECORD = np.dtype([(name, np.int64) for name in COLUMNS])

CHUNK = 16_384
"""Candidates worked on at a time, so that they stay in the processor's cache."""

MOST_DENSE = 1 << 22
"""Keys that a part's table has a place for; a part with more looks its keys up one by one."""

MOST_WAYS = 200_000
"""Most states and variants of a part that are all worked out for drawing candidates within bounds."""

_SUMS = ("macs", "params", "activations", "buffers", "traffic")
_TALLY = (*_SUMS, "is_alias", "held", "peak", "kept", "keeps_input", "keeps_output", "training")
_ROW = {name: place for place, name in enumerate((*_TALLY, "elements", "state", "is_valid"))}


class State(NamedTuple):
    """What a part is told by those before it."""

    shape: Shape
    shared: Surroundings
    classes: int


NOTHING = State(Shape(0, 0, 0), ("", 0.0, 0.0, 0.0, "", SqueezeExcite()), 0)


class _Table:
    """Rows of one part, found by a key: the tokens of its decisions, and the state that reaches it.

    Args:
        slot: The part's place in the template.
        counts: Number of options of each of its decisions.
        make: Adds up the part, a value of the slot, in a state; gives the next state too.
    """

    def __init__(
        self, slot: Slot, counts: Sequence[int], make: Callable[[Any, State], tuple[Tally, State]]
    ) -> None:
        self.indices = slot.indices
        self.combinations = math.prod(counts)
        self.weights = [math.prod(counts[place + 1 :]) for place in range(len(counts))]
        self.states: dict[State, int] = {}
        self.errors: dict[int, SpaceError] = {}
        self.counts = counts
        self._slot = slot
        self._make = make
        self._columns = np.zeros((len(_ROW), 64), np.int64)
        self._number: dict[int, int] = {}
        self._keys: list[int] = []
        self._made: dict[int, Any] = {}
        self._dense = np.zeros(0, np.int64)

    def look_up(self, keys: Array, next_states: dict[State, int]) -> tuple[Array, Array]:
        """The rows' numbers, and their fields as columns; a row that is not there yet is worked out."""
        size = len(self.states) * self.combinations
        if size > MOST_DENSE:
            unique, inverse = np.unique(keys, return_inverse=True)
            numbers = np.array([self._find(int(key), next_states) for key in unique], np.int64)[inverse]
        else:
            if len(self._dense) < size:
                self._dense = np.concatenate([self._dense, np.full(size - len(self._dense), -1)])
            numbers = self._dense[keys]
            if numbers.min(initial=0) < 0:
                for key in np.unique(keys[numbers < 0]):
                    self._dense[key] = self._find(int(key), next_states)
                numbers = self._dense[keys]
        return numbers, self._columns.take(numbers, axis=1)

    def _find(self, key: int, next_states: dict[State, int]) -> int:
        if key in self._number:
            return self._number[key]
        number = self._number[key] = len(self._number)
        self._keys.append(key)
        if number == self._columns.shape[1]:
            self._columns = np.concatenate([self._columns, np.zeros_like(self._columns)], axis=1)
        value, state = self.row(number)
        try:
            one, after = self._make(value, state)
        except SpaceError as error:
            self.errors[number] = error.with_traceback(None)
            one, after = Tally(state.shape), state
        values = [int(getattr(one, name)) for name in _TALLY]
        state_after = next_states.setdefault(after, len(next_states))
        self._columns[:, number] = (*values, one.out.elements, state_after, number not in self.errors)
        return number

    def row(self, number: int) -> tuple[Any, State]:
        """What a row is of: a value of the slot, unchecked, and the state that reaches it."""
        state_number, rest = divmod(self._keys[number], self.combinations)
        if rest not in self._made:  # the same in every state
            tokens = [rest // weight % count for weight, count in zip(self.weights, self.counts, strict=True)]
            self._made[rest] = self._slot.make(dict(zip(self.indices, tokens, strict=True)))
        return self._made[rest], list(self.states)[state_number]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartChoices:
    """All variants of one part of a network, for each state that may reach it.

    Attributes:
        tokens: Tokens of each variant (variants, decisions of the part).
        indices: Numbers of those decisions in the space.
        values: What each variant adds to the sum (states, variants).
        next_state: The state that it hands on (states, variants).
        is_valid: Whether it can be built (states, variants).
    """

    tokens: Array
    indices: tuple[int, ...]
    values: Array
    next_state: Array
    is_valid: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """All valid variants of one part, from the states that networks reach it in.

    Attributes:
        numbers: The row of each variant (variants,).
        states: The state it starts from (variants,).
        next_states: The state it hands on (variants,).
    """

    numbers: Array
    states: Array
    next_states: Array


class CostTables:
    """The tables of a space; they fill as candidates are asked for.

    Args:
        slots: The places of the template.
        cardinalities: Number of options of each decision.

    Attributes:
        is_tabular: Whether the tables say all; False makes candidates one by one, a hundred times slower.
    """

    def __init__(self, slots: Slots, cardinalities: Sequence[int]) -> None:
        self._slots = slots
        stages = [(f"stage{number}", slot) for number, slot in enumerate(slots.stages, start=1)]
        places = [("network", slots.shared), ("stem", slots.stem), *stages, ("head", slots.head)]
        self._tables = [
            _Table(slot, [cardinalities[index] for index in slot.indices], partial(self._add_up, name))
            for name, slot in places
        ]
        self._tables[0].states[NOTHING] = 0
        # Keys are worked out in float64, by a matrix product, which is exact far beyond this.
        self.is_tabular = slots.has_stages and all(table.combinations < 2**40 for table in self._tables)
        self.is_tabular = self.is_tabular and not has_placed_ops(tuple(slot.value for slot in slots.stages))
        self._weights = np.zeros((len(cardinalities), len(self._tables)))
        for column, table in enumerate(self._tables):
            self._weights[list(table.indices), column] = table.weights if self.is_tabular else 0

    def fold(self, tokens: Array) -> tuple[npt.NDArray[np.void], dict[int, SpaceError]]:
        """Costs of candidates (n, decisions), and what is wrong with those that cannot be built, by row.

        A row that cannot be built has costs without meaning.
        """
        records = np.zeros(len(tokens), RECORD)
        errors: dict[int, SpaceError] = {}
        fold = self._fold if self.is_tabular else self._fold_one_by_one
        for start in range(0, len(tokens), CHUNK):
            part = slice(start, start + CHUNK)
            found = fold(tokens[part], records[part])
            errors.update((start + row, error) for row, error in found.items())
        return records, errors

    def part_choices(self, metric: str) -> list[PartChoices] | None:
        """All variants of each part, and what they add to a cost that is a sum over the parts.

        None where the space is not of that kind: a decision reaches two parts, or a part has too many of
        them.
        """
        if not self.is_tabular or self.is_tied:
            return None
        parts: list[PartChoices] = []
        for place, table in enumerate(self._tables):
            after = self._after(place)
            shape = (len(table.states), table.combinations)
            if math.prod(shape) > MOST_WAYS:
                return None
            _, columns = table.look_up(np.arange(math.prod(shape)), after)
            weights = np.array(table.weights, np.int64)
            variants = np.arange(table.combinations)[:, None]
            parts.append(
                PartChoices(
                    tokens=variants // weights % np.array(table.counts, np.int64),
                    indices=table.indices,
                    values=columns[_ROW[metric]].reshape(shape),
                    next_state=columns[_ROW["state"]].reshape(shape),
                    is_valid=columns[_ROW["is_valid"]].reshape(shape) != 0,
                )
            )
        return parts

    @property
    def is_tied(self) -> bool:
        """Whether a decision reaches several parts: then not every walk through them is a network."""
        indices = [index for table in self._tables for index in table.indices]
        return len(set(indices)) != len(indices)

    def rows(self, tokens: Array) -> tuple[Array, dict[int, SpaceError]]:
        """The row of each part (candidates, tables), and what is wrong with candidates that cannot be built.

        Only for a tabular space. The first table is that of what all parts share.
        """
        keys = (tokens @ self._weights).astype(np.int64)
        rows = np.zeros(keys.shape, np.int64)
        errors: dict[int, SpaceError] = {}
        state: Array = np.zeros(len(tokens), np.int64)
        for place, table in enumerate(self._tables):
            numbers, columns = table.look_up(keys[:, place] + state * table.combinations, self._after(place))
            for row in np.flatnonzero(columns[_ROW["is_valid"]] == 0) if table.errors else ():
                errors.setdefault(int(row), table.errors[int(numbers[row])])
            rows[:, place], state = numbers, columns[_ROW["state"]]
        return rows, errors

    def walk(self) -> list[Variants] | None:
        """All variants of each part in order; None where the space is not tabular or has too many."""
        if not self.is_tabular:
            return None
        found: list[Variants] = []
        reached: Array = np.zeros(1, np.int64)
        for place, table in enumerate(self._tables):
            if len(reached) * table.combinations > MOST_WAYS:
                return None
            states = np.repeat(reached, table.combinations)
            keys = states * table.combinations + np.tile(np.arange(table.combinations), len(reached))
            numbers, columns = table.look_up(keys, self._after(place))
            valid = columns[_ROW["is_valid"]] != 0
            after = columns[_ROW["state"]][valid]
            found.append(Variants(numbers=numbers[valid], states=states[valid], next_states=after))
            reached = np.unique(after)
        return found

    def part(self, place: int, number: int) -> Part | None:
        """The layers of a row; None where there are none: in the first table, and of an absent stage."""
        value, state = self._tables[place].row(number)
        if place == 0 or (isinstance(value, Stage) and value.repeats == 0):
            return None
        if place == len(self._tables) - 1:
            return lower_head(value, state.shape, state.shared, state.classes)
        name = "stem" if place == 1 else f"stage{place - 1}"
        return lower_stage(name, value, state.shape, state.shared, 0, 1)

    def _after(self, place: int) -> dict[State, int]:
        """The states of the table after this one."""
        return self._tables[place + 1].states if place + 1 < len(self._tables) else {}

    def _fold(self, tokens: Array, records: npt.NDArray[np.void]) -> dict[int, SpaceError]:
        keys = (tokens @ self._weights).astype(np.int64)
        errors: dict[int, SpaceError] = {}
        total: dict[str, Array] = {}
        state: Array = np.zeros(len(tokens), np.int64)
        image = state
        for place, table in enumerate(self._tables):
            numbers, columns = table.look_up(keys[:, place] + state * table.combinations, self._after(place))
            part = {name: columns[column] for name, column in _ROW.items()}
            for row in np.flatnonzero(part["is_valid"] == 0) if table.errors else ():
                errors.setdefault(int(row), table.errors[int(numbers[row])])
            state = part["state"]
            if place == 0:
                image = part["elements"]
            else:
                total = _then(total, part) if total else part
        _write(records, total, image)
        return errors

    def _fold_one_by_one(self, tokens: Array, records: npt.NDArray[np.void]) -> dict[int, SpaceError]:
        """The same where parts depend on more than a table holds, such as the number of a block."""
        errors: dict[int, SpaceError] = {}
        for row, candidate in enumerate(tokens.tolist()):
            try:
                network = self._slots.network(candidate)
                one = tally(network)
            except SpaceError as error:
                errors[row] = error.with_traceback(None)
                continue
            total = {name: np.array([int(getattr(one, name))]) for name in _TALLY}
            _write(records[row : row + 1], total, np.array([image_shape(network).elements]))
        return errors

    def _add_up(self, name: str, value: Any, state: State) -> tuple[Tally, State]:
        """The tally of one part, and what the next one is told."""
        if name == "network":
            sample = self._slots.network([0] * len(self._weights))
            network = replace(sample, **dict(zip(self._slots.shared_names, value, strict=True)))
            shape = image_shape(network)
            return Tally(shape), State(shape, surroundings(network), network.num_classes)
        with located(name):
            value.check()
            if name == "head":
                one = tally_head(value, state.shape, state.shared, state.classes)
            else:
                one = tally_stage(value, state.shape, state.shared, 0, 1)
        return one, state._replace(shape=one.out)


def _then(total: dict[str, Array], part: dict[str, Array]) -> dict[str, Array]:
    """`Tally.then`, for arrays."""
    shared = total["elements"] * (total["keeps_output"] & part["keeps_input"])
    is_alias = part["is_alias"] != 0
    return {
        **{name: total[name] + part[name] for name in _SUMS},
        "is_alias": total["is_alias"] & part["is_alias"],
        "held": np.where(is_alias, total["held"], part["held"]),
        "peak": np.maximum(total["peak"], total["held"] + part["peak"]),
        "kept": total["kept"] + part["kept"] - shared,
        "keeps_input": total["keeps_input"] | (total["is_alias"] & part["keeps_input"]),
        "keeps_output": part["keeps_output"] | (part["is_alias"] & total["keeps_output"]),
        "training": np.maximum(total["training"], total["kept"] - shared + part["training"]),
        "elements": part["elements"],
    }


def _write(records: npt.NDArray[np.void], total: dict[str, Array], image: Array) -> None:
    """Fills records in, as `memory_of` does for one network."""
    for name in ("macs", "params", "activations", "traffic"):
        records[name] = total[name]
    records["weights"] = total["params"] + total["buffers"]
    records["inference_values"] = image + total["peak"]
    records["inference_bytes"] = VALUE_BYTES * (records["weights"] + records["inference_values"])
    records["training_values"] = total["training"] + image * (1 - total["keeps_input"])
