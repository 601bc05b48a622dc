"""`nas proxy-check`: whether a short training ranks as a longer one does, before a search is paid for."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.config.prepared import Prepared, prepare
from nas.config.request import new_settings, recipe_of
from nas.errors import RecipeError, UsageError
from nas.evaluation.proxy_check import ProxyCheck, check_proxies, possible_ways, ways_of
from nas.evaluation.proxy_sample import Candidate, sample_candidates
from nas.evaluation.proxy_trainings import check_lawful
from nas.evaluation.proxy_variants import LONG, RECIPE, long_recipe, read_proxies, usual_proxies
from nas.evaluation.run_log import Run
from nas.protocols import Evaluator, HasNotes
from nas.report.activity import Activity, Running
from nas.report.printing import emit, make_console, show_accuracy, show_seconds
from nas.report.progress import SILENT_SECONDS
from nas.report.proxy_report import draw_check, proxy_report
from nas.training.recipe import Recipe
from nas.training.reduction import LEAST_SIDE

if TYPE_CHECKING:
    from rich.console import Console

EXIT_INTERRUPTED = 130
CANDIDATES, SEEDS, LONGER = 16, 2, 3.0
LEAST_SEEDS = 2


def run(arguments: Namespace) -> int:
    """Checks, and says what came of it; 130 after Ctrl-C."""
    _require(arguments)
    recipe = recipe_of(arguments)
    times = LONGER if arguments.longer is None else arguments.longer
    long = long_recipe(recipe, epochs=arguments.long_epochs, times=times)
    if arguments.proxies is not None:
        read_proxies(arguments.proxies)  # a typing mistake shows before the images are read
    settings = new_settings(arguments)
    console = make_console(to_stderr=arguments.json)
    with Activity(console, "preparing") as activity:
        prepared = prepare(settings, download=arguments.download, progress=activity)
    candidates = sample_candidates(
        prepared.space,
        CANDIDATES if arguments.candidates is None else arguments.candidates,
        seed=settings.seed,
        limits=prepared.objective.known_limits,
    )
    ways = _ways(prepared, long, arguments.proxies, candidates, console)
    seeds = SEEDS if arguments.seeds is None else arguments.seeds
    folder = Path(arguments.out).expanduser()
    _announce(prepared, ways, candidates, seeds, console)
    try:
        check = _check(prepared, ways, candidates, long, seeds, folder, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on where it was", soft_wrap=True)
        return EXIT_INTERRUPTED
    _show(check, folder, prepared, arguments)
    return 0


def _check(
    prepared: Prepared,
    ways: Mapping[str, Evaluator],
    candidates: Sequence[Candidate],
    long: Recipe,
    seeds: int,
    folder: Path,
    console: Console,
) -> ProxyCheck:
    """Trains and judges, and shows what goes on meanwhile."""
    names = [f"{way}, candidate {number}" for way in ways for number in range(1, len(candidates) + 1)]
    running = Running(names.__getitem__)
    with Activity(console, "training", first_seconds=SILENT_SECONDS) as activity:
        return check_proxies(
            prepared.space,
            ways,
            prepared.executor(),
            candidates,
            recipe=prepared.recipe.settled(len(prepared.data.train)),
            long=long,
            search_images=len(prepared.data.search),
            data=prepared.data.fingerprint,
            split=prepared.data.split_fingerprint,
            seeds=seeds,
            seed=prepared.settings.seed,
            folder=folder,
            on_run=_reporter(activity, running, names),
            on_progress=running.teller(activity),
        )


def _require(arguments: Namespace) -> None:
    """Checks what can be checked before any image is read.

    Raises:
        UsageError: Options contradict each other.
        RecipeError: There are too few seeds.
    """
    if arguments.longer is not None and arguments.long_epochs is not None:
        raise UsageError("--longer and --long-epochs say the same thing: give one of them")
    if arguments.seeds is not None and arguments.seeds < LEAST_SEEDS:
        raise RecipeError(
            f"`seeds >= {LEAST_SEEDS}` must hold, as noise is what differs between them, but got "
            f"--seeds {arguments.seeds}"
        )


def _ways(
    prepared: Prepared, long: Recipe, given: str | None, candidates: Sequence[Candidate], console: Console
) -> Mapping[str, Evaluator]:
    """The ways that were asked for; of the usual ones, those that these networks and images allow.

    Raises:
        NasError: One that was asked for is not possible, or there are too few images.
    """
    proxies = usual_proxies() if given is None else read_proxies(given)
    ways = ways_of(prepared.data, prepared.recipe, long, proxies)
    if given is not None:
        check_lawful(ways, [prepared.space.decode(one.tokens) for one in candidates])
    kept = possible_ways(ways, prepared.space, candidates)
    for name in [name for name in ways if name not in kept]:
        if given is not None:
            raise RecipeError(
                f"a proxy must make candidates or images smaller, of at least {LEAST_SIDE} pixels, but "
                f"{name} does not: leave it out, or give another share"
            )
        console.print(
            f"left out   {name}: some candidates are too small to be made smaller so", soft_wrap=True
        )
    return kept


def _announce(
    prepared: Prepared,
    ways: Mapping[str, Evaluator],
    candidates: Sequence[Candidate],
    seeds: int,
    console: Console,
) -> None:
    """Prints what is about to be done."""
    from nas.cli.search import announce

    announce(prepared, console)
    for name in (RECIPE, LONG):
        way = ways[name]
        for note in way.notes if isinstance(way, HasNotes) else ():
            console.print(f"note       {name}: {note}", soft_wrap=True, highlight=False)
    names = ", ".join(ways)
    console.print(
        f"trainings  {len(candidates)} candidates x {seeds} seeds in {len(ways)} ways ({names}): "
        f"{len(candidates) * seeds * len(ways)}",
        soft_wrap=True,
    )


def _reporter(activity: Activity, running: Running, names: list[str]) -> Callable[[Run, int, int], None]:
    """Prints a line for every training."""
    from rich.text import Text

    def report(run: Run, done: int, total: int) -> None:
        line = Text(f"[{done:>{len(str(total))}}/{total}] ", style="dim")
        line.append(f"{run.way:<16} candidate {run.candidate + 1:<3} ", style="none")
        if run.accuracy is None:
            line.append(f"failed: {run.message}", style="red")
        else:
            line.append(f"accuracy {show_accuracy(run.accuracy)}  {show_seconds(run.seconds)}", style="none")
        running.end(names.index(f"{run.way}, candidate {run.candidate + 1}"))
        activity.print(line)

    return report


def _show(check: ProxyCheck, folder: Path, prepared: Prepared, arguments: Namespace) -> None:
    from nas.evaluation.proxy_check import FILE_NAME

    picture = draw_check(check, folder / "proxy-check.png")
    title = f"nas proxy-check: {arguments.space} on {prepared.data.name}"
    report = proxy_report(check, title=title, saved=(folder / FILE_NAME, picture))
    emit(report, as_json=arguments.json)
