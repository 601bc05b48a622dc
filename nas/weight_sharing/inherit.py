"""Weights for networks that a search in a supernet found to be trained from: their slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nas.errors import SupernetError, UsageError
from nas.starting_weights import Weights, study_in
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.weight_sharing.recipe import OWN
from nas.weight_sharing.stored import read_supernet


def slices_of(what: str | Path) -> Callable[[StudyTrial], Weights]:
    """Gives trials of a study their slices of the supernet that it was searched in.

    Batch norms begin with initial statistics, as in any network that has not been trained.

    Args:
        what: Folder of the study.

    Raises:
        UsageError: It is no study of `nas search --supernet` or `--weight-sharing`.
        SupernetError: The supernet cannot be read, or is no longer that of the study.
    """
    study = study_in(Path(what).expanduser())
    folder = None if study is None else _supernet_of(study)
    if study is None or study.space is None or folder is None:
        raise UsageError(
            "--inherit takes slices of the supernet that a study was searched in (nas search --supernet or "
            "--weight-sharing), "
            f"but {what} is no such study: leave it out",
            field="inherit",
        )
    supernet, facts = read_supernet(folder, study.space)
    if (facts.images, facts.split) != (study.identity.data, study.identity.split):
        raise SupernetError(
            f"the supernet in {folder} must be trained on the images of {study.folder}, split as there: "
            "images of its test split may be among those that it learnt from; leave --inherit out",
            field="inherit",
        )
    return lambda trial: supernet.materialise(trial.tokens)


def _supernet_of(study: Study) -> Path | None:
    """Where the supernet is: that of a search with a policy moves with its study."""
    if study.settings.get("has_policy"):
        return study.folder / OWN
    given = study.settings.get("supernet")
    return None if given is None else Path(str(given))
