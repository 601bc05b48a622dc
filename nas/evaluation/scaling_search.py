"""`search_coefficients` finds the direction in which a network grows best, by training it scaled in many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from nas.errors import SpaceArgumentError
from nas.evaluation.proxy_variants import VariantsEvaluator
from nas.evaluation.scaled_networks import Curve, ScaledNetwork, Scaler, ScalingPlan, short_name
from nas.evaluation.scaling_law import ScalingLaw, fit_law, middle
from nas.jobs import (
    Finished,
    JobLog,
    Networks,
    Training,
    is_final,
    run_trainings,
    unless_all_fail,
    value_of,
)
from nas.metrics import Goal
from nas.protocols import Evaluator, Executor
from nas.trial import Progress
from search_spaces import (
    Direction,
    Network,
)
from search_spaces.matching import Price, macs_of

LOG = "trainings.jsonl"

LEAST_MEMBERS = 3
"""Networks that a lattice must have for a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSearch:
    """What was found out.

    Attributes:
        baseline: The network that was scaled.
        plan: What was asked for.
        goal: What directions are compared by.
        cost_name: What was held equal: `macs`, or `predicted_latency_ms`.
        members: The networks of the lattice.
        unmatched: Directions without a network of this cost, and why.
        finalists: Those trained from several seeds: the best, the one that the law found, and known ones.
        law: The law; None where the trainings cannot tell it.
        found: The direction to scale in.
        curves: Curves over the cost.
    """

    baseline: ScaledNetwork
    plan: ScalingPlan
    goal: Goal
    cost_name: str
    members: tuple[ScaledNetwork, ...]
    unmatched: Mapping[str, str]
    finalists: tuple[ScaledNetwork, ...]
    law: ScalingLaw | None
    found: Direction
    curves: tuple[Curve, ...] = ()

    def finalist(self, direction: Direction) -> ScaledNetwork | None:
        """The finalist of a direction; None where no network has its cost."""
        return next((one for one in self.finalists if one.direction == direction), None)


class Watching(Protocol):
    """Shows a list of trainings while they run."""

    def on_finished(self, finished: Finished) -> None:
        """A training has ended."""
        ...

    def on_progress(self, progress: Progress) -> None:
        """A training has come so far."""
        ...


Watch = Callable[[str, Sequence[str]], AbstractContextManager[Watching]]
"""Begins to show trainings: what is going on, and what each of them is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSetting:
    """How networks are trained and what they cost.

    Attributes:
        evaluator: Trains on images of a side, in pixels, and measures on the search split.
        executor: A new executor for each list of trainings.
        goal: What networks are compared by.
        price: What a network costs.
        cost_name: Name of that cost.
        settings: What makes trainings comparable: fingerprints by name.
    """

    evaluator: Callable[[int], Evaluator]
    executor: Callable[[], Executor]
    goal: Goal
    price: Price = macs_of
    cost_name: str = "macs"
    settings: Mapping[str, str]


def search_coefficients(
    baseline: Network,
    setting: ScalingSetting,
    plan: ScalingPlan,
    *,
    folder: Path,
    watch: Watch | None = None,
) -> ScalingSearch:
    """Finds the direction in which a network grows best at a cost; what a folder has is not trained again.

    A lattice of directions is trained once, at equal real cost. The best of them, the best by a quadratic law
    of all trainings, and those of the paper and of fast scaling are then trained from further seeds.

    Args:
        baseline: The network that is scaled.
        setting: How networks are trained and what they cost.
        plan: What is trained.
        folder: Where trainings are written.
        watch: Shows them.

    Raises:
        NasError: No network of such a cost can be made, the folder holds other trainings, the first trainings
            all fail, or the machines cannot be had.

    Source: EfficientNet (Tan & Le, ICML 2019), section 3.3, step 1; shares of the logarithm of the cost as
        in Fast and Accurate Model Scaling (Dollar, Singh & Girshick, CVPR 2021).
    """
    scaling = Scaler(baseline, setting.price, plan)
    members = scaling.lattice()
    if len(members) < LEAST_MEMBERS:
        raise SpaceArgumentError(_too_few(members, scaling.unmatched), field="parts")
    settings = {"network": baseline.digest, **setting.settings, "seed": str(plan.seed)}
    with JobLog(folder / LOG, settings) as log:
        trainer = _Trainer(setting, plan, log, watch)
        trainer.train("the lattice", members, seeds=1)
        members = trainer.measured(members, seeds=1)
        law = _law(members, setting.goal)
        finalists = scaling.finalists(members, law, setting.goal)
        trainer.train("finalists", [scaling.baseline, *finalists], seeds=plan.seeds)
        finalists = trainer.measured(finalists, seeds=plan.seeds)
        law = _law([*finalists, *members], setting.goal)
        found = law.best if law is not None else _best(finalists, setting.goal).direction
        if found is None or _best(finalists, setting.goal).mean is None:
            raise SpaceArgumentError("every finalist failed: see the messages of the trainings", field="data")
        if law is not None and not any(one.direction == found for one in finalists):
            added = scaling.in_direction("found", found, plan.cost_factor)
            finalists = [one for one in finalists if one.name != "found"] + ([added] if added else [])
            trainer.train("the direction found", finalists, seeds=plan.seeds)
        curves = scaling.curves(found)
        trainer.train("curves", [one for curve in curves for one in curve.points], seeds=plan.seeds)
        return ScalingSearch(
            baseline=trainer.measured([scaling.baseline])[0],
            plan=plan,
            goal=setting.goal,
            cost_name=setting.cost_name,
            members=tuple(trainer.measured(members)),
            unmatched=scaling.unmatched,
            finalists=tuple(trainer.measured(finalists)),
            law=law,
            found=found,
            curves=tuple(replace(one, points=tuple(trainer.measured(one.points))) for one in curves),
        )


def _law(networks: Sequence[ScaledNetwork], goal: Goal) -> ScalingLaw | None:
    """The law of the trainings of different networks.

    A network that several directions give counts in the middle of them; of two that are the same the values
    of the first count.
    """
    values: dict[str, tuple[float, ...]] = {}
    places: dict[str, dict[Direction, None]] = {}
    for one in networks:
        if one.direction is not None:
            values.setdefault(one.network.digest, one.values)
            places.setdefault(one.network.digest, {}).update(dict.fromkeys((one.direction, *one.equals)))
    trainings = [(middle(tuple(places[key])), value) for key, each in values.items() for value in each]
    return fit_law(trainings, sign=goal.sign)


def _best(networks: Sequence[ScaledNetwork], goal: Goal) -> ScaledNetwork:
    return max(networks, key=lambda one: -np.inf if one.mean is None else goal.sign * one.mean)


def _too_few(members: Sequence[ScaledNetwork], unmatched: Mapping[str, str]) -> str:
    """Why a lattice has too few networks."""
    reasons = [
        f"{' and '.join(map(short_name, (one.direction, *one.equals)))} are the same network"
        for one in members
        if one.direction is not None and one.equals
    ]
    reasons += [f"{name}: {why}" for name, why in unmatched.items()]
    return (
        f"a lattice needs {LEAST_MEMBERS} different networks, but has {len(members)} "
        f"({'; '.join(reasons) or 'no reason is known'}): give more --parts, a larger baseline, "
        "or another --pixels, --factor or --tolerance"
    )


class _Trainer:
    """Trains networks from several seeds, and knows what came of it."""

    def __init__(self, setting: ScalingSetting, plan: ScalingPlan, log: JobLog, watch: Watch | None) -> None:
        self._setting = setting
        self._seed = plan.seed
        self._log = log
        self._watch = watch
        self._evaluators: dict[int, Evaluator] = {}

    def train(self, words: str, networks: Sequence[ScaledNetwork], *, seeds: int) -> None:
        """Trains what has not been trained, all networks from the first seed before any from the second."""
        distinct = list({one.network.digest: one for one in networks}.values())
        trainings = [
            Training(
                key=_key(one, number),
                label=f"{one.name} x{one.cost_factor:.3g}, seed {number + 1}",
                tokens=(place,),
                seed=self._training_seed(one, number),
            )
            for number in range(seeds)
            for place, one in enumerate(distinct)
        ]
        done = self._log.results
        if all(one.key in done and is_final(done[one.key]) for one in trainings):
            return
        sides = [one.network.resolution for one in distinct]
        for side in sides:
            if side not in self._evaluators:
                self._evaluators[side] = self._setting.evaluator(side)
        names = [str(sides[training.tokens[0]]) for training in trainings]
        evaluator = VariantsEvaluator({str(side): self._evaluators[side] for side in sides}, names)
        space = Networks(name=words, networks=tuple(one.network for one in distinct))
        executor = self._setting.executor()
        executor.check(space, evaluator)
        shown = (
            nullcontext(_Unwatched())
            if self._watch is None
            else self._watch(f"training {words}", [training.label for training in trainings])
        )
        with shown as display:
            run_trainings(
                space,
                evaluator,
                executor,
                trainings,
                self._log,
                on_finished=unless_all_fail(display.on_finished, self._setting.goal.metric),
                on_progress=display.on_progress,
            )

    def measured(self, networks: Iterable[ScaledNetwork], *, seeds: int | None = None) -> list[ScaledNetwork]:
        """The networks with what was trained of them: from the first seeds, or from all."""
        return [self._measured(one, seeds) for one in networks]

    def _measured(self, one: ScaledNetwork, seeds: int | None) -> ScaledNetwork:
        metric = self._setting.goal.metric
        results, number = [], 0
        while _key(one, number) in self._log.results and number != seeds:
            results.append(self._log.results[_key(one, number)])
            number += 1
        values = [value_of(result, metric) for result in results]
        return replace(
            one,
            values=tuple(value for value in values if value is not None),
            failures=tuple(
                result.message or result.status.value
                for result, value in zip(results, values, strict=True)
                if value is None
            ),
        )

    def _training_seed(self, one: ScaledNetwork, number: int) -> int:
        """Seed of a training, unlike any other's."""
        word = int(one.network.digest, 16)
        return int(np.random.SeedSequence([self._seed, word, number]).generate_state(1)[0] & 0x7FFFFFFF)


class _Unwatched:
    def on_finished(self, finished: Finished) -> None:
        """Does nothing."""

    def on_progress(self, progress: Progress) -> None:
        """Does nothing."""


def _key(one: ScaledNetwork, number: int) -> str:
    return f"{one.network.digest}/{number}"
