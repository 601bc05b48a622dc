"""Driver time per trial: a search of the mnasnet space with RandomSearch and a lookup table, in one process.

    python benchmarks/driver_overhead.py --trials 200 --runs 7

Every run is a process and a study of its own, so that no cache is warm. Printed are the median and the range
over the runs of (time of the whole search - time in the evaluator) / trials, as wall time and as CPU time of
the process; all commits of the journal are included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import nas
from search_spaces import mnasnet


def run_once(trials: int) -> dict[str, float]:
    """Searches once; returns milliseconds per trial."""
    space = mnasnet(resolution=32, num_classes=10)
    evaluator = nas.TableEvaluator(lambda candidate: 0.5 + sum(candidate.job.tokens) / 1000, name="tokens")
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        study = nas.search(
            space,
            evaluator=evaluator,
            controller="random",
            target_macs=5e6,
            trials=trials,
            executor="inline",
            out=folder,
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        in_worker = sum(trial.seconds for trial in study.trials)
    return {"wall": 1000 * (wall - in_worker) / trials, "cpu": 1000 * (cpu - in_worker) / trials}


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--once", action="store_true", help="one run in this process, printed as JSON")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(run_once(arguments.trials)))
        return
    command = [sys.executable, __file__, "--once", "--trials", str(arguments.trials)]
    figures = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(arguments.runs)
    ]
    print(f"{arguments.trials} trials, n={arguments.runs} runs, {os.cpu_count()} cores, {platform.machine()}")
    for name in ("wall", "cpu"):
        values = sorted(figure[name] for figure in figures)
        print(
            f"driver {name} time per trial: median {statistics.median(values):.2f} ms, "
            f"from {values[0]:.2f} to {values[-1]:.2f} ms"
        )


if __name__ == "__main__":
    main()
