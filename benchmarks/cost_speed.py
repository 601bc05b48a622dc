"""Candidates costed per second: one by one, a million at once, within bounds, and by fvcore, in one run.

    python benchmarks/cost_speed.py

One process, one thread. One by one: `cost(space.decode(tokens))`, decoding included, one random candidate
after another of one space. Together: `space.costs(tokens)` of a million random candidates. Within bounds:
`space.sample_within` on the rarest 1 in 10,000 by multiply-adds. fvcore: the module built and traced, its
convolutions and linear layers counted.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from search_spaces import SearchSpace, build, cost, efficientnet, mnasnet


def rates(run: Callable[[], int], runs: int) -> list[float]:
    """Things done per second, in each of several runs."""
    found = []
    for _ in range(runs):
        begin = time.perf_counter()
        done = run()
        found.append(done / (time.perf_counter() - begin))
    return found


def show(what: str, values: list[float], unit: str) -> None:
    """Prints median, least and most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"  {what:46} {middle:>12,.1f} {unit:14} ({low:,.1f} to {high:,.1f}, n = {len(values)})")


def one_by_one(make: Callable[[], SearchSpace], count: int) -> float:
    """Networks per second: fresh random candidates of a fresh space, decoded and costed."""
    space = make()
    candidates = space.sample_many(np.random.default_rng(0), count).tolist()
    begin = time.perf_counter()
    for tokens in candidates:
        cost(space.decode(tokens))
    return count / (time.perf_counter() - begin)


def by_fvcore(space: SearchSpace, count: int) -> int:
    """Counts random candidates with fvcore."""
    import torch
    from fvcore.nn import FlopCountAnalysis

    torch.set_num_threads(1)
    network = space.template
    images = torch.zeros(1, network.in_channels, network.resolution, network.resolution)
    for tokens in space.sample_many(np.random.default_rng(0), count).tolist():
        module = build(space.decode(tokens), seed=0).eval()
        flops = FlopCountAnalysis(module, images)
        counted = flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
        assert counted["conv"] + counted["linear"] == cost(space.decode(tokens)).macs
    return count


def measure(make: Callable[[], SearchSpace], runs: int, candidates: int) -> None:
    """Prints the figures of one space."""
    space = make()
    print(f"{space.name}, {space.size:.3g} candidates, {space.template.resolution} pixels")
    show("one by one, nothing known", [one_by_one(make, candidates)], "networks/s")
    show("one by one again", [one_by_one(make, candidates) for _ in range(runs)], "networks/s")
    tokens = space.sample_many(np.random.default_rng(1), 1_000_000)
    show("a million together, tables empty", rates(lambda: len(space.costs(tokens)), 1), "candidates/s")
    show("a million together", rates(lambda: len(space.costs(tokens)), runs), "candidates/s")
    rare = (0.0, float(np.sort(space.costs(tokens[:100_000]).macs)[9]))
    fresh = make()

    def draw(count: int) -> int:
        return len(fresh.sample_within(np.random.default_rng(2), count, macs=rare))

    show("the first of 1 in 10,000 within bounds", [1000 / rate for rate in rates(lambda: draw(1), 1)], "ms")
    show("each of a thousand more", [1000 / rate for rate in rates(lambda: draw(1000), runs)], "ms")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        show("fvcore, module built and traced", rates(lambda: by_fvcore(space, 5), runs), "networks/s")


def main() -> None:
    """Prints the figures of each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, one thread")
    for make in (efficientnet, mnasnet):
        measure(make, arguments.runs, arguments.candidates)


if __name__ == "__main__":
    main()
