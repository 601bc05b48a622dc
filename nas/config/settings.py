"""`Settings`: the options of a search, as plain data that its study stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from controllers import CONTROLLERS
from nas.config.readers import (
    absolute_if_there,
    absolute_own,
    absolute_path,
    read_controller,
    read_metric,
    read_mlflow,
    read_network,
    read_objective,
    read_wandb,
)
from nas.controller import ControllerOptions
from nas.data.images import FIT, SEARCH_FRACTION, Carving, Fit
from nas.errors import ObjectiveError, StudyError, UsageError
from nas.evaluation.comparison import RANDOMS, SEEDS
from nas.execution.executors import DEFAULT_EXECUTOR, EXECUTOR_NAMES, EXECUTORS, OnRayLoss
from nas.latency.devices import DEVICES, DeviceSettings
from nas.objective import KINDS, Objective
from nas.options import option, options_of
from nas.published_weights import PACKAGES
from nas.report.mlflow_reporter import EXPERIMENT
from nas.rungs import FIDELITY, REDUCTION_FACTOR, Fidelity
from nas.scheduling import Budget
from nas.spaces import BUILT_IN
from nas.task_objective import objective_of_task
from nas.tasks import TASKS, TaskName
from nas.training.recipe import Recipe
from nas.units import (
    one_of,
    parse_bytes,
    parse_count,
    parse_finalists,
    parse_hours,
    parse_milliseconds,
    parse_natural,
    parse_rungs,
)

_METRICS = "; or ".join(f"{', '.join(task.metrics)} ({name})" for name, task in TASKS.items())
"""The metrics of each task."""

STUDY, IMAGES, SPACE = "study", "images", "search space"
OBJECTIVE = "objective: a metric and costs"
SEARCH, MACHINES = "search", "machines"
LATENCY = "latency, if the objective uses it"
TRAINING, COMPARISON = "training of each candidate", "final comparison on the test split"
REPORTS = "where to follow the search, beside TensorBoard"
PROFILE, CHECK, SCALE, SUPERNET = ("profile",), ("proxy-check",), ("scale",), ("supernet",)
BOTH, TRAINS = PROFILE + CHECK, CHECK + SCALE

BUDGET, DEVICE = Budget(), DeviceSettings()
"""What is not given is as these have it."""

PARALLEL_ONLY = {
    "workers": 1,
    "gpus_per_worker": 0.0,
    "address": None,
    "trial_timeout_minutes": None,
    "on_ray_loss": "stop",
    "latency_resource": None,
}
"""Settings that an executor of one trial at a time cannot keep, and the value that asks nothing of it."""

_study = partial(option, group=STUDY)
_images = partial(option, group=IMAGES, also=BOTH + SCALE + SUPERNET)
_space = partial(option, group=SPACE, also=BOTH + SUPERNET)
_objective = partial(option, group=OBJECTIVE, also=PROFILE)
_search = partial(option, group=SEARCH, resume="changeable")
_machines = partial(option, group=MACHINES, resume="changeable", also=TRAINS)
_latency = partial(option, group=LATENCY)
_training = partial(option, group=TRAINING)
_comparison = partial(option, group=COMPARISON, read=parse_natural, resume="changeable")
_reports = partial(option, group=REPORTS, resume="changeable")
"""Options by their heading, with what most of those under it have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a search, as plain data that the study stores. Every field is an option of `nas search`.

    `recipe` is the training recipe, all of it, as JSON; its own fields are options. Paths are absolute. None
    means not given: the code that uses it decides.
    """

    seed: int = _study(
        0, "seed of everything random", metavar="N", read=parse_natural, also=TRAINS + SUPERNET
    )
    is_deterministic: bool = _study(
        False,
        "fix the schedule: equal searches write equal journals, except for times",
        flag="--deterministic",
    )
    data: str | None = _images(
        None,
        "folder of images, .npz pack, CSV of file names and labels, or name of a data set",
        metavar="PATH",
        read=absolute_if_there,
        resume="moved",
    )
    task: TaskName | None = _images(
        None,
        "what networks learn to predict: one class, labels of which an image may have several, or numbers",
        metavar="NAME",
        default_text="what the labels say",
    )
    data_root: str | None = _images(
        None,
        "where torchvision's files are, for data sets by name",
        metavar="DIR",
        read=absolute_path,
        resume="moved",
    )
    search_fraction: float = _images(
        SEARCH_FRACTION, "share of the training images on which candidates are measured", metavar="F"
    )
    split_seed: int | None = _images(
        None,
        "seed of splits that the images do not give",
        metavar="N",
        read=parse_natural,
        default_text="--seed",
        also=TRAINS + SUPERNET,
    )
    fit: Fit = _images(
        FIT,
        "how images become square, by cutting the centre out, adding black bars, or distorting",
        metavar="NAME",
    )
    space: str | None = _space(
        None,
        f"{', '.join(BUILT_IN)}; a variant such as mnasnet_a1, efficientnet_v2_b0, resnet18 or mnasnet_flat; "
        "or file.py:name of your own",
        metavar="NAME",
        read=absolute_own,
        resume="moved",
    )
    resolution: int | None = _space(None, "image side", metavar="PX", default_text="that of the images")
    width: float | None = _space(None, "multiplies the channels", metavar="W", default_text="1")
    metric: str | None = _objective(
        None,
        f"what is maximised: {_METRICS}; or a metric of your own evaluator",
        metavar="NAME",
        read=read_metric,
        default_text="the first of the task",
        also=TRAINS,
    )
    target_macs: float | None = _objective(
        None, "multiply-adds aimed at, such as 30M", metavar="N", read=parse_count
    )
    target_params: float | None = _objective(
        None, "parameters aimed at, such as 2M", metavar="N", read=parse_count
    )
    target_latency_ms: float | None = _objective(
        None,
        "target for the latency, such as 5ms",
        flag="--target-latency",
        metavar="T",
        read=parse_milliseconds,
    )
    objective: str | None = _objective(
        None,
        f"how a target counts: {', '.join(KINDS[:-1])} or {KINDS[-1]}; or all of it written out, such as "
        "'accuracy * (latency/5ms)^-0.07 * params^-0.05, memory <= 2GiB'",
        metavar="KIND",
        read=read_objective,
        default_text=KINDS[0],
    )
    max_macs: float | None = _objective(
        None, "reject candidates above it before training", metavar="N", read=parse_count, also=BOTH
    )
    max_params: float | None = _objective(
        None, "reject candidates above it before training", metavar="N", read=parse_count, also=BOTH
    )
    max_memory_bytes: float | None = _objective(
        None, "limit of the training memory, such as 2GiB", flag="--max-memory", metavar="M", read=parse_bytes
    )
    max_latency_ms: float | None = _objective(
        None, "most latency", flag="--max-latency", metavar="T", read=parse_milliseconds
    )
    controller: str | None = _search(
        None,
        f"{', '.join(CONTROLLERS)}; or file.py:name of your own "
        f"(default: {next(iter(CONTROLLERS))}, or front for an objective with several goals)",
        metavar="NAME",
        read=read_controller,
        resume="moved",
    )
    accuracy_noise: float | None = _search(
        None,
        "standard deviation of one measured accuracy, or of --metric; nas proxy-check measures it",
        metavar="S",
        resume="fixed",
    )
    proxy_check: str | None = _search(
        None,
        "read that noise from a nas proxy-check of this recipe, these images and this metric",
        metavar="DIR",
        read=absolute_path,
        resume="moved",
    )
    trials: int = _search(BUDGET.trials, "trials in all, earlier runs included", metavar="N")
    max_hours: float | None = _search(
        BUDGET.max_hours, "most wall time of this run, such as 1.5 or 90min", metavar="H", read=parse_hours
    )
    patience: int | None = _search(
        BUDGET.patience,
        "stop after N trials without a better reward, or without one on the front",
        metavar="N",
    )
    enqueue: tuple[tuple[str, str], ...] = _search(
        (), "try this network next; may be repeated", metavar="ARCH.json", read=read_network, is_repeated=True
    )
    finalists: int | str = _search(
        BUDGET.finalists,
        "train the N best again in the last 2N trials; auto: as many as their noise calls for",
        metavar="N|auto",
        read=parse_finalists,
    )
    warm_start: str | None = _search(
        None,
        "learn from an earlier study of the same space and data first",
        metavar="STUDY",
        read=absolute_path,
    )
    workers: int | None = _machines(None, "trainings at the same time", metavar="N")
    gpus_per_worker: float | None = _machines(None, "share of a GPU each holds, such as 0.25", metavar="G")
    executor: str = _machines(
        DEFAULT_EXECUTOR, EXECUTOR_NAMES, metavar="NAME", read=one_of("executor", EXECUTORS)
    )
    address: str | None = _machines(None, "join a running Ray cluster: auto, or host:port", metavar="ADDRESS")
    trial_timeout_minutes: float | None = _machines(
        None, "stop a trial after so many minutes", flag="--trial-timeout", metavar="MIN"
    )
    on_ray_loss: OnRayLoss = _machines("stop", "what to do when Ray itself dies", metavar="NAME")
    latency_table: str | None = _latency(
        None,
        "predict latency from a table that nas latency-table made, in place of measuring it",
        metavar="FILE",
        read=absolute_path,
        resume="moved",
    )
    latency_device: str | None = _latency(
        None,
        ", ".join(("auto", *DEVICES)),
        metavar="NAME",
        read=one_of("device", ("auto", *DEVICES)),
        default_text="auto: where it trains",
    )
    latency_batch: int | None = _latency(
        None, "images a forward pass", metavar="N", default_text=str(DEVICE.batch)
    )
    latency_threads: int | None = _latency(
        None, "threads of the CPU there", metavar="N", default_text=str(DEVICE.threads)
    )
    latency_resource: str | None = _latency(
        None,
        "measure on a node of the Ray cluster that offers this custom resource, one network at a time",
        metavar="NAME",
        resume="changeable",
    )
    evaluator: str | None = _training(
        None,
        "file.py:name of your own, which measures each candidate in place of this training",
        metavar="FILE.py:NAME",
        read=absolute_own,
        resume="moved",
    )
    has_policy: bool = _training(
        False,
        "train shared weights and a policy together first, as TuNAS does, then search in them, beginning "
        "with the policy's networks",
        flag="--weight-sharing",
    )
    supernet_epochs: float | None = _training(
        None, "epochs of that training", metavar="E", default_text="those of nas supernet"
    )
    supernet: str | None = _training(
        None,
        "measure candidates as slices of this supernet (of nas supernet), in place of training them; it says "
        "space and images where they are not given",
        metavar="DIR",
        read=absolute_path,
        resume="moved",
    )
    recipe: str = ""
    init: str | None = _training(
        None,
        "start candidates from weights of a trained network, where their layers match: a bundle, training "
        f"or study; timm:NAME; or {', '.join(PACKAGES)}, from an installed package",
        metavar="WEIGHTS",
        read=absolute_if_there,
        resume="moved",
        default_text="fresh ones",
        also=CHECK,
    )
    is_compiled: bool = _training(
        False,
        "compile each candidate first with torch.compile: takes minutes, for long trainings only",
        flag="--compile",
        also=BOTH + SCALE,
    )
    rungs: tuple[float, ...] = _training(
        (),
        "successive halving: train all on the first rung, promote the best of each; epochs such as 1,3,9",
        metavar="E,...",
        read=parse_rungs,
    )
    fidelity: Fidelity | None = _training(
        None,
        "unit of the rungs: epochs, pixels, or shares of the images",
        metavar="NAME",
        default_text=FIDELITY,
    )
    reduction_factor: int | None = _training(
        None, "of N candidates on a rung one is promoted", metavar="N", default_text=str(REDUCTION_FACTOR)
    )
    compare_random: int | None = _comparison(
        None, "number of random candidates to compare with", metavar="K", default_text=str(RANDOMS)
    )
    compare_seeds: int | None = _comparison(
        None, "trainings of each network; 0 skips the comparison", metavar="N", default_text=str(SEEDS)
    )
    wandb: str | None = _reports(
        None,
        "Weights & Biases: PROJECT, or ENTITY/PROJECT; a resume goes on with the same run; none stops it",
        metavar="PROJECT",
        read=read_wandb,
    )
    mlflow: str | None = _reports(
        None,
        "MLflow: address of the server, such as http://localhost:5000; none stops it",
        metavar="URI",
        read=read_mlflow,
    )
    mlflow_experiment: str | None = _reports(
        None, "experiment there that the run is put into", metavar="NAME", default_text=EXPERIMENT
    )

    @property
    def chosen_controller(self) -> str:
        """The controller that is named, or that the objective has by default."""
        return self.controller or ControllerOptions().chosen(self.make_objective())

    def make_objective(self, task: TaskName | None = None) -> Objective:
        """Makes the objective from targets, limits, `objective` and `metric`.

        Args:
            task: What candidates are trained for; None where that is not known yet, or nothing is trained.

        Raises:
            DataError: The task has no such metric.
            ObjectiveError: The objective and the metric contradict each other, or are of another task.
            UsageError: They exclude each other; names the options.
        """
        targets = {
            "macs": self.target_macs,
            "params": self.target_params,
            self.latency_metric: self.target_latency_ms,
        }
        limits = {
            "macs": self.max_macs,
            "params": self.max_params,
            "peak_memory_bytes": self.max_memory_bytes,
            self.latency_metric: self.max_latency_ms,
        }
        try:
            found = Objective.of(self.objective, targets=targets, limits=limits)
        except ObjectiveError as error:
            given = [_target_flag(metric) for metric, target in targets.items() if target is not None]
            flags = ", ".join(["--objective", *given] if self.objective else given)
            raise UsageError(f"{flags}: {error}", field=error.field) from error
        is_written = self.objective is not None and self.objective not in KINDS
        task = task or self.task if self.evaluator is None else None  # the user's own measures what it likes
        return objective_of_task(found, task, metric=self.metric, is_written=is_written)

    @property
    def carving(self) -> Carving:
        """How splits that the images do not give are carved."""
        seed = self.seed if self.split_seed is None else self.split_seed
        return Carving(seed=seed, search_fraction=self.search_fraction)

    @property
    def latency_metric(self) -> str:
        """The metric that `--target-latency` and `--max-latency` mean: predicted where there is a table."""
        return "latency_ms" if self.latency_table is None else "predicted_latency_ms"

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> Settings:
        """Reads what `to_dict` gave; what a newer version added is left out.

        Raises:
            StudyError: The study was not started by this command.
        """
        known = {field.name for field in fields(cls)}
        if not {"data", "space", "recipe"} <= set(values):
            raise StudyError(
                f"the study in {folder} was not started with `nas search`: continue it with the program that "
                "started it, by calling nas.search(...) with the same arguments and out"
            )
        return cls(**{name: _frozen(value) for name, value in values.items() if name in known})


def _frozen(value: Any) -> Any:
    """A JSON value as a setting has it: lists as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _target_flag(metric: str) -> str:
    return flag_of(f"target_{metric.removeprefix('predicted_')}")


def flag_of(name: str) -> str:
    """The option on the command line that sets a field of the settings or of the recipe."""
    known = {**options_of(Recipe), **options_of(Settings)}
    return known[name].flag if name in known else "--" + name.replace("_", "-")
