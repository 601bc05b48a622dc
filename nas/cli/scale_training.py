"""Full trainings of `nas scale`: those that a budget is measured with, and those of the family."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.architectures import find_architecture
from nas.config.scaling import image_source
from nas.errors import UsageError
from nas.evaluation.family import Family, Step
from nas.evaluation.training_budget import Probe, TrainingBudget, largest_trained
from nas.full_training.family import train_family
from nas.full_training.family_display import draw_family, trained_family_report
from nas.full_training.images import ImageSource
from nas.full_training.load import training_load
from nas.full_training.options import TrainOptions
from nas.full_training.training import FullTraining, usual_recipe
from nas.report.activity import Activity
from nas.report.family_report import probe_in_words
from nas.report.printing import Report, make_console, save_json
from search_spaces import Network

if TYPE_CHECKING:
    from rich.console import Console

    from nas.config.settings import Settings

TRAINED, PICTURE, RECORD = "trained", "family.png", "trained.json"
"""Names in the folder; the last has what `--json` prints of the trainings, and `nas report` draws it."""


def largest_within(
    arguments: Namespace, settings: Settings, family: Family, folder: Path, probes: list[Probe]
) -> Step:
    """The largest member whose training keeps the budget, and the limits; tells of every measurement."""
    hours, memory_bytes = arguments.max_train_hours, arguments.max_train_memory_bytes
    budget = TrainingBudget(
        seconds=math.inf if hours is None else 3600 * hours,
        memory_bytes=math.inf if memory_bytes is None else memory_bytes,
    )
    recipe = arguments.train_recipe or usual_recipe(family.baseline.resolution)
    asked = FullTraining(network=family.baseline, data=_source(arguments, settings), recipe=recipe)
    console = make_console(to_stderr=True)
    console.print(f"measuring training steps by the recipe {recipe}")

    def watch(probe: Probe) -> None:
        probes.append(probe)
        console.print(probe_in_words(probe))

    best = largest_trained(
        lambda phi: family.at_most(phi).member.network,
        lambda network: training_load(asked, network, folder / "measured", _options(arguments)),
        budget,
        most_phi=family.most_phi(),
        watch=watch,
    )
    return family.at_most(best.phi)


def train_steps(
    arguments: Namespace,
    settings: Settings,
    networks: Mapping[str, Network],
    folder: Path,
    console: Console,
) -> Report:
    """Trains the baseline, the members and the references in full, and compares them."""
    from nas.full_training.display import TrainingDisplay

    baseline = next(iter(networks.values()))
    with TrainingDisplay(console) as display, Activity(console, is_quiet=True) as activity:
        family = train_family(
            networks,
            references={
                name: replace(one, resolution=one.resolution if "@" in name else baseline.resolution)
                for name, one in find_references(arguments.references or "").items()
            },
            data=_source(arguments, settings),
            recipe=arguments.train_recipe or usual_recipe(baseline.resolution),
            seeds=arguments.train_seeds or 1,
            seed=settings.seed,
            metric=settings.metric,
            out=folder / TRAINED,
            options=_options(arguments),
            watcher=display,
            on_round=lambda done, rounds: activity(f"measuring latency: round {done} of {rounds}"),
        )
    picture = draw_family(
        family, folder / PICTURE, title=f"{next(iter(networks))}, scaled and trained in full"
    )
    report = trained_family_report(family, picture)
    save_json(report, folder / RECORD)
    return report


def find_references(text: str) -> dict[str, Network]:
    """The networks to compare with, as `mobilenet_v2`, or `resnet18@64` for images of a side of its own.

    Raises:
        UsageError: A side is no number, or two have one name.
        NasError: There is no such network.
    """
    found: dict[str, Network] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        name, at, side = word.partition("@")
        if at and not (side.isdecimal() and int(side)):
            raise UsageError(
                f"a reference is a network and perhaps the side of its images, such as mobilenet_v2@64, but "
                f"got {word!r}",
                field="references",
            )
        one = find_architecture(name)
        label = f"{one.name}@{side}" if at else one.name
        if label in found:
            raise UsageError(f"the reference {label} is given twice: leave one out", field="references")
        found[label] = replace(one.network, resolution=int(side)) if at else one.network
    return found


def _source(arguments: Namespace, settings: Settings) -> ImageSource:
    return image_source(settings, download=bool(arguments.download))


def _options(arguments: Namespace) -> TrainOptions:
    return TrainOptions(device=arguments.device or "auto")
