"""How a study's decisions are formatted: what matters, which options do better, how sure that is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.metrics import metric_info, show_difference
from nas.report.printing import Column, Fact, Table, show_accuracy, show_share
from nas.study.insight import DecisionInsight, Insight, explain, unexplained
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.study.trial_rows import option_words

MOST_DECISIONS = 20
"""Decisions drawn; JSON has all of them."""

LOW_CORRELATION = 0.5
"""Rank correlation below which it is said what that may mean."""


def decision_section(study: Study) -> tuple[Table, Fact]:
    """Every decision of a study's space, and for JSON how far the model behind it can be trusted.

    Where nothing can be said the table is empty with a note that says why, and the fact is None.
    """
    reason = unexplained(study)
    if reason:
        notes = (f"What matters {reason}.", *_duplicate_notes(study))
        table = Table(key="decisions", title="Decisions", columns=(), rows=(), notes=notes)
        return table, _model_fact(None)
    insight = explain(study)
    return decision_table(study, insight), _model_fact(insight)


def decision_table(study: Study, insight: Insight) -> Table:
    """Every decision with its importance, and in notes how far that can be trusted."""
    rows = tuple(_row(study, one, insight.cost) for one in insight.decisions)
    return Table(
        key="decisions",
        title=f"Decisions by importance for reward, with that for {_goal(study)} and {insight.cost}",
        columns=_columns(study, insight),
        rows=rows,
        drawn=rows[:MOST_DECISIONS],
        notes=(*_notes(study, insight), *_duplicate_notes(study)),
    )


def _model_fact(insight: Insight | None) -> Fact:
    value = insight and {
        "fitted_trials": insight.fitted,
        "rank_correlation": insight.calibration.rank_correlation,
        "accuracy_error": insight.calibration.error,
        "calibration": insight.calibration.ratio,
        "noise": insight.noise,
        "noise_replicates": insight.replicates,
        "likely_best": insight.likely_best.number,
        "likely_best_estimate": insight.estimates[insight.likely_best.number],
    }
    return Fact(key="decision_model", label="", value=value)


def _columns(study: Study, insight: Insight) -> tuple[Column, ...]:
    columns = [
        Column(key="decision", heading="decision"),
        Column(key="reward_importance", heading="reward", show=_show_share, is_number=True),
        Column(key="accuracy_importance", heading=_goal(study), show=_show_share, is_number=True),
        Column(key="cost_importance", heading=insight.cost, show=_show_share, is_number=True),
        Column(key="best_option", heading="better", show=_without_fields),
        Column(key="gain", heading="gain", show=lambda gain: f"{gain:+.4f}", is_number=True),
        Column(key="best_trial_option", heading=f"trial {study.best.number}", show=_without_fields),
    ]
    if any(one.probabilities is not None for one in insight.decisions):
        columns += [
            Column(key="policy_option", heading="policy", show=_without_fields),
            Column(key="policy_probability", heading="p", show=show_share, is_number=True),
            Column(key="entropy", heading="nats", show=lambda nats: f"{nats:.2f}", is_number=True),
        ]
    return tuple(columns)


def _row(study: Study, one: DecisionInsight, cost: str) -> dict[str, Any]:
    words = option_words(one.decision.options)
    best = one.best_option
    row: dict[str, Any] = {
        "decision": one.decision.name,
        "options": list(words),
        "reward_importance": one.reward_importance,
        "accuracy_importance": one.accuracy_importance,
        "cost_importance": one.cost_importance,
        "cost": cost,
        "best_option": None if best is None else words[best],
        "gain": one.gain,
        "option_rewards": list(one.option_rewards),
        "best_trial": study.best.number,
        "best_trial_option": _option_of_best(study, one, words),
    }
    if one.probabilities is not None:
        likely = max(range(len(words)), key=one.probabilities.__getitem__)
        row |= {
            "policy_option": words[likely],
            "policy_probability": one.probabilities[likely],
            "policy_probabilities": list(one.probabilities),
            "entropy": one.entropy,
        }
    return row


def _option_of_best(study: Study, one: DecisionInsight, words: Sequence[str]) -> str | None:
    """What the best trial chose; None where the decision is not active in it."""
    assert study.space is not None, "without it there is no insight"
    tokens = study.best.tokens
    return words[tokens[one.index]] if study.space.active(tokens)[one.index] else None


def _notes(study: Study, insight: Insight) -> tuple[str, ...]:
    metric, goal = study.objective.goal.metric, _goal(study)
    calibration = insight.calibration
    correlation = calibration.rank_correlation
    low = ", low with few results or with very similar trials" * (correlation < LOW_CORRELATION)
    notes = [
        "Importance: share of the variance over random candidates that stays while only this decision is "
        f"open; the {goal} is estimated, costs exact.{_left_note(insight)}",
        "Gain: estimated reward of the better option less that of the average option, all else as in the "
        f"{insight.good} best candidates.",
    ]
    if insight.decisions[0].probabilities is not None:
        notes.append("Policy: the controller's likeliest option, its probability and the entropy (nats).")
    return (
        *notes,
        f"Predicting each of {insight.fitted} trials from the others: rank correlation {correlation:.2f} "
        f"(Spearman{low}), error {show_difference(metric, calibration.error)} of {goal} (root mean square).",
        f"Calibration {calibration.ratio:.2f}, the error over the error that the model expects: "
        f"{_calibration_words(calibration.ratio)} (1 is right, above 1 is overconfident).",
        f"Noise of one training: {show_difference(metric, insight.noise)} of {goal} (standard deviation), "
        f"{_origin(insight)}.",
        _best_note(study, insight),
    )


def _origin(insight: Insight) -> str:
    if insight.replicates:
        return f"measured on {insight.replicates} replicates"
    return "as the model estimates it, often too low while there are few trials; replicates measure it"


def _left_note(insight: Insight) -> str:
    left = len(insight.decisions) - MOST_DECISIONS
    return f" {left} more decisions are in --json." if left > 0 else ""


def _goal(study: Study) -> str:
    return metric_info(study.objective.goal.metric).label


def _calibration_words(ratio: float) -> str:
    if ratio > 1.25:
        return "its errors are larger than it expects"
    return (
        "its errors are smaller than it expects" if ratio < 0.8 else "its errors are as large as it expects"
    )


def _best_note(study: Study, insight: Insight) -> str:
    """Whether the best measurement is also the best estimate, and which trial the study goes with."""
    rewards = np.where(study.table.is_completed, study.table.reward, -np.inf)
    (lucky,) = study.trials_at([int(rewards.argmax())])
    likely = insight.likely_best
    if likely.digest == lucky.digest:
        note = f"Trial {lucky.number} is the best as measured and by estimate ({_both(insight, lucky)})."
    else:
        note = (
            f"Trial {lucky.number} is the best as measured ({_both(insight, lucky)}), but trial "
            f"{likely.number} is by estimate ({_both(insight, likely)}): the former may have been lucky, so "
            "train both again before choosing."
        )
    best = study.best
    if best.number not in (lucky.number, likely.number):
        return f"{note} The winner is trial {best.number} ({_both(insight, best)})."
    return note if likely.digest == lucky.digest else f"{note} The winner is trial {best.number}."


def _both(insight: Insight, trial: StudyTrial) -> str:
    estimate = insight.estimates[trial.number]
    return f"reward {show_accuracy(trial.reward or 0.0)}, estimated {show_accuracy(estimate)}"


def _duplicate_notes(study: Study) -> tuple[str, ...]:
    """How many proposals led to no training, or to one of a candidate that had been trained."""
    rejected = study.summary().rejected
    table = study.table
    proposals, trained = len(table) + rejected, list(itertools.compress(table.digests, ~table.is_copy))
    counts = {
        "copied the result of an equal candidate": len(table) - len(trained),
        "trained a candidate again": len(trained) - len(set(trained)),
        "broke a constraint before training": rejected,
    }
    words = [f"{n} {what} ({show_share(n / proposals)})" for what, n in counts.items() if n]
    return (f"Of {proposals} proposals {', '.join(words)}.",) if words else ()


def _without_fields(words: str) -> str:
    """`MBConv expand_ratio=3` as `MBConv 3`: a table is narrow, and JSON has the whole."""
    return re.sub(r"\b\w+=", "", words)


def _show_share(value: float) -> str:
    return show_share(round(value, 3))
