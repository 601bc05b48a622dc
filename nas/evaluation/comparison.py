"""The final comparison: winner, reference and random candidates, trained alike, on the test split."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nas.catalogue import Catalogue
from nas.errors import StudyError
from nas.io import write_whole
from nas.jobs import Finished, JobLog, OnFinished, Training, earlier_result, run_trainings, value_of
from nas.metrics import ACCURACY, Direction, Goal
from nas.objective import Objective
from nas.protocols import Evaluator, Executor
from nas.reading import read_json, require_types
from nas.statistics import t_quantile
from nas.tested_weights import COMPARISON, TestedWeights
from nas.trial import Result, Status, Tell
from search_spaces import SearchSpace, cost

LOG = "comparison-trainings.jsonl"
"""The file in a study's folder with every training; `comparison.json` is what came of them."""

RANDOMS, SEEDS = 3, 2
"""Random candidates beside the winner by default, and trainings of each network."""

DRAWS_PER_CANDIDATE = 1_000

Role = Literal["winner", "reference", "random"]
Outcome = Literal["ahead", "tie", "behind", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training of a contender.

    Attributes:
        seed: Its seed.
        value: Its metric on the test split; None where the training failed.
        message: Why it failed; otherwise its notes, such as images that could not be read.
        is_lost: Whether its machine lost it; the next call trains again.
    """

    seed: int
    value: float | None
    message: str = ""
    is_lost: bool = False

    @classmethod
    def of(cls, result: Result, metric: str) -> Run:
        """What a comparison by a metric keeps of a result."""
        value = value_of(result, metric)
        message = "; ".join(result.notes) if value is not None else result.message or result.status.value
        is_lost = result.status is Status.LOST
        return cls(seed=result.job.seed, value=value, message=message, is_lost=is_lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One network of the comparison.

    Attributes:
        role: Why it takes part.
        name: What users call it (`trial 12`, `random 3`).
        tokens: The candidate.
        digest: Its identity.
        macs: Its multiply-adds.
        params: Its parameters.
        runs: Its trainings.
    """

    role: Role
    name: str
    tokens: tuple[int, ...]
    digest: str
    macs: int
    params: int
    runs: tuple[Run, ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """The metric of the trainings that worked."""
        return tuple(run.value for run in self.runs if run.value is not None)

    @property
    def mean(self) -> float | None:
        """Mean of the metric; None where no training worked."""
        return statistics.fmean(self.values) if self.values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of it.

    Attributes:
        evaluator: Fingerprint of recipe, data, split and test set: equal for metrics that can be compared.
        images: Number of test images.
        seeds: Trainings of each contender.
        contenders: The winner first.
        class_counts: Test images of each class; empty where an earlier version did not count them.
        tested_weights: What the winner's own weights reach; None if not measured.
        metric: What is compared.
        direction: Whether more or less of it is better.
    """

    evaluator: str
    images: int
    seeds: int
    contenders: tuple[Contender, ...]
    class_counts: tuple[int, ...] = ()
    tested_weights: TestedWeights | None = None
    metric: str = "accuracy"
    direction: Direction = "max"

    @property
    def winner(self) -> Contender:
        """The network that the search chose."""
        return self.contenders[0]

    @property
    def reference(self) -> Contender | None:
        """The space's published network; None where it has none, or the winner is that network."""
        return next((one for one in self.contenders if one.role == "reference"), None)

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation between trainings of one network that differ in the seed alone, pooled."""
        squares, freedom = self._pooled()
        return math.sqrt(squares / freedom) if freedom else None

    @property
    def seed_freedom(self) -> int:
        """Degrees of freedom of `seed_deviation`."""
        return self._pooled()[1]

    @property
    def candidate_deviation(self) -> float | None:
        """Standard deviation between the means of the random candidates."""
        means = [one.mean for one in self.contenders if one.role == "random"]
        known = [mean for mean in means if mean is not None]
        return statistics.stdev(known) if len(known) > 1 else None

    def margin(self, other: Contender) -> float | None:
        """Half-width of the 95 % interval of the difference of two means, from the seeds' deviation."""
        deviation, (_, freedom) = self.seed_deviation, self._pooled()
        ours, theirs = len(self.winner.values), len(other.values)
        if deviation is None or not ours or not theirs:
            return None
        return t_quantile(freedom) * deviation * math.sqrt(1 / ours + 1 / theirs)

    def difference(self, other: Contender) -> float | None:
        """How much better the winner's mean is than the other's; None where one has none."""
        if self.winner.mean is None or other.mean is None:
            return None
        return Goal(metric=self.metric, direction=self.direction).sign * (self.winner.mean - other.mean)

    def outcome(self, other: Contender) -> Outcome:
        """Whether the winner is ahead of another, behind, or tied: apart by no more than seeds explain."""
        difference, margin = self.difference(other), self.margin(other)
        if difference is None or margin is None:
            return "unknown"
        if abs(difference) <= margin:
            return "tie"
        return "ahead" if difference > 0 else "behind"

    def _pooled(self) -> tuple[float, int]:
        """Sum of squared deviations from each contender's mean, and its degrees of freedom."""
        squares, freedom = 0.0, 0
        for one in self.contenders:
            if one.mean is not None:
                squares += sum((value - one.mean) ** 2 for value in one.values)
                freedom += len(one.values) - 1
        return squares, freedom

    def save(self, folder: Path) -> Path:
        """Writes it into a study's folder, whole or not at all.

        Raises:
            StudyError: It cannot be written.
        """
        path = folder / COMPARISON
        try:
            return write_whole(path, json.dumps(asdict(self), indent=1) + "\n")
        except OSError as error:
            raise StudyError(
                f"{path} cannot be written: {error.strerror or error}", field="folder"
            ) from error


def load_comparison(folder: Path) -> Comparison | None:
    """Reads the comparison of a study; None where there is none.

    Raises:
        StudyError: The file is not what `Comparison.save` writes.
    """
    path = folder / COMPARISON
    if not path.is_file():
        return None
    try:
        data: Any = read_json(path)
        contenders = tuple(
            Contender(
                **{
                    **one,
                    "tokens": tuple(one["tokens"]),
                    "runs": tuple(_read_run(run) for run in one["runs"]),
                }
            )
            for one in data.pop("contenders")
        )
        tested = data.pop("tested_weights", None)
        comparison = Comparison(
            **{**data, "class_counts": tuple(data.get("class_counts", ()))},
            contenders=contenders,
            tested_weights=None if tested is None else TestedWeights(**tested),
        )
        require_types(comparison)
        return comparison
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(
            f"{path} cannot be read as a comparison ({error}): remove it to compare again", field="folder"
        ) from error


def _read_run(values: Mapping[str, Any]) -> Run:
    """A run as it was written; an earlier version, which compared accuracies alone, named the value so."""
    return Run(**{("value" if name == "accuracy" else name): value for name, value in values.items()})


def choose_contenders(
    catalogue: Catalogue,
    objective: Objective,
    *,
    winner: Sequence[int],
    winner_name: str,
    randoms: int,
    seed: int,
) -> tuple[Contender, ...]:
    """The winner, the space's reference network if it has one, and random candidates within the constraints.

    Each active decision of a random candidate is uniform over its options; no network takes part twice.
    """
    space = catalogue.space
    chosen = [_contender(space, "winner", winner_name, winner)]
    if space.reference is not None:
        reference = _contender(space, "reference", f"{space.name} reference", space.encode(space.reference))
        if reference.digest != chosen[0].digest:
            chosen.append(reference)
    rng = np.random.default_rng([seed, 0x7E57])
    found = 0
    for _ in range(randoms * DRAWS_PER_CANDIDATE):
        if found == randoms:
            break
        one = _contender(space, "random", f"random {found + 1}", space.sample(rng))
        is_known = any(one.digest == other.digest for other in chosen)
        if is_known or not catalogue.is_feasible(one.tokens, objective):
            continue
        chosen.append(one)
        found += 1
    return tuple(chosen)


def _contender(space: SearchSpace, role: Role, name: str, tokens: Sequence[int]) -> Contender:
    network = space.decode(tokens)
    price = cost(network)
    return Contender(
        role=role,
        name=name,
        tokens=tuple(tokens),
        digest=network.digest,
        macs=price.macs,
        params=price.params,
    )


def compare(
    space: SearchSpace,
    evaluator: Evaluator,
    executor: Executor,
    contenders: Sequence[Contender],
    *,
    goal: Goal = ACCURACY,
    images: int,
    class_counts: Sequence[int] = (),
    seeds: int,
    seed: int,
    folder: Path,
    on_finished: OnFinished = lambda _: None,
    on_progress: Tell = lambda _: None,
) -> Comparison:
    """Trains every contender from every seed and measures it; what a folder has already is not done again.

    Args:
        space: Where the contenders come from.
        evaluator: Trains and measures on the test split.
        executor: Runs the trainings; started and closed here.
        contenders: Who takes part, the winner first.
        goal: What they are compared by.
        images: Number of test images.
        class_counts: How many of them are of each class; empty if unknown.
        seeds: Trainings of each.
        seed: The study's; those of the trainings are derived from it, unlike any of the search.
        folder: The study's folder.
        on_finished: Receives each finished training.
        on_progress: Receives progress, with the place in `trainings_of` as the number of the trial.

    Raises:
        NasError: The machines cannot be had, or a file cannot be read or written.
    """
    known = load_comparison(folder)
    is_same = known is not None and (known.evaluator, known.metric) == (evaluator.fingerprint, goal.metric)
    comparison = Comparison(
        evaluator=evaluator.fingerprint,
        images=images,
        seeds=seeds,
        contenders=tuple(contenders),
        class_counts=tuple(class_counts),
        tested_weights=known.tested_weights if known is not None and is_same else None,
        metric=goal.metric,
        direction=goal.direction,
    )
    trainings = trainings_of(comparison, seed)
    with JobLog(folder / LOG, {}) as log:
        if known is not None and is_same and known.metric == "accuracy":
            _take_over(known, comparison, log)

        def save(finished: Finished) -> None:
            _with_runs(comparison, trainings, log).save(folder)
            on_finished(finished)

        run_trainings(space, evaluator, executor, trainings, log, on_finished=save, on_progress=on_progress)
        comparison = _with_runs(comparison, trainings, log)
    comparison.save(folder)
    return comparison


def trainings_of(comparison: Comparison, seed: int) -> tuple[Training, ...]:
    """The trainings of a comparison, all contenders with the first seed before any with the second."""
    seeds = [
        int(np.random.SeedSequence([seed, 0xC0, number]).generate_state(1)[0] & 0x7FFFFFFF)
        for number in range(comparison.seeds)
    ]
    return tuple(
        Training(key=_key(comparison, one, each), label=one.name, tokens=one.tokens, seed=each)
        for each in seeds
        for one in comparison.contenders
    )


def _key(comparison: Comparison, contender: Contender, seed: int) -> str:
    """Trainings of equal networks that are measured alike from one seed are the same."""
    return f"{comparison.evaluator}/{contender.digest}/{seed}"


def _take_over(known: Comparison, comparison: Comparison, log: JobLog) -> None:
    """Takes over the trainings of a comparison of an earlier version, which had no log of its own."""
    for contender in known.contenders:
        for run in contender.runs:
            key = _key(comparison, contender, run.seed)
            if key not in log.results and not run.is_lost:
                result = earlier_result(run.value, run.message, tokens=contender.tokens, seed=run.seed)
                log.add(key, result)


def _with_runs(comparison: Comparison, trainings: Sequence[Training], log: JobLog) -> Comparison:
    """The comparison with what the log has of its trainings."""
    runs: dict[tuple[int, ...], list[Run]] = {}
    for training in trainings:
        if training.key in log.results:
            run = Run.of(log.results[training.key], comparison.metric)
            runs.setdefault(training.tokens, []).append(run)
    contenders = tuple(replace(one, runs=tuple(runs.get(one.tokens, ()))) for one in comparison.contenders)
    return replace(comparison, contenders=contenders)
