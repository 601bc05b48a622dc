"""Checks that the folder a training is to be written to is free for it, or holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nas.errors import TrainingError
from nas.export.bundle import WEIGHTS
from nas.folders import RUN, holds_supernet
from nas.study.study_folder import FILE_NAME

Kind = Literal["network", "ranking", "supernet"]
"""What is trained: one network, several, each in a folder of its own, or a supernet."""


def check_place(folder: Path, kind: Kind) -> None:
    """Checks that a folder has nothing that the training would be mixed with; writes nothing.

    Args:
        folder: Where to train.
        kind: What is trained there.

    Raises:
        TrainingError: It holds a study, a bundle, or a training of another kind.
    """
    held = ""
    if (folder / FILE_NAME).is_file():
        held = "a study"
    elif (folder / WEIGHTS).is_file():
        held = "a bundle"
    elif kind != "ranking" and any(folder.glob(f"trial-*/{RUN}")):
        held = "the trainings of several networks of a study"
    elif kind != "supernet" and holds_supernet(folder):
        held = "a supernet"
    elif kind != "network" and (folder / RUN).is_file() and not holds_supernet(folder):
        held = "the training of one network"
    if held:
        raise TrainingError(
            f"{folder} must be new, or hold this training, but holds {held}: give another --out", field="out"
        )
