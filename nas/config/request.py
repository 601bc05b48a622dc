"""`Request`: one run of a search as it was asked for on the command line."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from nas.config.inputs import given_settings, recipe_of, require_images_and_space
from nas.config.prepared import Prepared, prepare
from nas.config.settings import Settings
from nas.errors import StudyError
from nas.study.study import open_study
from nas.study.study_folder import has_study
from nas.training.recipe import Recipe
from nas.trial import Say, say_nothing

RANDOMS, SEEDS = 3, 2
"""Random candidates in the final comparison, and trainings of each network there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One run of a search as it was asked for.

    Attributes:
        folder: The study's folder.
        settings: What the study is, and how it is run this time.
        warm_start: Folder of a study to learn from first; None is none, or that this is done.
        download: Whether a data set by name may be downloaded.
        as_json: Whether the result is printed as JSON, and the progress on standard error.
    """

    folder: Path
    settings: Settings
    warm_start: str | None = None
    download: bool = False
    as_json: bool = False

    @property
    def randoms(self) -> int:
        """Random candidates in the final comparison."""
        return RANDOMS if self.settings.compare_random is None else self.settings.compare_random

    @property
    def seeds(self) -> int:
        """Trainings of each network there; 0 leaves it out."""
        return SEEDS if self.settings.compare_seeds is None else self.settings.compare_seeds


def request_of(arguments: Namespace) -> Request:
    """What the options mean; a study that is there gives what was not said.

    Raises:
        NasError: Something is missing, or contradicts the study.
    """
    folder = Path(arguments.out).expanduser()
    given = given_settings(arguments)
    warm_start = given.get("warm_start")
    if has_study(folder):
        study = open_study(folder)
        stored = Settings.from_dict(study.settings, folder)
        recipe = recipe_of(arguments, Recipe.from_json(stored.recipe)).to_json()
        settings = stored.resumed_with({**given, "recipe": recipe}, folder)
        _check_still_there(settings, folder)
        if not study.trials:
            warm_start = settings.warm_start
    else:
        require_images_and_space(arguments)
        settings = Settings(**{**given, "recipe": recipe_of(arguments).to_json()})
    return Request(
        folder=folder,
        settings=settings,
        warm_start=warm_start,
        download=getattr(arguments, "download", False),
        as_json=arguments.json,
    )


def _check_still_there(settings: Settings, folder: Path) -> None:
    """Checks that the files of a study are where they were, or where they are said to be now.

    Raises:
        StudyError: One is not; names the option that says where it is.
    """
    space_file, colon, _ = settings.space.rpartition(":")
    is_by_name = not Path(settings.data).is_absolute()
    paths = {
        "--data": None if is_by_name else settings.data,
        "--space": space_file if colon else None,
        "--data-root": settings.data_root if is_by_name else None,
        "--latency-table": settings.latency_table,
        "--proxy-check": settings.proxy_check,
    }
    for option, path in paths.items():
        if path is not None and not Path(path).exists():
            new = "NEW.py:name" if option == "--space" else "NEW"
            raise StudyError(
                f"the study in {folder} was searched with {option} {path}, which is not there: if it was "
                f"moved, say where it is now, nas resume {folder} {option} {new}"
            )


def prepare_request(request: Request, *, progress: Say = say_nothing) -> Prepared:
    """Makes what the request needs; a study with a fixed schedule keeps its number of workers.

    Raises:
        NasError: Something cannot be found, read or combined.
        SpaceError: The space breaks one of its laws.
    """
    width = None
    if has_study(request.folder):
        width = open_study(request.folder).identity.deterministic_workers
    return prepare(request.settings, download=request.download, width=width, progress=progress)
