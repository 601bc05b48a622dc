"""The first thing on a page: the winner, how good it is, and its drawing beside the reference network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from nas.evaluation.comparison import Comparison, Outcome
from nas.metrics import metric_info, show_metric, show_metrics
from nas.report.network_lines import UNREADABLE, stage_lines
from nas.report.page.charting import costs_of, network_text, trial_drawing
from nas.report.page.parts import Block, Drawing, Section, Tiles, Words
from nas.report.page.source import Source
from nas.report.printing import Fact, Report, show_seconds
from nas.report.winner_report import warnings_of, winner_report
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from search_spaces import cost

OUTCOMES: Mapping[Outcome, str] = {
    "ahead": "beats",
    "tie": "ties with",
    "behind": "is behind",
    "unknown": "cannot be told from",
}
"""What the winner does to another network, by the outcome of their comparison."""


def overview(source: Source) -> Section:
    """What the search came to."""
    study = source.study
    if not study.completed:
        done = Counter(trial.status.value for trial in study.trials)
        words = ", ".join(f"{count} {status}" for status, count in done.items()) or "none was proposed"
        lead = f"No trial has completed yet ({words}), so that there is no network to show."
        return Section(key="overview", title="Overview", lead=lead, blocks=(Tiles(facts=_effort(study)),))
    best, comparison = study.best, source.comparison
    blocks: list[Block] = [
        Tiles(facts=(*_quality(best, comparison), *_costs(study), *_effort(study))),
        Words(lines=warnings_of(study), is_warning=True),
        *_drawings(study, comparison),
        _measured(study),
    ]
    return Section(key="overview", title="Overview", lead=verdict(study, comparison), blocks=tuple(blocks))


def verdict(study: Study, comparison: Comparison | None) -> str:
    """The winner in a sentence or three: its quality, its cost, and what a comparison says of it."""
    best = study.best
    words = f"Trial {best.number} is the network to go with"
    if best.quality is not None:
        label = metric_info(best.quality_metric).label
        words += f": {label} {show_metrics(best.quality_metric, best.values or (best.quality,))}"
        words += f" on the {best.measured_on}" if best.measured_on else ""
    words += f", at {costs_of(best, _cost_names(study))}."
    return " ".join((words, *_compared(comparison))) if comparison is not None else words


def _compared(comparison: Comparison) -> Iterator[str]:
    """What the test split says, in a sentence or two."""
    if comparison.winner.mean is None:
        return
    reference = comparison.reference
    parts = []
    if reference is not None and reference.mean is not None:
        word, value = OUTCOMES[comparison.outcome(reference)], show_metric(comparison.metric, reference.mean)
        parts.append(f"it {word} {reference.name} ({value})")
    randoms = [one for one in comparison.contenders if one.role == "random" and one.mean is not None]
    if randoms:
        outcomes = Counter(comparison.outcome(one) for one in randoms)
        each = ", ".join(f"{word} {outcomes[key]}" for key, word in OUTCOMES.items() if outcomes[key])
        parts.append(f"{'it ' * (not parts)}{each} of {len(randoms)} random candidates")
    value = show_metric(comparison.metric, comparison.winner.mean)
    said = " and ".join(parts)
    yield (
        f"Trained again and tested on images that the search never saw, it has {value}"
        f"{': ' * bool(said)}{said}."
    )


def _cost_names(study: Study) -> tuple[str, ...]:
    names = tuple(name for name in study.objective.costs if name in study.best.costs)
    return names or ("macs",)


def _quality(best: StudyTrial, comparison: Comparison | None) -> Iterator[Fact]:
    if best.quality is not None:
        value = best.mean_quality if best.mean_quality is not None else best.quality
        label = f"{metric_info(best.quality_metric).label}, {best.measured_on or 'as measured'}"
        yield Fact(key="quality", label=label, value=value, text=show_metric(best.quality_metric, value))
    if comparison is not None and comparison.winner.mean is not None:
        value, count = comparison.winner.mean, len(comparison.winner.values)
        label = f"{metric_info(comparison.metric).label}, test split, {count} new trainings"
        yield Fact(key="tested", label=label, value=value, text=show_metric(comparison.metric, value))


def _costs(study: Study) -> Iterator[Fact]:
    for name in dict.fromkeys((*_cost_names(study), "params")):
        value = study.best.costs[name]
        yield Fact(key=name, label=metric_info(name).label, value=value, text=show_metric(name, value))


def _effort(study: Study) -> tuple[Fact, ...]:
    summary = study.summary()
    done = sum(summary.states[state] for state in ("completed", "infeasible", "lost"))
    return (
        Fact(key="done", label="trials done", value=done, text=f"{done:,}"),
        Fact(
            key="worker_hours",
            label="time in workers",
            value=summary.worker_hours,
            text=show_seconds(3600 * summary.worker_hours),
        ),
    )


def _drawings(study: Study, comparison: Comparison | None) -> Iterator[Block]:
    try:
        yield trial_drawing(study.best)
    except UNREADABLE as error:
        yield Words(lines=(f"The winner cannot be drawn: {error}",))
        return
    reference = None if study.space is None else study.space.reference
    if reference is None:
        why = "has no published network to compare with" if study.space is not None else "is not known here"
        yield Words(lines=(f"There is no reference beside it: the space {why}.",))
        return
    contender = None if comparison is None else comparison.reference
    value = None if contender is None else contender.mean
    metric = "accuracy" if comparison is None else comparison.metric
    yield Drawing(
        title="Reference: " + (contender.name if contender is not None else study.provenance.space_name),
        lines=stage_lines(reference),
        text=network_text(cost(reference), metric, value, split="test split"),
    )


def _measured(study: Study) -> Report:
    """Everything measured of the winner; its stages are in the drawing."""
    report = winner_report(study) if _is_readable(study.best) else Report(title="")
    return Report(title="What was measured of it" if report.facts else "", facts=report.facts)


def _is_readable(trial: StudyTrial) -> bool:
    try:
        return bool(stage_lines(trial.network))
    except UNREADABLE:
        return False
