"""The decisions that a template's choices mean: their names, order, conditions and combinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any

from search_spaces.choices import Choice, children
from search_spaces.errors import SpaceError
from search_spaces.stages import Stage

Tokens = tuple[int, ...]
Conditions = tuple[tuple[int, tuple[int, ...]], ...]

Where = tuple[tuple[Choice, int], ...]
"""A part of a template exists where any of these choices has this token."""


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


def collect(template: object) -> tuple[tuple[Choice, ...], tuple[Decision, ...]]:
    """Finds the choices of a template, parents before children, with names and conditions."""
    paths: dict[Choice, str] = {}
    parents: dict[Choice, dict[Choice, set[int]] | None] = {}
    named: dict[str, Choice] = {}

    def visit(value: object, path: str, where: Where | None) -> None:
        if not isinstance(value, Choice):
            has_blocks = _has_blocks(value)
            for step, part in children(value):
                visit(part, path + step, has_blocks if has_blocks and step != ".repeats" else where)
            return
        if value.name is not None and named.setdefault(value.name, value) != value:
            raise SpaceError(
                f"one name must mean one decision, but {value.name!r} stands for "
                f"{named[value.name].options!r} and for {value.options!r}: rename one of them",
                field="name",
            )
        is_new = value not in paths
        paths.setdefault(value, path.lstrip("."))
        known = parents.setdefault(value, {})
        if where is None:
            parents[value] = None
        elif known is not None:
            for parent, token in where:
                known.setdefault(parent, set()).add(token)
        if is_new:
            for token, option in enumerate(value.options):
                step = f".{type(option).__name__}" if is_dataclass(option) else ""
                visit(option, path + step, ((value, token),))

    visit(template, "", None)
    if not paths:
        raise SpaceError(
            "a search space needs at least one choice: put choice(3, 5) where a value stands",
            field="template",
        )
    order = _parents_first(list(paths), parents)
    return tuple(order), _decisions(order, paths, parents)


def _has_blocks(value: object) -> Where | None:
    """Where a stage has blocks, if it is one that may be absent; None for everything else."""
    if not isinstance(value, Stage) or not isinstance(value.repeats, Choice):
        return None
    leaves = list(_leaves(value.repeats))
    return tuple(where for where, repeats in leaves if repeats != 0) if 0 in dict(leaves).values() else None


def _leaves(choice: Choice) -> Iterator[tuple[tuple[Choice, int], object]]:
    """Every value that a choice, nested ones and all, can have, each with the last choice it takes."""
    for token, option in enumerate(choice.options):
        if isinstance(option, Choice):
            yield from _leaves(option)
        else:
            yield (choice, token), option


def _parents_first(
    found: list[Choice], parents: Mapping[Choice, Mapping[Choice, set[int]] | None]
) -> list[Choice]:
    order: list[Choice] = []
    left = list(found)
    while left:
        free = (choice for choice in left if all(parent in order for parent in parents[choice] or ()))
        ready = next(free, None)
        if ready is None:
            raise SpaceError(
                "no decision may depend on itself, but these exist only where each other are chosen: "
                f"{', '.join(map(repr, left))}: give them names of their own",
                field="template",
            )
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


def active_decisions(conditions: Sequence[Conditions], tokens: Sequence[int]) -> tuple[bool, ...]:
    """Says of each decision whether it exists, given the tokens of all of them."""
    active: list[bool] = []
    for pairs in conditions:
        active.append(
            not pairs or any(active[parent] and tokens[parent] in tokens_ for parent, tokens_ in pairs)
        )
    return tuple(active)


def count_candidates(decisions: Sequence[Decision]) -> int:
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
