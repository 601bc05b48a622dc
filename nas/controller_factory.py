"""The controller of a search: made by name for a space and an objective, and told of an earlier study."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from controllers import Controller, ControllerError, Outcome, Proposal
from nas.catalogue import Catalogue
from nas.errors import ObjectiveError, StudyError
from nas.objective import KNOWN_METRICS, Objective
from nas.study.differences import LATENCY_TABLE, differences
from nas.study.journal_schema import Identity, Provenance
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.trial import Status

ControllerName = Literal["dyna", "reinforce", "ppo", "evolution", "local", "nsga2", "random"]


def make_controller(
    name: ControllerName,
    catalogue: Catalogue,
    objective: Objective,
    *,
    seed: int,
    noise: float | None = None,
) -> Controller:
    """Makes a controller for a space, that never repeats a candidate and never proposes one too dear.

    It is told the known costs of the objective, or macs where there is none; and how the reward follows from
    accuracy and costs, where no cost has to be measured.

    Raises:
        ControllerError: There is no controller of this name.
    """
    import controllers

    kinds = {
        "dyna": "Dyna",
        "reinforce": "Reinforce",
        "ppo": "PPO",
        "evolution": "RegularizedEvolution",
        "local": "LocalSearch",
        "nsga2": "NSGA2",
        "random": "RandomSearch",
    }
    if name not in kinds:
        raise ControllerError(f"there is no controller {name!r}: choose one of {', '.join(kinds)}")

    metrics = tuple(metric for metric in objective.metrics if metric in KNOWN_METRICS) or ("macs",)
    limits = objective.known_limits

    def feasible(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return catalogue.are_within(rows, limits)

    def costs(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return catalogue.costs(rows, metrics)

    def reward(
        accuracies: npt.NDArray[np.float64], table: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        return objective.rewards(accuracies, dict(zip(metrics, table.T, strict=True)))

    options = {"noise": noise} if name == "dyna" and noise is not None else {}
    return cast(
        Controller,
        getattr(controllers, kinds[name])(
            catalogue.space.cardinalities,
            catalogue.space.conditions,
            seed=seed,
            key=catalogue.digest,
            feasible=feasible if limits else None,
            costs=costs,
            reward=None if set(objective.measured_metrics) else reward,
            **options,
        ),
    )


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
    judged = [trial for trial in study.completed if trial.accuracy is not None and trial.copied_from is None]
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
        reward = objective.reward(trial.accuracy or 0.0, costs)
    except ObjectiveError as error:
        return error
    return Outcome(reward, accuracy=trial.accuracy, status="infeasible" if broken else "completed")
