"""The command line of `nas`: its commands, their options, and how mistakes and Ctrl-C end.

`nas --help` loads neither torch nor Ray.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

from nas.cli import network_options, options
from nas.errors import NasError, UsageError
from nas.report.streams import forget_output, json_alone, tolerate
from nas.units import hint
from nas.values import harmless
from search_spaces import SpaceError

Arguments = argparse.Namespace

EXIT_UNREAD = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "search": "search for a network on your images, or continue a search",
    "resume": "continue a search that was stopped",
    "show": "summarise a study: its best trials, Pareto front, states, failures",
    "report": "write a study as one page to look at: an HTML file that opens offline",
    "verify": "check that a study is whole, and repair it",
    "export": "write the winner, or any kept trial, as a bundle that needs only PyTorch",
    "supernet": "train weights that all networks of a space share, to search in them",
    "train": "train a network in full, or the best of a study; test and export it",
    "evaluate": "score a trained network on images whose labels are known",
    "predict": "predict the classes, labels or numbers of images with a trained network",
    "cam": "map where in images networks look, side by side in a picture",
    "profile": "describe a search space, and estimate the time of a search",
    "proxy-check": "measure whether a short training ranks candidates as a longer one does, and its noise",
    "describe": "show the stages and costs of a network, and draw it",
    "scale": "make a network larger or smaller, in depth, width and resolution together",
    "measure": "measure the latency of networks on this machine, with its spread",
    "latency-table": "measure the blocks of a space on a device, and predict the latency of its networks",
    "doctor": "check this machine: versions, devices, Ray, disk, a training, an export",
    "quickstart": "run a whole search on real images in a few minutes, on any machine",
}
"""Every command with its line of help; `nas.cli.<name>` has its `run(arguments) -> int`."""

EPILOG = """\
examples:
  nas search --data photos/ --space mnasnet --target-macs 30M --trials 200 --out runs/a
  nas search --data cifar10 --data-root ~/data --space efficientnet --target-latency 5ms --out runs/b
  nas search --out runs/a                  continue it; the same as: nas resume runs/a
  nas show runs/a                          its results
  nas report runs/a                        the same on one page, runs/a/report.html
  nas proxy-check --data photos/ --space mnasnet --out runs/c      is a short training good enough?
  nas latency-table --space mnasnet --device onnx-cpu --out t.json   for: nas search --latency-table t.json
  nas supernet --space mnasnet --data photos/ --out runs/s         then: nas search --supernet runs/s
  nas scale runs/a --phi 1..3              its winner, scaled into a family
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 2 for a mistake of the user, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    tolerate(sys.stdout, sys.stderr)
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()  # here a reader that has gone is no traceback; at the interpreter's end it is
    except (NasError, SpaceError) as error:
        _say(f"nas: {error}")
        return EXIT_MISTAKE
    except KeyboardInterrupt as stop:
        _say("; ".join(("nas: stopped", *map(str, stop.args))))
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        forget_output()
        return EXIT_UNREAD


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Has Ctrl-C end with what continues, where the folder holds something already."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not folder.exists():
            raise
        raise KeyboardInterrupt(f"what is done is in {folder}, and the same command continues it") from stop


def _run(words: list[str]) -> int:
    arguments = parse(words or ["--help"])
    module = arguments.command.replace("-", "_")
    run: Callable[[Arguments], int] = import_module(f"nas.cli.{module}").run
    is_data = arguments.json or getattr(arguments, "csv", False)
    with json_alone() if is_data else nullcontext():
        return run(arguments)


def parse(words: Sequence[str]) -> Arguments:
    """Reads a command line; `--help` prints and exits.

    Raises:
        UsageError: An unknown command or option, with near matches, or a value that does not fit.
    """
    parser, commands = make_parser()
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise UsageError(f"there is no command {words[0]!r}: {hint(words[0], COMMANDS)} (see nas --help)")
    try:
        arguments, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UsageError(f"{str(error).removeprefix('argument ')} (see nas {words[0]} --help)") from None
    if unknown:
        raise UsageError(_unknown(arguments.command, unknown[0].split("=")[0], commands))
    return arguments


def _unknown(command: str, word: str, commands: dict[str, argparse.ArgumentParser]) -> str:
    """The message about a word that a command does not know."""
    see = f"(see nas {command} --help)"
    if not word.startswith("-"):
        return f"nas {command} knows no argument {word!r} {see}"
    if command == "resume" and word in _option_names(commands["search"]):
        return (
            f"a resume continues with the study's own {word}: leave it out, or begin another study with "
            f"nas search {see}"
        )
    return f"nas {command} knows no option {word}: {hint(word, _option_names(commands[command]))} {see}"


def _option_names(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings if name.startswith("--")]


def _say(message: str) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.write(harmless(message.rstrip()) + "\n")
        sys.stderr.flush()
    except BrokenPipeError:
        forget_output()


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Makes the parser, and those of its commands by name."""
    parser = argparse.ArgumentParser(
        prog="nas",
        description="Searches for the network that fits your images and your budget.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True, title="commands")
    commands = {
        name: subparsers.add_parser(
            name,
            help=line,
            description=_sentence(line),
            usage=options.USAGE[name],
            exit_on_error=False,
            allow_abbrev=False,
        )
        for name, line in COMMANDS.items()
    }
    for name, parser_of_command in commands.items():
        module = network_options if name in network_options.COMMANDS else options
        getattr(module, f"fill_{name.replace('-', '_')}")(parser_of_command)
    return parser, commands


def _sentence(line: str) -> str:
    return line[0].upper() + line[1:] + "."


def _version() -> str:
    from nas.version import package_version

    return f"nas {package_version()}"
