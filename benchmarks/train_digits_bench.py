"""Trains every candidate of the digits benchmark and writes its table.

    OMP_NUM_THREADS=1 python benchmarks/train_digits_bench.py --raw runs/digits_bench/raw.csv

Each finished training is one line appended to the raw file, so that the program can be killed at any
moment and started again. Once no training is missing, the table is written, by default where the package
reads it. All is done by one process on one thread; the same machine and torch give the same table.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch

import nas.benchmarks.digits
from nas.benchmarks.digits import (
    SEEDS,
    TABLE,
    digits_candidate,
    digits_evaluator,
    digits_space,
    digits_tokens,
)
from nas.machine import processor_name
from nas.training.proxy import ProxyEvaluator
from search_spaces import SearchSpace

DEFAULT_TABLE = Path(nas.benchmarks.digits.__file__).parent / TABLE
Cell = tuple[int, int]
"""Row of the table and seed."""


def read_raw(path: Path, fingerprint: str) -> dict[Cell, tuple[float, float]]:
    """Accuracy (fraction) and seconds of each finished training; a last line cut short is taken away."""
    first = f"# evaluator {fingerprint}\nrow,seed,accuracy,seconds\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(first, encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    if not text.startswith(first):
        sys.exit(f"{path} must be of the evaluator {fingerprint}, but begins otherwise: give another --raw")
    whole = text[: text.rindex("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    lines = [line.split(",") for line in whole.removeprefix(first).splitlines()]
    return {(int(row), int(seed)): (float(right), float(took)) for row, seed, right, took in lines}


def train_cell(evaluator: ProxyEvaluator, space: SearchSpace, cell: Cell) -> tuple[float, float]:
    """Accuracy on the search split (fraction), and wall time (s) of the training with its evaluation."""
    start = time.perf_counter()
    evaluation = evaluator.evaluate(digits_candidate(space, *cell))
    (accuracy,) = [metric.value for metric in evaluation.metrics if metric.name == "accuracy"]
    return accuracy, time.perf_counter() - start


def spread(done: dict[Cell, tuple[float, float]], seeds: int) -> str:
    """Deviations between and within the candidates of which all seeds are done."""
    whole = [row for row, seed in done if seed == 0 and all((row, other) in done for other in range(seeds))]
    if len(whole) < 2 or seeds < 2:
        return ""
    table = np.array([[done[row, seed][0] for seed in range(seeds)] for row in whole])
    means = table.mean(axis=1)
    within = float(np.sqrt(table.var(axis=1, ddof=1).mean()))
    return (
        f"{len(whole)} candidates with {seeds} seeds: mean accuracies {means.min():.4f} to "
        f"{means.max():.4f}, deviation of the means {means.std(ddof=1):.4f}, of the seeds {within:.4f}"
    )


def write_table(path: Path, done: dict[Cell, tuple[float, float]], seeds: int, fingerprint: str) -> None:
    """Writes one line a candidate: its tokens, and the accuracy of each seed."""
    seconds = np.array([took for _, took in done.values()])
    lines = [
        f"# Made by: OMP_NUM_THREADS=1 python benchmarks/train_digits_bench.py --seeds {seeds}",
        f"# One thread of {processor_name()}, torch {torch.__version__}; {len(seconds)} trainings, "
        f"median {np.median(seconds):.2f} s.",
        f"# Evaluator {fingerprint}: mnist5k, accuracy on the search split, a fraction.",
        ",".join(["tokens", *(f"accuracy_{seed}" for seed in range(seeds))]),
    ]
    for row, tokens in enumerate(digits_tokens()):
        values = [f"{done[row, seed][0]:.4g}" for seed in range(seeds)]
        lines.append(",".join(["".join(map(str, tokens)), *values]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Trains what is missing and writes the table when nothing is; the exit status is 1 before that."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, required=True, help="file that finished trainings are added to")
    parser.add_argument(
        "--table", type=Path, default=DEFAULT_TABLE, help="the table; in the package by default"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each candidate")
    parser.add_argument(
        "--limit", type=int, help="most trainings of this run; all that are missing by default"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space, evaluator = digits_space(), digits_evaluator()
    evaluator.prepare()
    done = read_raw(arguments.raw, evaluator.fingerprint)
    # In a random order, so that what is done at any time stands for the whole.
    order = np.random.default_rng(0).permutation(space.size).tolist()
    missing = [cell for cell in product(order, range(arguments.seeds)) if cell not in done]
    print(f"{space}: {len(done)} trainings done, {len(missing)} missing", flush=True)
    start = time.perf_counter()
    with arguments.raw.open("a", encoding="utf-8") as raw:
        for count, cell in enumerate(missing[: arguments.limit], start=1):
            done[cell] = train_cell(evaluator, space, cell)
            raw.write(f"{cell[0]},{cell[1]},{done[cell][0]:.4g},{done[cell][1]:.3f}\n")
            raw.flush()
            if count % 25 == 0:
                each = (time.perf_counter() - start) / count
                left = each * (len(missing) - count) / 60
                print(f"{count}/{len(missing)}, {each:.2f} s each, {left:.0f} minutes left", flush=True)
                print(f"  {spread(done, arguments.seeds)}", flush=True)
    if missing[arguments.limit or len(missing) :]:
        return 1
    write_table(arguments.table, done, arguments.seeds, evaluator.fingerprint)
    print(f"{spread(done, arguments.seeds)}\nwrote {arguments.table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
