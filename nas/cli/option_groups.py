"""The groups of options that several commands of `nas` share, and how an option reads its value.

An option that was not given is None, so that a resume can tell what a person wants changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, get_args

from nas.config.settings import read_objective
from nas.data.reading import Fit
from nas.errors import UsageError
from nas.latency.devices import DEVICES, PRECISIONS
from nas.rungs import Fidelity
from nas.training.recipe import Augmentation, Optimizer, Precision, Statistics
from nas.units import (
    one_of,
    parse_bytes,
    parse_count,
    parse_hours,
    parse_milliseconds,
    parse_natural,
    parse_number,
    parse_positive_int,
    parse_rungs,
)

Parser = argparse.ArgumentParser
Group = argparse._ArgumentGroup

CONTROLLERS = ("dyna", "reinforce", "ppo", "evolution", "local", "nsga2", "random")
EXECUTORS = ("ray", "inline")


def take(
    group: Group | Parser,
    name: str,
    read: Callable[[str], Any],
    metavar: str,
    words: str,
    *,
    dest: str | None = None,
    default: Any = None,
) -> None:
    """Adds an option with a value; the option's name goes in front of what its reader complains of."""

    def read_option(text: str) -> Any:
        try:
            return read(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    place = dest or name.removeprefix("--").replace("-", "_")
    group.add_argument(name, dest=place, type=read_option, metavar=metavar, help=words, default=default)


def add_device(group: Group) -> None:
    """What latency depends on besides the network: `nas.latency.devices.DeviceSettings`."""
    take(
        group,
        "--device",
        one_of("device", DEVICES),
        "NAME",
        f"{', '.join(DEVICES)} (default cpu)",
        default="cpu",
    )
    take(group, "--batch", parse_positive_int, "N", "images a forward pass (default 1)", default=1)
    take(group, "--threads", parse_positive_int, "N", "threads of the CPU (default 1)", default=1)
    take(
        group,
        "--precision",
        one_of("precision", PRECISIONS),
        "NAME",
        "float32 (default) or bfloat16",
        default="float32",
    )
    group.add_argument("--channels-last", action="store_true", help="images with their channels last")


def add_json(parser: Parser) -> None:
    """The option that every command that prints a table has."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def add_data(group: Group, *, is_profile: bool = False) -> None:
    """What images there are."""
    purpose = (
        "times a few real trainings on it"
        if is_profile
        else "folder of images, .npz pack, or name of a data set"
    )
    group.add_argument("--data", metavar="PATH", help=purpose)
    group.add_argument(
        "--data-root", metavar="DIR", help="where torchvision's files are, for data sets by name"
    )
    group.add_argument("--download", action="store_true", help="allow downloading a data set by name")
    take(
        group,
        "--search-fraction",
        parse_number,
        "F",
        "share of the training images that candidates are judged on (default 0.2)",
    )
    take(
        group,
        "--fit",
        one_of("fit", get_args(Fit)),
        "NAME",
        "how images become square: crop (default) cuts the centre out, pad adds black bars, stretch distorts",
    )


def add_space(group: Group) -> None:
    """What is searched."""
    group.add_argument(
        "--space",
        metavar="NAME",
        help="mnasnet, efficientnet, efficientnet_v2, mobilenet_v3, resnet, nas_bench_macro, small; a "
        "variant such as mnasnet_a1, efficientnet_v2_b0, resnet18 or mnasnet_flat; or file.py:name of your "
        "own",
    )
    take(group, "--resolution", parse_positive_int, "PX", "image side (default: that of the images)")
    take(group, "--width", parse_number, "W", "multiplies the channels (default 1)")


def add_objective(group: Group) -> None:
    """What is maximised, and what it may cost."""
    take(group, "--target-macs", parse_count, "N", "multiply-adds aimed at, such as 30M")
    take(group, "--target-params", parse_count, "N", "parameters aimed at, such as 2M")
    take(
        group,
        "--target-latency",
        parse_milliseconds,
        "T",
        "latency aimed at, such as 5ms",
        dest="target_latency_ms",
    )
    take(
        group,
        "--objective",
        read_objective,
        "KIND",
        "how a target counts: hard (default), soft or absolute; or all of it written out, such as "
        "'accuracy * (latency/5ms)^-0.07 * params^-0.05, memory <= 2GiB'",
    )
    take(group, "--max-macs", parse_count, "N", "reject candidates above it before training")
    take(group, "--max-params", parse_count, "N", "reject candidates above it before training")
    take(
        group, "--max-memory", parse_bytes, "M", "most training memory, such as 2GiB", dest="max_memory_bytes"
    )
    take(group, "--max-latency", parse_milliseconds, "T", "most latency", dest="max_latency_ms")


def add_latency(group: Group) -> None:
    """How latency is found where the objective looks at it."""
    group.add_argument(
        "--latency-table",
        metavar="FILE",
        help="predict latency from a table that nas latency-table made, in place of measuring it",
    )
    take(
        group,
        "--latency-device",
        one_of("device", ("auto", *DEVICES)),
        "NAME",
        f"auto (default: where it trains), {', '.join(DEVICES)}",
    )
    take(group, "--latency-batch", parse_positive_int, "N", "images a forward pass (default 1)")
    take(group, "--latency-threads", parse_positive_int, "N", "threads of the CPU there (default 1)")
    add_latency_resource(group)


def add_latency_resource(group: Group) -> None:
    """Where on a Ray cluster it is measured."""
    group.add_argument(
        "--latency-resource",
        metavar="NAME",
        help="measure on a node of the Ray cluster that offers this custom resource, one network at a time",
    )


def add_rungs(group: Group) -> None:
    """How candidates are halved."""
    take(
        group,
        "--rungs",
        parse_rungs,
        "E,...",
        "train every candidate to the first rung, the best of each rung on to the next: epochs such as 1,3,9",
    )
    take(
        group,
        "--fidelity",
        one_of("fidelity", get_args(Fidelity)),
        "NAME",
        "what the rungs are of: epochs (default), resolution (in pixels) or data (shares of the images)",
    )
    take(
        group,
        "--reduction-factor",
        parse_positive_int,
        "N",
        "of N candidates on a rung one goes on (default 3)",
    )


def add_budget(group: Group) -> None:
    """How much is done, and what is known beforehand."""
    take(group, "--trials", parse_positive_int, "N", "trials in all, earlier runs included (default 100)")
    take(group, "--max-hours", parse_hours, "H", "most wall time of this run, such as 1.5 or 90min")
    take(group, "--patience", parse_positive_int, "N", "stop after N trials without a better reward")
    group.add_argument(
        "--enqueue",
        action="append",
        default=[],
        metavar="ARCH.json",
        help="try this network next; may be repeated",
    )

    take(group, "--finalists", parse_natural, "N", "train the N best again in the last 2N trials (default 0)")
    group.add_argument(
        "--warm-start", metavar="STUDY", help="learn from an earlier study of the same space and data first"
    )


def add_machines(group: Group) -> None:
    """Where trainings run."""
    take(group, "--workers", parse_positive_int, "N", "trainings at the same time")
    take(group, "--gpus-per-worker", parse_number, "G", "share of a GPU each holds, such as 0.25")
    take(group, "--executor", one_of("executor", EXECUTORS), "NAME", "ray (default) or inline, without Ray")
    group.add_argument("--address", metavar="ADDRESS", help="join a running Ray cluster: auto, or host:port")
    take(
        group,
        "--trial-timeout",
        parse_number,
        "MIN",
        "give a trial up after so many minutes",
        dest="trial_timeout_minutes",
    )


def add_recipe(group: Group) -> None:
    """How each candidate is trained: the fields of `nas.training.recipe.Recipe`."""
    take(group, "--epochs", parse_number, "E", "passes over the training images (default 5)")
    take(group, "--batch-size", parse_positive_int, "N", "images a step (default: 128, fewer for few images)")
    take(group, "--optimizer", one_of("optimizer", get_args(Optimizer)), "NAME", "sgd (default) or rmsprop")
    take(group, "--learning-rate", parse_number, "LR", "at its peak (default 0.1)")
    take(group, "--momentum", parse_number, "M", "of the optimizer (default 0.9)")
    take(group, "--weight-decay", parse_number, "W", "default 5e-4")
    take(group, "--warmup-epochs", parse_number, "E", "epochs of rising rate (default 1)")
    take(group, "--label-smoothing", parse_number, "S", "default 0.1")
    take(
        group,
        "--batch-norm-statistics",
        one_of("batch_norm_statistics", get_args(Statistics)),
        "NAME",
        "running, recomputed over training images, or auto (default): recomputed after few steps",
    )
    take(
        group,
        "--augmentation",
        one_of("augmentation", get_args(Augmentation)),
        "NAME",
        "auto (default), none, crop, crop_flip",
    )
    take(
        group,
        "--precision",
        one_of("precision", get_args(Precision)),
        "NAME",
        "auto (default), float32 or bfloat16",
    )


def add_comparison(group: Group) -> None:
    """What the winner is compared with."""
    take(group, "--compare-random", parse_natural, "K", "random candidates to compare with (default 3)")
    take(group, "--compare-seeds", parse_natural, "N", "trainings of each; 0 compares nothing (default 2)")
