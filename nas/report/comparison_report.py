"""The final comparison as a table, with what it says of the winner in sentences."""

from __future__ import annotations

import statistics
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from nas.errors import ObjectiveError
from nas.evaluation.comparison import Comparison, Contender
from nas.metrics import metric_info, show_metric
from nas.objective import Objective
from nas.report.printing import MACS, PARAMS, REWARD, Column, Fact, Report, Table
from nas.report.winner_report import chance_note
from nas.values import counted

OUTCOMES = {"ahead": "winner ahead", "behind": "winner behind", "tie": "tie", "unknown": None}


def comparison_report(comparison: Comparison, objective: Objective) -> Report:
    """The comparison; what the winner's own weights reach is a note for users and a fact in JSON."""
    table = _table(comparison, objective)
    tested = comparison.tested_weights
    if tested is None:
        return Report(title="", tables=(table,))
    value = {**asdict(tested), **dict(tested.values)}
    return Report(title="", facts=(Fact(key="tested_weights", label="", value=value),), tables=(table,))


def _table(comparison: Comparison, objective: Objective) -> Table:
    """Every contender with its metric on the test split, and what that says of the winner."""
    metric = comparison.metric
    show = partial(show_metric, metric)
    has_reward = _has_reward(objective)
    rows = [_row(comparison, one, objective if has_reward else None) for one in comparison.contenders]
    columns = [
        Column(key="network", heading="network"),
        MACS,
        PARAMS,
        Column(key=metric, heading=metric_info(metric).label, show=show, is_number=True),
        Column(key="deviation", heading="± seeds", show=show, is_number=True),
        Column(key="n", heading="n", is_number=True),
    ]
    if has_reward:
        columns.append(REWARD)
    columns += [
        Column(key="difference", heading="winner leads by", show=partial(_signed, metric), is_number=True),
        Column(key="margin", heading="± 95 %", show=show, is_number=True),
        Column(key="outcome", heading="outcome"),
    ]
    return Table(
        key="comparison",
        title=f"Comparison on the test split: {comparison.images:,} images that the search never saw",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=comparison_notes(comparison),
    )


def _has_reward(objective: Objective) -> bool:
    """Whether the reward differs from the metric and follows from the network's own costs."""
    terms = {term.metric for term in objective.factors} | {term.metric for term in objective.absolutes}
    return bool(terms) and terms <= {"macs", "params"}


def _row(comparison: Comparison, one: Contender, objective: Objective | None) -> dict[str, Any]:
    values = one.values
    row: dict[str, Any] = {
        "network": one.name,
        "role": one.role,
        "tokens": list(one.tokens),
        "digest": one.digest,
        "macs": one.macs,
        "params": one.params,
        comparison.metric: one.mean,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "accuracies" if comparison.metric == "accuracy" else "values": list(values),
        "failures": [run.message for run in one.runs if run.value is None],
        "difference": None,
        "margin": None,
        "outcome": None,
        "is_best": one.role == "winner",
    }
    if objective is not None and one.mean is not None:
        with suppress(ObjectiveError):  # a cost of 0, say
            row["reward"] = objective.reward(one.mean, {"macs": one.macs, "params": one.params})
    if one.role != "winner":
        row["difference"] = comparison.difference(one)
        row["margin"] = comparison.margin(one)
        row["outcome"] = OUTCOMES[comparison.outcome(one)]
    return row


def comparison_notes(comparison: Comparison) -> tuple[str, ...]:
    """What the comparison says, in sentences; a tie is called a tie."""
    notes = [
        _weights_note(comparison),
        chance_note(comparison.metric, comparison.winner.mean, comparison.class_counts, split="test"),
    ]
    for one in comparison.contenders:
        if one.role == "reference":
            notes.append(f"Against the reference network: {_sentence(comparison, one)}.")
    randoms = [one for one in comparison.contenders if one.role == "random"]
    if randoms:
        outcomes = [comparison.outcome(one) for one in randoms]
        words = [
            f"{label} {outcomes.count(outcome)}"
            for outcome, label in (
                ("ahead", "ahead of"),
                ("tie", "tied with"),
                ("behind", "behind"),
                ("unknown", "no outcome on"),
            )
            if outcome in outcomes
        ]
        notes.append(
            f"Against {len(randoms)} random candidate{'s' * (len(randoms) > 1)}: {', '.join(words)}."
        )
    notes.append(_spread_note(comparison, len(randoms)))
    failures = sum(run.value is None for one in comparison.contenders for run in one.runs)
    if failures:
        notes.append(f"{counted(failures, 'training')} failed: left out of the means.")
    return tuple(note for note in notes if note)


def _weights_note(comparison: Comparison) -> str:
    tested = comparison.tested_weights
    if tested is None:
        return ""
    if not tested.values:
        return f"The weights of trial {tested.trial} are not measured: {tested.message}."
    named = sorted(tested.values.items(), key=lambda found: found[0] != comparison.metric)
    reached = "; ".join(
        f"{metric_info(name).label} {show_metric(name, value)} ({tested.where_of(name)})"
        for name, value in named
    )
    return f"The kept weights of trial {tested.trial} themselves: {reached}. The table is of new trainings."


def _sentence(comparison: Comparison, other: Contender) -> str:
    difference, margin = comparison.difference(other), comparison.margin(other)
    if difference is None or margin is None:
        known = "" if difference is None else f"difference {_signed(comparison.metric, difference)}; "
        return f"no outcome ({known}one training each gives no spread between seeds)"
    metric = comparison.metric
    apart = (
        f"difference {_signed(metric, difference)}, which seeds alone explain up to "
        f"±{show_metric(metric, margin)}"
    )
    costs = f"at {comparison.winner.macs / other.macs:.0%} of its macs" if other.macs else ""
    word = {"tie": "a tie", "ahead": "the winner is ahead", "behind": "the winner is behind"}
    return f"{word[comparison.outcome(other)]} ({apart}), {costs}"


def _signed(metric: str, value: float) -> str:
    """A difference of two values of a metric, with its sign."""
    return f"{'-' if value < 0 else '+'}{show_metric(metric, abs(value))}"


def _spread_note(comparison: Comparison, randoms: int) -> str:
    seeds, candidates = comparison.seed_deviation, comparison.candidate_deviation
    show = partial(show_metric, comparison.metric)
    words = []
    if candidates is not None:
        words.append(f"between {randoms} random candidates {show(candidates)}")
    if seeds is not None:
        words.append(f"between seeds of one network {show(seeds)} ({comparison.seeds} seeds each, pooled)")
    if not words:
        return ""
    note = f"Spread of {metric_info(comparison.metric).label} (standard deviation): {'; '.join(words)}."
    if seeds is not None and candidates is not None and candidates <= seeds:
        note += " Candidates differ no more than seeds do: the training is too short to compare them."
    return note
