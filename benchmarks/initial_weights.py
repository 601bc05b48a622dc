"""Compares candidates that start from a trained network's weights with fresh ones, on the same budget.

Random networks of a space are trained by a short recipe, fresh and from the weights, and by a longer
schedule, fresh. Printed are the accuracies, and how well each short training ranks as the long one does:

    OMP_NUM_THREADS=1 python benchmarks/initial_weights.py --data cifar10_jpeg_small.npz --out runs/init.json

Every training is written to `--out` when it is done; the same command continues.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import nas
from nas.io import write_whole
from nas.spaces import find_space
from nas.trial import Job
from search_spaces import SearchSpace

FRESH, INIT, LONG = "short, fresh", "short, from the weights", "long, fresh"
RESAMPLES = 2_000


def main() -> None:
    """Trains what is not trained yet, and prints the comparison."""
    arguments = parsed()
    data = nas.load_data(arguments.data)
    init, normalised = nas.initial_weights(arguments.init, data)
    space = find_space(arguments.space).make(
        resolution=data.resolution, num_classes=data.num_classes, in_channels=data.channels
    )
    short = nas.Recipe(epochs=arguments.epochs, warmup_epochs=arguments.epochs / 5, precision="float32")
    long = nas.Recipe(epochs=arguments.long_epochs, warmup_epochs=1, precision="float32")
    evaluators = {
        FRESH: nas.ProxyEvaluator(data, short),
        INIT: nas.ProxyEvaluator(normalised, short, init=init),
        LONG: nas.ProxyEvaluator(data, long),
    }
    done = read(arguments.out)
    rows = sample(space, arguments.candidates)
    for number, seed, kind in itertools.product(range(len(rows)), range(arguments.seeds), evaluators):
        key = f"{kind}/{number}/{seed}"
        if key not in done:
            done[key] = trained(evaluators[kind], space, rows[number], seed=1000 * seed + number)
            write_whole(arguments.out, json.dumps(done, indent=1) + "\n")
            print(key, done[key], flush=True)
    report(done, candidates=arguments.candidates, seeds=arguments.seeds)


def parsed() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", default="small")
    parser.add_argument("--init", default="efficientnet_lite0")
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--long-epochs", type=float, default=8.0)
    return parser.parse_args()


def sample(space: SearchSpace, count: int) -> list[tuple[int, ...]]:
    """Different networks of the space, drawn at random."""
    drawn = space.sample_many(np.random.default_rng(0), 4 * count).tolist()
    return list(dict.fromkeys(tuple(row) for row in drawn))[:count]


def read(path: Path) -> dict[str, dict[str, float]]:
    """What was trained before."""
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def trained(
    evaluator: nas.ProxyEvaluator, space: SearchSpace, tokens: tuple[int, ...], *, seed: int
) -> dict[str, float]:
    """Trains one network; a network that does not learn has the accuracy of chance."""
    job = Job(trial=0, attempt=1, tokens=tokens, seed=seed)
    began = time.process_time()
    try:
        found = evaluator.evaluate(nas.Candidate(network=space.decode(tokens), job=job)).metrics
    except nas.InfeasibleError:
        return {"accuracy": 1 / evaluator.data.num_classes, "seconds": time.process_time() - began}
    kept = {one.name: one.value for one in found if one.name in ("accuracy", "params_taken")}
    return {**kept, "seconds": time.process_time() - began}


def report(done: dict[str, dict[str, float]], *, candidates: int, seeds: int) -> None:
    """Prints accuracies, their noise, and rank correlations with 95 % intervals over resampled networks."""
    tables = {kind: accuracies(done, kind, candidates, seeds) for kind in (FRESH, INIT, LONG)}
    rng = np.random.default_rng(0)
    picks = rng.integers(0, candidates, (RESAMPLES, candidates))
    judged = tables[LONG].mean(1)
    ranks: dict[str, np.ndarray] = {}
    print(f"{'training':<26}{'accuracy':>10}{'best':>8}{'noise':>8}   rank correlation with long   seconds")
    for kind, table in tables.items():
        mean = table.mean(1)
        noise = float(np.sqrt(table.var(1, ddof=1).mean())) if seeds > 1 else float("nan")
        seconds = np.mean([one["seconds"] for key, one in done.items() if key.startswith(f"{kind}/")])
        line = f"{kind:<26}{mean.mean():>10.4f}{mean.max():>8.4f}{noise:>8.4f}"
        if kind != LONG:
            ranks[kind] = np.array([correlation(mean[pick], judged[pick]) for pick in picks])
            low, high = np.nanquantile(ranks[kind], (0.025, 0.975))
            line += f"   {correlation(mean, judged):+.2f} ({low:+.2f} to {high:+.2f})    "
        print(f"{line}   {seconds:.0f}")
    gain = ranks[INIT] - ranks[FRESH]
    low, high = np.nanquantile(gain, (0.025, 0.975))
    print(f"gain in rank correlation: {np.nanmean(gain):+.2f} ({low:+.2f} to {high:+.2f})")
    lift = (tables[INIT] - tables[FRESH]).mean(1)
    error = lift.std(ddof=1) / np.sqrt(candidates)
    print(f"gain in accuracy: {lift.mean():+.4f} +- {error:.4f} (standard error over {candidates} networks)")


def accuracies(done: dict[str, dict[str, float]], kind: str, candidates: int, seeds: int) -> np.ndarray:
    """Accuracies of one kind of training (candidates, seeds)."""
    rows = [[done[f"{kind}/{row}/{seed}"]["accuracy"] for seed in range(seeds)] for row in range(candidates)]
    return np.array(rows)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; NaN where all of one are equal."""
    if len(set(one.tolist())) < 2 or len(set(other.tolist())) < 2:
        return float("nan")
    return float(spearmanr(one, other).statistic)


if __name__ == "__main__":
    main()
