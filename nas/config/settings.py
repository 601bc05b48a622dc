"""`Settings`: how a search was asked for on the command line, as plain data that its study stores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from nas.errors import ObjectiveError, StudyError, UsageError
from nas.objective import Constraint, CostTerm, Objective
from nas.objective_text import EXAMPLE, metric_name
from nas.training.recipe import Recipe
from nas.units import hint

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
        "latency_resource",
        "compare_random",
        "compare_seeds",
        "enqueue",
        "warm_start",
    }
)
"""What a resume may change: how much is done, how long, and on which machines; never what is searched."""

ENVIRONMENT = frozenset({"data", "data_root", "latency_table", "proxy_check"})
"""Where things are: checked by their content, so it may change with the machine."""

OBJECTIVES = ("hard", "soft", "absolute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a person asked for.

    Attributes:
        data: Folder, pack or name of a data set; paths are absolute.
        data_root: Folder with torchvision's files.
        search_fraction: Share of the training images that candidates are judged on.
        fit: How an image that is not square becomes square: `crop`, `pad` or `stretch`.
        space: Name of a built-in space, or `file.py:name` with an absolute path.
        resolution: Image side in pixels; None takes the data's own.
        width: Multiplies the channels of a built-in space; None is the published width.
        recipe: The training recipe, all of it, as JSON.
        objective: `hard`, `soft` or `absolute`, or arithmetic as `Objective.parse` reads it; None is hard
            where there is a target.
        target_macs: Multiply-adds aimed at.
        target_params: Parameters aimed at.
        target_latency_ms: Latency aimed at.
        max_macs: Hard limit on multiply-adds.
        max_params: Hard limit on parameters.
        max_memory_bytes: Hard limit on peak training memory.
        max_latency_ms: Hard limit on latency.
        latency_table: File with a latency table: latencies are predicted from it in place of measured.
        latency_device: Where latency is measured; None is the device that trains.
        latency_batch: Images a pass; None is 1.
        latency_threads: Threads of the CPU there; None is 1.
        latency_resource: Custom resource of the Ray node that measures; None measures where a worker trains.
        rungs: Epochs, pixels or shares of images where candidates are compared; empty trains each whole.
        fidelity: What the rungs are of, `epochs`, `resolution` or `data`; None is epochs.
        reduction_factor: Of so many candidates on a rung one goes on; None is 3.
        is_compiled: Whether each candidate's training is compiled first.
        accuracy_noise: Standard deviation of one measured accuracy, where it was measured beforehand.
        proxy_check: Folder of the proxy check that says it.
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
        compare_random: Random candidates in the final comparison; None is the default.
        compare_seeds: Trainings of each network there; 0 leaves it out, None is the default.
        enqueue: Networks to try first: where each came from, and it itself as JSON text.
        warm_start: Folder of a study to learn from before the first trial; None is none.
    """

    data: str
    data_root: str | None = None
    search_fraction: float = 0.2
    fit: str = "crop"
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
    latency_table: str | None = None
    latency_device: str | None = None
    latency_batch: int | None = None
    latency_threads: int | None = None
    latency_resource: str | None = None
    rungs: tuple[float, ...] = ()
    fidelity: str | None = None
    reduction_factor: int | None = None
    is_compiled: bool = False
    accuracy_noise: float | None = None
    proxy_check: str | None = None
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
    compare_random: int | None = None
    compare_seeds: int | None = None
    enqueue: tuple[tuple[str, str], ...] = ()
    warm_start: str | None = None

    def make_objective(self) -> Objective:
        """The objective that targets, limits and their kind mean together.

        Raises:
            UsageError: A kind is asked for without a target, or one that does not go with several targets, or
                arithmetic with targets beside it.
            ObjectiveError: A number is out of range.
        """
        return make_objective(
            self.objective,
            targets={
                "macs": self.target_macs,
                "params": self.target_params,
                self.latency_metric: self.target_latency_ms,
            },
            limits={
                "macs": self.max_macs,
                "params": self.max_params,
                "peak_memory_bytes": self.max_memory_bytes,
                self.latency_metric: self.max_latency_ms,
            },
        )

    @property
    def latency_metric(self) -> str:
        """The metric that `--target-latency` and `--max-latency` mean: predicted where there is a table."""
        return "latency_ms" if self.latency_table is None else "predicted_latency_ms"

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
            if name not in CHANGEABLE | ENVIRONMENT | {"recipe"}
            and value != getattr(self, name)
            and not (name == "space" and _is_same_file(value, self.space))
        ]
        if "recipe" in given:
            now = json.loads(given["recipe"])
            before = json.loads(Recipe.from_json(self.recipe).to_json())  # with fields that are newer than it
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
        changed = {name: value for name, value in given.items() if name != "recipe"}
        if "enqueue" in changed:
            changed["enqueue"] = tuple(dict.fromkeys((*self.enqueue, *changed["enqueue"])))
        return replace(self, **changed)

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
        given = {name: value for name, value in values.items() if name in known}
        given["rungs"] = tuple(given.get("rungs", ()))
        given["enqueue"] = tuple(map(tuple, given.get("enqueue", ())))
        return cls(**given)


def _is_same_file(one: str, other: str) -> bool:
    """Whether two spaces are one name in files of one name, which may have moved: contents are compared."""
    return ":" in one and Path(one).name == Path(other).name


def read_objective(text: str) -> str:
    """Reads `--objective`: a kind as it is, or arithmetic as one line that equal objectives share.

    Raises:
        UsageError: It is neither.
    """
    if text in OBJECTIVES:
        return text
    if text.isidentifier() and text != "accuracy":
        raise UsageError(
            f"there is no objective {text!r}: {hint(text, OBJECTIVES)} Or write one, such as '{EXAMPLE}'"
        )
    try:
        return Objective.parse(text).describe()
    except ObjectiveError as error:
        raise UsageError(str(error)) from None


def read_metrics(text: str) -> tuple[str, ...]:
    """Reads names of costs with commas between them; those that are short for ours as in an objective.

    Raises:
        UsageError: There is none, or one nearly names one of ours.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isidentifier() and word != "accuracy" for word in words):
        raise UsageError(f"costs with commas between are needed, such as latency,params, but got {text!r}")
    try:
        return tuple(dict.fromkeys(metric_name(word) for word in words))
    except ObjectiveError as error:
        raise UsageError(str(error)) from None


def make_objective(
    kind: str | None, *, targets: Mapping[str, float | None], limits: Mapping[str, float | None]
) -> Objective:
    """Makes the objective of `--objective`, `--target-*` and `--max-*`.

    Several targets multiply. A target without a kind means hard. Arithmetic has its own targets, and the
    limits are added to those in it.

    Raises:
        UsageError: A kind is asked for without a target, or `absolute` with several, or arithmetic with one.
        ObjectiveError: A number is out of range, or the arithmetic makes no sense.
    """
    constraints = tuple(
        Constraint(metric=metric, upper=upper) for metric, upper in limits.items() if upper is not None
    )
    aims = [(metric, target) for metric, target in targets.items() if target is not None]
    if kind is not None and kind not in OBJECTIVES:
        return _written(kind, aims, constraints)
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


def _written(text: str, aims: Sequence[tuple[str, float]], constraints: tuple[Constraint, ...]) -> Objective:
    """The objective that is written out, within further limits."""
    if aims:
        metric, target = aims[0]
        raise UsageError(
            f"an objective that is written out has its own targets, but {_option(f'target_{metric}')} is "
            f"given beside {text!r}: leave it out, and write ({metric} / {target:,.12g})^(0, -1) to count it"
        )
    objective = Objective.parse(text)
    return replace(objective, constraints=objective.constraints + constraints)


_OPTIONS = {
    "target_latency_ms": "--target-latency",
    "target_predicted_latency_ms": "--target-latency",
    "max_latency_ms": "--max-latency",
    "max_memory_bytes": "--max-memory",
}
_OPTIONS |= {
    "is_compiled": "--compile",
    "is_deterministic": "--deterministic",
    "trial_timeout_minutes": "--trial-timeout",
}


def _option(name: str) -> str:
    return _OPTIONS.get(name, "--" + name.replace("_", "-"))


def _worded(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, float):
        return f"{value:,.12g}"
    return str(value)
