"""`nas profile`: what a space holds and what a search in it would take, before anything runs."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nas.cli.adding import shape_of
from nas.config.prepared import load_images
from nas.config.request import given_options, recipe_of
from nas.config.settings import Settings
from nas.errors import UsageError
from nas.evaluation.space_profile import Plan, profile_space
from nas.report.activity import Activity
from nas.report.plan_report import data_facts, profile_report
from nas.report.printing import Fact, emit, make_console
from nas.spaces import BUILT_IN, find_space
from nas.trial import Say
from nas.units import hint
from nas.values import counted

UNKNOWN = "unknown: give --seconds-per-trial, or --data to measure it"


def run(arguments: Namespace) -> int:
    """Prints the profile."""
    if arguments.space is None:
        raise UsageError(
            f"--space is needed: {hint('', BUILT_IN)}, or file.py:name of your own", field="space"
        )
    with Activity(make_console(to_stderr=True)) as activity:
        settings = Settings(**given_options(arguments))
        source = find_space(arguments.space)
        objective = settings.make_objective()
        images = None
        if settings.data is not None:
            images = load_images(settings, source, download=arguments.download, progress=activity)
            objective = settings.make_objective(images.task)
        space = source.make(**_image_arguments(arguments, source.space, images), width=arguments.width)
        plan = _plan(arguments, space, images, objective, activity)
        activity(f"costing {arguments.samples:,} random candidates")
        profile = profile_space(space, objective, samples=arguments.samples, seed=settings.seed)
    network = space.template
    classes = counted(network.num_classes, "class")
    shape = f"{network.in_channels} x {network.resolution} x {network.resolution}, {classes}"
    facts = (
        Fact(key="space", label="space", value=space.name),
        Fact(key="images", label="images", value=shape if images is None else str(images)),
        Fact(key="objective", label="objective", value=objective.describe()),
        *((Fact(key="note", label="note", value=objective.note),) if objective.note else ()),
        *(() if images is None else data_facts(images, recipe_of(arguments), metric=objective.goal.metric)),
    )
    title = f"nas profile: {arguments.space}"
    emit(profile_report(profile, plan, title=title, facts=facts), as_json=arguments.json)
    return 0


def _image_arguments(arguments: Namespace, ready: Any, images: Any) -> dict[str, int]:
    """Resolution, classes and channels: the data's, else as given, else the space's own, else ImageNet's."""
    if images is not None:
        for name in ("num_classes", "in_channels"):
            if getattr(arguments, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} is what the data say: leave it out, or leave --data out",
                    field=name,
                )
        return {
            "resolution": images.resolution,
            "num_classes": images.num_classes,
            "in_channels": images.channels,
        }
    return shape_of(arguments, ready)


def _plan(arguments: Namespace, space: Any, images: Any, objective: Any, progress: Say) -> Plan:
    workers = arguments.workers or 1
    seconds, origin = arguments.seconds_per_trial, "given with --seconds-per-trial"
    if seconds is None and images is not None:
        from nas.catalogue import Catalogue
        from nas.evaluation.time_estimate import estimate_trial_time

        threads = 1 if workers > 1 else None
        time = estimate_trial_time(
            Catalogue(space),
            images,
            recipe_of(arguments),
            objective,
            seed=arguments.seed or 0,
            threads=threads,
            progress=progress,
        )
        seconds, origin = time.seconds, time.origin
    return Plan(
        trials=arguments.trials or Settings().trials,
        workers=workers,
        gpus_per_worker=arguments.gpus_per_worker or 0.0,
        seconds_per_trial=seconds,
        origin=UNKNOWN if seconds is None else origin,
    )
