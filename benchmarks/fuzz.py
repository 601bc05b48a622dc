"""Feeds damaged and lying files to every parser, and counts what is neither read nor an error of ours.

    python benchmarks/fuzz.py --inputs 1000000 --seed 0

Each parser runs in a process with a limit of its address space. An input is a valid file with one to four
changes: bytes flipped, cut out, put in or repeated, the end cut off, numbers that lie, and in JSON values of
other types and sizes. Printed are, of each parser, the inputs, those that were read, our errors, crashes (any
other exception, or more than 20 s of processor time), the growth of the resident memory, and the first
crashes, each with the seed that repeats it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fuzz_changes import mutated
from fuzz_parsers import GROUPS, Parser

from controllers import ControllerError
from nas.errors import NasError
from search_spaces import SpaceError

OURS = (NasError, SpaceError, ControllerError)
ADDRESS_SPACE = 12 * 2**30

MOST_SECONDS = 20
"""Of processor time, so that a busy machine is no crash."""

MOST_WAITING = 15 * MOST_SECONDS
"""Of wall time, for what waits for something that never comes."""


def try_one(parser: Parser, rng: random.Random) -> bool:
    """Feeds one input; says whether it was read.

    Raises:
        Exception: The parser raised what is not an error of ours.
    """
    content = mutated(rng.choice(parser.seeds), rng, is_json=parser.is_json)
    try:
        parser.read(content)
    except OURS:
        return False
    return True


@dataclass(slots=True)
class Tally:
    """What came of the inputs of one parser.

    Attributes:
        parser: The parser's name.
        inputs: Inputs.
        read: Those that were read.
        errors: Those that an error of ours refused.
        crashes: All others.
        grown_mib: Growth of the largest resident memory.
        seconds: Wall time.
        first: The first crashes, with their seeds.
    """

    parser: str
    inputs: int = 0
    read: int = 0
    errors: int = 0
    crashes: int = 0
    grown_mib: float = 0.0
    seconds: float = 0.0
    first: list[str] = field(default_factory=list)

    def feed(self, parser: Parser, key: str) -> None:
        """Feeds one input, and counts what comes of it."""
        self.inputs += 1
        try:
            with in_time():
                is_read = try_one(parser, random.Random(key))
        except Exception as error:
            self.crashes += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {str(error)[:100]} ({last.filename}:{last.lineno})"
            self.first = [*self.first, f"{key}: {what}"][:5]
        else:
            self.read, self.errors = self.read + is_read, self.errors + (not is_read)

    def line(self) -> str:
        """The figures as a row of the table."""
        return (
            f"{self.parser:<22} {self.inputs:>9,} {self.read:>9,} {self.errors:>9,} "
            f"{self.crashes:>8,} {self.grown_mib:>7} {self.seconds:>7}"
        )


@contextmanager
def in_time() -> Iterator[None]:
    """Raises an error in what takes too long."""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.alarm(MOST_WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def _too_slow(_: int, __: object) -> None:
    raise TimeoutError(f"an input took {MOST_SECONDS} s of processor time, or {MOST_WAITING} s in all")


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Bounds the address space of this process meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_group(group: Callable[[Path], dict[str, Parser]], inputs: int, seed: int) -> None:
    """Runs the parsers of a group; prints a line of JSON for each."""
    for kind in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(kind, _too_slow)
    with tempfile.TemporaryDirectory() as folder:
        for name, parser in group(Path(folder)).items():
            for number in range(5):  # what is loaded at the first use is no growth
                Tally(name).feed(parser, f"warm {number}")
            tally, before, began = Tally(name), peak_mib(), time.perf_counter()
            with bounded_memory():
                for number in range(max(1, round(inputs * parser.share))):
                    tally.feed(parser, f"{seed}:{name}:{number}")
            tally.grown_mib = round(peak_mib() - before, 1)
            tally.seconds = round(time.perf_counter() - began, 1)
            print(json.dumps(asdict(tally)), flush=True)


def run_apart(group: str, each: int, seed: int) -> Iterator[Tally]:
    """Runs a group in a process of its own; a process that dies counts as a crash."""
    command = [sys.executable, __file__, "--group", group, "--each", str(each), "--seed", str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for text in process.stdout:
            yield Tally(**json.loads(text))
    if process.returncode:
        death = f"the process of {group} ended with {process.returncode}"
        yield Tally(parser=group, crashes=1, first=[death])


def inputs_of_each(inputs: int) -> int:
    """How many inputs a parser with a share of 1 gets of all."""
    shares = 0.0
    for group in GROUPS:
        with tempfile.TemporaryDirectory() as folder:
            shares += sum(parser.share for parser in group(Path(folder)).values())
    return max(1, round(inputs / shares))


def main() -> None:
    """Runs every group in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    groups = {group.__name__: group for group in GROUPS}
    parser.add_argument("--group", choices=groups, help="only this, as lines of JSON")
    parser.add_argument("--each", type=int, help="inputs of each parser, with --group")
    arguments = parser.parse_args()
    if arguments.group:
        run_group(groups[arguments.group], arguments.each or 1_000, arguments.seed)
        return
    print(f"{'parser':<22} {'inputs':>9} {'read':>9} {'errors':>9} {'crashes':>8} {'MiB':>7} {'s':>7}")
    each, found = inputs_of_each(arguments.inputs), []
    for group in groups:
        for tally in run_apart(group, each, arguments.seed):
            found.append(tally)
            print(tally.line(), flush=True)
    crashes = sum(tally.crashes for tally in found)
    print(f"{sum(tally.inputs for tally in found):,} inputs, {crashes:,} crashes")
    print(*(each for tally in found for each in tally.first), sep="\n")
    sys.exit(bool(crashes))


if __name__ == "__main__":
    main()
