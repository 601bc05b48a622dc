"""Reads NAS-Bench-Macro: all 6,561 networks of its space with three accuracies each on CIFAR-10."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.benchmarks.benchmark import Benchmark, pooled_deviation
from nas.benchmarks.reading import check_costs, read_text
from nas.errors import BenchmarkError
from nas.reading import parse_json
from search_spaces import nas_bench_macro

SEEDS = 3


def load_nas_bench_macro(path: str | Path) -> Benchmark:
    """Reads the whole table: test accuracies on CIFAR-10 of three trainings of each candidate.

    Identities commute with the other layers of a stage, so the 6,561 candidates are 3,969 different
    networks. Candidates that are one network have equal rows.

    Args:
        path: A JSON file with one object: 8 digits (the tokens) to `test_acc` (3 values, percent),
            `params` and `flops` (multiply-adds).

    Returns:
        Tokens of `nas_bench_macro()` in ascending order, accuracies (6561, 3), and as noise the
        deviation between the three trainings, pooled over all candidates.

    Raises:
        BenchmarkError: The file cannot be read or has another form; or a candidate is missing; or a
            row's multiply-adds or parameters are not those of its network.

    Source: Su et al., CVPR 2021 (Apache-2.0), the table of its repository.
    """
    path = Path(path)
    space = nas_bench_macro()
    table = _read(path)
    keys = sorted(table)
    for key in keys:
        if len(key) != len(space.decisions) or not set(key) <= set("012"):
            raise BenchmarkError(
                f"keys of {path} must be {len(space.decisions)} digits from 0 to 2, but one is {key!r}: "
                "give nas-bench-macro_cifar10.json"
            )
    rows = [_row(table[key], f"candidate {key} of {path}") for key in keys]
    tokens = np.array([[int(digit) for digit in key] for key in keys], np.int64)
    published = np.array([costs for costs, _ in rows], np.int64)
    check_costs(space, tokens, published, [f"candidate {key} of {path}" for key in keys])
    accuracies = np.array([percent for _, percent in rows], np.float64) / 100
    return Benchmark(
        name="nas_bench_macro",
        space=space,
        tokens=tokens,
        accuracies=accuracies,
        noise=pooled_deviation(accuracies),
        source="NAS-Bench-Macro (Su et al., CVPR 2021), CIFAR-10 test accuracy",
        is_exhaustive=True,
    )


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path, "nas-bench-macro_cifar10.json")
    try:
        table: Any = parse_json(text)
    except ValueError as error:
        raise BenchmarkError(f"{path} must be a JSON object, but: {error}") from error
    if not isinstance(table, dict) or not table:
        raise BenchmarkError(
            f"{path} must be a JSON object of candidates, but is a {type(table).__name__} or empty: give "
            "nas-bench-macro_cifar10.json"
        )
    return table


def _row(row: Any, place: str) -> tuple[tuple[int, int], tuple[float, ...]]:
    """Multiply-adds with parameters, and accuracies in percent."""
    try:
        percent = tuple(float(value) for value in row["test_acc"])
        costs = int(row["flops"]), int(row["params"])
        if max(costs) >= 2**63:
            raise ValueError("a cost has more than 63 bits")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BenchmarkError(
            f"a candidate must have the numbers test_acc, flops and params, but {place} has {row!r}: the "
            "file is another, or damaged"
        ) from error
    if len(percent) != SEEDS:
        raise BenchmarkError(
            f"`test_acc` must have {SEEDS} values, but {place} has {len(percent)}: the file is damaged"
        )
    return costs, percent
