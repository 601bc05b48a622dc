"""Says what was decided about images, how they are augmented, and what to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.report.printing import Fact

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.training.recipe import Recipe


def data_facts(data: ImageData, recipe: Recipe) -> tuple[Fact, ...]:
    """Notes, then the augmentation, then warnings."""
    from nas.training.mirroring import describe_augmentation, mirror_warning
    from nas.training.training import settle_augmentation

    alarm = mirror_warning(recipe, data)
    augmentation = Fact(
        key="augmentation",
        label="augmentation",
        value=settle_augmentation(recipe, data),
        text=describe_augmentation(recipe, data),
    )
    warnings = (*data.warnings, *([alarm] if alarm else []))
    return (*_numbered("note", data.notes), augmentation, *_numbered("warning", warnings))


def _numbered(kind: str, texts: Sequence[str]) -> list[Fact]:
    return [
        Fact(key=f"{kind}_{number}", label=kind, value=text) for number, text in enumerate(texts, start=1)
    ]
