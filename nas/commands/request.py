"""Owns `Request`: one run of a search as it was asked for on the command line.

Does not own carrying it out (`nas.commands.search`, `nas.commands.dry_run`).
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from nas.commands.inputs import given_settings, recipe_of, require_images_and_space
from nas.commands.prepared import Prepared, prepare
from nas.commands.settings import Settings
from nas.studies.study import open_study
from nas.studies.study_folder import has_study
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
        enqueue: Files of networks to try first.
        warm_start: Folder of a study to learn from first; None is none.
        randoms: Random candidates in the final comparison.
        seeds: Trainings of each network there; 0 leaves it out.
        download: Whether a data set by name may be downloaded.
        as_json: Whether the result is printed as JSON, and the progress on standard error.
    """

    folder: Path
    settings: Settings
    enqueue: tuple[str, ...] = ()
    warm_start: str | None = None
    randoms: int = RANDOMS
    seeds: int = SEEDS
    download: bool = False
    as_json: bool = False


def request_of(arguments: Namespace) -> Request:
    """What the options mean; a study that is there gives what was not said.

    Raises:
        NasError: Something is missing, or contradicts the study.
    """
    folder = Path(arguments.out).expanduser()
    given = given_settings(arguments)
    if has_study(folder):
        stored = Settings.from_dict(open_study(folder).settings, folder)
        recipe = recipe_of(arguments, Recipe.from_json(stored.recipe)).to_json()
        settings = stored.resumed_with({**given, "recipe": recipe}, folder)
    else:
        require_images_and_space(arguments)
        settings = Settings(**{**given, "recipe": recipe_of(arguments).to_json()})
    return Request(
        folder=folder,
        settings=settings,
        enqueue=tuple(arguments.enqueue),
        warm_start=arguments.warm_start,
        randoms=RANDOMS if arguments.compare_random is None else arguments.compare_random,
        seeds=SEEDS if arguments.compare_seeds is None else arguments.compare_seeds,
        download=getattr(arguments, "download", False),
        as_json=arguments.json,
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
