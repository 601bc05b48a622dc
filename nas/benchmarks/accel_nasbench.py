"""Reads Accel-NASBench: networks of the efficientnet space with their accuracies on ImageNet."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from nas.benchmarks.benchmark import Benchmark
from nas.benchmarks.reading import check_costs, read_text
from nas.errors import BenchmarkError
from search_spaces import Decision, efficientnet

NOISE = 0.0027
"""Deviation of one training's accuracy between seeds, a fraction: 0.27 to 0.31 points are published."""

COSTS = ("macs", "params")
ACCURACY = "val_top1"

_SUFFIXES = {"kernel_size": "k", "expand_ratio": "e", "se_ratio": "se", "repeats": "l"}
"""How a block's decisions are called in the table."""


def load_accel_nasbench(path: str | Path) -> Benchmark:
    """Reads the rows with an accuracy: ImageNet top-1 after 16 epochs, one training of each network.

    The table is not exhaustive: the space has 1.04e11 candidates, and all that have no row are
    infeasible to its evaluator. Fit a predictor to it to search the whole space.

    Args:
        path: A CSV file with the columns `block0_e` (1, 4 or 6), `block0_k` (3 or 5), `block0_l`
            (layers) and `block0_se` (0 or 1), the same of the blocks 1 to 6, `macs`, `params`, and
            `val_top1` (percent, empty in rows that are set aside).

    Returns:
        Tokens of `efficientnet(resolution=224)`, accuracies (candidates, 1), and a noise of 0.0027, the
        lower end of the published deviation between seeds.

    Raises:
        BenchmarkError: The file cannot be read or lacks a column; or a value is none of the space's
            options or no number; or a row's multiply-adds or parameters are not those of its network.

    Source: Accel-NASBench (Ahmad et al., DAC 2024, Apache-2.0), its training data on ImageNet; the
    skeleton is EfficientNet-B0's with 1000 classes.
    """
    path = Path(path)
    space = efficientnet(resolution=224)
    lines = csv.DictReader(read_text(path, "accel_nasbench.csv").splitlines())
    try:
        rows = [(f"line {lines.line_num} of {path}", cells) for cells in lines]
    except csv.Error as error:
        raise BenchmarkError(f"{path} must be a CSV table, but: {error}: it is damaged") from error
    _check_columns(path, list(lines.fieldnames or ()), [_column(decision) for decision in space.decisions])
    if not rows:
        raise BenchmarkError(f"{path} must have rows below its header, but has none: it is damaged")
    tokens = np.array(
        [[_token(cells, decision, place) for decision in space.decisions] for place, cells in rows], np.int64
    )
    published = [[int(_number(cells, column, place)) for column in COSTS] for place, cells in rows]
    check_costs(space, tokens, np.array(published, np.int64), [place for place, _ in rows])
    trained = [index for index, (_, cells) in enumerate(rows) if cells[ACCURACY] != ""]
    percent = np.array([[_number(rows[index][1], ACCURACY, rows[index][0])] for index in trained])
    return Benchmark(
        name="accel_nasbench",
        space=space,
        tokens=tokens[trained],
        accuracies=percent / 100,
        noise=NOISE,
        source="Accel-NASBench (Ahmad et al., DAC 2024), ImageNet top-1 of a 16-epoch training",
        is_exhaustive=False,
    )


def _check_columns(path: Path, found: list[str], decided: list[str]) -> None:
    missing = [column for column in (*decided, *COSTS, ACCURACY) if column not in found]
    if missing:
        raise BenchmarkError(
            f"a table of Accel-NASBench must have the columns block0_e to block6_se, macs, params and "
            f"{ACCURACY}, but {path} lacks {len(missing)} of them, {missing[0]} for one: give "
            "accel_nasbench.csv"
        )


def _column(decision: Decision) -> str:
    """The table counts blocks from 0, the space from 1."""
    block, what = decision.name.split(".")
    return f"block{int(block.removeprefix('block')) - 1}_{_SUFFIXES[what]}"


def _token(cells: dict[str, str], decision: Decision, place: str) -> int:
    column = _column(decision)
    value = _number(cells, column, place)
    meant = 0.25 * value if column.endswith("_se") else value
    if meant not in decision.options:
        raise BenchmarkError(
            f"`{decision.name}` must be one of {', '.join(map(str, decision.options))}, but {place} has "
            f"{column}={cells[column]}: the file is another, or damaged"
        )
    return decision.options.index(meant)


def _number(cells: dict[str, str], column: str, place: str) -> float:
    try:
        value = float(cells[column])
    except (TypeError, ValueError):  # None where a line is cut short
        value = math.nan
    if not abs(value) < 2**63:  # nor NaN
        raise BenchmarkError(
            f"`{column}` must be a number, but {place} has {cells[column]!r}: the file is damaged"
        )
    return value
