"""Owns `Settings`: how a search was asked for on the command line, as plain data that its study stores.

Does not own turning them into data, space and evaluator (`nas.commands.prepared`) nor the command line
(`nas.commands.cli`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from nas.errors import StudyError, UsageError
from nas.objective import Constraint, CostTerm, Objective

CHANGEABLE = frozenset(
    {
        "trials",
        "max_hours",
        "patience",
        "finalists",
        "workers",
        "gpus_per_worker",
        "executor",
        "address",
        "trial_timeout_minutes",
    }
)
"""What a resume may change: how much is done, how long, and on which machines; never what is searched."""

ENVIRONMENT = frozenset({"data_root"})
"""Where things are: checked by their content, so it may change with the machine."""

OBJECTIVES = ("hard", "soft", "absolute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a person asked for.

    Attributes:
        data: Folder, pack or name of a data set; paths are absolute.
        data_root: Folder with torchvision's files.
        search_fraction: Share of the training images that candidates are judged on.
        space: Name of a built-in space, or `file.py:name` with an absolute path.
        resolution: Image side in pixels; None takes the data's own.
        width: Multiplies the channels of a built-in space; None is the published width.
        recipe: The training recipe, all of it, as JSON.
        objective: `hard`, `soft` or `absolute`; None is hard where there is a target.
        target_macs: Multiply-adds aimed at.
        target_params: Parameters aimed at.
        target_latency_ms: Latency aimed at.
        max_macs: Hard limit on multiply-adds.
        max_params: Hard limit on parameters.
        max_memory_bytes: Hard limit on peak training memory.
        max_latency_ms: Hard limit on latency.
        controller: Name of a controller, as `nas.search` takes it.
        seed: Seed of the search, its splits and its trainings.
        is_deterministic: Whether the schedule is fixed, so that equal searches give equal journals.
        trials: Number of trials in all.
        max_hours: Most hours a run of the search may take; None is no limit.
        patience: Trials without a better reward after which the search ends; None is never.
        finalists: Candidates that the last trials train again.
        workers: Trainings at the same time; None is chosen for the machine.
        gpus_per_worker: Share of a GPU each worker holds; None is chosen for the machine.
        executor: `ray` or `inline`.
        address: Address of a running Ray cluster; None starts one on this machine.
        trial_timeout_minutes: Minutes after which a trial is given up; None is never.
    """

    data: str
    data_root: str | None = None
    search_fraction: float = 0.2
    space: str
    resolution: int | None = None
    width: float | None = None
    recipe: str
    objective: str | None = None
    target_macs: float | None = None
    target_params: float | None = None
    target_latency_ms: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_memory_bytes: float | None = None
    max_latency_ms: float | None = None
    controller: str = "dyna"
    seed: int = 0
    is_deterministic: bool = False
    trials: int = 100
    max_hours: float | None = None
    patience: int | None = None
    finalists: int = 0
    workers: int | None = None
    gpus_per_worker: float | None = None
    executor: str = "ray"
    address: str | None = None
    trial_timeout_minutes: float | None = None

    def make_objective(self) -> Objective:
        """The objective that targets, limits and their kind mean together.

        Raises:
            UsageError: A kind is asked for without a target, or one that does not go with several targets.
            ObjectiveError: A number is out of range.
        """
        return make_objective(
            self.objective,
            targets={
                "macs": self.target_macs,
                "params": self.target_params,
                "latency_ms": self.target_latency_ms,
            },
            limits={
                "macs": self.max_macs,
                "params": self.max_params,
                "peak_memory_bytes": self.max_memory_bytes,
                "latency_ms": self.max_latency_ms,
            },
        )

    def resumed_with(self, given: Mapping[str, Any], folder: Path) -> Settings:
        """These settings with what a resume may change changed.

        Args:
            given: What the person gave this time, by field name.
            folder: The study's folder, for the message.

        Raises:
            StudyError: Something else is given than what the study was made with; names each difference.
        """
        differences = [
            f"{_option(name)} is {_worded(getattr(self, name))} there, {_worded(value)} here"
            for name, value in given.items()
            if name not in CHANGEABLE | ENVIRONMENT | {"recipe"} and value != getattr(self, name)
        ]
        if "recipe" in given:
            before, now = json.loads(self.recipe), json.loads(given["recipe"])
            differences += [
                f"{_option(key)} is {_worded(before.get(key))} there, {_worded(now[key])} here"
                for key in now
                if now[key] != before.get(key)
            ]
        if differences:
            raise StudyError(
                f"{folder} holds a study with other settings: {'; '.join(differences)}. Leave these out to "
                "continue it, or give another --out to start anew"
            )
        return replace(self, **{name: value for name, value in given.items() if name != "recipe"})

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> Settings:
        """Reads what `to_dict` gave; what a newer version added is left out.

        Raises:
            StudyError: The study was not started by this command, so nobody can tell how to continue it.
        """
        known = {field.name for field in fields(cls)}
        if not {"data", "space", "recipe"} <= set(values):
            raise StudyError(
                f"the study in {folder} was not started with `nas search`: continue it with the program that "
                "did, by calling nas.search(...) with the same arguments and out"
            )
        return cls(**{name: value for name, value in values.items() if name in known})


def make_objective(
    kind: str | None, *, targets: Mapping[str, float | None], limits: Mapping[str, float | None]
) -> Objective:
    """Makes the objective of `--objective`, `--target-*` and `--max-*`.

    Several targets multiply. A target without a kind means hard.

    Raises:
        UsageError: A kind is asked for without a target, or `absolute` with several.
        ObjectiveError: A number is out of range.
    """
    constraints = tuple(
        Constraint(metric=metric, upper=upper) for metric, upper in limits.items() if upper is not None
    )
    aims = [(metric, target) for metric, target in targets.items() if target is not None]
    if not aims:
        if kind is not None:
            raise UsageError(f"--objective {kind} needs a target: give --target-macs or --target-latency")
        return Objective(constraints=constraints)
    if kind == "absolute" and len(aims) > 1:
        raise UsageError(
            "--objective absolute lands on one budget: give one target, and limits for the others"
        )
    if len(aims) == 1:
        metric, target = aims[0]
        if kind == "soft":
            return Objective.soft(metric, target, constraints=constraints)
        if kind == "absolute":
            return Objective.absolute(metric, target, constraints=constraints)
        return Objective.hard(metric, target, constraints=constraints)
    under, over = (-0.07, -0.07) if kind == "soft" else (0.0, -1.0)
    terms = [
        CostTerm(metric=metric, target=target, exponent_under=under, exponent_over=over)
        for metric, target in aims
    ]
    return Objective.product(*terms, constraints=constraints)


_OPTIONS = {
    "target_latency_ms": "--target-latency",
    "max_latency_ms": "--max-latency",
    "max_memory_bytes": "--max-memory",
}
_OPTIONS |= {"is_deterministic": "--deterministic", "trial_timeout_minutes": "--trial-timeout"}


def _option(name: str) -> str:
    return _OPTIONS.get(name, "--" + name.replace("_", "-"))


def _worded(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, float):
        return f"{value:,.12g}"
    return str(value)
