"""A second family of surrogates: gradient boosted trees, so that no controller is judged by its own kind.

    python benchmarks/tree_surrogate.py --data FOLDER

prints how well both families predict candidates of Accel-NASBench that they were not fitted to, and what
one prediction costs. Needs scikit-learn: pip install "mnas[benchmark]".
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.ensemble import GradientBoostingRegressor

from nas.benchmarks import Benchmark, load_accel_nasbench
from nas.benchmarks.surrogate import (
    Arrays,
    Floats,
    Tokens,
    digest_of,
    fit_surrogate,
    held_out_quality,
    load_arrays,
    log_costs,
    save_arrays,
    table_digest,
)
from nas.machine import processor_name
from search_spaces import SearchSpace

SETTINGS = {
    "n_estimators": 1000,
    "learning_rate": 0.05,
    "max_depth": 4,
    "min_samples_leaf": 15,
    "subsample": 0.5,
    "max_features": 0.3,
    "random_state": 0,
}

CHUNK = 512
"""Candidates that go down all trees at once: more would only take more memory."""


class TreeSurrogate:
    """Boosted trees as arrays: called with canonical candidates, it gives their accuracies, fractions.

    Every tree is laid out whole, the children of node i at 2 i + 1 and 2 i + 2, and a leaf above the
    lowest level is repeated below itself: so all trees of all candidates are gone down in step.

    Args:
        space: The space whose candidates are predicted.
        arrays: `feature` and `threshold` (trees, inner nodes), `value` (trees, leaves), `offset` (1,).
    """

    def __init__(self, space: SearchSpace, arrays: Arrays) -> None:
        self.space = space
        self.arrays = dict(arrays)
        trees, leaves = arrays["value"].shape
        self._depth = leaves.bit_length() - 1
        self._feature = arrays["feature"].ravel()
        self._threshold = arrays["threshold"].ravel()
        self._value = arrays["value"].ravel()
        self._first_node = np.arange(trees) * (leaves - 1)
        self._first_leaf = np.arange(trees) * leaves
        self._offset = arrays["offset"].item()

    @property
    def digest(self) -> str:
        """Equal for equal surrogates."""
        return digest_of(self.arrays)

    def __call__(self, tokens: Tokens) -> Floats:
        """Returns the accuracy of each candidate (n, decisions) as a fraction (n,)."""
        found = [self._predict(tokens[first : first + CHUNK]) for first in range(0, len(tokens), CHUNK)]
        return np.concatenate(found) if found else np.zeros(0)

    def save(self, path: Path) -> None:
        """Writes an .npz file of plain arrays."""
        save_arrays(path, self.arrays)

    @classmethod
    def load(cls, path: Path, space: SearchSpace) -> TreeSurrogate:
        """Reads what `save` wrote."""
        return cls(space, load_arrays(path))

    def _predict(self, tokens: Tokens) -> Floats:
        features = tree_features(self.space, tokens)
        row = np.arange(len(tokens))[:, None] * features.shape[1]
        flat = features.ravel()
        node = np.zeros((len(tokens), len(self._first_node)), np.int64)
        for _ in range(self._depth):
            at = node + self._first_node
            node = 2 * node + 1 + (flat[row + self._feature[at]] > self._threshold[at])
        leaf = node - (2**self._depth - 1) + self._first_leaf
        return self._value[leaf].sum(axis=1) + self._offset


def tree_features(space: SearchSpace, tokens: Tokens) -> np.ndarray:
    """Tokens as numbers, then logarithms of macs and parameters; single precision, as in sklearn."""
    return np.concatenate([tokens, log_costs(space, tokens)], axis=1).astype(np.float32)


def fit_trees(benchmark: Benchmark) -> TreeSurrogate:
    """Fits boosted trees to the mean accuracies of a table."""
    offset = float(benchmark.mean_accuracies.mean())
    model = GradientBoostingRegressor(init="zero", **SETTINGS)
    model.fit(tree_features(benchmark.space, benchmark.tokens), benchmark.mean_accuracies - offset)
    flat = [_flatten(model.estimators_[number, 0].tree_) for number in range(SETTINGS["n_estimators"])]
    feature, threshold, value = (np.stack(parts) for parts in zip(*flat, strict=True))
    arrays = {
        "feature": feature,
        "threshold": threshold,
        "value": value * SETTINGS["learning_rate"],
        "offset": np.array([offset]),
    }
    return TreeSurrogate(benchmark.space, arrays)


def _flatten(tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature and threshold of each inner node of the whole tree, and the value of each leaf."""
    depth = SETTINGS["max_depth"]
    feature = np.zeros(2**depth - 1, np.int64)
    threshold = np.full(2**depth - 1, np.inf)
    value = np.zeros(2**depth)
    places = [(0, 0)]  # of a node in the whole tree, and in theirs
    for at, node in places:
        is_leaf = tree.children_left[node] < 0
        if at >= len(feature):
            value[at - len(feature)] = tree.value[node].item()
            continue
        if not is_leaf:
            feature[at], threshold[at] = tree.feature[node], tree.threshold[node]
        left, right = (node, node) if is_leaf else (tree.children_left[node], tree.children_right[node])
        places += [(2 * at + 1, left), (2 * at + 2, right)]
    return feature, threshold, value


def cached_trees(benchmark: Benchmark, folder: str | Path) -> TreeSurrogate:
    """Reads the trees of a table from a folder; fits them first where they are not there."""
    path = Path(folder) / f"trees-{table_digest(benchmark, SETTINGS)}.npz"
    if not path.exists():
        fit_trees(benchmark).save(path)
    return TreeSurrogate.load(path, benchmark.space)


def main() -> None:
    """Prints the quality of both families and the time of a prediction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MNAS_DATA", "."))
    benchmark = load_accel_nasbench(parser.parse_args().data / "accel_nasbench.csv")
    print(f"{benchmark.source}; scikit-learn {sklearn.__version__}, one thread of {processor_name()}")
    for name, fit in (("networks", fit_surrogate), ("trees", fit_trees)):
        start = time.perf_counter()
        quality = held_out_quality(benchmark, fit)
        seconds = time.perf_counter() - start
        surrogate = fit(benchmark)
        times = []
        for row in benchmark.tokens[:200]:
            start = time.perf_counter()
            surrogate(row[None])
            times.append(1000 * (time.perf_counter() - start))
        print(f"{name}: {quality}; fitted in {seconds:.0f} s")
        print(f"  one prediction takes {np.median(times):.2f} ms (median of {len(times)})")


if __name__ == "__main__":
    main()
