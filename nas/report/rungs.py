"""What a study says of its rungs: how many stood on each, at what cost, and how well it predicted."""

from __future__ import annotations

import math
import statistics
from typing import Any

from nas.report.printing import Column, Table, show_seconds
from nas.statistics import kendall_tau
from nas.study.study import Study
from nas.study.study_trial import StudyTrial

LEAST_PAIRS = 4
"""Candidates on two rungs from which a rank correlation is worth a number."""


def rung_table(study: Study) -> Table | None:
    """The rungs of a study; None where every candidate was trained whole.

    The correlation of a rung's rewards with those of the last one is over the candidates that reached it, who
    are those that did well: it is lower than over all candidates, and says so.
    """
    by_rung: dict[float, list[StudyTrial]] = {}
    for trial in study.trials:
        by_rung.setdefault(trial.fidelity, []).append(trial)
    if len(by_rung) < 2:
        return None
    top = {trial.digest: trial.reward for trial in by_rung[max(by_rung)] if trial.reward is not None}
    gone_on = {trial.continues for trial in study.trials if trial.continues is not None}
    rows = [_row(share, by_rung[share], top, gone_on) for share in sorted(by_rung)]
    columns = (
        Column(key="fidelity", heading="fidelity", show=lambda share: f"{share:.3g}", is_number=True),
        Column(key="trials", heading="trials", show=str, is_number=True),
        Column(key="went_on", heading="went on", show=str, is_number=True),
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


def _row(share: float, trials: list[StudyTrial], top: dict[str, float], gone_on: set[int]) -> dict[str, Any]:
    rewards = {trial.digest: trial.reward for trial in trials if trial.reward is not None}
    pairs = [(reward, top[digest]) for digest, reward in rewards.items() if digest in top]
    seconds = [trial.seconds for trial in trials if trial.attempts]
    tau = kendall_tau(*zip(*pairs, strict=True)) if len(pairs) >= LEAST_PAIRS and share < 1 else math.nan
    return {
        "fidelity": share,
        "trials": len(trials),
        "went_on": sum(trial.number in gone_on for trial in trials),
        "median_seconds": statistics.median(seconds) if seconds else None,
        "best_reward": max(rewards.values(), default=None),
        "kendall": None if math.isnan(tau) else tau,
        "pairs": len(pairs),
    }
