"""Says what speaks against the accuracy of a study's winner: chance, or trainings that hardly began."""

from __future__ import annotations

from collections.abc import Sequence

from nas.data.description import DataDescription
from nas.errors import RecipeError
from nas.statistics import CONFIDENCE, wilson_interval
from nas.study.study import Study
from nas.training.notes import few_steps
from nas.training.recipe import Recipe


def doubts_of(study: Study, images: DataDescription | None = None) -> tuple[str, ...]:
    """Doubts about the accuracy of the best trial, a sentence each; none where there is nothing to say.

    Args:
        study: The study; it needs a completed trial for any doubt.
        images: Its images; None takes what the study remembers.
    """
    images = images or DataDescription.from_json(study.provenance.data_json)
    if images is None or not study.completed:
        return ()
    counts = images.by_split()
    best = study.best
    rivals = {trial.digest for trial in study.completed if trial.fidelity == best.fidelity}
    notes = [
        chance_note(best.mean_accuracy, counts["search"], split="search", candidates=len(rivals)),
        _few_steps(study, sum(counts["train"])),
    ]
    return tuple(note for note in notes if note)


def chance_note(accuracy: float | None, counts: Sequence[int], *, split: str, candidates: int = 1) -> str:
    """Says that an accuracy is no better than the largest class, or may be so by chance; else nothing.

    Args:
        accuracy: Fraction of the split; None where none was measured.
        counts: Images of each class there; empty where they are not known.
        split: What to call it.
        candidates: So many were measured and the best was taken. The interval is widened for that
            (Bonferroni), so that of many networks that know nothing the luckiest does not look good.
    """
    images = sum(counts)
    if accuracy is None or not images:
        return ""
    largest = max(counts) / images
    confidence = 1 - (1 - CONFIDENCE) / candidates
    low, high = wilson_interval(round(accuracy * images), images, confidence=confidence)
    if low > largest:
        return ""
    said = (
        f"accuracy {accuracy:.4f}: the largest class alone is {largest:.4f} of the {images:,} {split} images"
    )
    if accuracy <= largest:
        return f"{said}, so that it is no better than always answering with that class"
    best_of = f", as the best of {candidates:,}" if candidates > 1 else ""
    return f"{said}, and chance may explain the rest (interval {low:.2f} to {high:.2f}{best_of})"


def _few_steps(study: Study, images: int) -> str:
    """Says that a whole training has few steps; nothing where it has enough, or the recipe is not ours."""
    try:
        return few_steps(Recipe.from_json(study.provenance.recipe_json).steps(images))
    except RecipeError:
        return ""
