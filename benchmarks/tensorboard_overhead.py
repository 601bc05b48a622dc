"""Prints how long TensorBoard, W&B or MLflow keep the driver busy, for each trial and at the end of a search.

Usage: python benchmarks/tensorboard_overhead.py [--reporter NAME] [--trials 200] [--repeats 5]

W&B writes files only (WANDB_MODE=offline); MLflow writes to a data base on this disk, or to the server that
MLFLOW_TRACKING_URI names.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from controllers import Controller, Problem, RandomSearch, Reinforce
from nas.evaluators import TableEvaluator
from nas.events import SearchEnd, TrialReport
from nas.protocols import Reporter
from nas.report.mlflow_reporter import MlflowReporter
from nas.report.tensorboard import TensorBoardReporter
from nas.report.wandb_reporter import WandbReporter
from nas.short_form import search
from nas.trial import Candidate
from search_spaces import cost, mnasnet

SPACE = mnasnet(resolution=32, num_classes=10)


class Timed:
    """Adds up the time that a reporter takes."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.on_start, self.on_event = reporter.on_start, reporter.on_event
        self.on_progress = reporter.on_progress
        self.trial_seconds: list[float] = []
        self.end_seconds = 0.0

    def on_trial(self, report: TrialReport) -> None:
        """Times one trial's record."""
        began = time.perf_counter()
        self._reporter.on_trial(report)
        self.trial_seconds.append(time.perf_counter() - began)

    def on_end(self, end: SearchEnd) -> None:
        """Times the last figure, and what is not sent yet."""
        began = time.perf_counter()
        self._reporter.on_end(end)
        self.end_seconds = time.perf_counter() - began


def make_reporter(name: str, folder: str) -> Reporter:
    """A reporter by name, ready to report."""
    if name == "tensorboard":
        return TensorBoardReporter()
    if name == "wandb":
        os.environ["WANDB_MODE"] = "offline"
        reporter: WandbReporter | MlflowReporter = WandbReporter("benchmark")
    else:
        reporter = MlflowReporter(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db")
    reporter.check_ready()
    return reporter


def accuracy(candidate: Candidate) -> float:
    """Grows with the network, saturating."""
    macs = cost(candidate.network).macs
    return 0.9 * macs / (macs + 20e6)


def make(name: str, seed: int) -> Controller:
    """A controller by name."""
    problem = Problem(SPACE.cardinalities, SPACE.conditions, key=SPACE.digest)
    if name == "RandomSearch":
        return RandomSearch(problem, seed=seed)
    policy = "lstm" if name == "Reinforce, LSTM" else "independent"
    return Reinforce(problem, seed=seed, policy=policy)


def measure(reported: str, name: str, seed: int, trials: int) -> tuple[float, float]:
    """Mean time of a trial and time of the end of one search, milliseconds."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        reporter = Timed(make_reporter(reported, folder))
        search(
            SPACE,
            evaluator=TableEvaluator(accuracy, noise=0.01),
            controller=make(name, seed),
            target_macs=30e6,
            trials=trials,
            executor="inline",
            out=Path(folder) / "study",
            reporters=[reporter],
        )
    return 1e3 * statistics.mean(reporter.trial_seconds), 1e3 * reporter.end_seconds


def main() -> None:
    """Prints a line for each controller."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reporter", choices=("tensorboard", "wandb", "mlflow"), default="tensorboard")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{arguments.reporter}: mnasnet at 32 pixels, {arguments.trials} trials, ", end="")
    print(f"median [least, most] of {arguments.repeats} runs")
    for name in ("RandomSearch", "Reinforce", "Reinforce, LSTM"):
        found = [
            measure(arguments.reporter, name, seed, arguments.trials) for seed in range(arguments.repeats)
        ]
        per_trial, at_end = ([row[column] for row in found] for column in (0, 1))
        print(f"{name:16s} {spread(per_trial, 2)} ms per trial, {spread(at_end, 0)} ms at the end")


def spread(values: list[float], digits: int) -> str:
    """Median with least and most."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


if __name__ == "__main__":
    main()
