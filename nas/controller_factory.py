"""Makes the controller of a search, and reads results of an earlier study for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import controllers
from controllers import CONTROLLERS, Controller, Outcome, Proposal
from nas.argument_checks import real
from nas.catalogue import Catalogue
from nas.errors import ObjectiveError, StudyError, UsageError
from nas.metrics import KNOWN_METRICS
from nas.objective import Objective
from nas.objective_terms import metric_of
from nas.study.identity import LATENCY_TABLE, Identity, Provenance, differences
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.trial import Status
from nas.units import hint


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """Which of our controllers chooses, and its options.

    Attributes:
        name: One of `controllers.CONTROLLERS`; may be positional.
        accuracy_noise: Standard deviation of one measured accuracy, a fraction, as `nas proxy-check` finds
            it, for controllers that reckon with noise; None leaves them to estimate it.

    Raises:
        UsageError: There is no such controller, or the noise is no number.
    """

    name: str = field(default=next(iter(CONTROLLERS)), kw_only=False)
    accuracy_noise: float | None = None

    def __post_init__(self) -> None:
        if self.name not in CONTROLLERS:
            raise UsageError(
                f"there is no controller {self.name!r}: {hint(str(self.name), CONTROLLERS)}",
                field="controller",
            )
        if self.accuracy_noise is not None:
            noise = real("accuracy_noise", self.accuracy_noise, least=0)
            object.__setattr__(self, "accuracy_noise", noise)

    def make(self, catalogue: Catalogue, objective: Objective, *, seed: int) -> Controller:
        """Makes the controller for a space: it never repeats a candidate, and none is above a known limit.

        It is told the known costs of the objective, or macs where there is none; and how the reward follows
        from accuracy and costs, where no cost has to be measured.
        """
        metrics = tuple(metric for metric in objective.costs if metric in KNOWN_METRICS) or ("macs",)
        limits = objective.known_limits

        def feasible(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
            return catalogue.are_within(rows, limits)

        def costs(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            return catalogue.costs(rows, metrics)

        def reward(
            accuracies: npt.NDArray[np.float64], table: npt.NDArray[np.float64]
        ) -> npt.NDArray[np.float64]:
            values = objective.goal.sign * accuracies  # a controller is told that more is better
            return objective.rewards(values, dict(zip(metrics, table.T, strict=True)))

        problem = controllers.Problem(
            catalogue.space.cardinalities,
            catalogue.space.conditions,
            key=catalogue.digest,
            feasible=feasible if limits else None,
            costs=costs,
            reward=reward if set(objective.costs) <= set(KNOWN_METRICS) else None,
            noise=self.accuracy_noise,
        )
        return CONTROLLERS[self.name](problem, seed=seed)


def earlier_results(
    study: Study, identity: Identity, catalogue: Catalogue, objective: Objective, *, provenance: Provenance
) -> list[tuple[Proposal, Outcome]]:
    """What an earlier study found out, as results for a controller under this study's objective.

    A trial that this objective cannot judge, a cost of 0 in a factor say, counts as infeasible.

    Args:
        study: The earlier study.
        identity: What makes this study what it is.
        catalogue: Of this study.
        objective: Of this study.
        provenance: What this study is in words.

    Raises:
        StudyError: It searched another space, or measured in another way, or no trial can be judged: a cost
            that is needed is missing.
    """
    names = [
        name
        for name in ("space", "data", "split", "recipe", "evaluator")
        if getattr(identity, name).split(LATENCY_TABLE)[0]
        != getattr(study.identity, name).split(LATENCY_TABLE)[0]
    ]
    if names:
        found = differences(names, study.identity, identity, study.provenance, provenance)
        raise StudyError(
            f"a warm start needs results that can be compared, but of {study.folder} differs: "
            f"{'; '.join(found)}. Start without it, or search as it did"
        )
    judged = [trial for trial in study.completed if trial.copied_from is None]
    outcomes = {trial.number: _outcome(trial, catalogue, objective) for trial in judged}
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, ObjectiveError)]
    if failures and len(failures) == len(outcomes):
        raise StudyError(f"no trial of {study.folder} can be judged by this objective: {failures[0]}")
    infeasible = Outcome(status="infeasible")
    results = []
    for trial in study.trials:
        outcome = outcomes.get(trial.number, infeasible if trial.status is Status.INFEASIBLE else None)
        if outcome is not None:
            tokens = catalogue.space.canonical(trial.tokens)
            results.append((Proposal(tokens), outcome if isinstance(outcome, Outcome) else infeasible))
    return results


def _outcome(trial: StudyTrial, catalogue: Catalogue, objective: Objective) -> Outcome | ObjectiveError:
    """What an earlier trial is under another objective; or why it cannot be said."""
    costs = trial.costs | catalogue.describe(catalogue.space.canonical(trial.tokens)).costs
    try:
        broken = objective.broken(costs)
        value = metric_of(costs, objective.goal.metric)
        reward = objective.reward(value, costs)
    except ObjectiveError as error:
        return error
    told = objective.goal.sign * value
    return Outcome(reward, accuracy=told, status="infeasible" if broken else "completed")
