"""`nas scale`: a network made larger or smaller, the family as a table, and its members as files."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.architectures import Architecture, find_architecture
from nas.cli.main import resumable
from nas.config.scaling import SETTINGS, scaling_settings
from nas.config.settings import Settings, flag_of
from nas.errors import ExportError, NasError, UsageError
from nas.evaluation.family import Family, Step
from nas.evaluation.scaled_networks import ScalingPlan
from nas.evaluation.training_budget import Probe
from nas.options import options_of
from nas.report.family_report import family_report
from nas.report.printing import Report, emit, make_console
from nas.training.recipe import Recipe
from search_spaces import Network, SpaceError
from search_spaces.matching import TOLERANCE, Price, macs_of
from search_spaces.scaling import BASES, RULES

if TYPE_CHECKING:
    from rich.console import Console

OF_IMAGES = (
    "data",
    "data_root",
    "download",
    "task",
    "search_fraction",
    "split_seed",
    "fit",
    "seed",
    "metric",
)
OF_FULL_TRAINING = ("train_recipe", "device")
OF_DIRECTION = ("tolerance",)
OF_FAMILY = ("references", "train_seeds")


def run(arguments: Namespace) -> int:
    """Finds the direction if asked to, prints the family, writes and trains it; 130 after Ctrl-C."""
    way = _require_one_size(arguments)
    settings = _settings(arguments)
    found = find_architecture(arguments.architecture)
    if arguments.pixels is not None:
        found = replace(found, network=replace(found.network, resolution=arguments.pixels))
    folder = Path(arguments.out or f"runs/{found.name}-scaled").expanduser()
    console = make_console(to_stderr=arguments.json)
    if arguments.references:
        from nas.cli.scale_training import find_references
        from nas.full_training.family import check_names

        # A mistake shows before anything is trained.
        check_names([found.name], find_references(arguments.references))
    reports: list[Report] = []
    try:
        with resumable(folder):
            _scale(arguments, settings, found, way, folder, console, reports)
    except (NasError, SpaceError):
        if reports:
            emit(_joined(reports), as_json=arguments.json)  # what was found before the mistake
        raise
    emit(_joined(reports), as_json=arguments.json)
    return 0


def _scale(
    arguments: Namespace,
    settings: Settings,
    found: Architecture,
    way: str,
    folder: Path,
    console: Console,
    reports: list[Report],
) -> None:
    """Searches, scales and trains, what of these is asked for; puts what to say of each into `reports`."""
    price: Price = macs_of
    baseline, direction = found.network, arguments.direction
    if arguments.search:
        from nas.cli.scale_search import search

        baseline, direction, price, report = search(arguments, settings, found, folder, console)
        reports.append(report)
    if not way:
        return
    family = Family(
        baseline=baseline,
        direction=direction,
        bases=arguments.bases or BASES,
        rule=RULES[arguments.rule],
        resolution_multiple=arguments.multiple,
        tolerance=TOLERANCE if arguments.tolerance is None else arguments.tolerance,
        price=price,
        limits=_limits(arguments),
    )
    probes: list[Probe] = []
    steps = _steps(arguments, settings, family, way, folder, probes)
    files = _write(folder, steps)
    reports.append(
        family_report(found.name, baseline, steps, folder, files, direction=direction, probes=probes)
    )
    if arguments.train:
        from nas.cli.scale_training import train_steps

        networks = different({found.name: baseline} | {one.name: one.member.network for one in steps})
        reports.append(train_steps(arguments, settings, networks, folder, console))


def different(networks: Mapping[str, Network]) -> dict[str, Network]:
    """Each network once, by its first name: phi 0 is the baseline."""
    first: dict[str, str] = {}
    for name, network in networks.items():
        first.setdefault(network.digest, name)
    return {name: networks[name] for name in first.values()}


def _settings(arguments: Namespace) -> Settings:
    """What was given of images and trainings, or is known of the study.

    Raises:
        UsageError: Images are needed and are not given, or are given and not needed.
    """
    is_limited = _has_budget(arguments)
    known = {**options_of(Recipe), **options_of(ScalingPlan)}
    known |= {name: options_of(Settings)[name] for name in SETTINGS}
    budgets = "--train, --max-train-hours or --max-train-memory"
    needed = {
        "--train": (arguments.train, OF_FAMILY),
        budgets: (arguments.train or is_limited, OF_FULL_TRAINING),
        f"--search, {budgets}": (arguments.search or arguments.train or is_limited, OF_IMAGES),
        "--search or --direction": (arguments.search or arguments.direction is not None, OF_DIRECTION),
        "--search": (
            arguments.search,
            [name for name in known if name not in (*OF_IMAGES, *OF_DIRECTION)],
        ),
    }
    for words, (is_there, names) in needed.items():
        wrong = [name for name in names if getattr(arguments, name, None) not in (None, False, ())]
        if wrong and not is_there:
            flag = known[wrong[0]].flag if wrong[0] in known else flag_of(wrong[0])
            raise UsageError(
                f"{flag} goes with {words}: give that too, or leave it out",
                field=wrong[0],
            )
    needs = arguments.search or arguments.train or is_limited
    return scaling_settings(arguments, arguments.architecture, needs_images=needs)


def _steps(
    arguments: Namespace, settings: Settings, family: Family, way: str, folder: Path, probes: list[Probe]
) -> tuple[Step, ...]:
    """The members that were asked for; what was measured for a budget goes into `probes`."""
    if way == "factors":
        return (family.by_factors(_factors(arguments)),)
    if way == "phi":
        return tuple(map(family.at, arguments.phi))
    if not _has_budget(arguments):
        return (family.largest(),)
    from nas.cli.scale_training import largest_within

    return (largest_within(arguments, settings, family, folder, probes),)


def _require_one_size(arguments: Namespace) -> str:
    """Says which of the ways to give a size was taken: phi, factors or limits; none of them beside a search.

    Raises:
        UsageError: None was, or two, or one that does not go with a direction.
    """
    is_limited = _has_budget(arguments)
    given = {
        "phi": arguments.phi,
        "factors": _factors(arguments),
        "limits": _limits(arguments) or is_limited,
    }
    ways = [name for name, values in given.items() if values]
    if len(ways) > 1 or (not ways and not arguments.search):
        raise UsageError(
            "the size must be given by one of: --phi 1..7, factors such as --depth 2 or --width 1.4, or "
            "limits such as --max-macs 1G for the largest network that keeps them; or give --search",
            field="phi",
        )
    named = arguments.direction is not None
    if named and arguments.search:
        raise UsageError(
            "--search finds the direction, and --direction gives it: leave one of them out", field="direction"
        )
    if (named or arguments.search) and (ways == ["factors"] or arguments.bases is not None):
        raise UsageError(
            "a direction shares the cost itself: leave out --depth, --width, --resolution and --bases, and "
            "give --phi or limits",
            field="direction",
        )
    if arguments.train and not ways:
        raise UsageError("--train trains a family: say which, such as --phi 1..3", field="train")
    return ways[0] if ways else ""


def _has_budget(arguments: Namespace) -> bool:
    """Whether the full training is limited, so that steps of it are measured."""
    return arguments.max_train_hours is not None or arguments.max_train_memory_bytes is not None


def _factors(arguments: Namespace) -> dict[str, float]:
    names = ("depth", "width", "resolution")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _limits(arguments: Namespace) -> dict[str, float]:
    limits = {
        "macs": arguments.max_macs,
        "params": arguments.max_params,
        "inference_bytes": arguments.max_memory_bytes,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def _write(folder: Path, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """Writes every member as an architecture.

    Raises:
        ExportError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for step in steps:
            (folder / f"{step.name}.json").write_text(step.member.network.to_json(), encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be written: {error}; choose another --out", field="out"
        ) from error
    return tuple(f"{step.name}.json" for step in steps)


def _joined(reports: list[Report]) -> Report:
    """One report of several; a fact that two have is the first's."""
    facts = {fact.key: fact for report in reversed(reports) for fact in report.facts}
    order = dict.fromkeys(fact.key for report in reports for fact in report.facts)
    return replace(
        reports[0],
        facts=tuple(facts[key] for key in order),
        tables=tuple(table for report in reports for table in report.tables),
        notes=tuple(note for report in reports for note in report.notes),
    )
