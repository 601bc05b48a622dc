"""What `nas show` says of a study: summary, best trials, Pareto front, states and failures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from controllers import CONTROLLERS
from nas.controller import FRONT_CONTROLLERS
from nas.errors import StudyError
from nas.evaluation.comparison import load_comparison
from nas.metrics import SHARED_WEIGHTS, Goal, show_metrics
from nas.report.comparison_report import comparison_report
from nas.report.decisions import decision_section
from nas.report.printing import Column, Fact, Report, Table, show_accuracy, show_metric, show_seconds
from nas.report.progress import ENDINGS
from nas.report.trial_tables import failure_table, rung_table, trial_table
from nas.report.winner_report import network_table, warnings_of
from nas.study.fronts import Growth, from_knee
from nas.study.study import Study
from nas.task_objective import judged_by
from nas.trial import Status
from nas.values import counted

TOP = 10
"""Best trials that are listed."""

_OF_FRONTS = tuple(CONTROLLERS[name].__name__ for name in FRONT_CONTROLLERS)


def study_report(study: Study, *, top: int = TOP, costs: tuple[str, ...] = ()) -> Report:
    """The report of a study.

    Args:
        study: The study.
        top: How many of the best trials are listed.
        costs: Costs of the Pareto front; by default those of the objective, or macs.

    Raises:
        StudyError: A file of the study cannot be read, or a cost was not measured.
    """
    front = _pareto(study, costs)
    decisions, model = decision_section(study)
    rungs = rung_table(study)
    best = [_top(study, top), front]
    tables = [
        *(best[::-1] if study.objective.is_front else best),
        *([] if rungs is None else [rungs]),
        decisions,
        _states(study),
    ]
    failures = study.trials_at(np.flatnonzero(study.table.have(Status.INFEASIBLE, Status.LOST)))
    if failures:
        tables.append(failure_table(failures))
    if study.has_completed:
        tables.append(_best_network(study))
    comparison = load_comparison(study.folder)
    tested: tuple[Fact, ...] = ()
    if comparison is not None and any(one.runs for one in comparison.contenders):
        compared = comparison_report(comparison, study.objective)
        tables += compared.tables
        tested = compared.facts
    facts = (*_facts(study), *_winner(study), *_front_facts(study, costs))
    of = Fact(key="pareto_costs", label="", value=[goal.metric for goal in study.front_goals(*costs)[1:]])
    return Report(
        title=f"Study {study.folder}",
        facts=(*facts, of, model, *tested),
        tables=tuple(tables),
        notes=(*study.warnings, *warnings_of(study)),
    )


def _winner(study: Study) -> tuple[Fact, ...]:
    """The trial to go with, and what tells how good it is over all trainings of its network."""
    if not study.has_completed:
        return ()
    best = study.best
    text = f"trial {best.number}"
    goal, quality = study.objective.goal.metric, best.quality_metric
    if goal != quality and best.value is not None:
        text += f", {goal} {show_metric(goal, best.value)}"
    if best.quality is not None:
        text += f", {quality} {show_metrics(quality, best.values or (best.quality,))}"
    if best.has_shared_weights:
        text += f" ({SHARED_WEIGHTS})"
    if quality != "accuracy" and best.accuracy is not None:
        text += f", accuracy {show_accuracy(best.accuracy)}"
    return (
        Fact(key="winner", label="winner", value=best.number, text=text),
        Fact(key="winner_metric", label="", value=quality),
        Fact(key=f"winner_{quality}", label="", value=best.mean_quality),
        Fact(
            key="winner_accuracies" if quality == "accuracy" else "winner_values",
            label="",
            value=list(best.values or (best.quality,)),
        ),
    )


def _facts(study: Study) -> tuple[Fact, ...]:
    summary = study.summary()
    settings = study.settings
    ending = "running, or killed" if summary.ending is None else ENDINGS.get(summary.ending, summary.ending)
    done = sum(summary.states[s] for s in ("completed", "infeasible", "lost"))
    planned = settings.get("trials")
    trials = f"{done} of {planned} done" if planned else f"{done} done"
    rejected = (
        f", {counted(summary.rejected, 'candidate')} rejected before training" if summary.rejected else ""
    )
    facts = [
        Fact(key="folder", label="folder", value=str(summary.folder)),
        Fact(key="space", label="space", value=summary.space_name),
        Fact(key="data", label="data", value=settings.get("data", study.provenance.data_text)),
        Fact(key="objective", label="objective", value=summary.objective),
        *(
            Fact(key=name, label=name, value=settings[name])
            for name in ("evaluator", "supernet", "init")
            if settings.get(name)
        ),
        Fact(key="controller", label="controller", value=summary.controller),
        Fact(key="seed", label="seed", value=summary.seed),
        Fact(key="ending", label="ending", value=summary.ending, text=ending),
        Fact(key="trials_done", label="trials", value=done, text=trials + rejected),
        Fact(key="rejected", label="", value=summary.rejected),
        *_finals(study),
        Fact(
            key="worker_hours",
            label="worker time",
            value=summary.worker_hours,
            text=show_seconds(3600 * summary.worker_hours),
        ),
        Fact(key="created_at", label="begun", value=summary.created_at),
        Fact(key="ended_at", label="ended", value=summary.ended_at, text=summary.ended_at or "not yet"),
        Fact(key="package_version", label="made with", value=summary.package_version),
    ]
    return tuple(facts)


def _finals(study: Study) -> tuple[Fact, ...]:
    """How many trials measured again which of the best; nothing where none did."""
    repeated = study.trials_at(np.flatnonzero(study.table.columns["repeat"]))
    finals = [trial for trial in repeated if trial.is_final]
    if not finals:
        return ()
    distinct = len({trial.digest for trial in finals})
    best = "the best" if distinct == 1 else f"the {distinct} best"
    words = f"{len(finals)} of {len(study.table)} trials measured {best} again"
    return (
        Fact(key="finals", label="finals", value=len(finals), text=words),
        Fact(key="finalists_measured", label="", value=distinct),
    )


def _has_fidelities(study: Study) -> bool:
    """Whether the completed trials are of several."""
    return len(np.unique(study.table.fidelity[study.table.is_completed])) > 1


def _top(study: Study, top: int) -> Table:
    table = study.table
    ranked, completed = study.ranked(top), int(table.is_completed.sum())
    order = f"by {study.objective.goal.metric if study.objective.is_front else 'reward'}"
    order += ", the highest fidelity first" * _has_fidelities(study)
    title = f"Best {len(ranked)} of {completed} completed trials {order}"
    if judged_by(study.objective).metric in table.metric_names():
        words = f", {SHARED_WEIGHTS}" if ranked[0].has_shared_weights else ""
        title += f" ({ranked[0].quality_metric} on the search split{words})"
    return trial_table(study, "top_trials", title, ranked)


def _pareto(study: Study, costs: tuple[str, ...]) -> Table:
    goal, *others = study.front_goals(*costs)
    metrics = tuple(other.metric for other in others)
    front = study.pareto_front(*costs)
    of = f" of fidelity {front[0].fidelity:.3g}" if _has_fidelities(study) else ""
    extent = "much" if goal.direction == "max" else "little"
    title = f"Pareto front ({len(front)}): no other trial{of} has as {extent} {goal.metric}"
    bounds = (_bound("more", "min", others), _bound("less", "max", others))
    title += " and".join(bound for bound in bounds if bound)
    return trial_table(study, "pareto_front", title, front, metrics)


def _front_facts(study: Study, costs: tuple[str, ...]) -> tuple[Fact, ...]:
    """Hypervolume and knee of the front, where one was looked for or is asked for."""
    if not (study.objective.is_front or costs or study.identity.controller in _OF_FRONTS):
        return ()
    goals = study.front_goals(*costs)
    entries = study.entries(goals)
    if not entries:
        return ()
    growth, (knee, *others) = Growth.of(entries, goals), from_knee(entries, goals)
    point = ", ".join(_shown(goals, growth.reference))
    text = (
        f"{growth.volumes[-1]:.4g} ({' by '.join(growth.axes)}), half of it after {_half_time(growth)} trials"
    )
    text = f"{text}; the reference point is the worst of each: {point}"
    volumes = [list(pair) for pair in zip(growth.numbers, growth.volumes, strict=True)]
    reference = {goal.metric: worst for goal, worst in zip(goals, growth.reference, strict=True)}
    facts = [
        Fact(key="hypervolume", label="hypervolume", value=growth.volumes[-1], text=text),
        Fact(key="hypervolume_over_trials", label="", value=volumes),
        Fact(key="reference_point", label="", value=reference),
    ]
    if len(others) < 2:
        why = f"none: it needs 3 trials on the front, and there are {1 + len(others)}"
        facts.append(Fact(key="knee", label="knee", value=None, text=why))
    else:
        found = ", ".join((f"trial {knee.number}", *_shown(goals, (knee.value, *knee.costs))))
        why = (
            f"{found}: the point of the front nearest to the best of every goal, each as a share of its range"
        )
        facts.append(Fact(key="knee", label="knee", value=knee.number, text=why))
    return tuple(facts)


def _shown(goals: Iterable[Goal], numbers: Iterable[float]) -> list[str]:
    return [f"{g.metric} {show_metric(g.metric, number)}" for g, number in zip(goals, numbers, strict=True)]


def _half_time(growth: Growth) -> int:
    """How many trials it took to half of the hypervolume."""
    return 1 + next(n for n, volume in enumerate(growth.volumes) if 2 * volume >= growth.volumes[-1])


def _bound(word: str, direction: str, goals: Iterable[Goal]) -> str:
    metrics = [goal.metric for goal in goals if goal.direction == direction]
    return f" at no {word} {'of ' if len(metrics) > 1 else ''}{', '.join(metrics)}" if metrics else ""


def _states(study: Study) -> Table:
    states = study.summary().states
    rows = tuple({"state": state, "trials": count} for state, count in states.items() if count)
    columns = (Column(key="state", heading="state"), Column(key="trials", heading="trials", is_number=True))
    causes = study.summary().causes
    notes: tuple[str, ...] = ()
    if causes:
        words = ", ".join(f"{cause.replace('_', ' ')} {count}" for cause, count in causes.items())
        notes = (f"failed attempts by cause: {words}",)
    return Table(key="states", title="States", columns=columns, rows=rows, notes=notes)


def _best_network(study: Study) -> Table:
    try:
        return network_table(study.best.network, title=f"Trial {study.best.number}, stage by stage")
    except ValueError as error:
        raise StudyError(f"the network of trial {study.best.number} cannot be read: {error}") from error
