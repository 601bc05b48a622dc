"""Checks what `nas.search` is given before anything else happens, and converts its numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from nas.argument_checks import flag, instance, real, seed_of, whole
from nas.catalogue import Catalogue, Tokens
from nas.errors import ObjectiveError, RecipeError, UsageError
from nas.objective import Objective
from nas.proposals import Enqueued, Finals, Repeat, enqueued_candidates, require_feasible
from nas.rungs import Rungs
from nas.scheduling import Budget
from nas.study.study import Study
from nas.training.recipe import Recipe
from search_spaces import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The numbers of a search that are not limits (those are `nas.scheduling.Budget`), as Python's own types.

    Attributes:
        target_macs: Multiply-adds aimed at; None is none.
        workers: How many trials run at the same time on Ray.
        gpus_per_worker: Share of a GPU, or number of GPUs, of each.
        seed: Seed of everything.
        deterministic: Whether the schedule is fixed.
        accuracy_noise: Standard deviation of one measured accuracy; None where nobody knows.
        keep_best: Weights are kept of so many trials.
    """

    target_macs: float | None
    workers: int
    gpus_per_worker: float
    seed: int
    deterministic: bool
    accuracy_noise: float | None
    keep_best: int

    def checked(self) -> Self:
        """The same, converted.

        Raises:
            UsageError: One of them is no such number, or out of range.
        """
        target, noise = self.target_macs, self.accuracy_noise
        return replace(
            self,
            target_macs=None if target is None else real("target_macs", target, above=0),
            workers=whole("workers", self.workers, least=1),
            gpus_per_worker=real("gpus_per_worker", self.gpus_per_worker, least=0),
            seed=seed_of(self.seed),
            deterministic=flag("deterministic", self.deterministic),
            accuracy_noise=None if noise is None else real("accuracy_noise", noise, least=0),
            keep_best=whole("keep_best", self.keep_best, least=0),
        )


def check_kinds(
    *,
    out: object,
    objective: object,
    enqueue: object,
    warm_start: object,
    rungs: object,
    recipe: object,
    settings: object,
) -> None:
    """Checks that what is given is of the kind that each argument takes.

    Raises:
        UsageError: Something is not.
    """
    none = type(None)
    instance("out", out, (str, os.PathLike), "give the path of the study's folder")
    if not os.fspath(out):  # type: ignore[call-overload]  # checked above
        raise UsageError("`out` must name a folder, but got out='': give a path such as runs/a")
    instance("objective", objective, (Objective, str, none), "give nas.Objective or arithmetic as text")
    _check_list(
        "enqueue", enqueue, Iterable, "a list of candidates: each a network, its tokens, or nas.Repeat"
    )
    instance("warm_start", warm_start, (Study, none), "open the study first with nas.open_study(folder)")
    instance("rungs", rungs, (Rungs, none), "make it with nas.Rungs.of(...)")
    instance("recipe", recipe, (Recipe, none), "give nas.Recipe(...)")
    instance("settings", settings, (Mapping, none), "give a dict of JSON values")


def _check_list(name: str, value: object, kind: type[Any], what: str) -> None:
    if isinstance(value, str | bytes | Mapping | Network) or not isinstance(value, kind):
        raise UsageError(f"`{name}` must be {what}, but got {name}={value!r:.60}: put it in a list")


def check_plan(
    catalogue: Catalogue,
    objective: Objective,
    budget: Budget,
    *,
    enqueue: Iterable[Network | Tokens | Repeat],
    finalists: int,
    rungs: Rungs | None,
    seed: int,
    deterministic: bool,
) -> tuple[tuple[Enqueued, ...], Finals | None]:
    """Checks what can be checked of a search before images are loaded; a search and a dry run go through it.

    Returns:
        The user's own candidates as tokens, and the finals.

    Raises:
        NasError: The search could not run as asked.
    """
    catalogue.check_predicts(objective)
    if deterministic and objective.timed_metrics:
        raise ObjectiveError(
            f"a deterministic search cannot depend on times, but the objective looks at "
            f"{', '.join(objective.timed_metrics)}: use macs or params, or leave deterministic out"
        )
    first = enqueued_candidates(catalogue, objective, enqueue)
    finals = Finals.of(finalists, budget.trials)
    _check_rungs(rungs, budget.trials, finals, deterministic=deterministic)
    require_feasible(catalogue, objective, seed=seed)
    return first, finals


def _check_rungs(
    rungs: Rungs | None, trials: int | None, finals: Finals | None, *, deterministic: bool
) -> None:
    """Checks that rungs go with the rest.

    Raises:
        RecipeError: It does not.
    """
    if rungs is None:
        return
    rungs.check_trials(trials)
    if deterministic:
        raise RecipeError(
            "a deterministic search cannot halve asynchronously, as who goes on depends on who is measured "
            "first: leave the rungs or deterministic out"
        )
    if finals is not None:
        raise RecipeError(
            f"the last rung is the final of a search by rungs, but got finalists={finals.candidates} too: "
            "leave one of them out"
        )
