"""`nas search`: from options to a finished study with its winner, comparison and bundle."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.cli.main import EXIT_INTERRUPTED, resumable
from nas.config.prepared import Prepared, earlier_study, prepare_request
from nas.config.request import Request, request_of
from nas.config.services import ServiceReporter, service_reporters
from nas.config.supernet import in_own_supernet, policy_training
from nas.failures import failure_of
from nas.finalizing import Finalized, finalize
from nas.report.activity import Activity
from nas.report.finalizing import FinalizeDisplay
from nas.report.plan_report import data_facts
from nas.report.printing import make_console
from nas.study.study import Study
from nas.weight_sharing.recipe import OWN

if TYPE_CHECKING:
    from rich.console import Console


def run(arguments: Namespace) -> int:
    """Searches, or continues."""
    request = request_of(arguments)
    if arguments.dry_run:
        from nas.cli.dry_run import dry_run

        return dry_run(request)
    return run_request(request)


def run_request(request: Request) -> int:
    """Searches, then compares, draws, exports and says what came of it; 130 after Ctrl-C."""
    console = make_console(to_stderr=request.as_json)
    if request.settings.has_policy:
        with resumable(request.folder):
            request = train_policy(request, console)
    with Activity(console, "preparing") as activity:
        prepared = prepare_request(request, progress=activity)
    announce(prepared, console)
    services = service_reporters(request.settings)
    study = search_prepared(request, prepared, console, services)
    if study.ending == "interrupted":
        return EXIT_INTERRUPTED
    try:
        finalized = conclude(request, prepared, study, console)
        send_results(services, study, finalized, console)
        return 0
    except KeyboardInterrupt:
        console.print(
            f"\nstopped; the search itself is done, finish the rest with: nas resume {request.folder}",
            soft_wrap=True,
        )
        return EXIT_INTERRUPTED


def train_policy(request: Request, console: Console) -> Request:
    """Trains shared weights and a policy to the end; returns the search in them."""
    from nas.full_training.display import TrainingDisplay
    from nas.full_training.options import TrainOptions
    from nas.weight_sharing.training import run as train

    with TrainingDisplay(console) as display:
        asked = policy_training(request, progress=display.on_step)
        train(asked, request.folder / OWN, options=TrainOptions(), watcher=display)
    return in_own_supernet(request)


def conclude(request: Request, prepared: Prepared, study: Study, console: Console) -> Finalized:
    """Finalizes the study as it was asked for, and shows it."""
    evaluator = prepared.test_evaluator()
    if request.settings.supernet is not None:
        console.print("no comparison on the test split: no network was trained by itself", soft_wrap=True)
    elif evaluator is None and request.seeds:
        console.print(
            f"no comparison on the test split: {request.settings.evaluator} takes no argument `split`, "
            "and so measures on the search split alone",
            soft_wrap=True,
            markup=False,
        )
    with FinalizeDisplay(console, study, as_json=request.as_json) as display:
        return finalize(
            study,
            data=prepared.data,
            evaluator=evaluator,
            executor=prepared.executor(),
            randoms=request.randoms,
            seeds=0 if evaluator is None else request.seeds,
            latency_table=prepared.latency_table,
            watcher=display,
        )


def announce(prepared: Prepared, console: Console) -> None:
    """Prints which images are used, what was decided about them, how they are augmented, what to look at."""
    from rich.text import Text

    console.print(Text(f"data       {prepared.data}"), soft_wrap=True)
    styles = {"note": "dim", "warning": "yellow"}
    recipe = prepared.recipe if prepared.trains_by_recipe else None
    for fact in data_facts(prepared.data, recipe, metric=prepared.objective.goal.metric):
        label = "" if fact.label == "note" else fact.label
        line = f"{label:<10} {fact.text or fact.value}"
        console.print(Text(line, style=styles.get(fact.label, "none")), soft_wrap=True)


def send_results(
    services: Sequence[ServiceReporter], study: Study, finalized: Finalized, console: Console
) -> None:
    """Sends pictures, card, architecture and test results to the services; says of each what failed."""
    for service in services:
        try:
            service.add(study, finalized.small_files, finalized.numbers)
        except Exception as error:
            words = f"{type(service).__name__}: the results were not sent: {failure_of(error).message}"
            console.print(words, style="yellow", soft_wrap=True, markup=False)


def search_prepared(
    request: Request,
    prepared: Prepared,
    console: Console,
    services: Sequence[ServiceReporter] = (),
) -> Study:
    """Runs the search with its reporters.

    Raises:
        NasError: The study cannot be used as asked, the machines cannot be had, or continuing is pointless.
    """
    from nas.report.progress import TerminalReporter
    from nas.report.tensorboard import TensorBoardReporter

    terminal = TerminalReporter(console)
    try:
        return prepared.search.run(
            request.folder,
            executor=prepared.executor(),
            enqueue=prepared.enqueued,
            warm_start=earlier_study(request, prepared),
            reporters=(terminal, TensorBoardReporter(), *services),
            settings=request.stored_settings.to_dict(),
        )
    finally:
        terminal.close()
