"""Owns `SearchSpace`: the decisions that a template's choices mean, and the way between tokens and networks.

Does not own who decides: controllers see cardinalities and conditions only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from search_spaces.choices import Choice, children, has_choice, substitute
from search_spaces.errors import SpaceError
from search_spaces.network import Network, Stage, lower
from search_spaces.ops import BUILT_IN_OPS, Op

Tokens = tuple[int, ...]
Conditions = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One open value of a space.

    Attributes:
        name: The choice's name, or its place in the template (`stages[2].op.MBConv.kernel_size`).
        options: What it chooses from; a token is an index into this.
        conditions: Pairs (index of an earlier decision, its tokens). The decision is active when any pair
            holds, that is when the earlier one is itself active and has one of the tokens. Empty: always.
    """

    name: str
    options: tuple[Any, ...]
    conditions: Conditions = ()


class SearchSpace:
    """A network with choices in place of values, seen as a set of candidates.

    A candidate is a tuple of tokens, one option index for each decision; the tokens of inactive decisions
    mean nothing and are 0 in canonical form.

    Attributes:
        template: The network with its choices.
        name: Name of the space for people.
        reference: A published network the space was built around, to compare with; None if there is none.
        decisions: The decisions, each after the ones its conditions name, else in reading order.

    Raises:
        SpaceError: There is no choice in the template, one name stands for different options, an option
            breaks a law of its place, or the reference is not in the space.
    """

    def __init__(self, template: Network, *, name: str = "custom", reference: Network | None = None) -> None:
        self.template = template
        self.name = name
        self.reference = reference
        self._choices, self.decisions = _collect(template)
        self._index = {choice: index for index, choice in enumerate(self._choices)}
        self._check_options()
        if reference is not None:
            self.encode(reference)

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.decisions)} decisions, {self.size:.3g} candidates)"

    def __reduce__(self) -> tuple[Callable[..., SearchSpace], tuple[object, ...]]:
        return _restore, (self.template, self.name, self.reference)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of options of each decision."""
        return tuple(len(decision.options) for decision in self.decisions)

    @property
    def conditions(self) -> tuple[Conditions, ...]:
        """Conditions of each decision."""
        return tuple(decision.conditions for decision in self.decisions)

    @property
    def size(self) -> int:
        """Exact number of candidates in canonical form (different tokens may still mean equal layers)."""
        return _count(self.decisions)

    @property
    def fingerprint(self) -> str:
        """Equal for spaces with the same template, in every process (16 hex digits)."""
        numbers: dict[Choice, int] = {}
        return hashlib.sha256(_template_text(self.template, numbers).encode()).hexdigest()[:16]

    @property
    def op_types(self) -> tuple[type[Op], ...]:
        """The user's own op classes that occur in the space: what `Network.from_json` must be given."""
        found: dict[type[Op], None] = {}
        for value in _walk(self.template):
            if isinstance(value, Stage):
                ops = value.op.options if isinstance(value.op, Choice) else (value.op,)
                found.update((type(op), None) for op in ops if type(op) not in BUILT_IN_OPS)
        return tuple(found)

    def active(self, tokens: Sequence[int]) -> tuple[bool, ...]:
        """Says of each decision whether it exists in the candidate."""
        return _active(self.conditions, tokens)

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
            SpaceError: The tokens are not of this space, or the combination breaks a law.
        """
        self._check_tokens(tokens)
        index = self._index
        return substitute(self.template, lambda choice: choice.options[tokens[index[choice]]])

    def encode(self, network: Network) -> Tokens:
        """The canonical tokens of a network; the first ones in order where several mean the same.

        Raises:
            SpaceError: The network is not in the space; the message says where they first differ.
        """
        furthest = _Mismatch()
        for assignment in _unify(self.template, network, {}, "network", furthest):
            tokens = tuple(assignment.get(choice, 0) for choice in self._choices)
            return self.canonical(tokens)
        raise SpaceError(f"the network is not in the space {self.name!r}: {furthest.text}")

    def sample(self, rng: np.random.Generator) -> Tokens:
        """A random candidate in canonical form: every active decision uniform over its options."""
        return self.canonical([int(rng.integers(count)) for count in self.cardinalities])

    def digest(self, tokens: Sequence[int]) -> str:
        """Identity of a candidate: equal for all tokens that mean the same layers."""
        return self.decode(tokens).digest

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if len(tokens) != len(self.decisions):
            raise SpaceError(f"a candidate needs {len(self.decisions)} tokens, but got {len(tokens)}")
        for token, decision in zip(tokens, self.decisions, strict=True):
            if not 0 <= token < len(decision.options):
                raise SpaceError(
                    f"`0 <= token < {len(decision.options)}` must hold for {decision.name}, but got {token}"
                )

    def _check_options(self) -> None:
        """Lowers one candidate for every option of every decision, so that mistakes show at once."""
        for index, decision in enumerate(self.decisions):
            for token in range(len(decision.options)):
                try:
                    lower(self.decode(self._with(index, token)))
                except SpaceError as error:
                    option = decision.options[token]
                    raise SpaceError(f"option {option!r} of decision {decision.name}: {error}") from None

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


def _walk(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, Choice):
        for option in value.options:
            yield from _walk(option)
    for _, part in children(value):
        yield from _walk(part)


def _collect(template: Network) -> tuple[tuple[Choice, ...], tuple[Decision, ...]]:
    """Finds the choices of a template, parents before children, with names and conditions."""
    paths: dict[Choice, str] = {}
    parents: dict[Choice, dict[Choice, set[int]] | None] = {}
    named: dict[str, Choice] = {}

    def visit(value: object, path: str, parent: tuple[Choice, int] | None) -> None:
        if not isinstance(value, Choice):
            for step, part in children(value):
                visit(part, path + step, parent)
            return
        if value.name is not None and named.setdefault(value.name, value) != value:
            raise SpaceError(
                f"one name must mean one decision, but {value.name!r} stands for "
                f"{named[value.name].options!r} and for {value.options!r}: rename one of them"
            )
        is_new = value not in paths
        paths.setdefault(value, path.lstrip("."))
        known = parents.setdefault(value, {})
        if parent is None:
            parents[value] = None
        elif known is not None:
            known.setdefault(parent[0], set()).add(parent[1])
        if is_new:
            for token, option in enumerate(value.options):
                step = f".{type(option).__name__}" if is_dataclass(option) else ""
                visit(option, path + step, (value, token))

    visit(template, "", None)
    if not paths:
        raise SpaceError("a search space needs at least one choice: put choice(3, 5) where a value stands")
    order = _parents_first(list(paths), parents)
    return tuple(order), _decisions(order, paths, parents)


def _parents_first(
    found: list[Choice], parents: Mapping[Choice, Mapping[Choice, set[int]] | None]
) -> list[Choice]:
    order: list[Choice] = []
    left = list(found)
    while left:
        ready = next(choice for choice in left if all(parent in order for parent in parents[choice] or ()))
        order.append(ready)
        left.remove(ready)
    return order


def _decisions(
    order: Sequence[Choice],
    paths: Mapping[Choice, str],
    parents: Mapping[Choice, Mapping[Choice, set[int]] | None],
) -> tuple[Decision, ...]:
    index = {choice: number for number, choice in enumerate(order)}
    decisions: list[Decision] = []
    names: dict[str, int] = {}
    for choice in order:
        name = choice.name or paths[choice]
        names[name] = names.get(name, 0) + 1
        if names[name] > 1:
            name = f"{name}#{names[name]}"
        pairs = [(index[parent], tuple(sorted(tokens))) for parent, tokens in (parents[choice] or {}).items()]
        if any(_is_certain(decisions[parent], tokens) for parent, tokens in pairs):
            pairs = []
        decisions.append(Decision(name=name, options=choice.options, conditions=tuple(sorted(pairs))))
    return tuple(decisions)


def _is_certain(parent: Decision, tokens: Sequence[int]) -> bool:
    """Whether a condition always holds: the parent is always active and every option of it will do."""
    return not parent.conditions and len(tokens) == len(parent.options)


def _active(conditions: Sequence[Conditions], tokens: Sequence[int]) -> tuple[bool, ...]:
    active: list[bool] = []
    for pairs in conditions:
        active.append(
            not pairs or any(active[parent] and tokens[parent] in tokens_ for parent, tokens_ in pairs)
        )
    return tuple(active)


def _count(decisions: Sequence[Decision]) -> int:
    """Number of canonical token tuples, exact.

    Walks the decisions in order; what the rest depends on is only the tokens of those earlier decisions that
    later conditions name, so the walk is over a few states however large the space.
    """
    last_use = {}
    for index, decision in enumerate(decisions):
        for parent, _ in decision.conditions:
            last_use[parent] = index

    @cache
    def count(index: int, state: tuple[tuple[int, int], ...]) -> int:
        if index == len(decisions):
            return 1
        held = dict(state)
        pairs = decisions[index].conditions
        kept = tuple((parent, token) for parent, token in state if last_use[parent] > index)
        if pairs and not any(held.get(parent, -1) in tokens for parent, tokens in pairs):
            return count(index + 1, kept)
        cardinality = len(decisions[index].options)
        if last_use.get(index, index) == index:
            return cardinality * count(index + 1, kept)
        return sum(count(index + 1, (*kept, (index, token))) for token in range(cardinality))

    return count(0, ())


class _Mismatch:
    """Remembers the deepest place where a network differs from a template."""

    def __init__(self) -> None:
        self.text = "they differ"
        self._depth = -1

    def note(self, path: str, template: object, value: object, depth: int) -> None:
        if depth > self._depth:
            self._depth = depth
            self.text = f"{path} must be {template!r}, but is {value!r}"


def _unify(
    template: object, value: object, assignment: dict[Choice, int], path: str, mismatch: _Mismatch
) -> Iterator[dict[Choice, int]]:
    """Yields every assignment of the choices under which the template equals the value."""
    if isinstance(template, Choice):
        tokens = [assignment[template]] if template in assignment else range(len(template.options))
        before = len(assignment)
        hit = False
        for token in tokens:
            for found in _unify(
                template.options[token], value, {**assignment, template: token}, path, _Mismatch()
            ):
                hit = True
                yield found
        if not hit:
            mismatch.note(path, template, value, before)
        return
    if not has_choice(template):
        if template == value:
            yield assignment
        else:
            mismatch.note(path, template, value, len(assignment))
        return
    own, other = list(children(template)), list(children(value))
    if type(template) is not type(value) or len(own) != len(other):
        mismatch.note(path, template, value, len(assignment))
        return
    yield from _unify_parts(
        [(step, part, other[i][1]) for i, (step, part) in enumerate(own)], assignment, path, mismatch
    )


def _unify_parts(
    parts: Sequence[tuple[str, object, object]], assignment: dict[Choice, int], path: str, mismatch: _Mismatch
) -> Iterator[dict[Choice, int]]:
    if not parts:
        yield assignment
        return
    (step, template, value), *rest = parts
    for found in _unify(template, value, assignment, path + step, mismatch):
        yield from _unify_parts(rest, found, path, mismatch)


def _template_text(value: object, numbers: dict[Choice, int]) -> str:
    if isinstance(value, Choice):
        if value in numbers:
            return f"choice#{numbers[value]}"
        number = numbers[value] = len(numbers)
        options = ",".join(_template_text(option, numbers) for option in value.options)
        return f"choice#{number}({options})"
    if is_dataclass(value) and not isinstance(value, type):
        inner = ",".join(
            f"{field.name}={_template_text(getattr(value, field.name), numbers)}" for field in fields(value)
        )
        return f"{type(value).__qualname__}({inner})"
    if isinstance(value, tuple):
        return f"({','.join(_template_text(item, numbers) for item in value)})"
    return repr(value)
