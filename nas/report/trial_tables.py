"""Tables of a study's trials: some of them, those that failed, and those of each rung."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from nas.metrics import MEASURING_SECONDS, SHARED_WEIGHTS
from nas.report.printing import (
    FIDELITY,
    MACS,
    PARAMS,
    REWARD,
    TRIAL,
    Column,
    Table,
    show_accuracy,
    show_metric,
    show_seconds,
)
from nas.statistics import kendall_tau
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.task_objective import judged_by

MOST_FAILURES = 20
"""Failures drawn; JSON has all of them."""

LEAST_PAIRS = 4
"""Candidates on two rungs from which a rank correlation is worth a number."""

_ACCURACY = Column(key="accuracy", heading="accuracy", show=show_accuracy, is_number=True)


def _accuracy(study: Study) -> tuple[Column, ...]:
    if not study.table.environments("accuracy"):
        return ()
    is_shared = any(
        SHARED_WEIGHTS in one for one in study.table.environments(judged_by(study.objective).metric)
    )
    return (replace(_ACCURACY, heading=f"accuracy ({SHARED_WEIGHTS})") if is_shared else _ACCURACY,)


def _trial_columns(study: Study, costs: tuple[str, ...]) -> tuple[Column, ...]:
    columns = [
        TRIAL,
        *([FIDELITY] if len(np.unique(study.table.fidelity)) > 1 else []),
        REWARD,
        *_accuracy(study),
        MACS,
        PARAMS,
    ]
    measured = study.table.metric_names()
    times = [name for name in ("train_seconds", MEASURING_SECONDS) if name in measured]
    for name in dict.fromkeys((*study.objective.metrics, *costs, *times)):
        if name in ("macs", "params"):
            continue
        columns.append(Column(key=name, heading=name, show=partial(show_metric, name), is_number=True))
    columns.append(Column(key="weights", heading="weights", show=lambda kept: "kept" if kept else ""))
    return tuple(columns)


def _row(trial: StudyTrial) -> dict[str, Any]:
    row: dict[str, Any] = {
        "trial": trial.number,
        "status": trial.status.value,
        "fidelity": trial.fidelity,
        "reward": trial.reward,
        "accuracy": trial.accuracy,
        "macs": trial.macs,
        "params": trial.params,
    }
    row |= {name: value for name, value in trial.costs.items() if name not in row}
    return row | {
        "weights": trial.weights_file is not None,
        "origin": trial.origin,
        "digest": trial.digest,
        "tokens": list(trial.tokens),
        "copied_from": trial.copied_from,
    }


def trial_table(
    study: Study, key: str, title: str, trials: Iterable[StudyTrial], costs: tuple[str, ...] = ()
) -> Table:
    """Some trials with what the objective looks at; `costs` are further columns."""
    best = study.best.number if study.has_completed else None
    rows = tuple({**_row(trial), "is_best": trial.number == best} for trial in trials)
    return Table(key=key, title=title, columns=_trial_columns(study, costs), rows=rows)


def failure_table(failures: Sequence[StudyTrial]) -> Table:
    """Trials that did not complete, with why and where their logs are."""
    rows = tuple(
        {
            "trial": trial.number,
            "status": trial.status.value,
            "cause": None if trial.cause is None else trial.cause.value,
            "attempts": trial.attempts,
            "message": trial.message,
            "log": None if trial.log_file is None else str(trial.log_file),
        }
        for trial in failures
    )
    columns = (
        TRIAL,
        Column(key="status", heading="status"),
        Column(key="cause", heading="cause", show=lambda cause: cause.replace("_", " ")),
        Column(key="attempts", heading="attempts", is_number=True),
        Column(key="message", heading="message"),
        Column(key="log", heading="log"),
    )
    left = len(failures) - MOST_FAILURES
    return Table(
        key="failures",
        title=f"Failures ({len(failures)})",
        columns=columns,
        rows=rows,
        drawn=rows[:MOST_FAILURES],
        notes=(f"{left} more are in --json, and in the view `failures` of the journal",) if left > 0 else (),
    )


def rung_table(study: Study) -> Table | None:
    """The rungs of a study; None where every candidate was trained whole.

    The correlation of a rung's rewards with those of the last one is over the candidates that reached it, who
    are those that did well: it is lower than over all candidates, and says so.
    """
    if len(np.unique(study.table.fidelity)) < 2:
        return None
    by_rung: dict[float, list[StudyTrial]] = {}
    for trial in study.trials:
        by_rung.setdefault(trial.fidelity, []).append(trial)
    top = {trial.digest: trial.reward for trial in by_rung[max(by_rung)] if trial.reward is not None}
    promoted = {trial.continues for trial in study.trials if trial.continues is not None}
    rows = [_rung(share, by_rung[share], top, promoted) for share in sorted(by_rung)]
    columns = (
        FIDELITY,
        Column(key="trials", heading="trials", show=str, is_number=True),
        Column(key="promoted", heading="promoted", show=str, is_number=True),
        Column(key="median_seconds", heading="time", show=show_seconds, is_number=True),
        Column(key="best_reward", heading="best", show=lambda reward: f"{reward:.4f}", is_number=True),
        Column(key="kendall", heading="tau with the last", show=lambda tau: f"{tau:.2f}", is_number=True),
        Column(key="pairs", heading="over", show=str, is_number=True),
    )
    notes = (
        "time is of the training on this rung alone; tau compares those that reached the last rung, who are "
        "the best of each, so that it is lower than over all candidates",
    )
    return Table(key="rungs", title="Rungs", columns=columns, rows=tuple(rows), notes=notes)


def _rung(
    share: float, trials: list[StudyTrial], top: dict[str, float], promoted: set[int]
) -> dict[str, Any]:
    rewards = {trial.digest: trial.reward for trial in trials if trial.reward is not None}
    pairs = [(reward, top[digest]) for digest, reward in rewards.items() if digest in top]
    seconds = [trial.seconds for trial in trials if trial.attempts]
    tau = kendall_tau(*zip(*pairs, strict=True)) if len(pairs) >= LEAST_PAIRS and share < 1 else math.nan
    return {
        "fidelity": share,
        "trials": len(trials),
        "promoted": sum(trial.number in promoted for trial in trials),
        "median_seconds": statistics.median(seconds) if seconds else None,
        "best_reward": max(rewards.values(), default=None),
        "kendall": None if math.isnan(tau) else tau,
        "pairs": len(pairs),
    }
