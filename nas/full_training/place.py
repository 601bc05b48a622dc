"""Checks that the folder a training is to be written to is free for it, or holds it."""

from __future__ import annotations

from pathlib import Path

from nas.errors import TrainingError
from nas.export.bundle import WEIGHTS
from nas.export.opened import RUN
from nas.study.study_folder import FILE_NAME


def check_place(folder: Path, *, is_ranking: bool) -> None:
    """Checks that a folder has nothing that the training would be mixed with; writes nothing.

    Args:
        folder: Where to train.
        is_ranking: Whether several networks are trained there, each in a folder of its own.

    Raises:
        TrainingError: It holds a study, a bundle, or a training of the other kind.
    """
    held = ""
    if (folder / FILE_NAME).is_file():
        held = "a study"
    elif (folder / WEIGHTS).is_file():
        held = "a bundle"
    elif not is_ranking and any(folder.glob(f"trial-*/{RUN}")):
        held = "the trainings of several networks of a study"
    elif is_ranking and (folder / RUN).is_file():
        held = "the training of one network"
    if held:
        raise TrainingError(
            f"{folder} must be new, or hold this training, but holds {held}: give another --out", field="out"
        )
