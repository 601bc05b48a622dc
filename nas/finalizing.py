"""Finalizes a search: compares its winner on the test split, tests its weights, draws and exports it.

What exists already is not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nas.catalogue import Catalogue
from nas.contract import check_members
from nas.data.description import DataDescription
from nas.data.images import ImageData
from nas.errors import NasError, StudyError
from nas.evaluation.comparison import RANDOMS, SEEDS, Comparison, Contender, choose_contenders, compare
from nas.execution.inline_executor import InlineExecutor
from nas.jobs import Finished
from nas.protocols import Evaluator, Executor
from nas.reading import parse_json, read_json, read_text
from nas.report.printing import Table
from nas.report.run_log import tag
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.task_objective import judged_by, needed_of_task
from nas.tasks import TASKS
from nas.tested_weights import TestedWeights, read_tested_weights, weights_digest
from nas.trial import InfeasibleError, Progress
from nas.values import instance, whole
from nas.version import is_ours
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from nas.latency.table.table import LatencyTable


class Watcher(Protocol):
    """Receives the progress of finalizing, and each result as it comes."""

    def on_winner(self, images: DataDescription | None) -> None:
        """There is a winner: the study's best."""
        ...

    def on_step(self, text: str, *, is_quiet: bool = False) -> None:
        """Something that may last begins; a quiet one needs the processor for itself."""
        ...

    def on_finalists(self, table: Table) -> None:
        """The latency of the finalists is measured."""
        ...

    def on_comparing(self, labels: Sequence[str]) -> None:
        """The trainings of the comparison begin; each is called by its label."""
        ...

    def on_finished(self, finished: Finished) -> None:
        """A training of the comparison has ended."""
        ...

    def on_progress(self, progress: Progress) -> None:
        """Says what is going on in the comparison; the number of a trial is the place of its label."""
        ...

    def on_compared(self, comparison: Comparison) -> None:
        """The comparison is there."""
        ...

    def on_saved(self, pictures: Sequence[Path], bundle: Path | None, why_none: str) -> None:
        """Pictures of the search and of the winner are there, and the bundle, or why there is none."""
        ...


class Unwatched:
    """A watcher that shows nothing."""

    def on_winner(self, images: DataDescription | None) -> None:
        """Does nothing."""

    def on_step(self, text: str, *, is_quiet: bool = False) -> None:
        """Does nothing."""

    def on_finalists(self, table: Table) -> None:
        """Does nothing."""

    def on_comparing(self, labels: Sequence[str]) -> None:
        """Does nothing."""

    def on_finished(self, finished: Finished) -> None:
        """Does nothing."""

    def on_progress(self, progress: Progress) -> None:
        """Does nothing."""

    def on_compared(self, comparison: Comparison) -> None:
        """Does nothing."""

    def on_saved(self, pictures: Sequence[Path], bundle: Path | None, why_none: str) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalized:
    """The result of finalizing a search.

    Attributes:
        winner: The recommended trial.
        comparison: How it compares on the test split; None where it was left out.
        pictures: Files of the picture of the search and of that of the winner.
        bundle: Folder of the exported winner; None where there are no weights of it that can be exported.
        why_none: Why there is no bundle, in words; empty where there is one.
    """

    winner: StudyTrial
    comparison: Comparison | None
    pictures: tuple[Path, Path]
    bundle: Path | None
    why_none: str = ""

    @property
    def small_files(self) -> tuple[Path, ...]:
        """Pictures, card and architecture: what tells of the result without its weights."""
        if self.bundle is None:
            return self.pictures
        return (*self.pictures, self.bundle / "card.md", self.bundle / "architecture.json")

    @property
    def numbers(self) -> dict[str, float]:
        """Means of the comparison on the test split, named as `test/winner/f1` or `test/random_1/f1`."""
        if self.comparison is None:
            return {}
        names = [one.role if one.role != "random" else one.name for one in self.comparison.contenders]
        return {
            tag("test", name, self.comparison.metric): one.mean
            for name, one in zip(names, self.comparison.contenders, strict=True)
            if one.mean is not None
        }


def finalize(
    study: Study,
    *,
    data: ImageData | None = None,
    evaluator: Evaluator | None = None,
    executor: Executor | None = None,
    randoms: int = RANDOMS,
    seeds: int = SEEDS,
    latency_table: LatencyTable | None = None,
    watcher: Watcher | None = None,
) -> Finalized:
    """Compares the winner on the test split, tests its own weights, draws the search, exports a bundle.

    Args:
        study: A study in which a trial has completed.
        data: The images that were searched on; None leaves out the comparison.
        evaluator: Trains and measures on the test split; None trains by the study's recipe.
        executor: Runs the trainings; None runs them one at a time in this process.
        randoms: Random candidates that are compared.
        seeds: Trainings of each network in the comparison; 0 leaves it out.
        latency_table: Predicted latencies of the search: finalists are measured where this is its device.
        watcher: Receives the progress and the results.

    Raises:
        NasError: No trial has completed, the images are others than the study's, the comparison cannot run,
            or the exported bundle does not reproduce the network.
    """
    _check_kinds(study, data, evaluator, executor)
    randoms, seeds = whole("randoms", randoms, least=0), whole("seeds", seeds, least=0)
    _require_completed(study)
    winner, watcher = study.best, watcher or Unwatched()
    watcher.on_winner(None if data is None else DataDescription.of(data))
    if latency_table is not None:
        watcher.on_step("measuring the latency of the finalists", is_quiet=True)
        from nas.measured_finalists import finalists_table  # loads torch

        watcher.on_finalists(finalists_table(study, winner, latency_table))
    comparison = None
    if data is not None and seeds:
        _require_same_images(study, data)
        contenders = _contenders(study, Catalogue(_space_of(study), latency_table), winner, randoms)
        watcher.on_comparing([one.name for _ in range(seeds) for one in contenders])
        comparison = compare(
            _space_of(study),
            evaluator or _test_evaluator(study, data),
            executor or InlineExecutor(),
            contenders,
            goal=judged_by(study.objective, data.task),
            images=len(data.test),
            class_counts=DataDescription.of(data).by_split()["test"],
            seeds=seeds,
            seed=study.identity.seed,
            folder=study.folder,
            on_finished=watcher.on_finished,
            on_progress=watcher.on_progress,
        )
        if evaluator is None or is_ours(evaluator):
            watcher.on_step("testing the winner's own weights")
            comparison = measure_weights(comparison, winner, data, study.folder)
        watcher.on_compared(comparison)
    watcher.on_step("drawing the search and the winner")
    pictures = save_pictures(study)
    bundle, why_none = None, no_bundle(study, winner)
    if not why_none:
        watcher.on_step("exporting the winner, and loading it in a new process")
        bundle = save_bundle(study, winner)
    watcher.on_saved(pictures, bundle, why_none)
    return Finalized(
        winner=winner, comparison=comparison, pictures=pictures, bundle=bundle, why_none=why_none
    )


def _check_kinds(study: object, data: object, evaluator: object, executor: object) -> None:
    """Checks that each argument is what it stands for."""
    instance("study", study, (Study,), "open the study first with nas.open_study(folder)")
    instance("data", data, (ImageData, type(None)), "give what nas.load_data or nas.from_arrays returns")
    if evaluator is not None:
        check_members("the evaluator", evaluator, Evaluator, field="evaluator")
    if executor is not None:
        check_members("the executor", executor, Executor, field="executor")


def _require_completed(study: Study) -> None:
    """Checks that there is a winner."""
    if study.completed:
        return
    states = study.summary().states
    words = ", ".join(f"{count} {state}" for state, count in states.items() if count) or "there is none"
    raise StudyError(
        f"no trial of {study.folder} completed ({words}): look at the causes with "
        f"nas show {study.folder}, then relax the constraints or change the recipe in a new study",
        field="study",
    )


def _require_same_images(study: Study, data: ImageData) -> None:
    """Checks that the images are the study's: on others the test split may hold what was trained on."""
    there, here = (study.identity.data, study.identity.split), (data.fingerprint, data.split_fingerprint)
    if any(there) and there != here:
        raise StudyError(
            f"{study.folder} was searched on other images, or on the same images in another split: "
            "give those of the study",
            field="data",
        )


def _contenders(
    study: Study, catalogue: Catalogue, winner: StudyTrial, randoms: int
) -> tuple[Contender, ...]:
    return choose_contenders(
        catalogue,
        study.objective,
        winner=winner.tokens,
        winner_name=f"trial {winner.number}",
        randoms=randoms,
        seed=study.identity.seed,
    )


def _space_of(study: Study) -> SearchSpace:
    if study.space is None:
        raise StudyError(
            f"a comparison needs the space that {study.folder} was searched in: open the study with it, "
            "nas.open_study(folder, space=space)",
            field="study",
        )
    return study.space


def _test_evaluator(study: Study, data: ImageData) -> Evaluator:
    """Trains by the study's recipe and measures what its objective needs on the test split."""
    from nas.training.proxy import ProxyEvaluator
    from nas.training.recipe import Recipe

    return ProxyEvaluator(
        data,
        Recipe.from_json(study.provenance.recipe_json),
        split="test",
        metrics=needed_of_task(study.objective, data.task),
    )


def measure_weights(comparison: Comparison, winner: StudyTrial, data: ImageData, folder: Path) -> Comparison:
    """Measures the winner's own weights on the test split, once, and keeps the result with the comparison."""
    if winner.weights_file is None or not winner.weights_file.is_file():
        reason = "they were not kept, so that the accuracies are of new trainings alone"
        tested = TestedWeights(
            trial=winner.number, digest="", right=None, images=len(data.test), message=reason
        )
    else:
        digest = weights_digest(winner.weights())
        known = comparison.tested_weights
        if known is not None and (known.trial, known.digest) == (winner.number, digest):
            return comparison
        tested = _test_weights(winner, digest, data)
    found = replace(comparison, tested_weights=tested)
    found.save(folder)
    return found


def _test_weights(winner: StudyTrial, digest: str, data: ImageData) -> TestedWeights:
    """What the winner's weights reach on the test split, or why that cannot be said."""
    from nas.training.accuracy import measure_tested

    names = needed_of_task(winner.objective, data.task) or TASKS[data.task].metrics[:1]
    try:
        return measure_tested(winner.build(), data, names, trial=winner.number, digest=digest)
    except (InfeasibleError, NasError, RuntimeError) as error:
        message = str(error).splitlines()[0]
    return TestedWeights(
        trial=winner.number, digest=digest, right=None, images=len(data.test), message=message
    )


def save_pictures(study: Study) -> tuple[Path, Path]:
    """Draws the search and its winner into the study's folder."""
    from nas.report.pictures import SearchPicture, draw_network, draw_search

    winner = study.best
    title = f"Trial {winner.number} of {study.folder.name}"
    return (
        draw_search(SearchPicture.of(study), study.folder / "search.png"),
        draw_network(winner.network, study.folder / "winner.png", title=title),
    )


def no_bundle(study: Study, trial: StudyTrial) -> str:
    """Why a trial cannot be exported, in words; empty where it can."""
    from nas.execution.worker import weights_misfit

    if trial.weights_file is not None:
        misfit = weights_misfit(trial.network, trial.weights())
        return misfit and f"the weights of trial {trial.number} cannot be exported: {misfit}"
    lost = [message for _, kind, message in study.events if kind == "weights_lost"]
    own = [message for message in lost if message.startswith(f"the weights of trial {trial.number} ")]
    if own:
        return own[-1]
    if trial.has_shared_weights:
        return (
            f"its {trial.quality_metric} is that of shared weights, and it was not trained by itself: "
            f"nas train {study.folder} --out DIR trains it, and exports it"
        )
    if study.summary().with_weights:
        return "the weights of this trial were not kept"
    return "the evaluator gives no weights (nas.Evaluation(metrics=..., weights=...))"


def save_bundle(study: Study, trial: StudyTrial) -> Path:
    """Exports a trial into the study's folder unless it is there.

    Raises:
        StudyError: Its weights were not kept.
        ExportError: The bundle does not reproduce the network.
    """
    folder = study.folder / "export" / f"trial-{trial.number}"
    tested = read_tested_weights(study.folder, trial.weights())
    is_there = trial.weights_file is not None and _is_bundle_of(
        folder, trial.weights_file, trial.network_json
    )
    if not is_there or (tested is not None and tested.where not in read_text(folder / "card.md")):
        trial.export(folder, overwrite=True)
    return folder


def _is_bundle_of(folder: Path, weights: Path, network_json: str) -> bool:
    """Whether a folder is a bundle of this network, made after these weights."""
    try:
        network = read_json(folder / "architecture.json")
        is_newer = (folder / "card.md").stat().st_mtime >= weights.stat().st_mtime
    except (OSError, ValueError):
        return False
    return bool(is_newer and network == parse_json(network_json))
