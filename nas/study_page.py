"""`nas.write_report`: a study on one page that opens offline, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nas.config.command_line import command_of
from nas.errors import NasError, StudyError, UsageError
from nas.io import write_whole
from nas.report.page.after_search import AFTER_SEARCH, after_search, of_beside, read_files
from nas.report.page.attached import ACCEPTED, Attached, Recognised, recognise, shared_among
from nas.report.page.best_so_far import best_so_far
from nas.report.page.compared import compared
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
from nas.report.page.shared_weights import shared_weights
from nas.report.page.source import Source
from nas.report.page.studies import name_apart
from nas.report.page.studies_sections import compare_studies
from nas.report.page.timeline import timeline
from nas.report.page.trial_cards import trial_cards
from nas.report.printing import show_share, unwritable
from nas.study.attempts import driver_of
from nas.study.study import Study
from nas.study.study_folder import FILE_NAME, has_study
from nas.study.study_trial import StudyTrial
from nas.study.with_space import open_to_show

SECTIONS: tuple[Callable[[Source], Section | Absent], ...] = (
    overview,
    best_so_far,
    front,
    importance,
    probabilities,
    rungs,
    predictions,
    shared_weights,
    timeline,
    failures,
    compared,
    *map(of_beside, AFTER_SEARCH),
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
        found: What was recognised where.
    """

    path: Path
    size: int
    page: Page
    found: tuple[Recognised, ...] = ()


def write_report(
    studies: str | Path | Study | Sequence[str | Path | Study], out: str | Path | None = None
) -> Written:
    """Writes a page about a study: one HTML file that opens offline, in any browser.

    Args:
        studies: The study, or its folder; several for a page that compares them. Beside them, or alone, what
            came after a search: folders of `nas train` and `nas scale`, files of `nas evaluate --json`,
            `nas measure`, `nas latency-table` and `nas cam`.
        out: The file; `report.html` in the first folder by default.

    Raises:
        StudyError: There is no study, or it cannot be read.
        UsageError: A folder or file holds nothing that is known or cannot be read, the page cannot be
            written, or plotly is not installed.
        LatencyError: A file of latencies is damaged.
    """
    given = [studies] if isinstance(studies, str | Path | Study) else list(studies)
    if not given:
        raise UsageError("`studies` must hold at least one, but is empty: give some", field="studies")
    plotly_script()
    content_of = _read(given)
    path = check_place(content_of.first / FILE if out is None else Path(out).expanduser())
    content, page = _smallest(content_of)
    try:
        write_whole(path, content)
    except OSError as error:
        raise unwritable(path, error, field="out") from error
    return Written(path=path, size=len(content), page=page, found=content_of.found.recognised)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What a page is to be made of.

    Attributes:
        first: The folder of the page, where none is asked for.
        studies: The studies.
        found: What else was given, or stands in the studies' folders; with the studies among what was
            recognised.
    """

    first: Path
    studies: tuple[Study, ...]
    found: Attached


def _read(given: Sequence[str | Path | Study]) -> _Given:
    """Finds out what each of these is; a study that is given twice counts once."""
    studies: dict[Path, Study] = {}
    found = Attached()
    for one in _each(given):
        path = one.folder if isinstance(one, Study) else Path(one).expanduser()
        beside = recognise(path) if path.exists() else Attached()
        if isinstance(one, Study) or (path / FILE_NAME).exists() or not beside.recognised:
            study = one if isinstance(one, Study) else _opened(path)
            studies.setdefault(path.resolve(), study)
            found = found.and_also(Attached(recognised=(Recognised(path=path, kind="study"),)))
        found = found.and_also(beside)
    path = Path(given[0].folder if isinstance(given[0], Study) else given[0]).expanduser()
    first = path if path.is_dir() else path.parent
    return _Given(first=first, studies=tuple(studies.values()), found=found)


def _each(given: Sequence[str | Path | Study]) -> Iterator[str | Path | Study]:
    """What was given, and the studies in folders such as `runs` before what else is in them."""
    for one in given:
        path = one.folder if isinstance(one, Study) else Path(one).expanduser()
        inside = [] if (path / FILE_NAME).exists() else sorted(path.glob(f"*/{FILE_NAME}"))
        yield from (file.parent for file in inside)
        if not inside or recognise(path).recognised:
            yield one


def _opened(path: Path) -> Study:
    """The study in a folder that holds nothing else that is known."""
    if path.is_file():
        raise UsageError(f"{path} is nothing that a page is made of: give {ACCEPTED}", field="folders")
    if not path.exists():
        raise UsageError(f"{path} does not exist: give {ACCEPTED}", field="folders")
    if not path.is_dir() or not has_study(path):
        raise StudyError(
            f"there is no study in {path}, nor anything else that a page is made of: give {ACCEPTED}",
            field="folders",
        )
    return open_to_show(str(path))[0]


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


def page_of(study: Study, *, most_trials: int = MOST_TRIALS[0], beside: Attached | None = None) -> Page:
    """The page about one study.

    Args:
        study: The study, opened with its space where decisions shall be named.
        most_trials: So many trials are shown at most.
        beside: What was given with it.
    """
    command = command_of(study.settings, study.folder.resolve())
    source = Source.of(study, most_trials=most_trials, command=command, beside=beside)
    return Page(
        title=study.folder.resolve().name,
        subtitle=_subtitle(study),
        notes=(*study.warnings, *_unfinished(study), *_sampled(study, source.shown)),
        parts=(*(make(source) for make in SECTIONS), *read_files(source.beside)),
        trials=trial_cards(source.shown),
    )


def _subtitle(study: Study) -> str:
    """What was searched on what, and when this was written."""
    about = (study.provenance.data_text, f"space {study.provenance.space_name}", study.objective.describe())
    return f"{', '.join(word for word in about if word)}. Written {_now()}."


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


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


def page_of_several(studies: Sequence[Study], *, beside: Attached | None = None) -> Page:
    """The page that compares studies.

    Args:
        studies: At least two.
        beside: What was given with them: what is of a network of one of them is said to be its own.
    """
    compared_studies = name_apart(studies)
    digests = {one.name: frozenset(t.digest for t in one.study.trials) for one in compared_studies}
    found = shared_among(beside or Attached(), digests)
    return Page(
        title=f"{len(studies)} studies beside each other",
        subtitle=f"{', '.join(one.name for one in compared_studies)}. Written {_now()}.",
        notes=tuple(note for study in studies for note in (*study.warnings, *_unfinished(study))),
        parts=(*compare_studies(compared_studies), *after_search(found), *read_files(found)),
    )


def page_without_study(found: Attached, *, title: str) -> Page:
    """The page about what came after a search that was not given."""
    return Page(
        title=title,
        subtitle=f"Without the study that it comes from. Written {_now()}.",
        parts=(*after_search(found), *read_files(found)),
    )


def _smallest(given: _Given) -> tuple[bytes, Page]:
    """The page with as many trials as fit."""
    studies = given.studies
    for most in MOST_TRIALS:
        if not studies:
            page = page_without_study(given.found, title=given.first.resolve().name)
        elif len(studies) == 1:
            page = page_of(studies[0], most_trials=most, beside=given.found)
        else:
            page = page_of_several(studies, beside=given.found)
        content = render(page)
        if len(content) < MOST_BYTES:
            return content, page
    raise NasError(
        f"a page must be smaller than {MOST_BYTES:,} bytes, but this one has {len(content):,}: give fewer "
        "studies"
    )
