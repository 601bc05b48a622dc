"""Long, cheap searches: policy gradients beside evolution and the default after thousands of evaluations.

    OMP_NUM_THREADS=1 python benchmarks/long_searches.py --data FOLDER --out runs/long
    OMP_NUM_THREADS=1 python benchmarks/long_searches.py --speed

Problems are those of `arena.py`, and so is the score: the true regret of what a controller recommends at the
end, in percent of a random candidate's. A search of each length is one of its own, since a controller may be
told how many evaluations are planned. Candidates are proposed and fed back in batches, as many evaluators
would. Every finished run is a line in OUT/runs.jsonl and is not made again; the table is of all there are.
Settings were chosen on seeds 0 to 7: report on others.

With --speed nothing is looked up: the CPU time of proposing and feeding back alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from arena_competitors import KINDS, TITLES, code_of, make_numbers
from arena_problems import BENCHMARKS, NOISES, OBJECTIVES, Floats, Problem, load_field, make_problem
from scipy import stats

import controllers
from controllers import Controller, Outcome
from nas.errors import NasError

DEFAULT = ("reinforce", "ppo", "evolution", "local", "random")

SPEED_CARDINALITIES = (3, 2, 2, 3) * 7
"""As many decisions as Accel-NASBench has, and options in another order."""


def search(problem: Problem, name: str, *, seed: int, evaluations: int, batch: int) -> tuple[float, float]:
    """Runs one controller; returns its true regret in percent and its own CPU seconds."""
    numbers = replace(make_numbers(problem, name), evaluations=evaluations)
    controller = KINDS[name](numbers, seed=seed)
    noise = np.random.default_rng([seed, 1])

    def look_up(tokens: np.ndarray) -> Iterator[Outcome]:
        accuracies = problem.field.predict(tokens)
        accuracies = accuracies + problem.deviation * noise.standard_normal(len(tokens))
        rewards = problem.rewards(accuracies, problem.field.macs(tokens))
        for reward, accuracy in zip(rewards.tolist(), accuracies.tolist(), strict=True):
            yield Outcome(reward, accuracy=accuracy)

    seconds = run_through(controller, look_up, evaluations=evaluations, batch=batch)
    return problem.regret(controller.recommend()), seconds


def run_through(controller: Controller, look_up, *, evaluations: int, batch: int) -> float:
    """Lets a controller search; returns the CPU seconds of its proposals and feedback."""
    seconds, done = 0.0, 0
    while done < evaluations:
        start = time.process_time()
        proposals = controller.propose(min(batch, evaluations - done))
        seconds += time.process_time() - start
        if not proposals:  # the space has been searched to its end
            break
        outcomes = list(look_up(np.array([proposal.tokens for proposal in proposals])))
        start = time.process_time()
        controller.feedback(list(zip(proposals, outcomes, strict=True)))
        seconds += time.process_time() - start
        done += len(proposals)
    return seconds


def speed() -> None:
    """Prints CPU seconds for proposals and feedback, by the length of a search and the size of batches."""
    effects = [np.random.default_rng(0).normal(size=count) for count in SPEED_CARDINALITIES]

    def look_up(tokens: np.ndarray) -> Iterator[Outcome]:
        rewards: Floats = sum(effect[column] for effect, column in zip(effects, tokens.T, strict=True))
        return (Outcome(reward) for reward in rewards.tolist())

    for name in ("reinforce", "ppo", "evolution", "random"):
        for evaluations, batch in ((10_000, 1), (100_000, 64), (100_000, 256)):
            controller = KINDS[name](
                controllers.Problem(SPEED_CARDINALITIES, evaluations=evaluations), seed=0
            )
            seconds = run_through(controller, look_up, evaluations=evaluations, batch=batch)
            print(f"{TITLES[name]:16} {evaluations:7,} in batches of {batch:3}: {seconds:6.1f} s", flush=True)


def run_all(problems: Sequence[Problem], options: argparse.Namespace) -> None:
    """Makes the runs that are missing, seed by seed."""
    path = options.out / "runs.jsonl"
    done = {key_of(run) for run in read(path)}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for evaluations in options.evaluations:
            for problem in problems:
                for name in options.controllers:
                    run = {
                        "problem": problem.name,
                        "digest": problem.digest,
                        "controller": name,
                        "evaluations": evaluations,
                        "batch": options.batch,
                        "seed": seed,
                    }
                    if key_of(run) in done:
                        continue
                    regret, seconds = search(
                        problem, name, seed=seed, evaluations=evaluations, batch=options.batch
                    )
                    run |= {"regret": round(regret, 4), "seconds": round(seconds, 2), "code": code_of(name)}
                    with path.open("a") as file:
                        file.write(json.dumps(run) + "\n")
                    print(json.dumps(run), flush=True)


def key_of(run: dict) -> tuple:
    """What tells a run from another."""
    return tuple(run[name] for name in ("problem", "digest", "controller", "evaluations", "batch", "seed"))


def read(path: Path) -> list[dict]:
    """All whole lines of the file."""
    runs = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            runs.append(json.loads(line))
        except ValueError:
            continue  # cut short when the program was killed
    return runs


def table(runs: Sequence[dict]) -> str:
    """Mean regret with its 95 % interval (Student's t over the seeds), a table for each problem."""
    lines = []
    for problem, batch in sorted({(run["problem"], run["batch"]) for run in runs}):
        mine = [run for run in runs if (run["problem"], run["batch"]) == (problem, batch)]
        lengths = sorted({run["evaluations"] for run in mine})
        lines += ["", f"#### {problem}, in batches of {batch}", ""]
        lines += [row(["controller", *(f"{n:,}" for n in lengths), "n"]), "|---" * (len(lengths) + 2) + "|"]
        for name in TITLES:
            regrets = [
                [run["regret"] for run in mine if (run["controller"], run["evaluations"]) == (name, length)]
                for length in lengths
            ]
            if counts := sorted({len(values) for values in regrets if values}):
                lines.append(row([TITLES[name], *map(interval, regrets), ", ".join(map(str, counts))]))
    return "\n".join(lines)


def interval(values: Sequence[float]) -> str:
    """Mean and half the width of its 95 % interval."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.2f} ± {half:.2f}"


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, choices, default in (
        ("--benchmarks", BENCHMARKS, ("macro", "accel-mlp")),
        (
            "--objectives",
            [goal for goal in OBJECTIVES if goal not in ("limit", "pareto")],
            ("hard", "absolute"),
        ),
        ("--controllers", tuple(name for name in KINDS if name != "front"), DEFAULT),
        ("--noise", NOISES, ("none",)),
    ):
        parser.add_argument(name, nargs="+", choices=choices, default=default)
    parser.add_argument("--evaluations", type=int, nargs="+", default=(1000, 5000, 20_000))
    parser.add_argument("--batch", type=int, default=64, help="candidates that are proposed at once")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--speed", action="store_true", help="the time of the controllers alone")
    folder = os.environ.get("MNAS_DATA")
    parser.add_argument("--data", type=Path, default=folder, help="published tables; else MNAS_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/long"))
    parser.add_argument("--cache", type=Path, help="surrogates and scales; OUT/cache by default")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the runs that are missing, and prints the table of all; or the speed."""
    options = parse(arguments)
    if options.speed:
        speed()
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    cache = options.cache or options.out / "cache"
    problems = []
    for benchmark in options.benchmarks:
        field = load_field(benchmark, options.data, cache)
        problems += [
            make_problem(field, goal, noise, cache) for goal in options.objectives for noise in options.noise
        ]
    run_all(problems, options)
    print(table(read(options.out / "runs.jsonl")))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NasError as error:
        sys.exit(f"error: {error}")
