"""`nas.write_report`: a study on one page that opens offline, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nas.config.command_line import command_of
from nas.errors import NasError, SpaceArgumentError, UsageError
from nas.io import write_whole
from nas.report.page.best_so_far import best_so_far
from nas.report.page.document import MOST_BYTES, plotly_script, render
from nas.report.page.failures import failures
from nas.report.page.front import front
from nas.report.page.importance import importance
from nas.report.page.overview import overview
from nas.report.page.parts import Absent, Page, Section
from nas.report.page.predictions import predictions
from nas.report.page.probabilities import probabilities
from nas.report.page.repeat import repeat
from nas.report.page.rungs import rungs
from nas.report.page.source import Source
from nas.report.page.timeline import timeline
from nas.report.page.trial_cards import trial_cards
from nas.report.printing import show_share
from nas.report.show import open_with_space
from nas.study.attempts import driver_of
from nas.study.study import Study, open_study
from nas.study.study_trial import StudyTrial
from search_spaces import SpaceError

SECTIONS: tuple[Callable[[Source], Section | Absent], ...] = (
    overview,
    best_so_far,
    front,
    importance,
    probabilities,
    rungs,
    predictions,
    timeline,
    failures,
    repeat,
)
"""The sections of a page about one study, in order. Each says itself that it has nothing to show."""

MOST_TRIALS = (1_500, 500, 150)
"""Trials that a page shows; the next number where the page would be too large."""

FILE = "report.html"
"""Name of a page in its study's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A page that was written.

    Attributes:
        path: The file.
        size: Its size, bytes.
        page: What is on it.
    """

    path: Path
    size: int
    page: Page


def write_report(
    studies: str | Path | Study | Sequence[str | Path | Study], out: str | Path | None = None
) -> Written:
    """Writes a page about a study: one HTML file that opens offline, in any browser.

    Args:
        studies: The study, or its folder; several for a page that compares them.
        out: The file; `report.html` in the first study's folder by default.

    Raises:
        StudyError: There is no study, or it cannot be read.
        UsageError: The file cannot be written, or plotly is not installed.
    """
    given = [studies] if isinstance(studies, str | Path | Study) else list(studies)
    if not given:
        raise UsageError("`studies` must hold at least one, but is empty: give some", field="studies")
    plotly_script()
    opened = [study if isinstance(study, Study) else _open(study) for study in given]
    path = check_place(opened[0].folder / FILE if out is None else Path(out).expanduser())
    content, page = _smallest(opened)
    try:
        write_whole(path, content)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}): give a file in a folder that you may "
            "write to",
            field="out",
        ) from error
    return Written(path=path, size=len(content), page=page)


def _open(folder: str | Path) -> Study:
    """Opens a study with its space, or without it where the file of the user's own is gone."""
    try:
        return open_with_space(str(folder))
    except (SpaceArgumentError, SpaceError):
        return open_study(folder)


def check_place(path: Path) -> Path:
    """Checks that a page can be written there.

    Raises:
        UsageError: Its name is not that of a page, or there is something else than a file.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"a page's name must end in .html, but --out is {str(path)!r}: give {path.name or 'report'}.html",
            field="out",
        )
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        raise UsageError(f"--out must be a file, but {path} is {kind}: give another name", field="out")
    return path


def page_of(study: Study, *, most_trials: int = MOST_TRIALS[0]) -> Page:
    """The page about one study.

    Args:
        study: The study, opened with its space where decisions shall be named.
        most_trials: So many trials are shown at most.
    """
    command = command_of(study.settings, study.folder.resolve())
    source = Source.of(study, most_trials=most_trials, command=command)
    return Page(
        title=study.folder.resolve().name,
        subtitle=_subtitle(study),
        notes=(*study.warnings, *_unfinished(study), *_sampled(study, source.shown)),
        parts=tuple(make(source) for make in SECTIONS),
        trials=trial_cards(source.shown),
    )


def _subtitle(study: Study) -> str:
    """What was searched on what, and when this was written."""
    about = (study.provenance.data_text, f"space {study.provenance.space_name}", study.objective.describe())
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{', '.join(word for word in about if word)}. Written {now}."


def _unfinished(study: Study) -> tuple[str, ...]:
    """That a search has not ended, and how far it is; nothing where it has."""
    if study.ending is not None:
        return ()
    done = sum(trial.finished_at is not None for trial in study.trials)
    planned = study.settings.get("trials")
    share = f" of {planned:,} ({show_share(done / planned)})" if planned else ""
    driver = driver_of(study.folder)
    state = f"It runs, or was killed without a word: nas resume {study.folder} continues it then"
    if driver is not None and driver.is_here and driver.is_alive:
        state = f"It runs as {driver}"
    elif driver is not None and driver.is_here:
        state = f"It runs no more, as {driver} is gone: nas resume {study.folder} continues it"
    return (
        f"The search had not ended when this page was written, with {done:,}{share} trials done. {state}. "
        "What is said here may change with every trial.",
    )


def _sampled(study: Study, shown: Sequence[StudyTrial]) -> tuple[str, ...]:
    if len(shown) == len(study.trials):
        return ()
    return (
        f"The study has {len(study.trials):,} trials, of which {len(shown):,} are shown one by one, so that "
        "the page stays small: the winner, the front, the best, and others evenly over the search. Numbers, "
        "shares and curves are of all.",
    )


def page_of_several(studies: Sequence[Study]) -> Page:
    """The page that compares studies."""
    raise UsageError(f"one study must be given, but got {len(studies)}: give one", field="studies")


def _smallest(studies: Sequence[Study]) -> tuple[bytes, Page]:
    """The page with as many trials as fit."""
    for most in MOST_TRIALS:
        page = page_of(studies[0], most_trials=most) if len(studies) == 1 else page_of_several(studies)
        content = render(page)
        if len(content) < MOST_BYTES:
            return content, page
    raise NasError(
        f"a page must be smaller than {MOST_BYTES:,} bytes, but this one has {len(content):,}: give fewer "
        "studies"
    )
