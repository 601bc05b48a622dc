"""Putting options into a template's places, each place once for the same options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any

from search_spaces.choices import Choice, children, substitute
from search_spaces.network import Network

MOST_KEPT = 100_000
"""Values that a place remembers before it is cleared."""


class Slot:
    """One place of a template: the values it takes, by the tokens of the decisions within it.

    Args:
        value: What the template has there.
        index: Number of every decision of the space, by its choice.

    Attributes:
        value: The same.
        indices: The numbers of the decisions within it, nested ones too.
    """

    def __init__(self, value: object, index: dict[Choice, int]) -> None:
        self.value = value
        self.indices = tuple(sorted(index[choice] for choice in _choices(value)))
        self._key = itemgetter(*self.indices) if self.indices else _nothing
        self._known: dict[Any, Any] = {}
        self._index = index

    def known(self, tokens: Sequence[int]) -> Any:
        """The value for these tokens where it was made before and was valid; None otherwise."""
        return self._known.get(self._key(tokens))

    def make(self, tokens: Sequence[int] | Mapping[int, int]) -> Any:
        """The value for these tokens, unchecked."""
        return substitute(self.value, lambda choice: choice.options[tokens[self._index[choice]]])

    def keep(self, tokens: Sequence[int], value: object) -> None:
        """Remembers a valid value."""
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        self._known[self._key(tokens)] = value


class Slots:
    """The places of a template.

    Args:
        template: The network with its choices.
        choices: The choices in the order of the decisions.

    Attributes:
        shared: The place of all fields that are no part of the network, as one tuple.
        stem: The place of the stem.
        stages: The place of each stage.
        head: The place of the head.
        has_stages: Whether there are such; False where the tuple of stages is itself chosen, among `shared`.
    """

    def __init__(self, template: Network, choices: Sequence[Choice]) -> None:
        index = {choice: number for number, choice in enumerate(choices)}
        self.has_stages = isinstance(template.stages, tuple)
        parts = ("stem", "stages", "head") if self.has_stages else ("stem", "head")
        self.shared_names = tuple(field.name for field in fields(template) if field.name not in parts)
        self.shared = Slot(tuple(getattr(template, name) for name in self.shared_names), index)
        self.stem = Slot(template.stem, index)
        self.stages = tuple(Slot(stage, index) for stage in template.stages) if self.has_stages else ()
        self.head = Slot(template.head, index)
        self._all = (self.shared, self.stem, *self.stages, self.head)

    def network(self, tokens: Sequence[int]) -> Network:
        """The network for these tokens, checked where one of its places has a new value.

        Raises:
            SpaceError: The combination is not valid.
        """
        found = [slot.known(tokens) for slot in self._all]
        is_known = None not in found
        if not is_known:
            found = [slot.make(tokens) for slot in self._all]
        shared, stem, *stages, head = found
        values: dict[str, Any] = dict(zip(self.shared_names, shared, strict=True))
        values |= {"stem": stem, "head": head, **({"stages": tuple(stages)} if self.has_stages else {})}
        if is_known:
            return Network.of_checked(values)
        network = Network(**values)
        for slot, value in zip(self._all, found, strict=True):
            slot.keep(tokens, value)
        return network


def _choices(value: object) -> set[Choice]:
    found: set[Choice] = set()
    if isinstance(value, Choice):
        found.add(value)
        for option in value.options:
            found |= _choices(option)
        return found
    for _, part in children(value):
        found |= _choices(part)
    return found


def _nothing(_: Sequence[int]) -> tuple[()]:
    return ()
