"""`nas scale`: a network made larger or smaller, the family as a table, and its members as files."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path

from nas.architectures import find_architecture
from nas.errors import ExportError, UsageError
from nas.evaluation.family import Family, Step
from nas.evaluation.training_budget import Probe, TrainingBudget, largest_trained
from nas.report.family_report import family_report, probe_in_words
from nas.report.printing import emit, make_console
from search_spaces.scaling import BASES, RULES


def run(arguments: Namespace) -> int:
    """Prints the family and writes its members."""
    way = _require_one_size(arguments)
    found = find_architecture(arguments.architecture)
    family = Family(
        baseline=found.network,
        direction=arguments.direction,
        bases=arguments.bases or BASES,
        rule=RULES[arguments.rule],
        resolution_multiple=arguments.multiple,
        limits=_limits(arguments),
    )
    folder = Path(arguments.out or f"runs/{found.name}-scaled").expanduser()
    probes: list[Probe] = []
    if way == "factors":
        steps: tuple[Step, ...] = (family.by_factors(_factors(arguments)),)
    elif way == "phi":
        steps = tuple(map(family.at, arguments.phi))
    else:
        budget = _budget(arguments)
        steps = (family.largest() if budget is None else _trained(arguments, family, budget, folder, probes),)
    files = _write(folder, steps)
    report = family_report(
        found.name, found.network, steps, folder, files, direction=arguments.direction, probes=probes
    )
    emit(report, as_json=arguments.json)
    return 0


def _budget(arguments: Namespace) -> TrainingBudget | None:
    """What a training may take; None where that was not limited.

    Raises:
        UsageError: It is limited and there are no images, or the other way round.
    """
    hours, memory_bytes = arguments.max_train_hours, arguments.max_train_memory_bytes
    is_limited = hours is not None or memory_bytes is not None
    if not is_limited:
        return None
    if arguments.data is None:
        raise UsageError(
            "--max-train-hours and --max-train-memory are measured on images: give --data", field="data"
        )
    return TrainingBudget(
        seconds=math.inf if hours is None else 3600 * hours,
        memory_bytes=math.inf if memory_bytes is None else memory_bytes,
    )


def _trained(
    arguments: Namespace, family: Family, budget: TrainingBudget, folder: Path, probes: list[Probe]
) -> Step:
    """The largest member whose training keeps the budget, and the limits; tells of every measurement."""
    from nas.full_training.images import ImageSource
    from nas.full_training.load import training_load
    from nas.full_training.options import TrainOptions
    from nas.full_training.training import SMALL_RESOLUTION, FullTraining

    baseline = family.baseline
    usual = "small" if baseline.resolution <= SMALL_RESOLUTION else "modern"
    recipe = arguments.train_recipe or usual
    source = ImageSource(spec=arguments.data, root=arguments.data_root, download=bool(arguments.download))
    asked = FullTraining(network=baseline, data=source, recipe=recipe)
    options = TrainOptions(device=arguments.device or "auto")
    console = make_console(to_stderr=True)
    console.print(f"measuring training steps by the recipe {recipe}")

    def watch(probe: Probe) -> None:
        probes.append(probe)
        console.print(probe_in_words(probe))

    best = largest_trained(
        lambda phi: family.at_most(phi).member.network,
        lambda network: training_load(asked, network, folder / "measured", options),
        budget,
        most_phi=family.most_phi(),
        watch=watch,
    )
    return family.at_most(best.phi)


def _require_one_size(arguments: Namespace) -> str:
    """Says which of the ways to give a size was taken: phi, factors or limits.

    Raises:
        UsageError: None was, or two, or one that does not go with a direction.
    """
    is_trained = arguments.max_train_hours is not None or arguments.max_train_memory_bytes is not None
    given = {
        "phi": arguments.phi,
        "factors": _factors(arguments),
        "limits": _limits(arguments) or is_trained,
    }
    ways = [name for name, values in given.items() if values]
    if len(ways) != 1:
        raise UsageError(
            "the size must be given by one of: --phi 1..7, factors such as --depth 2 or --width 1.4, or "
            "limits such as --max-macs 1G for the largest network that keeps them",
            field="phi",
        )
    if arguments.direction is not None and (ways == ["factors"] or arguments.bases is not None):
        raise UsageError(
            "--direction shares the cost itself: leave out --depth, --width, --resolution and --bases, and "
            "give --phi or limits",
            field="direction",
        )
    images = ("data", "data_root", "download", "train_recipe", "device")
    names = [name for name in images if getattr(arguments, name) not in (None, False)]
    if not is_trained and names:
        raise UsageError(
            f"--{names[0].replace('_', '-')} is for --max-train-hours and --max-train-memory: give one of "
            "them, or leave it out",
            field=names[0],
        )
    return ways[0]


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
