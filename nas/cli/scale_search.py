"""`nas scale --search`: finds the direction in which a network grows best, by training on images."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.architectures import Architecture
from nas.config.request import given_options
from nas.config.scaling import prepare_scaling
from nas.evaluation.scaled_networks import ScalingPlan
from nas.evaluation.scaling_search import search_coefficients
from nas.report.activity import Activity
from nas.report.plan_report import data_facts
from nas.report.printing import Report, draw_facts, save_json
from nas.report.scaling_report import scaling_report
from nas.report.trainings import TrainingsDisplay
from search_spaces import Direction, Network
from search_spaces.matching import Price
from search_spaces.scaling import RULES

if TYPE_CHECKING:
    from rich.console import Console

    from nas.config.settings import Settings

LAW, CURVES, RECORD = "law.png", "curves.png", "search.json"
"""Files in the folder; the last has what `--json` prints of the search, and `nas report` draws it."""


def search(
    arguments: Namespace, settings: Settings, found: Architecture, folder: Path, console: Console
) -> tuple[Network, Direction, Price, Report]:
    """Searches, or continues; returns the baseline, the direction, what was held equal, and what to say."""
    from nas.report.scaling_pictures import draw_curves, draw_law

    plan = _plan(arguments, settings)
    with Activity(console, "preparing") as activity:
        prepared = prepare_scaling(
            settings,
            found.network,
            out=folder,
            download=arguments.download,
            progress=activity,
            later=lambda text: console.print(text, style="dim", soft_wrap=True),
        )
    metric = prepared.setting.goal.metric
    draw_facts(data_facts(prepared.data, prepared.recipe, metric=metric), console)

    def watch(words: str, labels: Sequence[str]) -> TrainingsDisplay:
        return TrainingsDisplay(console, words, labels, metric=metric)

    result = search_coefficients(prepared.baseline, prepared.setting, plan, folder=folder, watch=watch)
    where = f"{found.name} on {prepared.data.name}"
    title = f"{where}: {plan.cost_factor:g} times its {result.cost_name}"
    pictures = [draw_law(result, folder / LAW, title=title)]
    if result.curves:
        pictures.append(draw_curves(result, folder / CURVES, title=f"{where}, scaled"))
    report = scaling_report(
        result,
        title=f"nas scale --search: {where}",
        data=str(prepared.data),
        epochs=prepared.recipe.epochs,
        native_side=prepared.data.native_side,
        pictures=pictures,
    )
    save_json(report, folder / RECORD)
    return prepared.baseline, result.found, prepared.setting.price, report


def _plan(arguments: Namespace, settings: Settings) -> ScalingPlan:
    """What is trained.

    Raises:
        SpaceArgumentError: A number is out of range.
    """
    return ScalingPlan(
        **given_options(arguments, ScalingPlan),
        rule=RULES[arguments.rule],
        resolution_multiple=arguments.multiple,
        seed=settings.seed,
    )
