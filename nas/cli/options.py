"""The options of the commands of `nas`, command by command; of those about networks alone in another file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from nas.cli.adding import (
    Group,
    Parser,
    add_declared,
    add_download,
    add_json,
    add_settings,
    add_shape,
    take,
    taken_by,
)
from nas.cli.network_options import ARCHITECTURE
from nas.config.quickstart import OWN_TRIALS, TRIALS, WORKERS
from nas.config.readers import read_metrics
from nas.config.settings import Settings
from nas.data.labelled import WholeOrSplit
from nas.evaluation.space_profile import SAMPLES
from nas.full_training.options import TrainOptions
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import RECIPES
from nas.options import DeclaredOption, options_of
from nas.published_weights import PACKAGES
from nas.scoring.class_map import METHODS, OF_CAPTUM
from nas.tasks import TASKS, THRESHOLD
from nas.units import (
    one_of,
    parse_fraction,
    parse_natural,
    parse_number,
    parse_positive_int,
)
from nas.weight_sharing.paths import SAMPLINGS
from nas.weight_sharing.recipe import NOT_OF_SUPERNETS, NOT_OPTIONS, SUPERNET
from search_spaces.sharing import Kernels

EXPORT_FORMATS = ("bundle", "timm")
LONGER = 3.0
"""Times the recipe's epochs that a proxy check judges by."""

USAGE = {
    "search": "nas search --data PATH --space NAME --out DIR [options]",
    "resume": "nas resume DIR [options]",
    "show": "nas show DIR [--top N] [--pareto COST,COST] [--json]",
    "report": "nas report STUDY [STUDY|FOLDER|FILE ...] [--out FILE.html] [--json]",
    "verify": "nas verify DIR [--repair] [--json]",
    "export": "nas export DIR [--trial N] [--format NAME] [--to DIR] [--json]",
    "supernet": "nas supernet --space NAME --data PATH --out DIR [options]",
    "train": "nas train WHAT --data PATH --recipe NAME --out DIR [options]",
    "evaluate": "nas evaluate BUNDLE --data PATH [options]",
    "predict": "nas predict BUNDLE IMAGE|DIR [IMAGE|DIR ...] [options]",
    "cam": "nas cam WHAT [WHAT ...] IMAGE [IMAGE ...] --out FILE [options]",
    "profile": "nas profile --space NAME [options]",
    "proxy-check": "nas proxy-check --data PATH --space NAME --out DIR [options]",
    "describe": "nas describe ARCH [--layers] [--draw FILE] [--check] [options]",
    "scale": "nas scale ARCH --phi 1..7 [options]",
    "measure": "nas measure ARCH [ARCH ...] [--device NAME] [options]",
    "latency-table": "nas latency-table --space NAME --out FILE [--device NAME] [options]",
    "doctor": "nas doctor [--out DIR] [--no-ray] [--json]",
    "quickstart": "nas quickstart [--data PATH] [--out DIR] [options]",
}
"""The short form of each command: argparse's own would list every option twice."""

QUICKSTART: dict[str, dict[str, Any]] = {
    "data": {"help": "your own images: a folder, .npz pack, or name of a data set"},
    "trials": {"help": "trials", "default_text": f"{TRIALS}, {OWN_TRIALS} on your own images"},
    "workers": {"default_text": str(WORKERS)},
    "seed": {},
    "executor": {},
}
"""Settings that `nas quickstart` takes, with what it says otherwise of them."""


def fill_search(parser: Parser) -> None:
    """Options of `nas search`."""
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="the study's folder; one that is there is continued"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything and print the plan; train nothing, write nothing",
    )
    add_settings(parser, options_of(Settings).values())
    add_json(parser)


def fill_resume(parser: Parser) -> None:
    """Options of `nas resume`."""
    parser.add_argument("out", metavar="DIR", help="the study's folder")
    known = options_of(Settings).values()
    moved = parser.add_argument_group("new places of things that were moved; their content must be the same")
    for one in known:
        if one.option.resume == "moved":
            add_declared(moved, one)
    add_settings(parser, (one for one in known if one.option.resume == "changeable"), with_recipe=False)
    parser.set_defaults(download=False)
    add_json(parser)


def fill_show(parser: Parser) -> None:
    """Options of `nas show`."""
    parser.add_argument("folder", metavar="DIR", help="the study's folder")
    take(parser, "--top", parse_positive_int, "N", "number of best trials to show (default: 10)")
    take(
        parser,
        "--pareto",
        read_metrics,
        "COST,...",
        "costs of the Pareto front, such as latency,params (default: those of the objective, or macs)",
        default=(),
    )
    add_json(parser)
    parser.add_argument("--csv", action="store_true", help="print every trial as one line of CSV")


def fill_report(parser: Parser) -> None:
    """Options of `nas report`."""
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="STUDY|FOLDER|FILE",
        help="the study's folder, several are compared; beside it folders of nas train and nas scale, files "
        "of nas evaluate --json, nas measure, nas latency-table and nas cam, or a folder with some",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="the HTML file (default: report.html in the first folder)"
    )
    add_json(parser)


def fill_verify(parser: Parser) -> None:
    """Options of `nas verify`."""
    parser.add_argument("folder", metavar="DIR", help="the study's folder")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="repair what can be repaired, and say what was done; a copy of the file is kept beside it",
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
        "bundle: the trained network, needs only PyTorch; timm: the arguments and a module with which timm "
        "builds the network",
        default=EXPORT_FORMATS[0],
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        help="where to write (default: DIR/export/trial-N, for timm with -timm, or runs/ARCH-timm)",
    )
    add_json(parser)


WEIGHTS_HELP = (
    "a bundle, training or study; a file of a state dict or checkpoint; timm:NAME, from the disk or with "
    f"--download; or {', '.join(PACKAGES)}, from an installed package"
)

BUNDLE = "a bundle, or the folder of a training or study that has one"


def fill_train(parser: Parser) -> None:
    """Options of `nas train`."""
    parser.add_argument("what", metavar="WHAT", help=f"the network: {ARCHITECTURE}, or of another training")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where to; a training that is there is continued"
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"{', '.join(RECIPES)}; or a file, recipe.toml (default: finetune with --weights or "
        "--inherit, else small up to 64 pixels, modern above)",
    )
    parser.add_argument("--weights", metavar="WEIGHTS", help=f"start from these: {WEIGHTS_HELP}")
    parser.add_argument(
        "--inherit",
        action="store_true",
        help="start from the slices of the supernet that the study was searched in",
    )
    take(parser, "--top", parse_positive_int, "N", "train the N best networks of a study", default=1)
    every = "; or ".join(f"{', '.join(task.metrics)} ({name})" for name, task in TASKS.items())
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="what the best epoch, weights and network are chosen by on the search split, by default that of "
        f"the study's objective, or the first of the task: {every}",
    )
    take(parser, "--seed", parse_natural, "N", "seed of everything random in the training", default=0)
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and print the plan; write nothing"
    )
    images = parser.add_argument_group("images")
    known = options_of(Settings)
    for name in ("data", "data_root", "search_fraction", "fit"):
        add_declared(images, replace(known[name], default=None))
    images.add_argument(
        "--task", metavar="NAME", help=f"{', '.join(TASKS)} (default: what the labels, or the study, say)"
    )
    take(images, "--resolution", parse_positive_int, "PX", "image side (default: the network's own)")
    take(images, "--split-seed", parse_natural, "N", "seed of splits that the images do not give")
    add_download(images)
    add_settings(parser, options_of(TrainOptions).values(), with_recipe=False)
    add_settings(parser, map(without_default, options_of(FullRecipe).values()), with_recipe=False)
    add_json(parser)


def without_default(one: DeclaredOption) -> DeclaredOption:
    """An option of a recipe, whose default is that of the recipe that is named."""
    is_switch = one.kind is bool
    return one if is_switch else replace(one, default=None, option=replace(one.option, default_text=""))


def fill_supernet(parser: Parser) -> None:
    """Options of `nas supernet`."""
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where to; a training that is there is continued"
    )
    take(
        parser,
        "--sampling",
        one_of("sampling", SAMPLINGS),
        "NAME",
        "networks that a step trains; uniform: a random one; fair: every option equally often; sandwich: the "
        "largest, the smallest and random ones, which learn from the largest",
        dest="paths",
        default="sandwich",
    )
    take(parser, "--random-paths", parse_natural, "N", "random networks a step, of sandwich", default=2)
    take(
        parser,
        "--kernels",
        one_of("kernels", get_args(Kernels)),
        "NAME",
        "own: each kernel size has weights of its own; cropped: the centre of the largest",
        default="own",
    )
    take(
        parser,
        "--calibration-images",
        parse_positive_int,
        "N",
        "training images for the batch-norm statistics of a network (default 2,048, or all if fewer)",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"how it is trained: a file, recipe.toml, or a recipe of nas train (default: {SUPERNET.name}, "
        f"{SUPERNET.epochs:g} epochs of SGD)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and print the plan; write nothing"
    )
    add_settings(parser, taken_by("supernet"))
    options = [one for name, one in options_of(TrainOptions).items() if name not in NOT_OPTIONS]
    # A recipe's own `sampling`, of images, is for its file: here the word is that of the papers on networks.
    left_out = (*NOT_OF_SUPERNETS, "sampling")
    fields = [one for name, one in options_of(FullRecipe).items() if name not in left_out]
    add_settings(parser, options, with_recipe=False)
    add_settings(parser, map(without_default, fields), with_recipe=False)
    add_json(parser)


def fill_evaluate(parser: Parser) -> None:
    """Options of `nas evaluate`."""
    parser.add_argument("bundle", metavar="BUNDLE", help=BUNDLE)
    images = parser.add_argument_group("images")
    known = options_of(Settings)
    images.add_argument("--data", required=True, metavar="PATH", help=known["data"].help)
    add_declared(images, known["data_root"])
    add_download(images)
    take(
        images,
        "--split",
        one_of("split", get_args(WholeOrSplit)),
        "NAME",
        f"{', '.join(get_args(WholeOrSplit))}; a reading of test is written into the bundle's card",
        default="test",
    )
    where = "where the data do not give it (default: as in training)"
    take(
        images,
        "--seed",
        parse_natural,
        "N",
        "seed of splits that the data do not give (default: as in training)",
    )
    take(
        images,
        "--search-fraction",
        parse_number,
        "F",
        f"share of training images in the search split, {where}",
    )
    take(images, "--test-fraction", parse_number, "F", f"share of all images in the test split, {where}")
    _add_runtime(parser)
    output = parser.add_argument_group("output")
    take(output, "--top", parse_natural, "N", "worst mistakes to show", default=10)
    output.add_argument("--csv", metavar="FILE", help="write the prediction for every image")
    output.add_argument(
        "--png",
        metavar="FILE",
        help="draw confusion matrix and calibration, or predictions over true numbers, as .png or .svg",
    )
    add_json(parser)


def fill_predict(parser: Parser) -> None:
    """Options of `nas predict`."""
    parser.add_argument("bundle", metavar="BUNDLE", help=BUNDLE)
    parser.add_argument(
        "paths", nargs="+", metavar="IMAGE|DIR", help="image files, and folders with images at any depth"
    )
    _add_runtime(parser)
    output = parser.add_argument_group("output")
    take(
        output,
        "--top",
        parse_positive_int,
        "K",
        "likeliest classes or labels of each image (default: one class, or all labels)",
    )
    take(
        output,
        "--threshold",
        parse_fraction,
        "P",
        f"probability from which on a label counts as predicted (default: {THRESHOLD})",
    )
    output.add_argument("--csv", metavar="FILE", help="write a line for every image, as they are done")
    add_json(parser)


def fill_cam(parser: Parser) -> None:
    """Options of `nas cam`."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="WHAT|IMAGE",
        help=f"networks ({BUNDLE}; or {', '.join(PACKAGES)}, from an installed package), and image files",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the picture, as .png or .svg")
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="class, label or column to map (default: the likeliest class or label, the first column)",
    )
    take(
        parser,
        "--method",
        one_of("method", METHODS),
        "NAME",
        "auto: cam, the exact map, where pooling and one linear layer follow the last map, else grad-cam; "
        f"{', '.join(OF_CAPTUM)}: of captum, which must be installed",
        default=METHODS[0],
    )
    _add_torch_device(parser)
    add_json(parser)


def _add_torch_device(group: Group | Parser) -> None:
    group.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu or cuda (default auto: a GPU if there)"
    )


def _add_runtime(parser: Parser) -> None:
    """Adds what runs a bundle's network."""
    group = parser.add_argument_group("runtime")
    group.add_argument(
        "--onnx",
        dest="runtime",
        action="store_const",
        const="onnx",
        default="torch",
        help="run model.onnx in ONNX Runtime, in place of the weights in torch",
    )
    _add_torch_device(group)
    take(group, "--batch-size", parse_positive_int, "N", "images a forward pass (default: up to 256)")


def fill_profile(parser: Parser) -> None:
    """Options of `nas profile`."""
    add_settings(parser, taken_by("profile"))
    add_shape(parser.add_argument_group("shape of the images, without --data"))
    plan = parser.add_argument_group("plan")
    known = options_of(Settings)
    for name in ("trials", "workers", "gpus_per_worker"):
        add_declared(plan, known[name])
    take(plan, "--seconds-per-trial", parse_number, "S", "time of a trial, in place of a measurement")
    sample = parser.add_argument_group("sample")
    take(sample, "--samples", parse_positive_int, "N", "random candidates", default=SAMPLES)
    add_declared(sample, known["seed"])
    add_json(parser)


def fill_proxy_check(parser: Parser) -> None:
    """Options of `nas proxy-check`."""
    check = parser.add_argument_group("check")
    check.add_argument(
        "--out", required=True, metavar="DIR", help="where it is written; one that is there is continued"
    )
    take(check, "--candidates", parse_positive_int, "N", "random candidates, 10 to 30", default=16)
    take(check, "--seeds", parse_positive_int, "N", "trainings of each candidate in each variant", default=2)
    check.add_argument(
        "--proxies",
        metavar="LIST",
        help="smaller variants of the recipe to try, such as epochs=1/3,resolution=0.5,width=1/2+data=1/3 "
        "(default epochs=1/3,resolution=1/2,width=1/2,data=1/3)",
    )
    take(
        check,
        "--longer",
        lambda text: parse_number(text.removesuffix("x")),
        "X",
        f"epochs of the longer schedule, as a multiple of the recipe's (default {LONGER:g}x)",
    )
    take(check, "--long-epochs", parse_number, "E", "epochs of the longer schedule, as a number")
    check.add_argument(
        "--supernet",
        metavar="DIR",
        help="what nas supernet wrote: judge shared weights beside short trainings",
    )
    add_settings(parser, taken_by("proxy-check"))
    add_json(parser)


def fill_doctor(parser: Parser) -> None:
    """Options of `nas doctor`."""
    parser.add_argument(
        "--out", default=".", metavar="DIR", help="folder whose disk is checked (default: this one)"
    )
    parser.add_argument("--no-ray", action="store_true", help="skip Ray: starting it takes some seconds")
    add_json(parser)


def fill_quickstart(parser: Parser) -> None:
    """Options of `nas quickstart`."""
    parser.add_argument(
        "--out", default="runs/quickstart", metavar="DIR", help="the study's folder (default %(default)s)"
    )
    known = options_of(Settings)
    for name, words in QUICKSTART.items():
        one = known[name]
        add_declared(parser, replace(one, option=replace(one.option, **words)))
    add_json(parser)
