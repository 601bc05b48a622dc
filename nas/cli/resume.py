"""`nas resume`: continuing a study that is there, as it was asked for."""

from __future__ import annotations

from argparse import Namespace

from nas.cli.search import run_request
from nas.config.readers import folder_path
from nas.config.request import request_of
from nas.errors import StudyError
from nas.study.study_folder import has_study
from nas.weight_sharing.recipe import OWN


def run(arguments: Namespace) -> int:
    """Continues a study.

    Raises:
        StudyError: There is none, or something is asked for that a resume may not change.
    """
    folder = folder_path(arguments.out)
    if not has_study(folder):
        if (folder / OWN).is_dir():
            raise StudyError(
                f"the shared weights in {folder} are still in training: repeat the command that began it, "
                "nas search --weight-sharing ..."
            )
        raise StudyError(
            f"there is no study in {folder}: begin one with nas search --data ... --out {folder}"
        )
    return run_request(request_of(arguments))
