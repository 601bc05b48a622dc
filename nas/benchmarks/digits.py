"""The project's own benchmark: a small MBConv space, all of whose networks were trained on digits."""

from __future__ import annotations

import csv
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from nas.benchmarks.benchmark import Benchmark, pooled_deviation
from nas.errors import BenchmarkError
from nas.proposals import trial_seed
from nas.training.recipe import Recipe
from nas.trial import Candidate, Job
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

if TYPE_CHECKING:
    from nas.training.proxy import ProxyEvaluator

TABLE = "digits_bench.csv"
"""The table, beside this module."""

SEEDS = 3
STEPS, BATCH_SIZE, TRAIN_IMAGES = 150, 64, 3_000
SEARCH_FRACTION = 0.25


def load_digits_bench() -> Benchmark:
    """Reads the table of all 576 candidates of `digits_space`, three trainings each.

    Accuracies are those of the search split, 1,000 of mnist5k's digits; see `digits_recipe` and
    `digits_evaluator` for how each was trained. The table's first lines say where, and by which command.

    Returns:
        Tokens in ascending order, accuracies (576, 3), and as noise the deviation between the three
        trainings, pooled over all candidates.

    Raises:
        BenchmarkError: The table is missing from the installation, or damaged.
    """
    place = files("nas.benchmarks").joinpath(TABLE)
    try:
        text = place.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(
            f"the table of the digits benchmark is missing ({error}): install again"
        ) from error
    lines = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    try:
        rows = [
            (
                [int(digit) for digit in row["tokens"]],
                [float(row[f"accuracy_{seed}"]) for seed in range(SEEDS)],
            )
            for row in lines
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise BenchmarkError(
            f"a row of {place} must have tokens and {SEEDS} accuracies, but one has not ({error!r}): it is "
            "damaged, install again"
        ) from error
    accuracies = np.array([values for _, values in rows], np.float64)
    return Benchmark(
        name="digits_bench",
        space=digits_space(),
        tokens=np.array([tokens for tokens, _ in rows], np.int64),
        accuracies=accuracies,
        noise=pooled_deviation(accuracies),
        source="this project: mnist5k, accuracy on the search split, benchmarks/train_digits_bench.py",
        is_exhaustive=True,
    )


def digits_space() -> SearchSpace:
    """Two stages of narrow MBConv for 28 x 28 grey digits: 576 candidates, all different networks.

    ================  ===================  =======================================
    decision          options              remark
    ================  ===================  =======================================
    `kernel_size`     3, 5                 each stage decides for itself
    `expand_ratio`    1, 3, 6
    `se_ratio`        0, 0.25              of the block's input channels
    `repeats`         1, 2                 all layers of a stage are alike
    ================  ===================  =======================================

    Stem 3x3 of stride 2 to 8 channels; stages of 8 and 16 channels, stride 2; head of 64; ReLU. That is
    so narrow that a short training separates the candidates: 41 thousand to 420 thousand
    multiply-adds.
    """
    stages = []
    for number, channels in enumerate((8, 16), start=1):
        op = MBConv(
            kernel_size=choice(3, 5, name=f"block{number}.kernel_size"),
            expand_ratio=choice(1, 3, 6, name=f"block{number}.expand_ratio"),
            se_ratio=choice(0.0, 0.25, name=f"block{number}.se_ratio"),
        )
        repeats = choice(1, 2, name=f"block{number}.repeats")
        stages.append(Stage(op=op, channels=channels, repeats=repeats, stride=2))
    template = Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=tuple(stages),
        head=Head(channels=64, dropout=0.0),
        resolution=28,
        num_classes=10,
        in_channels=1,
        activation="relu",
    )
    return SearchSpace(template, name="digits")


def digits_recipe() -> Recipe:
    """How every candidate was trained: 150 steps of 64 images, peak rate 0.2, shifts by up to 2 pixels."""
    epochs = STEPS / (TRAIN_IMAGES // BATCH_SIZE)
    return Recipe(
        epochs=epochs,
        warmup_epochs=epochs / 4,
        batch_size=BATCH_SIZE,
        learning_rate=0.2,
        augmentation="crop",
        precision="float32",
    )


def digits_evaluator() -> ProxyEvaluator:
    """Trains a candidate as the table's were, on the CPU: to check a row, or to train further seeds.

    The images are the quickstart's, mnist5k: 3,000 to learn from, 1,000 for the accuracy, 1,000 left
    alone.
    """
    from nas.data.loading import load_data
    from nas.training.proxy import ProxyEvaluator

    data = load_data("mnist5k", search_fraction=SEARCH_FRACTION, seed=0)
    return ProxyEvaluator(data, digits_recipe(), device="cpu")


def digits_tokens() -> tuple[tuple[int, ...], ...]:
    """Every candidate of the space, in the table's order: the last decision changes fastest."""
    return tuple(product(*map(range, digits_space().cardinalities)))


def digits_candidate(space: SearchSpace, row: int, seed: int) -> Candidate:
    """What was trained for a cell of the table; no two cells share a seed of training.

    Args:
        space: `digits_space()`.
        row: Row of the table, from 0.
        seed: Column of its accuracies, from 0.
    """
    tokens = digits_tokens()[row]
    job = Job(trial=row, attempt=1, tokens=tokens, seed=trial_seed(seed, row))
    return Candidate(job=job, network=space.decode(tokens))
