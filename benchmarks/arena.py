"""The arena: our controllers and peers on benchmarks that need no training, by true regret.

    OMP_NUM_THREADS=1 python benchmarks/arena.py --data FOLDER --out runs/arena
    OMP_NUM_THREADS=1 python benchmarks/arena.py --data FOLDER --out runs/arena --suite --part 1/2  # and 2/2
    python benchmarks/arena.py --out runs/arena --tables-only

Problems are benchmarks (Accel-NASBench by two families of surrogate, NAS-Bench-Macro, the project's
digits, a table of cells and a conditional tree made by rule) times objectives (soft, hard, absolute; the
accuracy alone with macs at most so much; or the front of accuracy and macs) times noise (none, or normal
with the deviation that one training has on that benchmark) times failures (none; a tenth infeasible and a
twentieth lost at random; lost alone; a tenth by digest; by a rule on two decisions; a tenth with a reward
near 0). A competitor sees noisy accuracies and exact macs. What is above a limit is told as such at once,
and is no evaluation; ours and BoTorch do not propose it. The score is the true reward, without noise, of
the candidate that it would return, as normalised regret in percent: 0 is the best known, 100 the median
random candidate. For a front the score is the true hypervolume, in accuracy by the logarithm of macs, of
the candidates it would return; 100 is the median of a single candidate.

`--workers` candidates are under way at any time, and their results come in random order; with `--batches`
all of them come before the next are asked for. `--suite` makes all that docs/controllers.md shows, one set of
runs after the other: see `SUITE`.

Every finished run is a line in OUT/runs.jsonl and is never made again, so the program can be killed at
any moment, started again, and run piecewise or by several processes at once: `--part 1/2` and
`--part 2/2`, or other benchmarks, controllers or seeds, into the same folder. Tables and curves are drawn
from all runs there are, by the last process or with --tables-only. Settings of our controllers were chosen
on seeds 0 to 11: report on others. To make runs again with other code, delete their lines; the tables say
whose runs were made by several versions of the code.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from arena_competitors import (
    DEFAULT,
    MOST_OF_PEERS,
    PARETO,
    TITLES,
    Competitor,
    code_of,
    make_competitor,
)
from arena_peers import MOST_OF_SLOW, PEERS, SLOW, is_installed
from arena_problems import (
    BENCHMARKS,
    COLLAPSED,
    FAILURES,
    NOISES,
    OBJECTIVES,
    Candidate,
    Problem,
    load_field,
    make_problem,
    write_whole,
)
from arena_report import key_of, read_runs, write_report

from nas.errors import NasError
from nas.machine import processor_name

CHECKPOINTS = (10, 15, 20, 25, 35, 50, 75, 100, 150, 200, 300, 400, 500, 700, 1000, 1400, 2000)
"""Evaluations after which a competitor is asked what it would return."""


MOST_REJECTED = 10_000
"""Candidates above a limit that a competitor may ask for between two evaluations, before it is sent home."""

PUBLISHED = ("--benchmarks", "accel-mlp", "accel-trees", "macro", "digits", "cell", "tree")
TWO = ("--benchmarks", "accel-mlp", "cell", "--objectives", "soft")
FEW = ("--controllers", "dyna", "reinforce", "evolution", "random", "optuna-tpe")

SUITE: tuple[tuple[str, ...], ...] = (
    (*PUBLISHED, "--objectives", "soft", "hard", "limit", "absolute"),
    (*PUBLISHED, "--objectives", "pareto"),
    (*TWO, *FEW, "--failures", "random", "lost", "digest", "rule", "collapse"),
    (*TWO, *FEW, "--workers", "5", "--batches"),
    (*TWO, *FEW, "--workers", "32"),
    (*TWO, "--controllers", "dyna", "optuna-tpe", "botorch", "smac", "--evaluations", "100"),
    (*TWO, "--noise", "none"),
)
"""The sets of runs that docs/controllers.md shows."""


def compete(
    problem: Problem,
    competitor: Competitor,
    *,
    seed: int,
    evaluations: int,
    workers: int,
    in_batches: bool = False,
) -> tuple[dict[str, float], float]:
    """Runs one competitor on one problem.

    Args:
        problem: The problem.
        competitor: Made afresh.
        seed: Of the noise, and of the order in which results come back.
        evaluations: Results that it is told.
        workers: Candidates under way at any time; their results come in random order.
        in_batches: Whether all of them come before the next are asked for.

    Returns:
        True regret in percent by the number of evaluations, and milliseconds of CPU time for a proposal
        with its feedback. Where a space has been searched to its end, the later regrets are the last one.
    """
    noise, order, luck = (np.random.default_rng([seed, stream]) for stream in (1, 2, 3))
    checkpoints = sorted({n for n in CHECKPOINTS if n <= evaluations} | {evaluations})
    regrets: dict[str, float] = {}
    under_way: list = []
    asked = told = 0
    seconds = 0.0
    is_open = True
    while told < evaluations:
        start = time.process_time()
        is_due = not in_batches or not under_way
        while is_due and is_open and len(under_way) < workers and asked < evaluations:
            found = ask_within(competitor, problem)
            is_open = found is not None
            if found is not None:
                under_way.append(found)
                asked += 1
        seconds += time.process_time() - start
        if not under_way:
            break
        handle, candidate = under_way.pop(int(order.integers(len(under_way))))
        accuracy, macs = problem.field.look_up(candidate)
        observed = accuracy + problem.deviation * noise.standard_normal()
        became = problem.becomes(candidate, luck)
        start = time.process_time()
        if became in ("completed", "collapse"):
            competitor.tell(handle, COLLAPSED if became == "collapse" else observed, macs)
        else:
            competitor.fail(handle, became)
        seconds += time.process_time() - start
        told += 1
        if told in checkpoints and (answer := competitor.answer()):
            regrets[str(told)] = problem.regret(answer)
    missed = [at for at in checkpoints if at > told]
    regrets |= dict.fromkeys(map(str, missed), problem.regret(competitor.answer())) if missed else {}
    return regrets, 1000 * seconds / max(told, 1)


def ask_within(competitor: Competitor, problem: Problem) -> tuple[Any, Candidate] | None:
    """The next candidate within the limit; the others are told as what they are."""
    for _ in range(MOST_REJECTED):
        found = competitor.ask()
        macs = problem.field.look_up(found[1])[1] if found and problem.limit is not None else 0.0
        if found is None or problem.limit is None or macs <= problem.limit:
            return found
        competitor.reject(found[0], macs)
    return None


def most_evaluations(name: str, evaluations: int) -> int:
    """How many evaluations a competitor is given."""
    most = MOST_OF_SLOW if name in SLOW else MOST_OF_PEERS if name in PEERS else evaluations
    return min(evaluations, most)


def entrants(problem: Problem, names: Sequence[str]) -> list[str]:
    """Those of the competitors that are set for the problem."""
    return [name for name in names if not problem.is_pareto or name in PARETO]


def run_all(problems: Sequence[Problem], options: argparse.Namespace, out: Path) -> int:
    """Makes the runs of this part that are not there yet; returns how many it made."""
    machine = processor_name()
    codes = {name: code_of(name) for name in options.controllers}  # now: files may change under a long run
    done = {key_of(run): run["evaluations"] for run in read_runs(out)}
    part, parts = options.part
    wanted = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for problem in problems:
            for name in entrants(problem, options.controllers):
                key = (problem.name, problem.digest, options.workers, options.batches, name, seed)
                evaluations = most_evaluations(name, options.evaluations)
                is_mine = zlib.crc32(repr(key).encode()) % parts == part - 1
                if is_mine and done.get(key, 0) < evaluations:
                    wanted.append((problem, name, seed, evaluations))
    print(f"{len(wanted)} runs to make, {len(done)} there", flush=True)
    for count, (problem, name, seed, evaluations) in enumerate(wanted, start=1):
        competitor = make_competitor(name, problem, seed, options.workers)
        regrets, ms = compete(
            problem,
            competitor,
            seed=seed,
            evaluations=evaluations,
            workers=options.workers,
            in_batches=options.batches,
        )
        run = {
            "problem": problem.name,
            "digest": problem.digest,
            "workers": options.workers,
            "batches": options.batches,
            "controller": name,
            "seed": seed,
            "evaluations": evaluations,
            "regret": {at: round(value, 4) for at, value in regrets.items()},
            "ms": round(ms, 3),
            "code": codes[name],
            "machine": machine,
        }
        append(out / "runs.jsonl", json.dumps(run))
        last = f"{regrets[str(evaluations)]:.2f} % after {evaluations}"
        print(
            f"{count}/{len(wanted)} {problem.name} {name} seed {seed}: {last}, {ms:.1f} ms each", flush=True
        )
    return len(wanted)


def append(path: Path, line: str) -> None:
    """Adds a line in one write, so that several processes can; after a line cut short it begins a new one."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())


def versions() -> str:
    """What the figures depend on."""
    found = [f"Python {sys.version.split()[0]}"]
    for name in ("numpy", "torch", "scikit-learn", *sorted(set(PEERS.values()))):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, choices, default in (
        ("benchmarks", BENCHMARKS, BENCHMARKS),
        ("objectives", OBJECTIVES, OBJECTIVES),
        ("controllers", tuple(TITLES), DEFAULT),
        ("noise", NOISES, ("own",)),
        ("failures", FAILURES, ("none",)),
    ):
        parser.add_argument(f"--{name}", nargs="+", choices=choices, default=default)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each competitor on each problem")
    parser.add_argument("--first-seed", type=int, default=1000, help="the first of their seeds")
    parser.add_argument("--evaluations", type=int, default=500, help="peers get 500 at most")
    parser.add_argument("--workers", type=int, default=1, help="candidates under way at any time")
    parser.add_argument(
        "--batches", action="store_true", help="all of them come before the next are asked for"
    )
    parser.add_argument("--suite", action="store_true", help="all that the documentation shows")
    parser.add_argument("--part", default="1/1", help="I/N: only the I-th of N parts of the runs")
    folder = os.environ.get("MNAS_DATA")
    parser.add_argument("--data", type=Path, default=folder, help="published tables; else MNAS_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/arena"), help="runs, tables and curves")
    parser.add_argument("--cache", type=Path, help="surrogates and scales; OUT/cache by default")
    parser.add_argument("--tables-only", action="store_true", help="draw what is there, run nothing")
    options = parser.parse_args(arguments)
    try:
        part, parts = map(int, options.part.split("/"))
    except ValueError:
        parser.error(f"--part must be I/N, such as 1/2, but got {options.part}")
    if not 1 <= part <= parts:
        parser.error(f"--part I/N must have 1 <= I <= N, but got {options.part}")
    if min(options.seeds, options.evaluations, options.workers) < 1:
        parser.error("--seeds, --evaluations and --workers must be at least 1")
    options.part = part, parts
    missing = [name for name in PEERS if name in options.controllers and not is_installed(name)]
    if missing and options.controllers is not DEFAULT and not options.suite:
        parser.error(f"{PEERS[missing[0]]} is not installed: pip install it, or leave {missing[0]} out")
    options.controllers = [name for name in options.controllers if name not in missing]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the runs that are missing, then draws all; returns how many it made."""
    given = list(map(str, sys.argv[1:] if arguments is None else arguments))
    options = parse(given)
    made = 0
    options.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "benchmarks/arena.py", *given])
    if not options.tables_only:
        print(f"{command}\n{versions()}; {processor_name()}", flush=True)
        for more in SUITE if options.suite else ((),):
            chosen = parse([*given, *more])
            made += run_all(make_problems(chosen), chosen, options.out)
    print(write_report(options.out, command, versions()))
    return made


def make_problems(options: argparse.Namespace) -> list[Problem]:
    """The problems of the options, with their facts written down."""
    cache = options.cache or options.out / "cache"
    problems = []
    for benchmark in options.benchmarks:
        field = load_field(benchmark, options.data, cache)
        print(f"{benchmark}: {field.benchmark.source}. {field.quality}", flush=True)
        for goal in options.objectives:
            problems += [
                make_problem(field, goal, noise, cache, failures=failures)
                for noise in options.noise
                for failures in options.failures
                if goal != "pareto" or failures == "none"
            ]
    for problem in problems:
        facts = json.dumps(problem.facts(), indent=1)
        write_whole(options.out / "problems" / f"{problem.name}.json", facts + "\n")
    return problems


if __name__ == "__main__":
    try:
        main()
    except NasError as error:
        sys.exit(f"error: {error}")
