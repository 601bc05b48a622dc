"""The options of the commands about networks alone: `describe`, `scale`, `measure` and `latency-table`."""

from __future__ import annotations

from dataclasses import replace

from nas.cli.adding import (
    Group,
    Parser,
    add_declared,
    add_device,
    add_json,
    add_settings,
    add_shape,
    take,
    taken_by,
)
from nas.config.settings import Settings
from nas.evaluation.scaled_networks import ScalingPlan
from nas.full_training.options import TrainOptions
from nas.full_training.recipes import RECIPES
from nas.options import options_of
from nas.units import (
    one_of,
    parse_bases,
    parse_bytes,
    parse_count,
    parse_direction,
    parse_hours,
    parse_natural,
    parse_number,
    parse_phis,
    parse_positive_int,
)
from search_spaces.directions import DIRECTIONS
from search_spaces.scaling import BASES, RULES

COMMANDS = ("describe", "scale", "measure", "latency-table")
"""The commands whose options stand here."""

ARCHITECTURE = (
    "a published name (efficientnet_b0), a file architecture.json, or the folder of a bundle or study"
)


def fill_describe(parser: Parser) -> None:
    """Options of `nas describe`."""
    parser.add_argument("architecture", metavar="ARCH", help=ARCHITECTURE)
    parser.add_argument("--layers", action="store_true", help="list every layer too")
    parser.add_argument("--draw", metavar="FILE", help="draw it, as .svg or .png")
    parser.add_argument(
        "--check",
        action="store_true",
        help="count the built network with fvcore too; the exit status is 1 if the counts differ",
    )
    take(parser, "--resolution", parse_positive_int, "PX", "image side (default: the network's own)")
    take(parser, "--num-classes", parse_positive_int, "N", "classes (default: the network's own)")
    take(parser, "--in-channels", parse_positive_int, "N", "1 grey, 3 colour (default: the network's own)")
    take(
        parser,
        "--batch-size",
        parse_positive_int,
        "N",
        "batch of the training memory",
        default=32,
    )
    add_json(parser)


def fill_scale(parser: Parser) -> None:
    """Options of `nas scale`."""
    parser.add_argument("architecture", metavar="ARCH", help=ARCHITECTURE)
    take(
        parser, "--pixels", parse_positive_int, "PX", "image side of the network, unscaled (default: its own)"
    )
    _add_size(parser.add_argument_group("size; give one of these"))
    _add_rule(parser.add_argument_group("how the size is shared and rounded"))
    parser.add_argument("--out", metavar="DIR", help="where to write (default runs/ARCH-scaled)")
    _add_full_training(
        parser.add_argument_group("full training of the family, and of what a training budget is measured on")
    )
    _add_scaling_search(parser)
    add_json(parser)


def _add_size(factor: Group) -> None:
    """Adds what says how large the network becomes."""
    take(
        factor,
        "--phi",
        parse_phis,
        "P",
        "compound scaling: 3, or 1..7, or 0.5,1,2; with --direction the macs are 2^P times the baseline's",
        default=(),
    )
    take(factor, "--depth", parse_number, "F", "factor of the layers")
    take(factor, "--width", parse_number, "F", "factor of the channels")
    take(factor, "--resolution", parse_number, "F", "factor of the image's side")
    take(factor, "--max-macs", parse_count, "N", "the largest with at most so many multiply-adds")
    take(factor, "--max-params", parse_count, "N", "the largest with at most so many parameters")
    take(
        factor,
        "--max-memory",
        parse_bytes,
        "M",
        "the largest with at most this inference memory, such as 64MiB",
        dest="max_memory_bytes",
    )
    take(
        factor,
        "--max-train-memory",
        parse_bytes,
        "M",
        "the largest whose training step, measured here on --data, takes at most this memory, such as 8GiB",
        dest="max_train_memory_bytes",
    )
    take(
        factor,
        "--max-train-hours",
        parse_hours,
        "H",
        "the largest whose training on --data takes at most this time, by measured steps, such as 1.5h",
    )


def _add_rule(rule: Group) -> None:
    """Adds how depth, width and resolution grow for it."""
    take(
        rule,
        "--direction",
        parse_direction,
        "NAME|D,W,R",
        f"match real macs in a direction: {', '.join(DIRECTIONS)}, or shares of depth, width and resolution "
        "such as 0.2,0.5,0.3 (without it: the formula by --bases, whose macs grow by more than it says)",
    )
    take(
        rule,
        "--bases",
        parse_bases,
        "D,W,R",
        "factors of depth, width and side for each phi, in the formula of the paper's code, which rounds the "
        f"layers of every stage up (default {','.join(map(str, BASES))})",
    )
    take(
        rule,
        "--multiple",
        parse_positive_int,
        "PX",
        "round the image's side to a multiple of this; 32 wastes least",
        default=1,
    )
    take(
        rule,
        "--rule",
        one_of("rule", RULES),
        "NAME",
        f"how channels and layers are rounded: {', '.join(RULES)}",
        default=next(iter(RULES)),
    )


def _add_full_training(full: Group) -> None:
    """Adds how the network and its family are trained in full."""
    full.add_argument(
        "--train",
        action="store_true",
        help="train the network and every member in full, as nas train does; test, time and export them",
    )
    full.add_argument(
        "--references",
        metavar="NAME,...",
        help="train these networks alike, to compare with, on images as large as the network's; or NAME@PX",
    )
    take(full, "--train-seeds", parse_positive_int, "N", "full trainings of each network (default 1)")
    full.add_argument(
        "--train-recipe",
        metavar="NAME",
        help=f"{', '.join(RECIPES)}; or a file, recipe.toml (default: small where the baseline takes up to "
        "64 pixels, modern above)",
    )
    add_declared(full, replace(options_of(TrainOptions)["device"], default=None))


def _add_scaling_search(parser: Parser) -> None:
    """Adds the search for the direction of scaling, and how it trains."""
    group = parser.add_argument_group("search for the direction, by training on your images")
    group.add_argument(
        "--search",
        action="store_true",
        help="train the network scaled in many directions at equal cost, and find the best one",
    )
    for one in options_of(ScalingPlan).values():
        add_declared(group, one)
    table = options_of(Settings)["latency_table"]
    words = "hold the latency that this table predicts equal, in place of the multiply-adds"
    add_declared(group, replace(table, option=replace(table.option, help=words)))
    add_settings(parser, taken_by("scale"))


def fill_measure(parser: Parser) -> None:
    """Options of `nas measure`."""
    parser.add_argument(
        "architectures", nargs="+", metavar="ARCH", help=f"{ARCHITECTURE}; several are measured alternately"
    )
    add_device(parser.add_argument_group("device"))
    session = parser.add_argument_group("session")
    take(session, "--runs", parse_positive_int, "N", "samples of each, in turns", default=30)
    session.add_argument(
        "--force", action="store_true", help="measure on a busy machine too; the result is flagged"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="where results are added (default: latency-DEVICE.json in the folder of a bundle or study, else "
        "runs/latency/ARCH-DEVICE.json)",
    )
    add_json(parser)


def fill_latency_table(parser: Parser) -> None:
    """Options of `nas latency-table`."""
    space = parser.add_argument_group("search space")
    for name in ("space", "resolution", "width"):
        add_declared(space, options_of(Settings)[name])
    add_shape(space)
    parser.add_argument("--out", metavar="FILE", help="the table that is written, as JSON")
    add_device(parser.add_argument_group("device"))
    session = parser.add_argument_group("session")
    take(
        session,
        "--check",
        parse_natural,
        "N",
        "whole random networks to measure, which correct predictions and give their error",
        default=24,
    )
    take(session, "--rounds", parse_positive_int, "N", "samples of each, in turns", default=20)
    take(
        session,
        "--most-blocks",
        parse_positive_int,
        "N",
        "measure at most so many blocks and estimate the others from them",
        default=400,
    )
    take(session, "--seed", parse_natural, "N", "seed of everything random", default=Settings().seed)
    session.add_argument(
        "--force", action="store_true", help="measure on a busy machine too; the table is flagged"
    )
    other = parser.add_argument_group("instead of measuring here")
    other.add_argument(
        "--write-blocks",
        metavar="DIR",
        help="write every block and network to be measured as ONNX, with a table to fill in",
    )
    other.add_argument("--from-csv", metavar="DIR", help="make the table from such a folder, filled in")
    other.add_argument(
        "--device-name", metavar="NAME", help="name of the device that --from-csv was measured on"
    )
    other.add_argument("--show", metavar="FILE", help="show the contents of a table")
    add_json(parser)
