"""Learns what accuracies to expect of networks by their sizes, and how well that holds on a table left out.

    python benchmarks/accuracy_prior.py --data FOLDER

The effects of the logarithms of multiply-adds and parameters are those of a ridge regression of the
standardised accuracies of all tables, each table with the same weight. The arena gives our controller the
effects that were learnt without the benchmark at hand, `LEFT_OUT`; a search has `nas.accuracy_prior.EFFECTS`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nas.accuracy_prior import EFFECTS, Effects, log_sizes
from nas.benchmarks import Benchmark, load_accel_nasbench, load_digits_bench, load_nas_bench_macro

RIDGE = 1.0
"""Weight of the squared effects of features of unit deviation, beside a mean squared error of 1 or less."""

LEFT_OUT: Mapping[str, Effects] = {
    "accel": (0.58, 0.47),
    "macro": (0.46, 0.78),
    "digits": (0.9, 0.57),
}
"""Effects that were learnt without the benchmarks whose names begin so."""


def load_tables(data: Path) -> dict[str, Benchmark]:
    """The tables by their names in the arena."""
    return {
        "accel": load_accel_nasbench(data / "accel_nasbench.csv"),
        "macro": load_nas_bench_macro(data / "nas-bench-macro_cifar10.json"),
        "digits": load_digits_bench(),
    }


def learn(tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> Effects:
    """Effects from sizes (n, 2) and accuracies (n,) of each table."""
    deviation = np.sqrt(np.mean([sizes.var(axis=0) for sizes, _ in tables], axis=0))
    products, by_accuracy = RIDGE * np.eye(len(deviation)) * len(tables), np.zeros(len(deviation))
    for sizes, accuracies in tables:
        features = (sizes - sizes.mean(axis=0)) / deviation
        products += features.T @ features / len(features)
        by_accuracy += features.T @ (accuracies - accuracies.mean()) / accuracies.std() / len(features)
    effects = np.linalg.solve(products, by_accuracy) / deviation
    return tuple(np.round(effects, 2).tolist())


def main() -> None:
    """Prints the effects and their correlations with the accuracies of the table left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MNAS_DATA", "."))
    tables = {
        name: (log_sizes(table.space, table.tokens), table.mean_accuracies)
        for name, table in load_tables(parser.parse_args().data).items()
    }
    for out, (sizes, accuracies) in tables.items():
        effects = learn([table for name, table in tables.items() if name != out])
        correlation = np.corrcoef(sizes @ effects, accuracies)[0, 1]
        print(f"without {out}: {effects}, correlation with its {len(sizes)} accuracies {correlation:.2f}")
        print(f"  there {LEFT_OUT[out]} is used")
    print(f"all tables: {learn(list(tables.values()))}; {EFFECTS} is used")


if __name__ == "__main__":
    main()
