"""Owns the options of every command of `nas`, in groups that commands share.

Does not own reading a command line (`nas.commands.cli`) nor what an option does (`nas.commands`). An
option that was not given is None, so that a resume can tell what a person wants changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, get_args

from nas.commands.arguments import (
    one_of,
    parse_bases,
    parse_bytes,
    parse_count,
    parse_hours,
    parse_milliseconds,
    parse_natural,
    parse_number,
    parse_phis,
    parse_positive_int,
)
from nas.commands.settings import OBJECTIVES
from nas.errors import UsageError
from nas.training.recipe import Augmentation, Optimizer, Precision

Parser = argparse.ArgumentParser
Group = argparse._ArgumentGroup

CONTROLLERS = ("dyna", "reinforce", "ppo", "evolution", "local", "nsga2", "random")
EXECUTORS = ("ray", "inline")
EXPORT_FORMATS = ("bundle", "timm")
RULES = ("efficientnet", "efficientnet_v2", "lite", "mnasnet")


USAGE = {
    "search": "nas search --data PATH --space NAME --out DIR [options]",
    "resume": "nas resume DIR [options]",
    "show": "nas show DIR [--top N] [--json]",
    "export": "nas export DIR [--trial N] [--format NAME] [--to DIR] [--json]",
    "profile": "nas profile --space NAME [options]",
    "describe": "nas describe ARCH [--layers] [--draw FILE] [options]",
    "scale": "nas scale ARCH --phi 1..7 [options]",
    "doctor": "nas doctor [--out DIR] [--no-ray] [--json]",
    "quickstart": "nas quickstart [--out DIR] [options]",
}
"""The short form of each command: argparse's own would list every option twice."""


def _take(
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


def fill_search(parser: Parser) -> None:
    """Options of `nas search`."""
    study = parser.add_argument_group("study")
    study.add_argument(
        "--out", required=True, metavar="DIR", help="the study's folder; one that is there is continued"
    )
    _take(study, "--seed", parse_natural, "N", "seed of everything random (default 0)")
    study.add_argument(
        "--deterministic",
        dest="is_deterministic",
        action="store_const",
        const=True,
        help="fix the schedule: equal searches give equal journals but for times",
    )
    study.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything and print the plan; train nothing, write nothing",
    )
    _add_data(parser.add_argument_group("images"))
    _add_space(parser.add_argument_group("search space"))
    _add_objective(parser.add_argument_group("objective: accuracy, and what it may cost"))
    search = parser.add_argument_group("search")
    _take(
        search,
        "--controller",
        one_of("controller", CONTROLLERS),
        "NAME",
        f"{', '.join(CONTROLLERS)} (default {CONTROLLERS[0]})",
    )
    _add_budget(search)
    _add_machines(parser.add_argument_group("machines"))
    _add_recipe(parser.add_argument_group("training of each candidate"))
    _add_comparison(parser.add_argument_group("final comparison on the test split"))
    add_json(parser)


def fill_resume(parser: Parser) -> None:
    """Options of `nas resume`."""
    parser.add_argument("out", metavar="DIR", help="the study's folder")
    parser.add_argument("--data-root", metavar="DIR", help="where torchvision's files are now")
    _add_budget(parser.add_argument_group("search"))
    _add_machines(parser.add_argument_group("machines"))
    _add_comparison(parser.add_argument_group("final comparison on the test split"))
    add_json(parser)


def fill_show(parser: Parser) -> None:
    """Options of `nas show`."""
    parser.add_argument("folder", metavar="DIR", help="the study's folder")
    _take(parser, "--top", parse_positive_int, "N", "best trials shown (default 10)", default=10)
    add_json(parser)


def fill_export(parser: Parser) -> None:
    """Options of `nas export`."""
    parser.add_argument("folder", metavar="DIR", help=f"the study's folder; for timm also {ARCHITECTURE}")
    _take(parser, "--trial", parse_natural, "N", "which trial of a study (default: the best)")
    _take(
        parser,
        "--format",
        one_of("format", EXPORT_FORMATS),
        "NAME",
        "bundle (default): trained network that needs only PyTorch; timm: the arguments and a module with "
        "which timm builds it",
        default=EXPORT_FORMATS[0],
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        help="where to write (default: DIR/export/trial-N, with -timm behind it for timm, or runs/ARCH-timm)",
    )
    add_json(parser)


def fill_profile(parser: Parser) -> None:
    """Options of `nas profile`."""
    _add_space(parser.add_argument_group("search space"))
    images = parser.add_argument_group("images")
    _take(images, "--num-classes", parse_positive_int, "N", "classes (default: the space's, 1000)")
    _take(images, "--in-channels", parse_positive_int, "N", "1 grey, 3 colour (default 3)")
    _add_data(images, is_profile=True)
    _add_objective(parser.add_argument_group("objective: accuracy, and what it may cost"))
    plan = parser.add_argument_group("plan")
    _take(plan, "--trials", parse_positive_int, "N", "trials of the search (default 100)")
    _take(plan, "--seconds-per-trial", parse_number, "S", "given, not measured")
    _take(plan, "--workers", parse_positive_int, "N", "trainings at the same time (default 1)")
    _take(plan, "--gpus-per-worker", parse_number, "G", "share of a GPU each holds (default 0)")
    sample = parser.add_argument_group("sample")
    _take(sample, "--samples", parse_positive_int, "N", "random candidates (default 100000)", default=100_000)
    _take(sample, "--seed", parse_natural, "N", "seed of the sample (default 0)", default=0)
    _add_recipe(parser.add_argument_group("training of each candidate, where --data is given to measure it"))
    add_json(parser)


ARCHITECTURE = (
    "a published name (efficientnet_b0), a file architecture.json, or the folder of a bundle or study"
)


def fill_describe(parser: Parser) -> None:
    """Options of `nas describe`."""
    parser.add_argument("architecture", metavar="ARCH", help=ARCHITECTURE)
    parser.add_argument("--layers", action="store_true", help="list every layer too")
    parser.add_argument("--draw", metavar="FILE", help="draw it, as .svg or .png")
    _take(parser, "--resolution", parse_positive_int, "PX", "image side (default: the network's own)")
    _take(parser, "--num-classes", parse_positive_int, "N", "classes (default: the network's own)")
    _take(parser, "--in-channels", parse_positive_int, "N", "1 grey, 3 colour (default: the network's own)")
    _take(
        parser,
        "--batch-size",
        parse_positive_int,
        "N",
        "batch of the training memory (default 32)",
        default=32,
    )
    add_json(parser)


def fill_scale(parser: Parser) -> None:
    """Options of `nas scale`."""
    parser.add_argument("architecture", metavar="ARCH", help=ARCHITECTURE)
    way = parser.add_argument_group("how far, in one of these ways")
    _take(way, "--phi", parse_phis, "P", "compound scaling: 3, or 1..7, or 0.5,1,2", default=())
    _take(way, "--depth", parse_number, "F", "factor of the layers")
    _take(way, "--width", parse_number, "F", "factor of the channels")
    _take(way, "--resolution", parse_number, "F", "factor of the image's side")
    _take(way, "--max-macs", parse_count, "N", "the largest phi with at most so many multiply-adds")
    _take(way, "--max-params", parse_count, "N", "the largest phi with at most so many parameters")
    _take(
        way,
        "--max-memory",
        parse_bytes,
        "M",
        "the largest phi with at most this inference memory, such as 64MiB",
        dest="max_memory_bytes",
    )
    rule = parser.add_argument_group("the rule")
    _take(
        rule,
        "--bases",
        parse_bases,
        "D,W,R",
        "depth, width and resolution for each phi (default 1.2,1.1,1.15)",
        default=(1.2, 1.1, 1.15),
    )
    _take(
        rule,
        "--multiple",
        parse_positive_int,
        "PX",
        "round the image's side to a multiple of this (default 1; 32 wastes least)",
        default=1,
    )
    _take(
        rule,
        "--rule",
        one_of("rule", RULES),
        "NAME",
        f"how channels and layers are rounded: {', '.join(RULES)} (default efficientnet)",
        default="efficientnet",
    )
    parser.add_argument("--out", metavar="DIR", help="where to write (default runs/ARCH-scaled)")
    add_json(parser)


def fill_doctor(parser: Parser) -> None:
    """Options of `nas doctor`."""
    parser.add_argument(
        "--out", default=".", metavar="DIR", help="folder whose disk is checked (default: this one)"
    )
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out: starting it takes some seconds")
    add_json(parser)


def fill_quickstart(parser: Parser) -> None:
    """Options of `nas quickstart`."""
    parser.add_argument(
        "--out", default="runs/quickstart", metavar="DIR", help="the study's folder (default %(default)s)"
    )
    _take(parser, "--trials", parse_positive_int, "N", "trials (default 24)")
    _take(parser, "--workers", parse_positive_int, "N", "trainings at the same time (default 2)")
    _take(parser, "--seed", parse_natural, "N", "seed of everything random (default 0)")
    _take(parser, "--executor", one_of("executor", EXECUTORS), "NAME", "ray (default) or inline")
    add_json(parser)


def add_json(parser: Parser) -> None:
    """The option that every command that prints a table has."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_data(group: Group, *, is_profile: bool = False) -> None:
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
    _take(
        group,
        "--search-fraction",
        parse_number,
        "F",
        "share of the training images that candidates are judged on (default 0.2)",
    )


def _add_space(group: Group) -> None:
    group.add_argument(
        "--space",
        metavar="NAME",
        help="mnasnet, efficientnet, efficientnet_v2, mobilenet_v3, resnet, nas_bench_macro, small; a "
        "variant such as mnasnet_a1, efficientnet_v2_b0, resnet18 or mnasnet_flat; or file.py:name of your "
        "own",
    )
    _take(group, "--resolution", parse_positive_int, "PX", "image side (default: that of the images)")
    _take(group, "--width", parse_number, "W", "multiplies the channels (default 1)")


def _add_objective(group: Group) -> None:
    _take(group, "--target-macs", parse_count, "N", "multiply-adds aimed at, such as 30M")
    _take(group, "--target-params", parse_count, "N", "parameters aimed at, such as 2M")
    _take(
        group,
        "--target-latency",
        parse_milliseconds,
        "T",
        "latency aimed at, such as 5ms",
        dest="target_latency_ms",
    )
    _take(
        group,
        "--objective",
        one_of("objective", OBJECTIVES),
        "KIND",
        "how a target counts: hard (default), soft or absolute",
    )
    _take(group, "--max-macs", parse_count, "N", "reject candidates above it before training")
    _take(group, "--max-params", parse_count, "N", "reject candidates above it before training")
    _take(
        group, "--max-memory", parse_bytes, "M", "most training memory, such as 2GiB", dest="max_memory_bytes"
    )
    _take(group, "--max-latency", parse_milliseconds, "T", "most latency", dest="max_latency_ms")


def _add_budget(group: Group) -> None:
    _take(group, "--trials", parse_positive_int, "N", "trials in all, earlier runs included (default 100)")
    _take(group, "--max-hours", parse_hours, "H", "most wall time of this run, such as 1.5 or 90min")
    _take(group, "--patience", parse_positive_int, "N", "stop after N trials without a better reward")
    group.add_argument(
        "--enqueue",
        action="append",
        default=[],
        metavar="ARCH.json",
        help="try this network next; may be repeated",
    )

    _take(
        group, "--finalists", parse_natural, "N", "train the N best again in the last 2N trials (default 0)"
    )
    group.add_argument(
        "--warm-start", metavar="STUDY", help="learn from an earlier study of the same space and data first"
    )


def _add_machines(group: Group) -> None:
    _take(group, "--workers", parse_positive_int, "N", "trainings at the same time")
    _take(group, "--gpus-per-worker", parse_number, "G", "share of a GPU each holds, such as 0.25")
    _take(group, "--executor", one_of("executor", EXECUTORS), "NAME", "ray (default) or inline, without Ray")
    group.add_argument("--address", metavar="ADDRESS", help="join a running Ray cluster: auto, or host:port")
    _take(
        group,
        "--trial-timeout",
        parse_number,
        "MIN",
        "give a trial up after so many minutes",
        dest="trial_timeout_minutes",
    )


def _add_recipe(group: Group) -> None:
    _take(group, "--epochs", parse_number, "E", "passes over the training images (default 5)")
    _take(group, "--batch-size", parse_positive_int, "N", "images a step (default 128)")
    _take(group, "--optimizer", one_of("optimizer", get_args(Optimizer)), "NAME", "sgd (default) or rmsprop")
    _take(group, "--learning-rate", parse_number, "LR", "at its peak (default 0.1)")
    _take(group, "--momentum", parse_number, "M", "of the optimizer (default 0.9)")
    _take(group, "--weight-decay", parse_number, "W", "default 5e-4")
    _take(group, "--warmup-epochs", parse_number, "E", "epochs of rising rate (default 1)")
    _take(group, "--label-smoothing", parse_number, "S", "default 0.1")
    _take(
        group,
        "--augmentation",
        one_of("augmentation", get_args(Augmentation)),
        "NAME",
        "auto (default), none, crop, crop_flip",
    )
    _take(
        group,
        "--precision",
        one_of("precision", get_args(Precision)),
        "NAME",
        "auto (default), float32 or bfloat16",
    )


def _add_comparison(group: Group) -> None:
    _take(group, "--compare-random", parse_natural, "K", "random candidates to compare with (default 3)")
    _take(group, "--compare-seeds", parse_natural, "N", "trainings of each; 0 compares nothing (default 2)")
