"""What a search costs its driver at many trials, beside peers, and how busy it keeps many workers.

python benchmarks/scale.py trials --trials 100000      # driver time and memory as a study grows, reopening it
python benchmarks/scale.py peers --trials 2000         # no-op trials per second, beside Optuna and Ray Tune
python benchmarks/scale.py workers --workers 1000      # busy share of simulated workers, on the same loop
python benchmarks/scale.py ray --workers 32            # busy share of Ray workers, and where the CPU goes
python benchmarks/scale.py batches --controller dyna   # regret where many trials are proposed at once
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from simulated_cluster import ClusterPlan, SimulatedClock, SimulatedCluster, Slow

import nas
from controllers import CONTROLLERS, Proposal
from nas.benchmarks import Benchmark, load_digits_bench, load_nas_bench_macro
from nas.scheduling import BATCH_FROM
from nas.study.journal_reading import MOST_AT_ONCE
from search_spaces import SearchSpace, mnasnet

TARGET = "accuracy, macs <= 1G"


def make_space() -> SearchSpace:
    """The space of all figures: 3.2e16 networks at 32 pixels."""
    return mnasnet(resolution=32, num_classes=10)


def no_op() -> nas.TableEvaluator:
    """An evaluator that takes no time."""
    return nas.TableEvaluator(_accuracy, name="tokens")


class Rate:
    """A reporter that prints the driver's time per trial, a line for each part of a search."""

    def __init__(self, part: int) -> None:
        self._part = part
        self._trials = 0
        self._at = time.process_time(), time.perf_counter()

    def on_start(self, start: object) -> None:  # noqa: ARG002
        """Begins to count."""
        self._at = time.process_time(), time.perf_counter()

    def on_trial(self, report: object) -> None:  # noqa: ARG002
        """Counts a trial."""
        self._trials += 1
        if self._trials % self._part == 0:
            now = time.process_time(), time.perf_counter()
            cpu, wall = (1000 * (b - a) / self._part for a, b in zip(self._at, now, strict=True))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            each = f"{cpu:5.2f} ms CPU, {wall:5.2f} ms wall a trial"
            print(f"{self._trials:>8,} trials: {each}, {memory:4.0f} MiB", flush=True)
            self._at = now

    def on_event(self, kind: str, message: str) -> None:
        """Prints what is unusual."""
        print(f"{kind}: {message}")

    def on_progress(self, progress: object) -> None:
        """Nothing."""

    def on_end(self, end: object) -> None:
        """Nothing."""


def search(folder: Path, trials: int, controller: str, *, reporters: tuple[Rate, ...] = ()) -> nas.Study:
    """Searches in this process."""
    return nas.search(
        make_space(),
        evaluator=no_op(),
        controller=controller,
        objective=TARGET,
        trials=trials,
        executor="inline",
        out=folder,
        reporters=reporters,
    )


def run_trials(arguments: argparse.Namespace) -> None:
    """Driver time as a study grows, then the time until it is read, shown and continued."""
    folder = Path(arguments.out or tempfile.mkdtemp())
    search(folder, arguments.trials, arguments.controller, reporters=(Rate(max(1, arguments.trials // 10)),))
    size = (folder / "study.sqlite").stat().st_size / 2**20
    print(f"the journal has {size:,.0f} MiB")
    began = time.perf_counter()
    nas.open_study(folder)
    print(f"opened in {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    command = [sys.executable, "-m", "nas", "show", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"nas show took {time.perf_counter() - began:.1f} s, start of Python included")
    began = time.perf_counter()
    search(folder, arguments.trials + 1, arguments.controller)
    print(f"continued, with one trial more, in {time.perf_counter() - began:.1f} s")


def run_peers(arguments: argparse.Namespace) -> None:
    """No-op trials per second of random search, everything written to disk."""
    contenders: dict[str, Callable[[int], int]] = {
        "ours, journal": _ours,
        "Optuna, SQLite": _optuna,
        "Ray Tune": lambda trials: _ray_tune(min(trials, arguments.tune_trials)),
    }
    for name, contender in contenders.items():
        rates = []
        for _ in range(arguments.runs):
            began = time.perf_counter()
            try:
                done = contender(arguments.trials)
            except ImportError as error:
                print(f"{name}: {error}")
                break
            rates.append(done / (time.perf_counter() - began))
        if rates:
            low, middle, high = np.quantile(rates, (0, 0.5, 1))
            print(f"{name}: {middle:,.0f} trials/s (n={len(rates)}, {low:,.0f} to {high:,.0f})", flush=True)


def _ours(trials: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return len(search(Path(folder), trials, "random").completed)


def _optuna(trials: int) -> int:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    counts = make_space().cardinalities

    def objective(trial: optuna.Trial) -> float:
        tokens = [trial.suggest_int(f"decision{i}", 0, count - 1) for i, count in enumerate(counts)]
        return 0.5 + sum(tokens) / 1000

    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/study.sqlite",
            sampler=optuna.samplers.RandomSampler(seed=0),
            direction="maximize",
        )
        study.optimize(objective, n_trials=trials)
        return len(study.trials)


def _ray_tune(trials: int) -> int:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import tune

    counts = make_space().cardinalities
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with tempfile.TemporaryDirectory() as folder:
            tuner = tune.Tuner(
                lambda config: tune.report({"accuracy": 0.5 + sum(config.values()) / 1000}),
                param_space={f"decision{i}": tune.randint(0, count) for i, count in enumerate(counts)},
                tune_config=tune.TuneConfig(metric="accuracy", mode="max", num_samples=trials),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            return len(tuner.fit())
    finally:
        ray.shutdown()


def run_workers(arguments: argparse.Namespace) -> None:
    """Busy share of simulated workers while a real search gives them jobs."""
    for seconds in arguments.trial_seconds:
        clock = SimulatedClock()
        plan = ClusterPlan(workers=arguments.workers, trial_seconds=seconds, seed=arguments.seed)
        cluster = SimulatedCluster(plan, clock)
        space = make_space()
        random = CONTROLLERS["random"](space.cardinalities, space.conditions, seed=arguments.seed)
        controller = Slow(random, clock, arguments.controller_ms / 1000)
        value = nas.Search(
            space=space,
            evaluator=no_op(),
            controller=controller,
            objective=nas.Objective.parse(TARGET),
            budget=nas.Budget(trials=arguments.trials),
        )
        with tempfile.TemporaryDirectory() as folder:
            study = value.run(folder, executor=cluster, clock=clock)
            hours = clock.monotonic() / 3600
            lost = sum(trial.attempts - 1 for trial in study.trials)
        print(
            f"{plan.workers:,} workers, trials of {seconds:g} s, controller {arguments.controller_ms:g} ms: "
            f"{100 * cluster.utilisation:.1f} % busy, {len(study.trials) / hours / 3600:.1f} trials/s, "
            f"driver {100 * clock.busy_seconds / clock.monotonic():.0f} % busy, "
            f"{lost} attempts lost, {np.median(cluster.stale):,.0f} results between a job and its own, "
            f"{np.mean(controller.sizes):.1f} proposals a call, at most {max(controller.sizes)}",
            flush=True,
        )


class Busy:
    """A reporter that looks at the time and at the CPU of all processes at the first and last trial."""

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self._count = 0
        self.seen: list[tuple[float, Counter[str]]] = []

    def on_trial(self, report: object) -> None:  # noqa: ARG002
        """Looks, at the first and the last of them."""
        self._count += 1
        if self._count in (1, self._trials):
            self.seen.append((time.perf_counter(), _cpu_seconds()))

    def on_start(self, start: object) -> None:
        """Nothing."""

    def on_event(self, kind: str, message: str) -> None:
        """Prints what is unusual."""
        print(f"{kind}: {message}")

    def on_progress(self, progress: object) -> None:
        """Nothing."""

    def on_end(self, end: object) -> None:
        """Nothing."""


def _cpu_seconds() -> Counter[str]:
    """CPU seconds so far of this process, of Ray's own and of its workers."""
    found = Counter({"driver": time.process_time()})
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            kind = child.name() if child.name() in ("raylet", "gcs_server") else "workers and agents"
            found[kind] += sum(child.cpu_times()[:2])
    return found


def run_ray(arguments: argparse.Namespace) -> None:
    """Busy share of real Ray workers on this machine whose trials only sleep, and where the CPU goes."""
    busy = Busy(arguments.trials)
    seconds = arguments.trial_seconds
    workers = nas.RayExecutor(arguments.workers, cpus_per_worker=(os.cpu_count() or 1) / arguments.workers)
    with tempfile.TemporaryDirectory() as folder:
        nas.search(
            make_space(),
            evaluator=nas.TableEvaluator(_accuracy, seconds=seconds, name="tokens"),
            controller="random",
            objective=TARGET,
            trials=arguments.trials,
            executor=workers,
            out=folder,
            reporters=(busy,),
        )
    (begun, before), (ended, after) = busy.seen
    wall, trials = ended - begun, arguments.trials - 1
    share = 100 * trials * seconds / (arguments.workers * wall)
    each = ", ".join(f"{kind} {1000 * (after[kind] - before[kind]) / trials:.1f} ms" for kind in after)
    print(
        f"{arguments.workers} Ray workers, trials of {seconds:g} s: {share:.0f} % busy, "
        f"{trials / wall:.0f} trials/s; CPU a trial: {each}"
    )


def _accuracy(candidate: nas.Candidate) -> float:
    return 0.5 + sum(candidate.job.tokens) / 1000


def run_batches(arguments: argparse.Namespace) -> None:
    """Regret of batches on a table: propose so many at once, against one by one with as many under way."""
    macro = Path(arguments.data or ".") / "nas-bench-macro_cifar10.json"
    table = load_nas_bench_macro(macro) if arguments.data else load_digits_bench()
    accuracies = table.lookup()
    best, median = max(accuracies.values()), float(np.median([*accuracies.values()]))
    ways = [(1, 1), *((size, step) for size in arguments.sizes for step in (1, size))]
    for width, step in ways:
        regrets = [
            100 * (best - accuracies[_found(arguments, table, width, step, seed)]) / (best - median)
            for seed in range(arguments.seeds)
        ]
        error = np.std(regrets, ddof=1) / np.sqrt(len(regrets))
        print(
            f"{table.name}, {arguments.controller}, {width:>2} under way, {step:>2} proposed at once: "
            f"regret after {arguments.evaluations} trials {np.mean(regrets):.1f} +- {error:.1f}, where the "
            f"median candidate has 100 (n={len(regrets)}, {min(regrets):.1f} to {max(regrets):.1f})",
            flush=True,
        )


def _found(
    arguments: argparse.Namespace, table: Benchmark, width: int, step: int, seed: int
) -> tuple[int, ...]:
    """What a controller recommends in the end; results come in the order of the proposals."""
    space, accuracies = table.space, table.lookup()
    controller = CONTROLLERS[arguments.controller](space.cardinalities, space.conditions, seed=seed)
    rng = np.random.default_rng(seed)
    waiting: deque[Proposal] = deque()
    left = arguments.evaluations
    while left or waiting:
        while left and len(waiting) + step <= width:
            found = controller.propose(min(step, left))
            left -= len(found)
            waiting.extend(found)
        for _ in range(min(step, len(waiting))):
            proposal = waiting.popleft()
            noise = table.noise * rng.standard_normal()
            controller.feedback([(proposal, float(accuracies[proposal.tokens] + noise))])
    return tuple(controller.recommend()[0])


def main() -> None:
    """Reads the command line and prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    trials = kinds.add_parser("trials")
    trials.add_argument("--trials", type=int, default=100_000)
    trials.add_argument("--controller", default="random")
    trials.add_argument("--out", help="folder of the study; by default a temporary one")
    peers = kinds.add_parser("peers")
    peers.add_argument("--trials", type=int, default=2000)
    peers.add_argument("--tune-trials", type=int, default=200, help="fewer, as each starts a process")
    peers.add_argument("--runs", type=int, default=3)
    workers = kinds.add_parser("workers")
    workers.add_argument("--workers", type=int, default=1000)
    workers.add_argument("--trials", type=int, default=20_000)
    workers.add_argument("--trial-seconds", type=float, nargs="+", default=[60.0, 10.0])
    workers.add_argument("--controller-ms", type=float, default=20.0)
    workers.add_argument("--seed", type=int, default=0)
    ray = kinds.add_parser("ray")
    ray.add_argument("--workers", type=int, default=32)
    ray.add_argument("--trials", type=int, default=1000)
    ray.add_argument("--trial-seconds", type=float, default=0.1)
    batches = kinds.add_parser("batches")
    batches.add_argument("--controller", default="dyna")
    batches.add_argument("--sizes", type=int, nargs="+", default=[BATCH_FROM, MOST_AT_ONCE])
    batches.add_argument("--evaluations", type=int, default=128)
    batches.add_argument("--data", default=os.environ.get("MNAS_DATA"), help="folder with NAS-Bench-Macro")
    batches.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    runs = {
        "trials": run_trials,
        "peers": run_peers,
        "workers": run_workers,
        "batches": run_batches,
        "ray": run_ray,
    }
    runs[arguments.kind](arguments)


if __name__ == "__main__":
    main()
