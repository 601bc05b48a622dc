"""Describes images in a few numbers, and says in words how two sets of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from nas.data.images import ImageData, SplitName
from nas.data.targets import label_counts
from nas.errors import DataError
from nas.reading import parse_json, require_types
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, TaskName

SPLITS: tuple[SplitName, ...] = ("train", "search", "test")
MOST_CLASSES = 5
"""Classes named in a difference; the rest is counted."""

OUTPUT_WORDS: Mapping[TaskName, str] = {CLASSIFICATION: "class", MULTILABEL: "label", REGRESSION: "column"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDescription:
    """Images as a study remembers them.

    Attributes:
        name: What users call them; it may change without the images.
        classes: Names of the classes, labels or columns of numbers.
        channels: 1 (grey) or 3 (colour).
        resolution: Height and width in pixels.
        counts: Images of each class or label, for each of the splits train, search and test; for columns of
            numbers, the images of the split.
        task: What networks learn to predict.
        images: Images of each split; empty where it is the sum of `counts`, as for classes.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    resolution: int
    counts: tuple[tuple[int, ...], ...]
    task: TaskName = CLASSIFICATION
    images: tuple[int, ...] = ()

    @classmethod
    def of(cls, data: ImageData) -> Self:
        """Counts images."""
        parts = [data.split(split) for split in SPLITS]
        return cls(
            name=data.name,
            classes=data.classes,
            channels=data.channels,
            resolution=data.resolution,
            counts=tuple(label_counts(data.task, data.classes, part.labels) for part in parts),
            task=data.task,
            images=() if data.task == CLASSIFICATION else tuple(map(len, parts)),
        )

    def to_json(self) -> str:
        """The description as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Reads what `to_json` gave; None where there is nothing, as in a journal of an earlier version.

        Raises:
            DataError: It is no such text.
        """
        if not text:
            return None
        try:
            values = parse_json(text)
            values["classes"] = tuple(values["classes"])
            values["counts"] = tuple(map(tuple, values["counts"]))
            values["images"] = tuple(values.get("images", ()))
            description = cls(**values)
            require_types(description)
            return description
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"a description of images must be what `DataDescription.to_json` writes, but: {error!r}"
            ) from error

    def by_split(self) -> Mapping[str, tuple[int, ...]]:
        """Images of each class, in the order of the classes, by split."""
        return dict(zip(SPLITS, self.counts, strict=True))

    def totals(self) -> dict[str, int]:
        """Images of each class in all splits together."""
        return dict(zip(self.classes, map(sum, zip(*self.counts, strict=True)), strict=True))

    def sizes(self) -> tuple[int, ...]:
        """Images of each split."""
        return self.images or tuple(map(sum, self.counts))

    def changes_from(self, before: DataDescription) -> tuple[str, ...]:
        """How these images differ from those before, as far as the numbers say: one phrase for each thing."""
        found = []
        if self.resolution != before.resolution:
            found.append(f"images of {self.resolution} pixels, before of {before.resolution} (--resolution)")
        if self.channels != before.channels:
            found.append(f"{_colour(self.channels)} images, before {_colour(before.channels)} ones")
        if self.task != before.task:
            found.append(f"labels for {self.task}, before for {before.task} (--task)")
        word = OUTPUT_WORDS[self.task]
        there, here = before.totals(), self.totals()
        found += [f"no {word} {name!r}" for name in there if name not in here]
        found += [f"a new {word} {name!r}" for name in here if name not in there]
        changed = [name for name in here if name in there and here[name] != there[name]]
        for name in changed[:MOST_CLASSES]:
            change = here[name] - there[name]
            images = f"{abs(change):,} image{'s' * (abs(change) != 1)} {'fewer' if change < 0 else 'more'}"
            found.append(f"{images} in {word} {name!r} ({here[name]:,}, before {there[name]:,})")
        if len(changed) > MOST_CLASSES:
            found.append(f"other numbers in {len(changed) - MOST_CLASSES:,} more {TASKS[self.task].outputs}")
        if not found and self.classes != before.classes:
            found.append(f"the {TASKS[self.task].outputs} in another order")
        return tuple(found)

    def split_changes_from(self, before: DataDescription) -> str:
        """How the split of the same images differs."""
        pairs = [
            f"{here:,} {split} images, before {there:,}"
            for split, here, there in zip(SPLITS, self.sizes(), before.sizes(), strict=True)
            if here != there
        ]
        if pairs:
            return f"{'; '.join(pairs)} (--search-fraction, or the folders of the splits)"
        return "as many images in each split, but other ones: another seed of the split (--seed)"


def _colour(channels: int) -> str:
    return "grey" if channels == 1 else "colour"
