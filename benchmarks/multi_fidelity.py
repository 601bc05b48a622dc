"""What successive halving gains and loses: candidates an hour, rank correlation, and the network it finds.

    OMP_NUM_THREADS=1 python benchmarks/multi_fidelity.py

Everything is trained for real on the digits benchmark, whose 576 networks have a table of three whole
trainings each: what a candidate is truly worth. First a sample of candidates is trained on all rungs, and
each rung's accuracies are compared with the table. Then searches with and without rungs run equally
long, and the network that each would go with is looked up. One process on one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import nas
from nas.benchmarks.benchmark import Benchmark
from nas.benchmarks.digits import SEARCH_FRACTION, digits_recipe, load_digits_bench
from nas.data.images import ImageData
from nas.data.loading import load_data
from nas.machine import processor_name
from nas.rungs import Rungs
from nas.statistics import kendall_tau, spearman
from nas.training.proxy import ProxyEvaluator
from nas.trial import Candidate, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class RungResult:
    """A rung of the rungs over the sample.

    Attributes:
        share: Share of the whole schedule.
        seconds: Median time of one training on this rung, evaluation included.
        kendall: Of this rung's accuracies with the table's means.
        spearman: The same.
    """

    share: float
    seconds: float
    kendall: float
    spearman: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One search.

    Attributes:
        kind: `rungs` or `whole`.
        seed: Its seed.
        trials: Trainings, promoted ones included.
        candidates: Different networks.
        seconds: Wall time.
        regret: How far the table's mean accuracy of the network that is chosen lies below the best of all.
    """

    kind: str
    seed: int
    trials: int
    candidates: int
    seconds: float
    regret: float


def train_on_rungs(data: ImageData, benchmark: Benchmark, rungs: Rungs, count: int) -> list[RungResult]:
    """Trains a sample of candidates up all rungs, and one more time whole at once."""
    on_rungs = ProxyEvaluator(data, digits_recipe(), device="cpu", rungs=rungs)
    whole = ProxyEvaluator(data, digits_recipe(), device="cpu")
    truth = benchmark.mean_accuracies
    rows = np.random.default_rng(0).choice(len(truth), size=count, replace=False)
    shares = (*rungs.shares, 1.0)
    accuracies, seconds = np.zeros((len(shares), count)), np.zeros((len(shares), count))
    for column, row in enumerate(rows):
        tokens = tuple(benchmark.tokens[row].tolist())
        network = benchmark.space.decode(tokens)
        weights = None
        for number, share in enumerate(shares):
            is_whole = number == len(rungs.shares)
            job = Job(trial=column, attempt=1, tokens=tokens, seed=7_000 + column, fidelity=share)
            began = time.perf_counter()
            given = None if is_whole else weights
            found = (whole if is_whole else on_rungs).evaluate(
                Candidate(job=job, network=network, weights=given)
            )
            weights = None if found.weights is None else found.weights()
            seconds[number, column] = time.perf_counter() - began
            accuracies[number, column] = next(m.value for m in found.metrics if m.name == "accuracy")
    return [
        RungResult(
            share=share,
            seconds=float(np.median(seconds[number])),
            kendall=kendall_tau(accuracies[number], truth[rows]),
            spearman=spearman(accuracies[number], truth[rows]),
        )
        for number, share in enumerate(shares)
    ]


def search(
    data: ImageData, benchmark: Benchmark, rungs: Rungs | None, *, seconds: float, seed: int
) -> SearchResult:
    """Searches for so long, and looks up what is found."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        study = nas.search(
            benchmark.space,
            data=data,
            recipe=digits_recipe(),
            rungs=rungs,
            executor="inline",
            budget=nas.Budget(trials=None, max_hours=seconds / 3600),
            seed=seed,
            out=Path(out) / "study",
        )
        took = time.perf_counter() - began
        best = benchmark.lookup()[benchmark.space.canonical(study.best.tokens)]
        return SearchResult(
            kind="whole" if rungs is None else "rungs",
            seed=seed,
            trials=len(study.trials),
            candidates=len({trial.digest for trial in study.trials}),
            seconds=took,
            regret=float(benchmark.mean_accuracies.max()) - best,
        )


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rungs", default="1/9,1/3,1", help="shares of the schedule (default 1/9,1/3,1)")
    parser.add_argument("--reduction-factor", type=int, default=3, help="of so many one is promoted")
    parser.add_argument("--candidates", type=int, default=60, help="sample that is trained on all rungs")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of each search")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each kind")
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args()
    shares = [
        float(a) / float(b or 1) for a, _, b in (word.partition("/") for word in arguments.rungs.split(","))
    ]
    rungs = Rungs(tuple(shares), reduction_factor=arguments.reduction_factor)
    data, benchmark = load_data("mnist5k", search_fraction=SEARCH_FRACTION, seed=0), load_digits_bench()
    print(
        f"{processor_name()}, {torch.get_num_threads()} thread, torch {torch.__version__}, "
        f"Python {platform.python_version()}; {rungs.describe()}"
    )
    measured = train_on_rungs(data, benchmark, rungs, arguments.candidates)
    print(f"\n{arguments.candidates} random candidates, against the mean of three whole trainings each")
    print(f"{'rung':<22}{'s a training':>13}{'Kendall':>9}{'Spearman':>10}")
    for number, rung in enumerate(measured):
        name = "whole at once, 1 seed" if number == len(rungs.shares) else f"{rung.share:.3f}"
        print(f"{name:<22}{rung.seconds:>13.2f}{rung.kendall:>9.2f}{rung.spearman:>10.2f}")
    results = []
    print(f"\nsearches of {arguments.seconds:g} s, seeds 0 to {arguments.seeds - 1}, the default controller")
    for seed in range(arguments.seeds):
        for chosen in (None, rungs):
            results.append(search(data, benchmark, chosen, seconds=arguments.seconds, seed=seed))
            print(f"  {results[-1]}", file=sys.stderr)
    print(f"{'':<8}{'candidates an hour':>20}{'trainings an hour':>19}{'regret, median (range)':>30}")
    for kind in ("whole", "rungs"):
        ours = [result for result in results if result.kind == kind]
        hourly = statistics.median(3600 * result.candidates / result.seconds for result in ours)
        trainings = statistics.median(3600 * result.trials / result.seconds for result in ours)
        regrets = sorted(100 * result.regret for result in ours)
        spread = f"{statistics.median(regrets):.2f} % ({regrets[0]:.2f} to {regrets[-1]:.2f})"
        print(f"{kind:<8}{hourly:>20,.0f}{trainings:>19,.0f}{spread:>30}")
    if arguments.json is not None:
        found = {"rungs": [asdict(rung) for rung in measured], "searches": [asdict(one) for one in results]}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
