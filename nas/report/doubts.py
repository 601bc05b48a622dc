"""Says what speaks against the accuracy of a study's winner: chance, or trainings that hardly began."""

from __future__ import annotations

from nas.chance import ClassCounts, chance_note, read_counts
from nas.errors import RecipeError
from nas.study.study import Study
from nas.training.notes import few_steps
from nas.training.recipe import Recipe


def doubts_of(study: Study, counts: ClassCounts | None = None) -> tuple[str, ...]:
    """Doubts about the accuracy of the best trial, a sentence each; none where there is nothing to say.

    Args:
        study: The study; it needs a completed trial for any doubt.
        counts: Images of each class by split; None takes what the study remembers.
    """
    known = counts if counts is not None else read_counts(getattr(study.provenance, "data_json", ""))
    if known is None or not study.completed:
        return ()
    best = study.best
    rivals = {trial.digest for trial in study.completed if trial.fidelity == best.fidelity}
    notes = [
        chance_note(best.mean_accuracy, known["search"], split="search", candidates=len(rivals)),
        _few_steps(study, sum(known["train"])),
    ]
    return tuple(note for note in notes if note)


def _few_steps(study: Study, images: int) -> str:
    """Says that a whole training has few steps; nothing where it has enough, or the recipe is not ours."""
    try:
        return few_steps(Recipe.from_json(study.provenance.recipe_json).steps(images))
    except RecipeError:
        return ""
