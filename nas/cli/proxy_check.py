"""`nas proxy-check`: whether a short training, or shared weights, ranks as a longer training does."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nas.cli.main import resumable
from nas.cli.options import LONGER
from nas.config.prepared import Prepared, prepare
from nas.config.readers import folder_path
from nas.config.request import new_settings, recipe_of
from nas.data.tree import check_outside
from nas.errors import RecipeError, UsageError
from nas.evaluation.proxy_check import FILE_NAME, LEAST_SEEDS, check_proxies, trainings_of
from nas.evaluation.proxy_sample import Candidate, sample_candidates
from nas.evaluation.proxy_variants import (
    LONG,
    RECIPE,
    SHARED,
    check_networks,
    long_recipe,
    possible_variants,
    read_proxies,
    usual_proxies,
    variants_of,
)
from nas.protocols import Evaluator
from nas.report.activity import Activity
from nas.report.printing import emit, make_console
from nas.report.proxy_report import draw_check, proxy_report
from nas.report.trainings import TrainingsDisplay
from nas.task_objective import judged_by, needed_of_task
from nas.training.recipe import Recipe
from nas.training.reduction import LEAST_SIDE

if TYPE_CHECKING:
    from rich.console import Console

    from nas.training.proxy import ProxyEvaluator

INIT = "init"
"""The name of the recipe that starts from trained weights, among the variants."""


def run(arguments: Namespace) -> int:
    """Checks, and says what came of it; 130 after Ctrl-C."""
    _require(arguments)
    folder = folder_path(arguments.out)
    recipe = recipe_of(arguments)
    times = LONGER if arguments.longer is None else arguments.longer
    long = long_recipe(recipe, epochs=arguments.long_epochs, times=times)
    if arguments.proxies is not None:
        read_proxies(arguments.proxies)  # a typing mistake shows before the images are read
    settings = replace(new_settings(arguments), supernet=None)  # which is judged, not searched in
    check_outside(folder, settings.data)
    console = make_console(to_stderr=arguments.json)
    with Activity(console, "preparing") as activity:
        prepared = prepare(settings, download=arguments.download, progress=activity)
    space, data, seed = prepared.space, prepared.data, settings.seed
    goal = judged_by(prepared.objective, data.task)
    count, seeds = arguments.candidates, arguments.seeds
    candidates = sample_candidates(space, count, seed=seed, limits=prepared.objective.known_limits)
    variants: dict[str, Evaluator] = {**_variants(prepared, long, arguments.proxies, candidates, console)}
    supernet_seconds = 0.0
    if arguments.supernet is not None:
        variants[SHARED], supernet_seconds = _shared(prepared, arguments.supernet)
    trainings = trainings_of(variants, candidates, seeds=seeds, seed=seed)
    _announce(prepared, variants, f"{count} candidates x {seeds} seeds", len(trainings), console)
    labels = [one.label for one in trainings]
    with resumable(folder), TrainingsDisplay(console, "training", labels, metric=goal.metric) as display:
        check = check_proxies(
            space,
            variants,
            prepared.executor(),
            candidates,
            recipe=prepared.recipe.settled(len(data.train)),
            long=long,
            goal=goal,
            search_images=len(data.search),
            data=data.fingerprint,
            split=data.split_fingerprint,
            seeds=seeds,
            seed=seed,
            supernet_seconds=supernet_seconds,
            folder=folder,
            on_finished=display.on_finished,
            on_progress=display.on_progress,
        )
    picture = draw_check(check, folder / "proxy-check.png")
    title = f"nas proxy-check: {arguments.space} on {data.name}"
    emit(proxy_report(check, title=title, saved=(folder / FILE_NAME, picture)), as_json=arguments.json)
    return 0


def _require(arguments: Namespace) -> None:
    """Checks what can be checked before any image is read.

    Raises:
        UsageError: Options contradict each other.
        RecipeError: There are too few seeds.
    """
    if arguments.longer is not None and arguments.long_epochs is not None:
        raise UsageError(
            "--longer and --long-epochs say the same thing: give one of them", field="long_epochs"
        )
    if arguments.seeds < LEAST_SEEDS:
        raise RecipeError(
            f"`seeds >= {LEAST_SEEDS}` must hold, as noise is what differs between them, but got "
            f"--seeds {arguments.seeds}",
            field="seeds",
        )


def _shared(prepared: Prepared, folder: str) -> tuple[Evaluator, float]:
    """Measures in a trained supernet; with the seconds that its training took.

    Raises:
        NasError: It cannot be read, or is of another space or other images.
    """
    from nas.weight_sharing.evaluator import SharedWeights

    metrics = needed_of_task(prepared.objective, prepared.data.task)
    evaluator = SharedWeights(folder, prepared.data, space=prepared.space, metrics=metrics)
    assert evaluator.facts is not None, "it came from a folder"
    return evaluator, evaluator.facts.seconds


def _variants(
    prepared: Prepared, long: Recipe, given: str | None, candidates: Sequence[Candidate], console: Console
) -> Mapping[str, ProxyEvaluator]:
    """The proxies that were asked for; of the usual ones, those that these networks and images allow.

    Raises:
        NasError: One that was asked for is not possible, or there are too few images.
    """
    networks = [prepared.space.decode(one.tokens) for one in candidates]
    proxies = usual_proxies() if given is None else read_proxies(given)
    metrics = needed_of_task(prepared.objective, prepared.data.task)
    variants = variants_of(prepared.data, prepared.recipe, long, proxies, metrics=metrics)
    if given is not None:
        check_networks(variants, networks)
    kept = possible_variants(variants, networks)
    for name in [name for name in variants if name not in kept]:
        if given is not None:
            raise RecipeError(
                f"a proxy must make candidates or images smaller, of at least {LEAST_SIDE} pixels, but "
                f"{name} does not: leave it out, or give another share",
                field="proxies",
            )
        console.print(
            f"left out   {name}: some candidates are too small to be made smaller so", soft_wrap=True
        )
    if prepared.init is not None:
        kept[INIT] = kept[RECIPE].beside(prepared.recipe, init=prepared.init)
        check_networks({INIT: kept[INIT]}, networks[:1])
    return kept


def _announce(
    prepared: Prepared, variants: Mapping[str, Evaluator], sample: str, count: int, console: Console
) -> None:
    """Prints what is about to be done."""
    from nas.cli.search import announce

    announce(prepared, console)
    for name in (RECIPE, LONG):
        for note in getattr(variants[name], "notes", ()):
            console.print(f"note       {name}: {note}", soft_wrap=True, highlight=False)
    names = ", ".join(variants)
    console.print(f"trainings  {sample} x {len(variants)} variants ({names}): {count}", soft_wrap=True)
