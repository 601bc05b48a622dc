"""The winner of a study: what was measured on it, its stages, and what speaks against its accuracy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from nas.data.description import DataDescription
from nas.errors import RecipeError
from nas.metrics import metric_info, show_metrics
from nas.report.network_report import stage_table
from nas.report.printing import Fact, Report, Table, show_count, show_metric
from nas.statistics import CONFIDENCE, wilson_interval
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.training.notes import few_steps
from nas.training.recipe import Recipe
from search_spaces import Network

COMPARED = 5
"""Networks of a study in shared weights that are proposed for training: of fewer no tau is stated."""

STAGE_COLUMNS = {"stage", "operator", "resolution", "channels", "layers", "macs", "params"}


def winner_report(study: Study, images: DataDescription | None = None) -> Report:
    """The winner: what was measured on it, what it is made of, and what speaks against its accuracy.

    Args:
        study: The study, in which a trial has completed.
        images: Its images; None takes what the study remembers.
    """
    trial = study.best
    of_this = "  (of this training)" if trial.values else ""
    facts = [
        Fact(key="trial", label="trial", value=trial.number),
        Fact(key="reward", label="reward", value=trial.reward, text=f"{trial.reward:.4f}{of_this}"),
        *_quality_facts(trial),
    ]
    if trial.fidelity != 1:
        words = f"{trial.fidelity:.3g} of the schedule: none of the whole has completed with weights"
        facts.append(Fact(key="fidelity", label="fidelity", value=trial.fidelity, text=words))
    for metric in trial.metrics:
        if metric.name != trial.quality_metric and _is_shown(metric.name, trial):
            where = f"  ({metric.environment})" if metric.environment else ""
            text = f"{show_metric(metric.name, metric.value)}{where}"
            facts.append(Fact(key=metric.name, label=metric.name, value=metric.value, text=text))
    for name, value in (("macs", trial.macs), ("params", trial.params)):
        facts.append(Fact(key=name, label=name, value=value, text=f"{show_count(value)}  ({value:,})"))
    table = network_table(trial.network, title="Its stages (resolution is that of the input)")
    title = f"Winner: trial {trial.number}"
    return Report(title=title, facts=tuple(facts), tables=(table,), notes=warnings_of(study, images))


def _is_shown(name: str, trial: StudyTrial) -> bool:
    """Whether the winner's report has a metric: one that the objective looks at, or that is always there."""
    return name == "accuracy" or metric_info(name).is_reported or name in trial.objective.metrics


def _quality_facts(trial: StudyTrial) -> tuple[Fact, ...]:
    """How good a trial's network is on the search split: a mean where it was trained several times."""
    metric, quality = trial.quality_metric, trial.quality
    if quality is None:
        return ()
    words = f"  ({trial.measured_on})" if trial.measured_on else ""
    text = f"{show_metrics(metric, trial.values or (quality,))}{words}"
    fact = Fact(key=metric, label=metric, value=trial.mean_quality, text=text)
    if not trial.values:
        return (fact,)
    return (
        fact,
        Fact(key="accuracies" if metric == "accuracy" else "values", label="", value=list(trial.values)),
        Fact(
            key=f"training_{metric}",
            label="this training",
            value=quality,
            text=f"{show_metric(metric, quality)}  (the one whose weights are kept)",
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
    """Warnings about what was measured of the best trial, a sentence each; empty if there are none.

    Args:
        study: The study; it needs a completed trial for any warning.
        images: Its images; None takes what the study remembers.
    """
    if not study.has_completed:
        return ()
    best = study.best
    shared = (_shared_note(best, len(study.top(COMPARED))),) if best.has_shared_weights else ()
    images = images or DataDescription.from_json(study.provenance.data_json)
    if images is None:
        return shared
    table = study.table
    rivals = set(itertools.compress(table.digests, table.is_completed & (table.fidelity == best.fidelity)))
    notes = [
        chance_note(
            best.quality_metric,
            best.mean_quality,
            images.by_split()["search"],
            split="search",
            candidates=len(rivals),
        ),
        _few_steps(study, images.sizes()[0]),
    ]
    return (*shared, *(note for note in notes if note))


def _shared_note(trial: StudyTrial, top: int) -> str:
    """Says that no network was trained, and how to train the best ones."""
    return (
        f"{trial.quality_metric} is that of shared weights: it ranks networks, and is not what they reach; "
        f"nas train {trial.folder} --top {top} --out DIR trains the best, and says how far both agree"
    )


def chance_note(
    metric: str, value: float | None, counts: Sequence[int], *, split: str, candidates: int = 1
) -> str:
    """Says that a network is no better than the same answer for every image, or may be so by chance.

    Of the accuracy, that answer is the largest class, and the interval is Wilson's; of other metrics only a
    value that is no better is spoken of, as they are no shares of images.

    Args:
        metric: What was measured.
        value: Its value; None where none was measured.
        counts: Images of each class there; empty where they are not known.
        split: What to call it.
        candidates: So many were measured and the best was taken. The interval is widened for that
            (Bonferroni), so that of many untrained networks the luckiest does not look good.
    """
    images = sum(counts)
    if value is None or not images:
        return ""
    if metric != "accuracy":
        return _constant_note(metric, value, len(counts), split=split)
    accuracy = value
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


def _constant_note(metric: str, value: float, outputs: int, *, split: str) -> str:
    """Says that a value is no better than that of the same answer for every image; else nothing."""
    constant = {"balanced_accuracy": 1 / outputs, "auroc": 0.5, "r2": 0.0}.get(metric, -math.inf)
    if value > constant:
        return ""
    return (
        f"{metric} {show_metric(metric, value)} on the {split} split is no better than the same answer for "
        f"every image, which has {show_metric(metric, constant)}"
    )


def _few_steps(study: Study, images: int) -> str:
    """Says that a whole training has few steps; nothing where it has enough, or the recipe is not ours."""
    try:
        return few_steps(Recipe.from_json(study.provenance.recipe_json).steps(images))
    except RecipeError:
        return ""
