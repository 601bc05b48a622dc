"""`SearchSpace`: the decisions of a template's choices, and the mapping of tokens to and from networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.choices import Choice, children
from search_spaces.constrained import Bound, are_within, check_bounds, draw_within, extremes
from search_spaces.cost_tables import Array, CostTables
from search_spaces.decisions import (
    Conditions,
    Tokens,
    active_decisions,
    collect,
    count_candidates,
)
from search_spaces.encoding import Mismatch, unify
from search_spaces.errors import SpaceError, located, require_one_of
from search_spaces.fingerprints import template_text
from search_spaces.lowering import Part
from search_spaces.network import Network, lower
from search_spaces.ops import BUILT_IN_OPS, Op
from search_spaces.part_sums import PartSums, Sums, Value
from search_spaces.slots import Slots
from search_spaces.stages import Stage


class SearchSpace:
    """A network with choices in place of values, seen as a set of candidates.

    A candidate is a tuple of tokens, one option index for each decision; the tokens of inactive decisions
    mean nothing and are 0 in canonical form.

    Attributes:
        template: The network with its choices.
        name: Name of the space, for reports.
        reference: A published network the space was built around, to compare with; None if there is none.
        decisions: The decisions, each after the ones its conditions name, else in reading order.
        cardinalities: Number of options of each decision.
        slots: The places of the template.

    Raises:
        SpaceError: There is no choice in the template, one name stands for different options, an option
            is not valid in its place, or the reference is not in the space.
    """

    def __init__(self, template: Network, *, name: str = "custom", reference: Network | None = None) -> None:
        self.template = template
        self.name = name
        self.reference = reference
        self._choices, self.decisions = collect(template)
        self.cardinalities = tuple(len(decision.options) for decision in self.decisions)
        self.slots = Slots(template, self._choices)
        self._tables = CostTables(self.slots, self.cardinalities)
        self._check_options()
        if reference is not None:
            self.encode(reference)

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.decisions)} decisions, {self.size:.3g} candidates)"

    def __reduce__(self) -> tuple[Callable[..., SearchSpace], tuple[object, ...]]:
        return _restore, (self.template, self.name, self.reference)

    @property
    def conditions(self) -> tuple[Conditions, ...]:
        """Conditions of each decision."""
        return tuple(decision.conditions for decision in self.decisions)

    @property
    def size(self) -> int:
        """Exact number of candidates in canonical form (different tokens may still mean equal layers)."""
        return count_candidates(self.decisions)

    @property
    def fingerprint(self) -> str:
        """Equal for spaces with the same template, in every process (16 hex digits)."""
        return hashlib.sha256(template_text(self.template).encode()).hexdigest()[:16]

    @property
    def op_types(self) -> tuple[type[Op], ...]:
        """The user's own op classes that occur in the space: what `Network.from_json` must be given."""
        found: dict[type[Op], None] = {}
        for value in _walk(self.template):
            if isinstance(value, Stage):
                ops = value.op.options if isinstance(value.op, Choice) else (value.op,)
                found.update((type(op), None) for op in ops if type(op) not in BUILT_IN_OPS)
        return tuple(found)

    @property
    def own_types(self) -> tuple[type, ...]:
        """The user's own classes that occur in the space: ops, and whatever else is made of fields."""
        return own_types(self.template)

    def option_samples(self) -> Iterator[tuple[int, int, Tokens]]:
        """A candidate for every option of every decision: the decision's number, the option's, its tokens."""
        for index, count in enumerate(self.cardinalities):
            for token in range(count):
                yield index, token, self.canonical(self._with(index, token))

    def active(self, tokens: Sequence[int]) -> tuple[bool, ...]:
        """Says of each decision whether it exists in the candidate."""
        return active_decisions(self.conditions, tokens)

    def canonical(self, tokens: Sequence[int]) -> Tokens:
        """The candidate with 0 for every inactive decision.

        Raises:
            SpaceError: There are too few or too many tokens, or one is out of range.
        """
        self._check_tokens(tokens)
        active = self.active(tokens)
        return tuple(int(token) if here else 0 for token, here in zip(tokens, active, strict=True))

    def decode(self, tokens: Sequence[int]) -> Network:
        """The candidate's network.

        Raises:
            SpaceError: The tokens are not of this space, or the combination is not valid.
        """
        self._check_tokens(tokens)
        return self.slots.network(tokens)

    def encode(self, network: Network) -> Tokens:
        """The canonical tokens of a network; the first ones in order where several mean the same.

        Raises:
            SpaceError: The network is not in the space; the message says where they first differ.
        """
        furthest = Mismatch()
        for assignment in unify(self.template, network, {}, "network", furthest):
            tokens = tuple(assignment.get(choice, 0) for choice in self._choices)
            return self.canonical(tokens)
        raise SpaceError(f"the network is not in the space {self.name!r}: {furthest.text}", field="network")

    def costs(self, tokens: npt.ArrayLike) -> np.recarray[Any, np.dtype[np.void]]:
        """Exact costs of many candidates at once, equal to those of `cost` and `memory` one by one.

        Args:
            tokens: Integers (candidates, decisions); the tokens of inactive decisions mean nothing.

        Returns:
            An array of records (candidates,) with the fields of `Cost` and `Memory`: `macs`, `params`,
            `activations`, `weights`, `inference_values`, `inference_bytes`, `training_values`, `traffic`. A
            field is an array, by name (`costs["macs"]`) or as an attribute (`costs.macs`).

        Raises:
            SpaceError: The tokens are not of this space, or a combination is not valid; the message says in
                which row.
        """
        records, errors = self._tables.fold(self._check_array(tokens))
        if errors:
            row = min(errors)
            raise SpaceError(f"{errors[row]} (candidate {row})", field=errors[row].field)
        found: np.recarray[Any, np.dtype[np.void]] = records.view(np.recarray)
        return found

    def are_within(
        self,
        tokens: npt.ArrayLike,
        *,
        macs: Bound | None = None,
        params: Bound | None = None,
        activations: Bound | None = None,
        inference_bytes: Bound | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Which candidates can be built and cost what the bounds (least, most) allow, many at once.

        Args:
            tokens: Integers (candidates, decisions).
            macs: Least and most multiply-adds, both allowed.
            params: Least and most parameters.
            activations: Least and most values put out by convolutions and linear layers.
            inference_bytes: Least and most of `Memory.inference_bytes`.

        Raises:
            SpaceError: The tokens are not of this space, or a bound is not (least, most).
        """
        given = check_bounds(
            {"macs": macs, "params": params, "activations": activations, "inference_bytes": inference_bytes}
        )
        return are_within(self._tables, self._check_array(tokens), given)

    def cost_range(self, metric: str) -> tuple[int, int] | None:
        """The least and the most that candidates cost, exactly; None where a decision reaches several parts.

        Args:
            metric: `macs`, `params` or `activations`.

        Raises:
            SpaceError: It is another one.
        """
        require_one_of("metric", metric, ("macs", "params", "activations"))
        parts = self._tables.part_choices(metric)
        return None if parts is None else extremes(parts)

    def sums(self, tokens: npt.ArrayLike, value: Value) -> Sums:
        """Sums of a value over the parts of many candidates at once, such as a latency looked up for each.

        To ask again and again, keep what `part_sums` makes: it remembers what each part is worth.

        Args:
            tokens: Integers (candidates, decisions); the tokens of inactive decisions mean nothing.
            value: What a part is worth.

        Returns:
            Sums (candidates,) in float64.

        Raises:
            SpaceError: The tokens are not of this space, or a combination is not valid; the message says in
                which row. What `value` raises is passed on.
        """
        return self.part_sums(value)(tokens)

    def part_sums(self, value: Value) -> PartSums:
        """Makes a function that sums a value over the parts of many candidates, asked once for each part.

        Args:
            value: What a part is worth; it sees the parts of `inference_parts`.
        """
        return PartSums(self._tables, self.slots, value, self._check_array)

    def distinct_parts(self) -> list[Part] | None:
        """Every variant of each part, in order; None where they cannot be listed part by part.

        Where one decision reaches several parts, some may occur in no network.
        """
        walk = self._tables.walk()
        if walk is None:
            return None
        rows = [
            (place, int(number))
            for place, variants in enumerate(walk)
            for number in np.unique(variants.numbers)
        ]
        parts = [self._tables.part(place, number) for place, number in rows]
        return [part for part in parts if part is not None]

    def sample(self, rng: np.random.Generator) -> Tokens:
        """A random candidate in canonical form: every active decision uniform over its options."""
        return self.canonical([int(rng.integers(count)) for count in self.cardinalities])

    def sample_many(self, rng: np.random.Generator, count: int) -> Array:
        """Random candidates in canonical form (count, decisions), distributed as those of `sample`."""
        return self._canonical_array(self._draw(rng, count))

    def sample_within(
        self,
        rng: np.random.Generator,
        count: int = 1,
        *,
        macs: Bound | None = None,
        params: Bound | None = None,
        activations: Bound | None = None,
        inference_bytes: Bound | None = None,
    ) -> Array:
        """Random candidates whose costs lie between bounds: those of `sample_many` that do, and no others.

        Args:
            rng: Where randomness comes from.
            count: How many candidates.
            macs: Least and most multiply-adds, both allowed.
            params: Least and most parameters.
            activations: Least and most values put out by convolutions and linear layers.
            inference_bytes: Least and most of `Memory.inference_bytes`.

        Returns:
            Tokens in canonical form (count, decisions).

        Raises:
            SpaceError: No bound is given, one is not (least, most), or no candidate is found between them.
        """
        given = check_bounds(
            {"macs": macs, "params": params, "activations": activations, "inference_bytes": inference_bytes}
        )

        if not given:
            raise SpaceError("sampling within bounds needs one, such as macs=(270e6, 330e6)", field="bounds")
        if count < 1:
            raise SpaceError(f"`count >= 1` must hold, but got count={count!r}", field="count")
        with located(f"the space {self.name!r}"):
            found = draw_within(self._tables, lambda size: self._draw(rng, size), rng, count, given)
        return self._canonical_array(found)

    def _draw(self, rng: np.random.Generator, count: int) -> Array:
        """Raw tokens (count, decisions), each uniform over its options."""
        columns = [
            rng.integers(0, options, count, dtype=np.uint8 if options <= 256 else np.int64)
            for options in self.cardinalities
        ]
        return np.stack(columns, axis=1).astype(np.int64)

    def _canonical_array(self, tokens: Array) -> Array:
        """The candidates with 0 for every inactive decision."""
        canonical = np.array(tokens, np.int64)
        active = np.ones(tokens.shape, bool)
        for index, decision in enumerate(self.decisions):
            if decision.conditions:
                active[:, index] = False
                for parent, options in decision.conditions:
                    active[:, index] |= active[:, parent] & np.isin(tokens[:, parent], options)
        canonical[~active] = 0
        return canonical

    def digest(self, tokens: Sequence[int]) -> str:
        """Identity of a candidate: equal for all tokens that mean the same layers."""
        return self.decode(tokens).digest

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if len(tokens) != len(self.decisions):
            raise SpaceError(
                f"a candidate needs {len(self.decisions)} tokens, but got {len(tokens)}", field="tokens"
            )
        for token, count, decision in zip(tokens, self.cardinalities, self.decisions, strict=True):
            if not 0 <= token < count:
                raise SpaceError(
                    f"`0 <= token < {count}` must hold for {decision.name}, but got {token}", field="tokens"
                )

    def _check_array(self, tokens: npt.ArrayLike) -> Array:
        array = np.asarray(tokens)
        if array.ndim != 2 or array.shape[1] != len(self.decisions) or array.dtype.kind not in "iu":
            raise SpaceError(
                f"candidates must be integers of the shape (n, {len(self.decisions)}), but got {array.dtype} "
                f"of the shape {array.shape}",
                field="tokens",
            )
        outside = (array < 0) | (array >= np.array(self.cardinalities))
        if outside.any():
            row = int(np.flatnonzero(outside.any(axis=1))[0])
            with located(f"candidate {row}"):
                self._check_tokens(array[row].tolist())
        return array

    def _check_options(self) -> None:
        """Lowers one candidate for every option of every decision, so that mistakes show at once."""
        for index, _, tokens in self.option_samples():
            error = self._error(tokens)
            if error is not None:
                culprit = self._culprit(index, tokens)
                decision = self.decisions[culprit]
                option = decision.options[tokens[culprit]]
                raise SpaceError(f"option {option!r} of decision {decision.name}: {error}", field=error.field)

    def _culprit(self, index: int, tokens: Tokens) -> int:
        """The decision whose other options make a candidate valid: the one that was changed, if it does."""
        numbers: list[int] = [index, *range(len(tokens))]
        for number in numbers:
            others = (
                (*tokens[:number], token, *tokens[number + 1 :])
                for token in range(self.cardinalities[number])
            )
            if any(self._error(other) is None for other in others):
                return number
        return index

    def _error(self, tokens: Tokens) -> SpaceError | None:
        """What is wrong with a candidate, or None."""
        try:
            lower(self.decode(tokens))
        except SpaceError as error:
            return error
        return None

    def _with(self, index: int, token: int) -> list[int]:
        """Tokens in which a decision is active and has the token, all else 0."""
        tokens = [0] * len(self.decisions)
        tokens[index] = token
        while self.decisions[index].conditions:
            index, parent_tokens = self.decisions[index].conditions[0]
            tokens[index] = parent_tokens[0]
        return tokens


def _restore(template: Network, name: str, reference: Network | None) -> SearchSpace:
    return SearchSpace(template, name=name, reference=reference)


def own_types(value: object) -> tuple[type, ...]:
    """The user's own classes that occur in a network, a template or a tuple of them."""
    package = __name__.partition(".")[0]
    found = {type(part): None for part in _walk(value)}
    return tuple(
        kind for kind in found if is_dataclass(kind) and kind.__module__.partition(".")[0] != package
    )


def _walk(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, Choice):
        for option in value.options:
            yield from _walk(option)
    for _, part in children(value):
        yield from _walk(part)
