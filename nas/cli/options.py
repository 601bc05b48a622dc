"""The options of every command of `nas`, and its short form."""

from __future__ import annotations

from nas.cli.option_groups import (
    CONTROLLERS,
    EXECUTORS,
    Parser,
    add_budget,
    add_comparison,
    add_data,
    add_device,
    add_json,
    add_latency,
    add_latency_resource,
    add_machines,
    add_objective,
    add_recipe,
    add_rungs,
    add_space,
    take,
)
from nas.config.settings import read_metrics
from nas.units import (
    one_of,
    parse_bases,
    parse_bytes,
    parse_count,
    parse_natural,
    parse_number,
    parse_phis,
    parse_positive_int,
)

EXPORT_FORMATS = ("bundle", "timm")
RULES = ("efficientnet", "efficientnet_v2", "lite", "mnasnet")

USAGE = {
    "search": "nas search --data PATH --space NAME --out DIR [options]",
    "resume": "nas resume DIR [options]",
    "show": "nas show DIR [--top N] [--pareto COST,COST] [--json]",
    "export": "nas export DIR [--trial N] [--format NAME] [--to DIR] [--json]",
    "profile": "nas profile --space NAME [options]",
    "proxy-check": "nas proxy-check --data PATH --space NAME --out DIR [options]",
    "describe": "nas describe ARCH [--layers] [--draw FILE] [options]",
    "scale": "nas scale ARCH --phi 1..7 [options]",
    "measure": "nas measure ARCH [ARCH ...] [--device NAME] [options]",
    "latency-table": "nas latency-table --space NAME --out FILE [--device NAME] [options]",
    "doctor": "nas doctor [--out DIR] [--no-ray] [--json]",
    "quickstart": "nas quickstart [--data PATH] [--out DIR] [options]",
}
"""The short form of each command: argparse's own would list every option twice."""


def fill_search(parser: Parser) -> None:
    """Options of `nas search`."""
    study = parser.add_argument_group("study")
    study.add_argument(
        "--out", required=True, metavar="DIR", help="the study's folder; one that is there is continued"
    )
    take(study, "--seed", parse_natural, "N", "seed of everything random (default 0)")
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
    add_data(parser.add_argument_group("images"))
    add_space(parser.add_argument_group("search space"))
    add_objective(parser.add_argument_group("objective: accuracy, and what it may cost"))
    search = parser.add_argument_group("search")
    take(
        search,
        "--controller",
        one_of("controller", CONTROLLERS),
        "NAME",
        f"{', '.join(CONTROLLERS)} (default {CONTROLLERS[0]})",
    )
    take(
        search,
        "--accuracy-noise",
        parse_number,
        "S",
        "standard deviation of one measured accuracy, a fraction, as nas proxy-check finds it",
    )
    search.add_argument(
        "--proxy-check", metavar="DIR", help="take it from a nas proxy-check of this recipe and these images"
    )
    add_budget(search)
    add_machines(parser.add_argument_group("machines"))
    add_latency(parser.add_argument_group("latency, where the objective looks at it"))
    training = parser.add_argument_group("training of each candidate")
    add_recipe(training)
    training.add_argument(
        "--compile",
        dest="is_compiled",
        action="store_const",
        const=True,
        help="compile each candidate's training first: takes minutes, for long trainings only",
    )
    add_rungs(training)
    add_comparison(parser.add_argument_group("final comparison on the test split"))
    add_json(parser)


def fill_resume(parser: Parser) -> None:
    """Options of `nas resume`."""
    parser.add_argument("out", metavar="DIR", help="the study's folder")
    moved = parser.add_argument_group(
        "where things are now, if they were moved; their content must be the same"
    )
    moved.add_argument("--data", metavar="PATH", help="the images")
    moved.add_argument("--data-root", metavar="DIR", help="torchvision's files")
    moved.add_argument(
        "--space", metavar="FILE.py:NAME", help="the search space, where it is one of your own"
    )
    moved.add_argument("--latency-table", metavar="FILE", help="the latency table")
    moved.add_argument("--proxy-check", metavar="DIR", help="the proxy check")
    add_budget(parser.add_argument_group("search"))
    machines = parser.add_argument_group("machines")
    add_machines(machines)
    add_latency_resource(machines)
    add_comparison(parser.add_argument_group("final comparison on the test split"))
    add_json(parser)


def fill_show(parser: Parser) -> None:
    """Options of `nas show`."""
    parser.add_argument("folder", metavar="DIR", help="the study's folder")
    take(parser, "--top", parse_positive_int, "N", "best trials shown (default 10)", default=10)
    take(
        parser,
        "--pareto",
        read_metrics,
        "COST,...",
        "costs of the Pareto front, such as latency,params (default: those of the objective, or macs)",
        default=(),
    )
    add_json(parser)


def fill_export(parser: Parser) -> None:
    """Options of `nas export`."""
    parser.add_argument("folder", metavar="DIR", help=f"the study's folder; for timm also {ARCHITECTURE}")
    take(parser, "--trial", parse_natural, "N", "which trial of a study (default: the best)")
    take(
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
    add_space(parser.add_argument_group("search space"))
    images = parser.add_argument_group("images")
    take(images, "--num-classes", parse_positive_int, "N", "classes (default: the space's, 1000)")
    take(images, "--in-channels", parse_positive_int, "N", "1 grey, 3 colour (default 3)")
    add_data(images, is_profile=True)
    add_objective(parser.add_argument_group("objective: accuracy, and what it may cost"))
    plan = parser.add_argument_group("plan")
    take(plan, "--trials", parse_positive_int, "N", "trials of the search (default 100)")
    take(plan, "--seconds-per-trial", parse_number, "S", "given, not measured")
    take(plan, "--workers", parse_positive_int, "N", "trainings at the same time (default 1)")
    take(plan, "--gpus-per-worker", parse_number, "G", "share of a GPU each holds (default 0)")
    sample = parser.add_argument_group("sample")
    take(sample, "--samples", parse_positive_int, "N", "random candidates (default 100000)", default=100_000)
    take(sample, "--seed", parse_natural, "N", "seed of the sample (default 0)", default=0)
    add_recipe(parser.add_argument_group("training of each candidate, where --data is given to measure it"))
    add_json(parser)


def fill_proxy_check(parser: Parser) -> None:
    """Options of `nas proxy-check`."""
    check = parser.add_argument_group("check")
    check.add_argument(
        "--out", required=True, metavar="DIR", help="where it is written; one that is there is continued"
    )
    take(check, "--candidates", parse_positive_int, "N", "random candidates, 10 to 30 (default 16)")
    take(check, "--seeds", parse_positive_int, "N", "trainings of each in each way (default 2)")
    check.add_argument(
        "--proxies",
        metavar="LIST",
        help="what to try beside the recipe, such as epochs=1/3,resolution=0.5,width=1/2+data=1/3 "
        "(default epochs=1/3,resolution=1/2,width=1/2,data=1/3)",
    )
    take(
        check,
        "--longer",
        lambda text: parse_number(text.removesuffix("x")),
        "X",
        "judge by so many times the recipe's epochs (default 3x)",
    )
    take(check, "--long-epochs", parse_number, "E", "the same, in epochs")
    take(check, "--seed", parse_natural, "N", "seed of everything random (default 0)")
    add_data(parser.add_argument_group("images"))
    space = parser.add_argument_group("search space")
    add_space(space)
    take(space, "--max-macs", parse_count, "N", "draw no candidates above it")
    take(space, "--max-params", parse_count, "N", "draw no candidates above it")
    add_machines(parser.add_argument_group("machines"))
    add_recipe(parser.add_argument_group("the recipe: the proxy that is checked"))
    add_json(parser)


ARCHITECTURE = (
    "a published name (efficientnet_b0), a file architecture.json, or the folder of a bundle or study"
)


def fill_describe(parser: Parser) -> None:
    """Options of `nas describe`."""
    parser.add_argument("architecture", metavar="ARCH", help=ARCHITECTURE)
    parser.add_argument("--layers", action="store_true", help="list every layer too")
    parser.add_argument("--draw", metavar="FILE", help="draw it, as .svg or .png")
    take(parser, "--resolution", parse_positive_int, "PX", "image side (default: the network's own)")
    take(parser, "--num-classes", parse_positive_int, "N", "classes (default: the network's own)")
    take(parser, "--in-channels", parse_positive_int, "N", "1 grey, 3 colour (default: the network's own)")
    take(
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
    take(way, "--phi", parse_phis, "P", "compound scaling: 3, or 1..7, or 0.5,1,2", default=())
    take(way, "--depth", parse_number, "F", "factor of the layers")
    take(way, "--width", parse_number, "F", "factor of the channels")
    take(way, "--resolution", parse_number, "F", "factor of the image's side")
    take(way, "--max-macs", parse_count, "N", "the largest phi with at most so many multiply-adds")
    take(way, "--max-params", parse_count, "N", "the largest phi with at most so many parameters")
    take(
        way,
        "--max-memory",
        parse_bytes,
        "M",
        "the largest phi with at most this inference memory, such as 64MiB",
        dest="max_memory_bytes",
    )
    rule = parser.add_argument_group("the rule")
    take(
        rule,
        "--bases",
        parse_bases,
        "D,W,R",
        "depth, width and resolution for each phi (default 1.2,1.1,1.15)",
        default=(1.2, 1.1, 1.15),
    )
    take(
        rule,
        "--multiple",
        parse_positive_int,
        "PX",
        "round the image's side to a multiple of this (default 1; 32 wastes least)",
        default=1,
    )
    take(
        rule,
        "--rule",
        one_of("rule", RULES),
        "NAME",
        f"how channels and layers are rounded: {', '.join(RULES)} (default efficientnet)",
        default="efficientnet",
    )
    parser.add_argument("--out", metavar="DIR", help="where to write (default runs/ARCH-scaled)")
    add_json(parser)


def fill_measure(parser: Parser) -> None:
    """Options of `nas measure`."""
    parser.add_argument(
        "architectures", nargs="+", metavar="ARCH", help=f"{ARCHITECTURE}; several are measured in turns"
    )
    add_device(parser.add_argument_group("device"))
    session = parser.add_argument_group("session")
    take(session, "--runs", parse_positive_int, "N", "samples of each, in turns (default 30)", default=30)
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
    add_space(space)
    take(space, "--num-classes", parse_positive_int, "N", "classes (default: the space's, 1000)")
    take(space, "--in-channels", parse_positive_int, "N", "1 grey, 3 colour (default 3)")
    parser.add_argument("--out", metavar="FILE", help="the table that is written, as JSON")
    add_device(parser.add_argument_group("device"))
    session = parser.add_argument_group("session")
    take(
        session,
        "--check",
        parse_natural,
        "N",
        "random networks measured whole, to correct predictions and state their error (default 24)",
        default=24,
    )
    take(session, "--rounds", parse_positive_int, "N", "samples of each, in turns (default 20)", default=20)
    take(
        session,
        "--most-blocks",
        parse_positive_int,
        "N",
        "blocks measured at most; the rest is estimated from them (default 400)",
        default=400,
    )
    take(session, "--seed", parse_natural, "N", "seed of everything random (default 0)", default=0)
    session.add_argument(
        "--force", action="store_true", help="measure on a busy machine too; the table says so"
    )
    other = parser.add_argument_group("instead of measuring here")
    other.add_argument(
        "--write-blocks",
        metavar="DIR",
        help="write every block and network to be measured as ONNX, with tables to fill in",
    )
    other.add_argument("--from-csv", metavar="DIR", help="make the table of such a folder, filled in")
    other.add_argument("--device-name", metavar="NAME", help="what --from-csv was measured on")
    other.add_argument("--show", metavar="FILE", help="say what a table holds")
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
    parser.add_argument(
        "--data", metavar="PATH", help="your own images: a folder, .npz pack, or name of a data set"
    )
    take(parser, "--trials", parse_positive_int, "N", "trials (default 24, 12 on your own images)")
    take(parser, "--workers", parse_positive_int, "N", "trainings at the same time (default 2)")
    take(parser, "--seed", parse_natural, "N", "seed of everything random (default 0)")
    take(parser, "--executor", one_of("executor", EXECUTORS), "NAME", "ray (default) or inline")
    add_json(parser)
