"""What follows a search: the winner, its comparison, pictures and bundle, and where all of it is.

What exists already is not made again, so that a second call only prints.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config.prepared import Prepared
from nas.data.description import DataDescription
from nas.errors import NasError, StudyError
from nas.evaluation.comparison import Comparison, Contender, Run, choose_contenders, compare
from nas.report.activity import Activity, Running
from nas.report.doubts import doubts_of
from nas.report.printing import Report, draw, draw_table, show_accuracy, write_json
from nas.report.progress import SILENT_SECONDS
from nas.report.result_report import comparison_facts, comparison_table, saved_report, winner_report
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.study.tested_weights import TestedWeights, read_tested_weights, weights_digest
from nas.trial import InfeasibleError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.config.request import Request
    from nas.data.images import ImageData
    from nas.report.pictures import Mark, SearchPicture


def conclude(request: Request, prepared: Prepared, study: Study, console: Console) -> int:
    """Compares, draws, exports, and prints what came of it.

    Raises:
        NasError: No trial has completed, or the comparison cannot run.
    """
    _require_completed(study)
    winner = study.best
    report = winner_report(winner, doubts=doubts_of(study, DataDescription.of(prepared.data)))
    data: dict[str, Any] = {"winner": report.to_data()}
    if not request.as_json:
        console.print()
        draw(report, console)
        console.print()
    if prepared.latency_table is not None:
        from nas.measured_finalists import finalists_table

        with Activity(console, "measuring the latency of the finalists", is_quiet=True):
            measured = finalists_table(study, winner, prepared.latency_table)
        data["finalists"] = Report(title="", tables=(measured,)).to_data()
        if not request.as_json:
            draw_table(measured, console)
            console.print()
    if request.seeds:
        comparison = compare_winner(request, prepared, winner, console)
        table = comparison_table(comparison, study.objective)
        facts = comparison_facts(comparison)
        data["comparison"] = Report(title="", facts=facts, tables=(table,)).to_data()
        if not request.as_json:
            console.print()
            draw_table(table, console)
            console.print()
    with Activity(console) as activity:
        activity("drawing the search and the winner")
        pictures = save_pictures(study, winner)
        activity("exporting the winner, and loading it in a new process")
        saved = {
            "study": str(study.folder),
            **pictures,
            **save_bundle(study, winner),
            "watch": f"tensorboard --logdir {study.folder}",
        }
    if request.as_json:
        write_json({**data, "saved": saved})
    else:
        draw(saved_report(saved), console)
    return 0


def _require_completed(study: Study) -> None:
    """Checks that there is a winner."""
    if study.completed:
        return
    states = study.summary().states
    words = ", ".join(f"{count} {state}" for state, count in states.items() if count) or "there is none"
    raise StudyError(
        f"no trial of {study.folder} completed ({words}): look at the causes with "
        f"nas show {study.folder}, then relax the constraints or change the recipe in a new study"
    )


def compare_winner(request: Request, prepared: Prepared, winner: StudyTrial, console: Console) -> Comparison:
    """Trains the winner, the reference network and random candidates alike, measured on the test split.

    Raises:
        NasError: The machines cannot be had, or lose a training too often.
    """
    seed = prepared.settings.seed
    console.print(
        "Comparing on the test split: every network trained alike, from fresh seeds", soft_wrap=True
    )
    contenders = choose_contenders(
        prepared.catalogue(),
        prepared.objective,
        winner=winner.tokens,
        winner_name=f"trial {winner.number}",
        randoms=request.randoms,
        seed=seed,
    )
    names = [contender.name for contender in contenders]
    running = Running(names.__getitem__)
    with Activity(console, "comparing", first_seconds=SILENT_SECONDS) as activity:
        comparison = compare(
            prepared.space,
            prepared.evaluator("test"),
            prepared.executor(),
            contenders,
            images=len(prepared.data.test),
            class_counts=DataDescription.of(prepared.data).by_split()["test"],
            seeds=request.seeds,
            seed=seed,
            folder=request.folder,
            on_run=_announcer(activity, running, names),
            on_progress=running.teller(activity),
        )
        activity("testing the winner's own weights")
        return measure_weights(comparison, winner, prepared.data, request.folder)


def measure_weights(comparison: Comparison, winner: StudyTrial, data: ImageData, folder: Path) -> Comparison:
    """Measures the winner's own weights on the test split, once, and keeps the result with the comparison."""
    if winner.weights_file is None or not winner.weights_file.is_file():
        reason = "they were not kept, so that the accuracies are of new trainings alone"
        tested = TestedWeights(
            trial=winner.number, digest="", right=None, images=comparison.images, message=reason
        )
        return _kept(replace(comparison, tested_weights=tested), folder)
    digest = weights_digest(winner.weights())
    known = comparison.tested_weights
    if known is not None and (known.trial, known.digest) == (winner.number, digest):
        return comparison
    from nas.training.training import evaluate_accuracy

    right, message = None, ""
    try:
        right = round(evaluate_accuracy(winner.build(), data, "test") * len(data.test))
    except (InfeasibleError, NasError, RuntimeError) as error:
        message = str(error).splitlines()[0]
    tested = TestedWeights(
        trial=winner.number, digest=digest, right=right, images=len(data.test), message=message
    )
    return _kept(replace(comparison, tested_weights=tested), folder)


def _kept(comparison: Comparison, folder: Path) -> Comparison:
    comparison.save(folder)
    return comparison


def _announcer(
    activity: Activity, running: Running, names: list[str]
) -> Callable[[Contender, Run, int, int], None]:
    """Prints a line for every training of the comparison."""
    from rich.text import Text

    def announce(contender: Contender, run: Run, done: int, total: int) -> None:
        line = Text(f"[{done:>{len(str(total))}}/{total}] ", style="dim")
        line.append(f"{contender.name:<22} ", style="none")
        if run.accuracy is None:
            line.append(f"failed: {run.message}", style="red")
        else:
            line.append(f"test accuracy {show_accuracy(run.accuracy)}", style="none")
            line.append(f"  {run.message}" if run.message else "", style="yellow")
        running.end(names.index(contender.name))
        activity.print(line)

    return announce


def save_pictures(study: Study, winner: StudyTrial) -> dict[str, str]:
    """Draws the search and the winner into the study's folder; says where."""
    from nas.report.pictures import draw_network, draw_search

    search = draw_search(picture_of(study), study.folder / "search.png")
    network = draw_network(
        winner.network, study.folder / "winner.png", title=f"Trial {winner.number} of {study.folder.name}"
    )
    return {"picture of the search": str(search), "picture of the winner": str(network)}


def picture_of(study: Study) -> SearchPicture:
    """What there is to draw of a study."""
    from nas.report.pictures import SearchPicture

    goal, *others = study.objective.front
    costs = tuple(other.metric for other in others)
    targets = study.objective.targets
    return SearchPicture(
        points=tuple(entry for entry in study.entries((goal, *others)) if min(entry.costs) > 0),
        goals=(goal, *others),
        title=f"{study.folder.name}: {len(study.trials)} trials of {study.provenance.space_name}",
        targets=tuple(targets.get(metric) for metric in costs),
        failed=len(study.trials) - len(study.completed),
        chosen=_chosen(study, costs),
    )


def _chosen(study: Study, costs: tuple[str, ...]) -> Mark | None:
    """The trial to go with, where all of the costs are known of it."""
    from nas.report.pictures import Mark

    best = study.best if study.completed else None
    if best is None or best.mean_value is None or not all(best.costs.get(cost, 0) > 0 for cost in costs):
        return None
    return Mark(
        name=f"winner, trial {best.number}",
        value=best.mean_value,
        costs=tuple(best.costs[cost] for cost in costs),
        accuracies=best.accuracies if study.objective.goal.metric == "accuracy" else (),
    )


def _is_bundle_of(folder: Path, weights: Path, network_json: str) -> bool:
    """Whether a folder is a bundle of this network, made after these weights."""
    try:
        network = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
        is_newer = (folder / "card.md").stat().st_mtime >= weights.stat().st_mtime
    except (OSError, ValueError):
        return False
    return is_newer and network == json.loads(network_json)


def save_bundle(study: Study, trial: StudyTrial) -> dict[str, str]:
    """Exports a trial into the study's folder unless it is there; says where, or why not.

    Raises:
        ExportError: The bundle does not reproduce the network.
    """
    folder = study.folder / "export" / f"trial-{trial.number}"
    if trial.weights_file is None:
        return {"bundle": "none: the weights of this trial were not kept"}
    card = folder / "card.md"
    tested = read_tested_weights(study.folder, trial.weights())
    is_there = _is_bundle_of(folder, trial.weights_file, trial.network_json)
    if not is_there or (tested is not None and tested.where not in card.read_text(encoding="utf-8")):
        trial.export(folder, overwrite=True)
    return {"bundle": f"{folder}  (model.py, weights, ONNX; see card.md)"}
