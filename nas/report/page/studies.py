"""Several studies beside each other: what each is, which can be compared, which differ in the seed alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nas.evaluation.comparison import Comparison, load_comparison
from nas.reading import parse_json
from nas.study.attempts import Attempt, read_attempts
from nas.study.identity import LATENCY_TABLE
from nas.study.study import Study


@dataclass(frozen=True, kw_only=True)
class Named:
    """A study, and what it is called beside others.

    Attributes:
        name: Its name, which no other has.
        study: The study.
    """

    name: str
    study: Study

    @cached_property
    def comparison(self) -> Comparison | None:
        """The comparison on the test split; None where there was none."""
        return load_comparison(self.study.folder)

    @cached_property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts at its trials."""
        return read_attempts(self.study.folder)

    @property
    def quality_metric(self) -> str:
        """What says how good its networks are."""
        trials = self.study.trials
        return trials[0].quality_metric if trials else self.study.objective.goal.metric

    @property
    def comparable(self) -> tuple[str, ...]:
        """What must be equal for rewards to be comparable: images, split, objective.

        Where the images are not known, as with a function of the user's own, it is what measures.
        """
        identity = self.study.identity
        measures = identity.evaluator.split(LATENCY_TABLE)[0]
        return (
            identity.data or measures,
            identity.split,
            json.dumps(parse_json(identity.objective), sort_keys=True),
        )

    @property
    def seed(self) -> int:
        """The seed of its search."""
        return self.study.identity.seed

    @property
    def setup(self) -> tuple[object, ...]:
        """All of its identity but the seed."""
        one = self.study.identity
        return (
            *self.comparable,
            one.space,
            one.evaluator,
            one.recipe,
            one.controller,
            one.deterministic_workers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Studies that differ in the seed alone.

    Attributes:
        name: What they are called.
        studies: The studies.
    """

    name: str
    studies: tuple[Named, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Studies whose rewards can be compared: of equal images, split and objective.

    Attributes:
        letter: What they are called.
        setups: The studies, those that differ in the seed alone together.
    """

    letter: str
    setups: tuple[Setup, ...]

    @property
    def studies(self) -> tuple[Named, ...]:
        """All of them."""
        return tuple(one for setup in self.setups for one in setup.studies)


def name_apart(studies: Sequence[Study]) -> tuple[Named, ...]:
    """The studies with names that differ: of their folders, and of those above where needed."""
    paths = [study.folder.resolve() for study in studies]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return tuple(
        Named(name="/".join(path.parts[-depth:]), study=study)
        for path, study in zip(paths, studies, strict=True)
    )


def group(studies: Sequence[Named]) -> tuple[Group, ...]:
    """The studies that can be compared with each other, in order of their first.

    Of studies that are equal to the seed, only one is together with those of other seeds.
    """
    comparable: dict[tuple[str, ...], dict[tuple[object, ...], list[Named]]] = {}
    for one in studies:
        setups, repeat = comparable.setdefault(one.comparable, {}), 0
        while any(one.seed == other.seed for other in setups.get((repeat, *one.setup), ())):
            repeat += 1
        setups.setdefault((repeat, *one.setup), []).append(one)
    return tuple(
        Group(
            letter=chr(ord("A") + place) if place < 26 else f"{place + 1}",
            setups=tuple(Setup(name=_called(found), studies=tuple(found)) for found in setups.values()),
        )
        for place, setups in enumerate(comparable.values())
    )


def _called(studies: Sequence[Named]) -> str:
    if len(studies) == 1:
        return studies[0].name
    return f"{studies[0].name} and {len(studies) - 1} more seed{'s' * (len(studies) > 2)}"


def images(one: Named) -> str:
    """What a study was searched on, in words."""
    return one.study.provenance.data_text or "a function of the user's own, which says no images"


def differences(one: Named, other: Named) -> list[str]:
    """Why the rewards of two studies cannot be compared, in words."""
    mine, theirs = one.study.identity, other.study.identity
    found = []
    if mine.data != theirs.data:
        found.append(f"the images ({images(one)} and {images(other)})")
    elif mine.split != theirs.split:
        found.append("how the images were split")
    elif not mine.data and one.comparable[0] != other.comparable[0]:
        found.append("what measures a network")
    if one.comparable[2] != other.comparable[2]:
        ours, others = one.study.objective.describe(), other.study.objective.describe()
        found.append(f"the objective ({ours} and {others})")
    return found


def cautions(found: Group) -> list[str]:
    """What else differs within a group, which is part of what a comparison shows."""
    identities = [one.study.identity for one in found.studies]
    words = {
        "the search space": {one.space for one in identities},
        "the controller": {one.controller for one in identities},
        "the training recipe": {one.recipe for one in identities},
        "rungs, starting weights or what else decides a measurement": {
            one.evaluator.split(LATENCY_TABLE)[0] for one in identities
        },
    }
    differing = [name for name, values in words.items() if len(values) > 1]
    if "the training recipe" in differing:
        differing = [name for name in differing if not name.startswith("rungs")]
    return differing
