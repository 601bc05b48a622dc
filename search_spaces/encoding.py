"""Finds a network in a template: which options of the choices give just that network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeGuard

from search_spaces.choices import Choice, children, has_choice
from search_spaces.stages import Stage


class Mismatch:
    """Remembers the deepest place where a network differs from a template."""

    def __init__(self) -> None:
        self.text = "they differ"
        self._depth = -1

    def note(self, path: str, template: object, value: object, depth: int) -> None:
        """Remembers this place if it lies deeper than those before."""
        if depth > self._depth:
            self._depth = depth
            self.text = f"{path} must be {template!r}, but is {value!r}"


def unify(
    template: object, value: object, assignment: dict[Choice, int], path: str, mismatch: Mismatch
) -> Iterator[dict[Choice, int]]:
    """Yields every assignment of the choices under which the template equals the value."""
    if isinstance(template, Choice):
        tokens = [assignment[template]] if template in assignment else range(len(template.options))
        before = len(assignment)
        hit = False
        for token in tokens:
            for found in unify(
                template.options[token], value, {**assignment, template: token}, path, Mismatch()
            ):
                hit = True
                yield found
        if not hit:
            mismatch.note(path, template, value, before)
        return
    if not has_choice(template):
        if template == value or _general(template) == _general(value):
            yield assignment
        else:
            mismatch.note(path, template, value, len(assignment))
        return
    if _are_stages(template) and _are_stages(value):
        yield from _unify_stages(template, value, assignment, path, mismatch)
        return
    template, value = _general(template), _general(value)
    own, other = list(children(template)), list(children(value))
    if type(template) is not type(value) or len(own) != len(other):
        mismatch.note(path, template, value, len(assignment))
        return
    yield from _unify_parts(
        [(step, part, other[i][1]) for i, (step, part) in enumerate(own)], assignment, path, mismatch
    )


def _unify_parts(
    parts: Sequence[tuple[str, object, object]], assignment: dict[Choice, int], path: str, mismatch: Mismatch
) -> Iterator[dict[Choice, int]]:
    if not parts:
        yield assignment
        return
    (step, template, value), *rest = parts
    for found in unify(template, value, assignment, path + step, mismatch):
        yield from _unify_parts(rest, found, path, mismatch)


def _are_stages(value: object) -> TypeGuard[tuple[Stage, ...]]:
    return isinstance(value, tuple) and bool(value) and all(isinstance(item, Stage) for item in value)


def _unify_stages(
    template: tuple[Stage, ...],
    value: tuple[Stage, ...],
    assignment: dict[Choice, int],
    path: str,
    mismatch: Mismatch,
    place: int = 0,
) -> Iterator[dict[Choice, int]]:
    """The same for stages: each of the template is the next one of the value, or absent."""
    if place == len(template):
        left = [stage for stage in value if stage.repeats]
        if left:
            mismatch.note(f"{path}[{place}]", "absent", left[0], len(assignment))
        else:
            yield assignment
        return
    stage, here = template[place], f"{path}[{place}]"
    is_absent = bool(value) and value[0].repeats == 0
    if value and not is_absent:
        for found in unify(stage, value[0], assignment, here, mismatch):
            yield from _unify_stages(template, value[1:], found, path, mismatch, place + 1)
    for found in unify(
        stage.repeats, 0, assignment, here + ".repeats", mismatch if not value else Mismatch()
    ):
        yield from _unify_stages(template, value[is_absent:], found, path, mismatch, place + 1)
    if is_absent:
        yield from _unify_stages(template, value[1:], assignment, path, mismatch, place)


def _general(value: object) -> object:
    """An op that is a special case of another, written as that one; anything else as it is."""
    general = getattr(value, "general", None)
    return value if general is None else general()
