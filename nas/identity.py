"""What makes a study the same study: its identity, the same in words, and whether a folder holds it."""

from __future__ import annotations

import os
from pathlib import Path

from nas.catalogue import Catalogue
from nas.data.description import DataDescription
from nas.data.images import ImageData
from nas.errors import StudyError
from nas.export.preprocessing import Preprocessing
from nas.objective import Objective
from nas.protocols import Evaluator, HasData, HasRecipe
from nas.rungs import Rungs
from nas.study.disk import require_room
from nas.study.identity import LATENCY_TABLE, Identity, Provenance
from nas.study.journal_reading import read_begun
from nas.study.study_folder import check_parts
from nas.training.recipe import Recipe
from nas.values import as_text
from search_spaces import SearchSpace


def identity_of(
    catalogue: Catalogue,
    evaluator: Evaluator,
    objective: Objective,
    *,
    controller: str,
    rungs: Rungs | None,
    seed: int,
    width: int | None,
) -> Identity:
    """What makes the study what it is; our own evaluator says its parts, another only the whole.

    Args:
        catalogue: Of the space, with the latency table.
        evaluator: What measures candidates.
        objective: What is maximised.
        controller: Name of the controller.
        rungs: Those of the search.
        seed: Seed of the study.
        width: Workers of a fixed schedule; None where results count as they come.
    """
    images, recipe = images_of(evaluator), _recipe_of(evaluator)
    table = "" if catalogue.latency is None else LATENCY_TABLE + catalogue.latency.fingerprint
    measured = [as_text(evaluator.fingerprint, "an evaluator's fingerprint")]
    measured += [] if rungs is None else [rungs.fingerprint]
    return Identity(
        space=catalogue.space.fingerprint,
        data="" if images is None else images.fingerprint,
        split="" if images is None else images.split_fingerprint,
        recipe="" if recipe is None else recipe.fingerprint,
        evaluator="; ".join(measured) + table,
        objective=objective.to_json(),
        controller=controller,
        seed=seed,
        deterministic_workers=width,
    )


def provenance_of(space: SearchSpace, evaluator: Evaluator) -> Provenance:
    """Where a study of a space comes from, in words."""
    images, recipe = images_of(evaluator), _recipe_of(evaluator)
    return Provenance(
        space_name=space.name,
        data_text="" if images is None else str(images),
        recipe_json="" if recipe is None else recipe.to_json(),
        preprocessing_json="" if images is None else Preprocessing.of(images).to_json(),
        data_json="" if images is None else DataDescription.of(images).to_json(),
    )


def check_folder(folder: Path, identity: Identity, provenance: Provenance) -> None:
    """Checks that a folder is free for this study or holds it, and can be written; writes nothing.

    Raises:
        StudyError: It holds another study, cannot be written, or its disk is full.
    """
    check_parts(folder)
    absolute = folder.absolute()
    there = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not there.is_dir():
        raise StudyError(f"the folder {folder} cannot be written: {there} is a file", field="out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StudyError(f"the folder {folder} cannot be written: {there} may not be written to", field="out")
    require_room(there)
    begun = read_begun(folder)
    if begun is not None:
        stored, told = begun
        identity.at_width_of(stored).check_same(stored, folder, told=told, tells=provenance)


def images_of(evaluator: Evaluator) -> ImageData | None:
    """The images that an evaluator trains on, where it says so as ours does."""
    images = evaluator.data if isinstance(evaluator, HasData) else None
    return images if isinstance(images, ImageData) else None


def _recipe_of(evaluator: Evaluator) -> Recipe | None:
    recipe = evaluator.recipe if isinstance(evaluator, HasRecipe) else None
    return recipe if isinstance(recipe, Recipe) else None
