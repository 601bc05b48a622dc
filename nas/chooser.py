"""Owns the controller of a search: made by name for a space and an objective, and told of an earlier study.

Does not own how a controller chooses (`controllers`) nor the search (`nas.search`).
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from controllers import Controller, ControllerError, Outcome, Proposal
from nas.catalogue import Catalogue
from nas.errors import ObjectiveError, StudyError
from nas.objective import KNOWN_METRICS, Objective
from nas.studies.journal_schema import Identity
from nas.studies.study import Study
from nas.trial import Status

LATENCY_TABLE = "; latency table "
"""Stands in an evaluator's fingerprint before that of a table, which changes nothing that is measured."""

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
    study: Study, identity: Identity, catalogue: Catalogue, objective: Objective
) -> list[tuple[Proposal, Outcome]]:
    """What an earlier study found out, as results for a controller under this study's objective.

    Raises:
        StudyError: It searched another space, or measured in another way, or lacks a cost that is needed.
    """
    for name in ("space", "data", "split", "recipe", "evaluator"):
        ours, theirs = (getattr(one, name).split(LATENCY_TABLE)[0] for one in (identity, study.identity))
        if ours != theirs:
            raise StudyError(
                f"a warm start needs results that can be compared, but the {name} of {study.folder} is "
                f"{theirs or 'none'} and is {ours or 'none'} here: start without it, or search as it did"
            )
    results = []
    for trial in study.trials:
        tokens = catalogue.space.canonical(trial.tokens)
        if trial.status is Status.INFEASIBLE:
            results.append((Proposal(tokens), Outcome(status="infeasible")))
        elif trial.status is Status.COMPLETED and trial.accuracy is not None and trial.copied_from is None:
            costs = trial.costs | catalogue.describe(tokens).costs
            try:
                broken = objective.broken(costs)
                reward = objective.reward(trial.accuracy, costs)
            except ObjectiveError as error:
                raise StudyError(
                    f"trial {trial.number} of {study.folder} cannot be judged: {error}"
                ) from error
            outcome = Outcome(reward, accuracy=trial.accuracy, status="infeasible" if broken else "completed")
            results.append((Proposal(tokens), outcome))
    return results
