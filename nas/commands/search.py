"""Owns `nas search`: from options to a finished study with its winner, comparison and bundle.

Does not own the search (`nas.search`), the comparison (`nas.reports.comparison`) nor how they are shown.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.commands.inputs import given_settings, recipe_of, require_images_and_space
from nas.commands.prepared import Prepared, prepare, read_enqueued
from nas.commands.settings import Settings
from nas.reports.printing import make_console
from nas.studies.journal_schema import FILE_NAME
from nas.studies.study import Study, open_study
from nas.training.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import Console

EXIT_INTERRUPTED = 130
RANDOMS, SEEDS = 3, 2
"""Random candidates in the final comparison, and trainings of each network there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One run of a search as it was asked for.

    Attributes:
        folder: The study's folder.
        settings: What the study is, and how it is run this time.
        enqueue: Files of networks to try first.
        randoms: Random candidates in the final comparison.
        seeds: Trainings of each network there; 0 leaves it out.
        download: Whether a data set by name may be downloaded.
        as_json: Whether the result is printed as JSON, and the progress on standard error.
    """

    folder: Path
    settings: Settings
    enqueue: tuple[str, ...] = ()
    randoms: int = RANDOMS
    seeds: int = SEEDS
    download: bool = False
    as_json: bool = False


def run(arguments: Namespace) -> int:
    """Searches, or continues."""
    request = request_of(arguments)
    if arguments.dry_run:
        from nas.commands.dry_run import dry_run

        return dry_run(request)
    return run_request(request)


def request_of(arguments: Namespace) -> Request:
    """What the options mean; a study that is there gives what was not said.

    Raises:
        NasError: Something is missing, or contradicts the study.
    """
    folder = Path(arguments.out).expanduser()
    given = given_settings(arguments)
    if (folder / FILE_NAME).exists():
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
        randoms=RANDOMS if arguments.compare_random is None else arguments.compare_random,
        seeds=SEEDS if arguments.compare_seeds is None else arguments.compare_seeds,
        download=getattr(arguments, "download", False),
        as_json=arguments.json,
    )


def run_request(request: Request) -> int:
    """Searches, then compares, draws, exports and says what came of it; 130 after Ctrl-C."""
    from nas.commands.aftermath import conclude

    console = make_console(to_stderr=request.as_json)
    prepared = prepare_request(request)
    announce(prepared, console)
    study = search_prepared(request, prepared, console)
    if study.ending == "interrupted":
        return EXIT_INTERRUPTED
    try:
        return conclude(request, prepared, study, console)
    except KeyboardInterrupt:
        console.print(
            f"\nstopped; the search itself is done, finish the rest with: nas resume {request.folder}",
            soft_wrap=True,
        )
        return EXIT_INTERRUPTED


def prepare_request(request: Request) -> Prepared:
    """Makes what the request needs; a study with a fixed schedule keeps its number of workers.

    Raises:
        NasError: Something cannot be found, read or combined.
        SpaceError: The space breaks one of its laws.
    """
    width = None
    if (request.folder / FILE_NAME).exists():
        width = open_study(request.folder).identity.deterministic_workers
    return prepare(request.settings, download=request.download, width=width)


def announce(prepared: Prepared, console: Console) -> None:
    """Prints which images are used, what was decided about them, and what to look at."""
    from rich.text import Text

    console.print(Text(f"data       {prepared.data}"), soft_wrap=True)
    for note in prepared.data.notes:
        console.print(Text(f"           {note}", style="dim"), soft_wrap=True)
    for warning in prepared.data.warnings:
        console.print(Text(f"warning    {warning}", style="yellow"), soft_wrap=True)


def search_prepared(request: Request, prepared: Prepared, console: Console) -> Study:
    """Runs the search with everybody who watches it.

    Raises:
        NasError: The study cannot be used as asked, the machines cannot be had, or going on is pointless.
    """
    from nas.reports.progress import TerminalReporter
    from nas.reports.tensorboard import TensorBoardReporter
    from nas.search import search

    settings = request.settings
    terminal = TerminalReporter(console)
    try:
        return search(
            prepared.space,
            evaluator=prepared.evaluator(),
            controller=settings.controller,  # type: ignore[arg-type]  # checked by the option
            objective=prepared.objective,
            trials=settings.trials,
            max_hours=settings.max_hours,
            patience=settings.patience,
            executor=prepared.executor(),
            out=request.folder,
            seed=settings.seed,
            deterministic=settings.is_deterministic,
            enqueue=read_enqueued(list(request.enqueue), prepared.space),
            reporters=(terminal, TensorBoardReporter()),
            settings=settings.to_dict(),
        )
    finally:
        terminal.close()
