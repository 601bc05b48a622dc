"""`nas supernet`: weights that all networks of a space share, trained for a search."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.cli.main import resumable
from nas.config.readers import folder_path
from nas.config.request import given_options
from nas.config.supernet import supernet_training
from nas.full_training.options import TrainOptions
from nas.metrics import metric_info
from nas.report.printing import Fact, Report, emit, make_console, show_seconds, write_json
from nas.values import counted

if TYPE_CHECKING:
    from nas.weight_sharing.stored import SupernetFacts


def run(arguments: Namespace) -> int:
    """Trains, or tells what it would take."""
    from nas.full_training.display import TrainingDisplay, plan_report
    from nas.weight_sharing.training import plan
    from nas.weight_sharing.training import run as train

    folder = folder_path(arguments.out)
    options = TrainOptions(**given_options(arguments, TrainOptions))
    with resumable(folder), TrainingDisplay(make_console(to_stderr=arguments.json)) as display:
        asked = supernet_training(arguments, folder, progress=display.on_step)
        if arguments.dry_run:
            found = plan(asked, folder, options=options, watcher=display)
        else:
            facts = train(asked, folder, options=options, watcher=display)
    if arguments.dry_run:
        if arguments.json:
            write_json(plan_report(found).to_data())
        return 0
    emit(supernet_report(folder, facts), as_json=arguments.json)
    return 0


def supernet_report(folder: Path, facts: SupernetFacts) -> Report:
    """What a supernet came to, as it is printed and as JSON."""
    words = f"{counted(facts.epochs, 'epoch')}, {counted(facts.steps, 'step')}, {facts.sampling}"
    return Report(
        title=f"Trained a supernet of {facts.space_name}",
        facts=(
            Fact(key="folder", label="supernet", value=str(folder)),
            Fact(key="data", label="data", value=facts.data_name),
            Fact(key="sampling", label="training", value=facts.sampling, text=words),
            Fact(key="kernels", label="kernels", value=facts.kernels),
            *_measured_facts(facts),
            Fact(key="seconds", label="time", value=facts.seconds, text=show_seconds(facts.seconds)),
        ),
        notes=(f"nas search --supernet {folder} --out DIR  searches in it",),
    )


def _measured_facts(facts: SupernetFacts) -> tuple[Fact, ...]:
    """What three of its networks reach with shared weights."""
    if facts.measured is None:
        return ()
    info = metric_info(facts.measured.metric)
    found = {
        "largest": facts.measured.largest,
        "smallest": facts.measured.smallest,
        "random": facts.measured.random,
    }
    where = f"{info.label} with shared weights on the search split"
    return (
        Fact(key="metric", label="", value=info.name),
        *(
            Fact(
                key=name,
                label=f"{name} network",
                value=value,
                text=f"{'not finite' if value is None else info.unit.show(value)} ({where})",
            )
            for name, value in found.items()
        ),
    )
