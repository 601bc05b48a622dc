"""`check_proxies`, and `ProxyCheck`, what it finds out, with its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.contract import check_ways
from nas.conversion import digest
from nas.errors import DataError, RecipeError, StudyError
from nas.evaluation.proxy_quality import Estimate, Measured, RankerQuality, WayQuality, judge
from nas.evaluation.proxy_sample import FEW, Candidate
from nas.evaluation.proxy_trainings import check_lawful, train_all
from nas.evaluation.proxy_variants import LONG, RECIPE, Proxy
from nas.evaluation.run_log import Run, RunLog
from nas.io import write_whole
from nas.protocols import Evaluator, Executor
from nas.training.recipe import Recipe
from nas.training.reduction import LEAST_SIDE, SIDE_STEP
from nas.trial import Tell
from search_spaces import Network, SearchSpace

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.training.proxy import ProxyEvaluator

FILE_NAME = "proxy-check.json"
VERSION = 1

LEAST_SEARCH_IMAGES = 50
"""Search images below which accuracies are too coarse to be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCandidate:
    """One of the sample, with its mean accuracy in every way by name; None where all trainings failed."""

    digest: str
    macs: int
    params: int
    accuracies: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyCheck:
    """What a check found out.

    Attributes:
        space: Fingerprint of the search space.
        data: Fingerprint of the images.
        split: Fingerprint of their split.
        recipe: Fingerprint of the recipe that was checked.
        epochs: Epochs of the recipe.
        long_epochs: Epochs of the longer schedule.
        search_images: Images that an accuracy is measured on.
        seeds: Trainings of each candidate in each way.
        candidates: The sample.
        ways: The recipe, the proxies beside it, and the longer schedule.
        rankers: Costs known without training, as rankers.
        warnings: What makes the figures less than they look.
    """

    space: str
    data: str
    split: str
    recipe: str
    epochs: float
    long_epochs: float
    search_images: int
    seeds: int
    candidates: tuple[CheckedCandidate, ...]
    ways: tuple[WayQuality, ...]
    rankers: tuple[RankerQuality, ...]
    warnings: tuple[str, ...] = ()

    def way(self, name: str) -> WayQuality:
        """One of the ways by its name."""
        return next(way for way in self.ways if way.name == name)

    @property
    def noise(self) -> float | None:
        """Standard deviation of one training's accuracy by the recipe, as a fraction; None if not known."""
        noise = self.way(RECIPE).noise
        return None if noise is None else noise.value

    @property
    def best(self) -> WayQuality | None:
        """The proxy with the largest gain; None where the longer schedule does not agree with itself."""
        ceiling = self.way(LONG).tau
        if ceiling is None or ceiling.low <= 0:
            return None
        judged = [way for way in self.ways if way.gain is not None]
        return max(judged, key=lambda way: way.gain or 0.0, default=None)

    def save(self, folder: Path) -> Path:
        """Writes it into a folder as `proxy-check.json`, whole or not at all.

        Raises:
            StudyError: It cannot be written.
        """
        path = folder / FILE_NAME
        try:
            return write_whole(path, json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n")
        except OSError as error:
            raise StudyError(f"{path} cannot be written: {error.strerror or error}") from error


def read_check(path: Path | str) -> ProxyCheck:
    """Reads a check from its folder or file.

    Raises:
        StudyError: There is none, it is damaged, or a newer program wrote it.
    """
    place = Path(path).expanduser()
    file = place / FILE_NAME if place.is_dir() else place
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
        if data.pop("version") != VERSION:
            raise ValueError(f"it is not of version {VERSION}")
        candidates = tuple(CheckedCandidate(**one) for one in data.pop("candidates"))
        ways = tuple(WayQuality(**_estimates(one)) for one in data.pop("ways"))
        rankers = tuple(RankerQuality(**_estimates(one)) for one in data.pop("rankers"))
        warnings = tuple(data.pop("warnings"))
        check = ProxyCheck(**data, candidates=candidates, ways=ways, rankers=rankers, warnings=warnings)
        check.way(RECIPE)
    except OSError as error:
        raise StudyError(
            f"{file} must be the result of a proxy check, but: {error.strerror or error}; make one with "
            "nas proxy-check"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
        raise StudyError(f"{file} cannot be read as a proxy check ({error}): make it anew") from error
    return check


def read_noise(
    path: Path | str, *, recipe: Recipe | None = None, data: ImageData | None = None
) -> ProxyCheck:
    """Reads a check whose noise is to be used, and checks that it is that of this recipe on these images.

    Raises:
        StudyError: There is no check, it knows no noise, or it is of another recipe or other images.
    """
    check = read_check(path)
    if check.noise is None:
        raise StudyError(f"the check in {path} knows no noise, as too many trainings failed: make it anew")
    pairs = {
        "recipe": (check.recipe, None if recipe is None else recipe.fingerprint),
        "images": (check.data, None if data is None else data.fingerprint),
        "split": (check.split, None if data is None else data.split_fingerprint),
    }
    for name, (theirs, ours) in pairs.items():
        if ours is not None and ours != theirs:
            raise StudyError(
                f"the noise of {path} is that of another {name} ({theirs} there, {ours} here): check this "
                "one, or leave it out"
            )
    return check


def _estimates(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Estimate(**value) if isinstance(value, dict) else value for name, value in fields.items()}


def ways_of(
    data: ImageData, recipe: Recipe, long: Recipe, proxies: Sequence[Proxy], *, device: str = "auto"
) -> dict[str, ProxyEvaluator]:
    """Evaluators of the longer schedule and of every proxy, which share the images on a device.

    Raises:
        DataError: There are too few images or classes for accuracies to be told apart.
        RecipeError: The longer schedule is not longer.
    """
    from nas.training.proxy import ProxyEvaluator

    if data.num_classes < 2 or len(data.search) < LEAST_SEARCH_IMAGES:
        raise DataError(
            f"at least 2 classes and {LEAST_SEARCH_IMAGES} search images are needed for accuracies to be "
            f"told apart, but {data.name} has {data.num_classes} and {len(data.search)}: give more images, "
            "or a larger --search-fraction"
        )
    if long.epochs <= recipe.epochs:
        raise RecipeError(
            f"`long epochs > epochs` must hold, but got {long.epochs:g} and {recipe.epochs:g}: train longer"
        )
    first = ProxyEvaluator(data, long, device=device)
    return {LONG: first} | {proxy.name: first.beside(recipe, proxy.reduction) for proxy in proxies}


def possible_ways(
    ways: Mapping[str, ProxyEvaluator], space: SearchSpace, candidates: Sequence[Candidate]
) -> dict[str, ProxyEvaluator]:
    """Those of the ways in which every candidate can be built, and which make some candidate smaller.

    Raises:
        DataError: The recipe itself is not possible.
    """
    networks = [space.decode(one.tokens) for one in candidates]
    kept = {}
    for name, way in ways.items():
        try:
            check_lawful({name: way}, networks)
        except DataError:
            if name in (LONG, RECIPE):
                raise
            continue
        if name in (LONG, RECIPE) or _is_smaller(way, networks):
            kept[name] = way
    return kept


def _is_smaller(way: ProxyEvaluator, networks: Sequence[Network]) -> bool:
    """Whether a reduction makes anything smaller, and no image smaller than it says."""
    smaller = way.reduction
    if smaller.resolution * way.data.resolution < LEAST_SIDE - SIDE_STEP / 2:
        return False
    is_shorter = smaller.epochs < 1 or smaller.data < 1
    return is_shorter or any(smaller.network(network) != network for network in networks)


def check_proxies(
    space: SearchSpace,
    ways: Mapping[str, Evaluator],
    executor: Executor,
    candidates: Sequence[Candidate],
    *,
    recipe: Recipe,
    long: Recipe,
    search_images: int,
    data: str = "",
    split: str = "",
    seeds: int = 2,
    seed: int = 0,
    folder: Path,
    on_run: Callable[[Run, int, int], None] = lambda *_: None,
    on_progress: Tell = lambda _: None,
) -> ProxyCheck:
    """Trains the sample in every way and judges the ways; what the folder has already is not done again.

    Proxies and seeds may be added to a check later; all else must stay as it was.

    Args:
        space: Where the candidates come from.
        ways: Evaluators by name, `long` and `recipe` among them.
        executor: Runs the trainings; started and closed here.
        candidates: The sample.
        recipe: The proxy that is checked.
        long: The longer schedule.
        search_images: Images that an accuracy is measured on.
        data: Fingerprint of the images.
        split: Fingerprint of their split.
        seeds: Trainings of each candidate in each way, at least 2.
        seed: Those of the trainings are derived from it.
        folder: Where trainings and result are written.
        on_run: Told of each finished training, with the number done and the number of all.
        on_progress: Told what goes on.

    Raises:
        NasError: The folder holds another check, a candidate is not valid, an evaluator, op or executor of
            the user's own lacks something, or the machines cannot be had.
    """
    if seeds < 2:
        raise RecipeError(f"`seeds >= 2` must hold, as noise is what differs between them, but got {seeds}")
    check_ways(space, ways, executor)
    settings = {
        "space": space.fingerprint,
        "data": data,
        "split": split,
        "recipe": recipe.fingerprint,
        "longer schedule": ways[LONG].fingerprint,
        "sample of candidates": digest(*(one.digest for one in candidates)),
        "seed": str(seed),
    }
    with RunLog(folder, settings) as log:
        train_all(
            space,
            ways,
            executor,
            candidates,
            log,
            seeds=seeds,
            seed=seed,
            on_run=on_run,
            on_progress=on_progress,
        )
        runs = tuple(log.runs.values())
    measured = {name: measured_of(name, runs, len(candidates), seeds) for name in ways}
    known = {"params": [float(c.params) for c in candidates], "macs": [float(c.macs) for c in candidates]}
    judged, rankers = judge(measured, known, search_images=search_images, seed=seed)
    check = ProxyCheck(
        space=space.fingerprint,
        data=data,
        split=split,
        recipe=recipe.fingerprint,
        epochs=recipe.epochs,
        long_epochs=long.epochs,
        search_images=search_images,
        seeds=seeds,
        candidates=tuple(_checked(index, one, measured) for index, one in enumerate(candidates)),
        ways=judged,
        rankers=rankers,
        warnings=warnings_of(judged, len(candidates), search_images),
    )
    check.save(folder)
    return check


def measured_of(name: str, runs: Sequence[Run], candidates: int, seeds: int) -> Measured:
    """Accuracies and seconds of one way as arrays."""
    accuracies, seconds = np.full((2, candidates, seeds), np.nan)
    for run in runs:
        if run.way == name and run.number < seeds:
            seconds[run.candidate, run.number] = run.seconds
            if run.accuracy is not None:
                accuracies[run.candidate, run.number] = run.accuracy
    return Measured(accuracies=accuracies, seconds=seconds)


def warnings_of(ways: Sequence[WayQuality], candidates: int, search_images: int) -> tuple[str, ...]:
    """What makes the figures less than they look."""
    found = []
    if candidates < FEW:
        found.append(f"only {candidates} candidates: intervals are wide and may be too narrow still; take 16")
    for way in ways:
        if way.name in (LONG, RECIPE):
            found += _chance_warnings(way, search_images)
        if way.failed:
            found.append(f"{way.name}: {way.failed} of {way.trainings} trainings failed, and are left out")
    long = next(way for way in ways if way.name == LONG)
    if long.tau is not None and long.tau.low <= 0:
        found.append(
            "the longer schedule's own seeds cannot be told from ranking at random: no proxy can be judged "
            "by it; take more candidates and seeds, or train longer"
        )
    return tuple(found)


def _chance_warnings(way: WayQuality, search_images: int) -> list[str]:
    if way.binomial is None or way.spread is None or way.binomial <= way.spread / 2:
        return []
    return [
        f"{way.name}: accuracies on {search_images:,} search images are off by {100 * way.binomial:.2g} "
        f"points by chance, more than half of the {100 * way.spread:.2g} points between candidates: a larger "
        "--search-fraction would tell them apart"
    ]


def _checked(index: int, candidate: Candidate, measured: Mapping[str, Measured]) -> CheckedCandidate:
    def mean(way: Measured) -> float | None:
        known = way.accuracies[index][np.isfinite(way.accuracies[index])]
        return float(known.mean()) if known.size else None

    return CheckedCandidate(
        digest=candidate.digest,
        macs=candidate.macs,
        params=candidate.params,
        accuracies={name: mean(way) for name, way in measured.items()},
    )
