"""`check_proxies` trains a sample of candidates in several variants; `ProxyCheck` is what it finds out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.contract import check_ways
from nas.errors import RecipeError, StudyError
from nas.evaluation.agreement import Marginal, marginals_of
from nas.evaluation.proxy_quality import (
    Estimate,
    Measured,
    RankerQuality,
    Rival,
    VariantQuality,
    judge,
    judge_rival,
)
from nas.evaluation.proxy_sample import FEW, Candidate
from nas.evaluation.proxy_variants import LONG, RECIPE, SHARED, VariantsEvaluator, check_networks, seeds_of
from nas.io import write_whole
from nas.jobs import (
    JobLog,
    OnFinished,
    Training,
    earlier_result,
    run_trainings,
    unless_all_fail,
    value_of,
)
from nas.metrics import ACCURACY, Goal
from nas.protocols import Evaluator, Executor
from nas.reading import read_json, require_types
from nas.trial import Result, Tell
from nas.values import digest
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.training.recipe import Recipe

FILE_NAME = "proxy-check.json"
LOG = "trainings.jsonl"

VERSION = 5
"""Of the file. Version 1 had `ways` for `variants`, and more figures of each; before version 3 there were
accuracies alone, which were named so; version 4 added what a supernet's time buys otherwise, version 5 how
options stand in it."""

EARLIER_NAMES = {"accuracy": "mean", "accuracies": "values"}

LEAST_SEEDS = 2
"""Trainings of each candidate: noise is what differs between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCandidate:
    """One of the sample, with its mean metric in each variant by name; None where all trainings failed."""

    digest: str
    macs: int
    params: int
    values: Mapping[str, float | None]


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
        search_images: Images that the metric is measured on.
        seeds: Trainings of each candidate in each variant.
        candidates: The sample.
        variants: The longer schedule, the recipe, and the proxies beside it.
        rankers: Costs known without training, as rankers.
        warnings: What makes the figures less than they look.
        metric: What was measured of each training.
        rival: What the time of the supernet's training buys otherwise; None where there is no supernet.
        marginals: How options stand in the supernet and by the longer schedule; empty without a supernet.
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
    variants: tuple[VariantQuality, ...]
    rankers: tuple[RankerQuality, ...]
    warnings: tuple[str, ...] = ()
    metric: str = "accuracy"
    rival: Rival | None = None
    marginals: tuple[Marginal, ...] = ()

    def variant(self, name: str) -> VariantQuality:
        """One of the variants by its name."""
        return next(variant for variant in self.variants if variant.name == name)

    @property
    def noise(self) -> float | None:
        """Standard deviation of one training's metric by the recipe, in its unit; None if not known."""
        noise = self.variant(RECIPE).noise
        return None if noise is None else noise.value

    @property
    def best(self) -> VariantQuality | None:
        """The proxy with the largest gain; None where the longer schedule does not agree with itself."""
        ceiling = self.variant(LONG).tau
        if ceiling is None or ceiling.low <= 0:
            return None
        judged = [variant for variant in self.variants if variant.gain is not None]
        return max(judged, key=lambda variant: variant.gain or 0.0, default=None)

    def save(self, folder: Path) -> Path:
        """Writes it into a folder as `proxy-check.json`, whole or not at all.

        Raises:
            StudyError: It cannot be written.
        """
        path = folder / FILE_NAME
        try:
            return write_whole(path, json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n")
        except OSError as error:
            raise StudyError(f"{path} cannot be written: {error.strerror or error}", field="out") from error


def read_check(path: Path | str) -> ProxyCheck:
    """Reads a check from its folder or file.

    Raises:
        StudyError: There is none, it is damaged, or a newer program wrote it.
    """
    place = Path(path).expanduser()
    file = place / FILE_NAME if place.is_dir() else place
    try:
        data: Any = read_json(file)
        version = data.pop("version")
        if version not in range(1, VERSION + 1):
            raise ValueError(f"it is of version {version}, and this program reads 1 to {VERSION}")
        candidates = tuple(CheckedCandidate(**_renamed(one)) for one in data.pop("candidates"))
        variants = tuple(
            VariantQuality(**_known(VariantQuality, _renamed(one)))
            for one in data.pop("ways" if version == 1 else "variants")
        )
        rankers = tuple(RankerQuality(**_known(RankerQuality, one)) for one in data.pop("rankers"))
        warnings = tuple(data.pop("warnings"))
        rival = data.pop("rival", None)
        marginals = tuple(Marginal(**_known(Marginal, one)) for one in data.pop("marginals", ()))
        check = ProxyCheck(
            **data,
            candidates=candidates,
            variants=variants,
            rankers=rankers,
            warnings=warnings,
            rival=None if rival is None else Rival(**_known(Rival, rival)),
            marginals=marginals,
        )
        require_types(check)
        check.variant(RECIPE)
    except OSError as error:
        raise StudyError(
            f"{file} must be the result of a proxy check, but: {error.strerror or error}; make one with "
            "nas proxy-check",
            field="proxy_check",
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
        raise StudyError(
            f"{file} cannot be read as a proxy check ({error}): make it again", field="proxy_check"
        ) from error
    return check


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {EARLIER_NAMES.get(name, name): value for name, value in values.items()}


def _known(
    kind: type[VariantQuality | RankerQuality | Rival | Marginal], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a kind, its estimates read; version 1 had more."""
    names = {field.name for field in fields(kind)}
    return {
        name: Estimate(**value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name in names
    }


def read_noise(
    path: Path | str,
    *,
    recipe: Recipe | None = None,
    data: ImageData | None = None,
    metric: str | None = None,
) -> ProxyCheck:
    """Reads a check whose noise is to be used: that of this metric, by this recipe on these images.

    Raises:
        StudyError: There is no check, it knows no noise, or it is of another metric, recipe or images.
    """
    check = read_check(path)
    if check.noise is None:
        raise StudyError(
            f"the check in {path} has no noise, as too many trainings failed: make it again",
            field="proxy_check",
        )
    pairs = {
        "recipe": (check.recipe, None if recipe is None else recipe.fingerprint),
        "images": (check.data, None if data is None else data.fingerprint),
        "split": (check.split, None if data is None else data.split_fingerprint),
        "metric": (check.metric, metric),
    }
    for name, (theirs, ours) in pairs.items():
        if ours is not None and ours != theirs:
            raise StudyError(
                f"the noise of {path} is that of another {name} ({theirs} there, {ours} here): check this "
                "one, or leave it out",
                field="proxy_check",
            )
    return check


def check_proxies(
    space: SearchSpace,
    variants: Mapping[str, Evaluator],
    executor: Executor,
    candidates: Sequence[Candidate],
    *,
    recipe: Recipe,
    long: Recipe,
    goal: Goal = ACCURACY,
    search_images: int,
    data: str = "",
    split: str = "",
    seeds: int = LEAST_SEEDS,
    seed: int = 0,
    supernet_seconds: float = 0.0,
    folder: Path,
    on_finished: OnFinished = lambda _: None,
    on_progress: Tell = lambda _: None,
) -> ProxyCheck:
    """Trains the sample in every variant and judges them; what the folder has already is not done again.

    Proxies, a supernet and seeds may be added to a check later; all else must stay as it was.

    Args:
        space: Where the candidates come from.
        variants: Evaluators by name, `long` and `recipe` among them.
        executor: Runs the trainings; started and closed here.
        candidates: The sample.
        recipe: The proxy that is checked.
        long: The longer schedule.
        goal: The metric that tells candidates apart.
        search_images: Images that it is measured on.
        data: Fingerprint of the images.
        split: Fingerprint of their split.
        seeds: Trainings of each candidate in each variant, at least 2.
        seed: Those of the trainings are derived from it.
        supernet_seconds: What the training of the variant `shared weights` took, where there is one.
        folder: Where trainings and result are written.
        on_finished: Receives each finished training.
        on_progress: Receives progress, with the place in `trainings_of` as the number of the trial.

    Raises:
        NasError: The folder holds another check, a candidate is not valid, an evaluator, op or executor of
            the user's own lacks something, the first trainings all fail, or the machines cannot be had.
    """
    if seeds < LEAST_SEEDS:
        raise RecipeError(
            f"`seeds >= {LEAST_SEEDS}` must hold, as noise is what differs between them, but got {seeds}",
            field="seeds",
        )
    check_ways(space, variants, executor)
    check_networks(variants, [space.decode(one.tokens) for one in candidates])
    settings = {
        "space": space.fingerprint,
        "data": data,
        "split": split,
        "recipe": recipe.fingerprint,
        "longer schedule": variants[LONG].fingerprint,
        "sample of candidates": digest(*(one.digest for one in candidates)),
        "seed": str(seed),
    }
    trainings = trainings_of(variants, candidates, seeds=seeds, seed=seed)
    names = {_word(name, one): name for name, one in variants.items()}
    evaluator = VariantsEvaluator(variants, [names[one.key.rsplit("/", 2)[0]] for one in trainings])
    with JobLog(folder / LOG, settings, read_earlier=_read_earlier) as log:
        checked = unless_all_fail(on_finished, goal.metric)
        run_trainings(
            space, evaluator, executor, trainings, log, on_finished=checked, on_progress=on_progress
        )
        results = dict(log.results)
    measured = {
        name: _measured(_word(name, one), results, len(candidates), seeds_of(name, seeds), goal)
        for name, one in variants.items()
    }
    known = {"params": [float(c.params) for c in candidates], "macs": [float(c.macs) for c in candidates]}
    judged, rankers = judge(measured, known, supernet_seconds=supernet_seconds, seed=seed)
    rival: Rival | None = None
    marginals: tuple[Marginal, ...] = ()
    if SHARED in variants:
        tokens = [one.tokens for one in candidates]
        rival = judge_rival(space, tokens, measured, supernet_seconds=supernet_seconds, seed=seed)
        shared, alone = measured[SHARED].means, measured[LONG].means
        marginals = marginals_of(space, tokens, shared.tolist(), alone.tolist())
    judged = tuple(replace(one, mean=None if one.mean is None else goal.sign * one.mean) for one in judged)
    check = ProxyCheck(
        space=space.fingerprint,
        data=data,
        split=split,
        recipe=recipe.fingerprint,
        epochs=recipe.epochs,
        long_epochs=long.epochs,
        search_images=search_images,
        seeds=seeds,
        candidates=tuple(_checked(index, one, measured, goal) for index, one in enumerate(candidates)),
        variants=judged,
        rankers=rankers,
        warnings=warnings_of(judged, len(candidates), search_images, goal.metric),
        metric=goal.metric,
        rival=rival,
        marginals=marginals,
    )
    check.save(folder)
    return check


def trainings_of(
    variants: Mapping[str, Evaluator], candidates: Sequence[Candidate], *, seeds: int, seed: int
) -> tuple[Training, ...]:
    """Whole rounds, a seed each; in a round the longer schedule comes first, as it takes longest."""
    order = sorted(variants, key=lambda name: name != LONG)
    return tuple(
        Training(
            key=_key(_word(name, variants[name]), index, number),
            label=f"{name}, candidate {index + 1}",
            tokens=candidate.tokens,
            seed=training_seed(seed, name, index, number),
        )
        for number in range(seeds)
        for name in order
        if number < seeds_of(name, seeds)
        for index, candidate in enumerate(candidates)
    )


def training_seed(seed: int, variant: str, candidate: int, number: int) -> int:
    """Seed of one training, unlike any other's: variants that shared seeds would agree by their luck."""
    word = int(digest("proxy check", variant), 16)
    return int(np.random.SeedSequence([seed, word, candidate, number]).generate_state(1)[0] & 0x7FFFFFFF)


def _word(name: str, evaluator: Evaluator) -> str:
    """What the keys of a variant's trainings begin with: another supernet's are other ones."""
    return f"{name} {evaluator.fingerprint}" if name == SHARED else name


def _key(variant: str, candidate: int, number: int) -> str:
    return f"{variant}/{candidate}/{number}"


def _read_earlier(line: Mapping[str, Any]) -> tuple[str, Result]:
    """A training as version 1 of the log has it: accuracy and seconds."""
    result = earlier_result(line["accuracy"], line["message"], seconds=line["seconds"])
    return _key(line["way"], line["candidate"], line["number"]), result


def _measured(name: str, results: Mapping[str, Result], candidates: int, seeds: int, goal: Goal) -> Measured:
    """The metric, turned so that more is better, and the seconds of one variant as arrays."""
    values, seconds = np.full((2, candidates, seeds), np.nan)
    for candidate, number in np.ndindex(candidates, seeds):
        result = results.get(_key(name, candidate, number))
        if result is not None:
            value = value_of(result, goal.metric)
            seconds[candidate, number] = result.seconds
            values[candidate, number] = np.nan if value is None else goal.sign * value
    return Measured(values=values, seconds=seconds)


def warnings_of(
    variants: Sequence[VariantQuality], candidates: int, search_images: int, metric: str = "accuracy"
) -> tuple[str, ...]:
    """What makes the figures less than they look."""
    found = []
    if candidates < FEW:
        found.append(f"only {candidates} candidates: intervals are wide and may be too narrow still; take 16")
    for variant in variants:
        if variant.name in (LONG, RECIPE) and metric == "accuracy":
            found += _chance_warnings(variant, search_images)
        if variant.failed:
            failed = f"{variant.failed} of {variant.trainings} trainings failed"
            found.append(f"{variant.name}: {failed}, and are left out")
    long = next(variant for variant in variants if variant.name == LONG)
    if long.tau is not None and long.tau.low <= 0:
        found.append(
            "the longer schedule's own seeds do not rank better than chance: no proxy can be judged "
            "by it; take more candidates and seeds, or train longer"
        )
    return tuple(found)


def _chance_warnings(variant: VariantQuality, search_images: int) -> list[str]:
    """Whether so few images scatter accuracies by more than half of what lies between candidates."""
    if variant.mean is None or variant.spread is None:
        return []
    chance = float(np.sqrt(variant.mean * (1 - variant.mean) / search_images))
    if chance <= variant.spread / 2:
        return []
    return [
        f"{variant.name}: accuracies on {search_images:,} search images are off by {100 * chance:.2g} "
        f"points by chance, more than half of the {100 * variant.spread:.2g} points between candidates: a "
        "larger --search-fraction would help"
    ]


def _checked(
    index: int, candidate: Candidate, measured: Mapping[str, Measured], goal: Goal
) -> CheckedCandidate:
    def mean(variant: Measured) -> float | None:
        known = variant.values[index][np.isfinite(variant.values[index])]
        return goal.sign * float(known.mean()) if known.size else None

    return CheckedCandidate(
        digest=candidate.digest,
        macs=candidate.macs,
        params=candidate.params,
        values={name: mean(variant) for name, variant in measured.items()},
    )
