"""The winner of a study: what was measured on it, its stages, and what speaks against its accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from nas.data.description import DataDescription
from nas.errors import RecipeError
from nas.metrics import metric_info
from nas.report.network_report import stage_table
from nas.report.printing import Fact, Report, Table, show_count, show_metric
from nas.statistics import CONFIDENCE, wilson_interval
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.training.notes import few_steps
from nas.training.recipe import Recipe
from nas.units import show_accuracies
from search_spaces import Network

STAGE_COLUMNS = {"stage", "operator", "resolution", "channels", "layers", "macs", "params"}


def winner_report(study: Study, images: DataDescription | None = None) -> Report:
    """The winner: what was measured on it, what it is made of, and what speaks against its accuracy.

    Args:
        study: The study, in which a trial has completed.
        images: Its images; None takes what the study remembers.
    """
    trial = study.best
    of_this, goal = "  (of this training)" if trial.values else "", study.objective.goal.metric
    facts = [
        Fact(key="trial", label="trial", value=trial.number),
        Fact(key="reward", label="reward", value=trial.reward, text=f"{trial.reward:.4f}{of_this}"),
        *_facts_of_trainings(trial, "accuracy", trial.accuracies),
        *(() if goal == "accuracy" else _facts_of_trainings(trial, goal, trial.values)),
    ]
    if trial.fidelity != 1:
        words = f"{trial.fidelity:.3g} of the schedule: none of the whole has completed with weights"
        facts.append(Fact(key="fidelity", label="fidelity", value=trial.fidelity, text=words))
    for metric in trial.metrics:
        is_asked_for = metric_info(metric.name).is_reported or metric.name in trial.objective.metrics
        if is_asked_for and metric.name != goal:
            where = f"  ({metric.environment})" if metric.environment else ""
            text = f"{show_metric(metric.name, metric.value)}{where}"
            facts.append(Fact(key=metric.name, label=metric.name, value=metric.value, text=text))
    for name, value in (("macs", trial.macs), ("params", trial.params)):
        facts.append(Fact(key=name, label=name, value=value, text=f"{show_count(value)}  ({value:,})"))
    table = network_table(trial.network, title="Its stages (resolution is that of the input)")
    title = f"Winner: trial {trial.number}"
    return Report(title=title, facts=tuple(facts), tables=(table,), notes=warnings_of(study, images))


def _facts_of_trainings(trial: StudyTrial, name: str, values: Sequence[float]) -> tuple[Fact, ...]:
    """What a trial's network measured on the search split: a mean where it was trained several times."""
    metric = next((metric for metric in trial.metrics if metric.name == name), None)
    if metric is None:
        return ()
    show, words = metric_info(name).unit.show, f"  ({metric.environment})" if metric.environment else ""
    if not values:
        return (Fact(key=name, label=name, value=metric.value, text=f"{show(metric.value)}{words}"),)
    several = "accuracies" if name == "accuracy" else f"{name}_of_trainings"
    return (
        Fact(
            key=name,
            label=name,
            value=statistics.fmean(values),
            text=f"{show_accuracies(values, show)}{words}",
        ),
        Fact(key=several, label="", value=list(values)),
        Fact(
            key=f"training_{name}",
            label="this training",
            value=metric.value,
            text=f"{show(metric.value)}  (the one whose weights are kept)",
        ),
    )


def network_table(network: Network, *, title: str = "Network") -> Table:
    """The network stage by stage.

    Source: EfficientNet (Tan & Le, ICML 2019), Table 1.
    """
    table = stage_table(network)
    columns = tuple(column for column in table.columns if column.key in STAGE_COLUMNS)
    return replace(table, key="network", title=title, columns=columns, notes=())


def warnings_of(study: Study, images: DataDescription | None = None) -> tuple[str, ...]:
    """Warnings about the accuracy of the best trial, a sentence each; empty if there are none.

    Args:
        study: The study; it needs a completed trial for any warning.
        images: Its images; None takes what the study remembers.
    """
    images = images or DataDescription.from_json(study.provenance.data_json)
    if images is None or not study.completed:
        return ()
    counts = images.by_split()
    best = study.best
    rivals = {trial.digest for trial in study.completed if trial.fidelity == best.fidelity}
    notes = [
        chance_note(best.mean_accuracy, counts["search"], split="search", candidates=len(rivals)),
        _few_steps(study, sum(counts["train"])),
    ]
    return tuple(note for note in notes if note)


def chance_note(accuracy: float | None, counts: Sequence[int], *, split: str, candidates: int = 1) -> str:
    """Says that an accuracy is no better than the largest class, or may be so by chance; else nothing.

    Args:
        accuracy: Fraction of the split; None where none was measured.
        counts: Images of each class there; empty where they are not known.
        split: What to call it.
        candidates: So many were measured and the best was taken. The interval is widened for that
            (Bonferroni), so that of many untrained networks the luckiest does not look good.
    """
    images = sum(counts)
    if accuracy is None or not images:
        return ""
    largest = max(counts) / images
    confidence = 1 - (1 - CONFIDENCE) / candidates
    low, high = wilson_interval(round(accuracy * images), images, confidence=confidence)
    if low > largest:
        return ""
    said = (
        f"accuracy {accuracy:.4f}: the largest class alone is {largest:.4f} of the {images:,} {split} images"
    )
    if accuracy <= largest:
        return f"{said}, so that it is no better than always answering with that class"
    best_of = f", as the best of {candidates:,}" if candidates > 1 else ""
    return f"{said}, and chance may explain the rest (interval {low:.2f} to {high:.2f}{best_of})"


def _few_steps(study: Study, images: int) -> str:
    """Says that a whole training has few steps; nothing where it has enough, or the recipe is not ours."""
    try:
        return few_steps(Recipe.from_json(study.provenance.recipe_json).steps(images))
    except RecipeError:
        return ""
