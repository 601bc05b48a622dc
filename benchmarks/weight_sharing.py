"""Measures how far the accuracies of shared weights rank networks, beside what else their time buys.

    python benchmarks/weight_sharing.py digits --seeds 3 --out FOLDER
    python benchmarks/weight_sharing.py macro --data FOLDER --width 0.25 --epochs 10 --out FOLDER
    python benchmarks/weight_sharing.py macro --data FOLDER --width 1 --epochs 50 --device cuda --out FOLDER
    python benchmarks/weight_sharing.py speed

`digits` trains supernets of the digits benchmark for the time of so many stand-alone trainings, measures all
576 networks in them, and compares the order with that of the table, the mean of three trainings of each.
`--sampling policy` lets a policy draw the networks, as `nas search --weight-sharing` does, and says which it
holds most probable in the end.
`macro` does so with a sample of NAS-Bench-Macro and its published accuracies. `speed` compares a step of a
path with one of the same network by itself. FOLDER keeps what was measured: a run that is there is not
repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import nas
from nas.benchmarks import Benchmark, load_digits_bench, load_nas_bench_macro
from nas.benchmarks.digits import BATCH_SIZE, SEARCH_FRACTION, STEPS, digits_evaluator
from nas.data.images import ImageData
from nas.evaluation.additive import fit_additive
from nas.full_training.options import TrainOptions
from nas.full_training.run import Unwatched
from nas.io import write_whole
from nas.statistics import kendall_tau
from nas.trial import Candidate, Job
from nas.values import digest
from nas.weight_sharing.evaluator import SharedWeights
from nas.weight_sharing.paths import SAMPLINGS, extreme_networks
from nas.weight_sharing.stored import read_supernet
from nas.weight_sharing.supernet import Supernet
from nas.weight_sharing.training import POLICY_NAME, SUPERNET, SupernetTraining, read_draws
from nas.weight_sharing.training import run as train
from search_spaces import SearchSpace, build, nas_bench_macro

RESAMPLES = 500
"""Of the networks, with replacement, for the intervals of tau."""

TIMED = 12
"""Networks whose stand-alone trainings are timed."""

MACRO_NETWORKS = 400
"""Networks of NAS-Bench-Macro that are measured."""

DRAWS = 20
"""Samples of stand-alone trainings that the predictor is fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to train a supernet.

    Attributes:
        sampling: Which networks a step goes through; `policy` trains a policy for the accuracy alone.
        path_steps: Steps, counted once for each network that they go through.
        random_paths: Random networks a step, of the sandwich.
        learning_rate: Its peak.
        label_smoothing: Weight of the uniform distribution in the labels.
        kernels: How kernels of different sizes share weights.
        seed: Of everything random.
    """

    sampling: str
    path_steps: int
    random_paths: int = 2
    learning_rate: float = 0.1
    label_smoothing: float = 0.1
    kernels: str = "own"
    seed: int = 0

    def steps(self, space: SearchSpace) -> int:
        """Updates of the weights."""
        paths = {
            "uniform": 1,
            POLICY_NAME: 1,
            "fair": max(space.cardinalities),
            "sandwich": 2 + self.random_paths,
        }
        return self.path_steps // paths[self.sampling]

    @property
    def name(self) -> str:
        """Without the seed: runs that differ in it alone are one row of the report."""
        words = f"{self.sampling} {self.path_steps} rate {self.learning_rate:g}"
        words += f" smoothing {self.label_smoothing:g} {self.kernels}"
        return words + (f" random {self.random_paths}" if self.sampling == "sandwich" else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one supernet gave: CPU seconds, accuracies with shared weights, and the network of a policy."""

    train_seconds: float
    score_seconds: float
    accuracies: Sequence[float]
    chosen: Sequence[int] | None = None


def run_once(
    setting: Setting, space: SearchSpace, tokens: np.ndarray, data: ImageData, given: argparse.Namespace
) -> Run:
    """Trains a supernet and measures networks in it, unless the folder has that already."""
    what = digest(space.fingerprint, data.fingerprint, data.split_fingerprint, tokens, given.calibration)
    place = Path(given.out) / f"{setting.name} seed {setting.seed} {what}.json".replace(" ", "_")
    if place.exists():
        return Run(**json.loads(place.read_text())["run"])
    recipe = SUPERNET.changed(
        epochs=setting.steps(space) / (len(data.train) // BATCH_SIZE),
        learning_rate=setting.learning_rate,
        label_smoothing=setting.label_smoothing,
        batch_size=BATCH_SIZE,
        rate_rule="none",
    )
    options = TrainOptions(device=given.device, evaluate_every=recipe.epochs)
    with tempfile.TemporaryDirectory() as folder:
        has_policy = setting.sampling == POLICY_NAME
        asked = SupernetTraining(
            space=space,
            data=data,
            sampling="uniform" if has_policy else setting.sampling,
            kernels=setting.kernels,
            recipe=recipe,
            random_paths=setting.random_paths,
            seed=setting.seed,
            objective=nas.Objective.parse("accuracy") if has_policy else None,
        )
        began = time.process_time()
        train(asked, folder, options=options, watcher=Unwatched())
        trained = time.process_time()
        supernet, _ = read_supernet(Path(folder), space)
        chosen = read_draws(Path(folder))[0] if has_policy else None
    evaluator = SharedWeights(supernet, data, device=given.device, calibration_images=given.calibration)
    values = [accuracy_of(evaluator, space, row) for row in tokens.tolist()]
    seconds = time.process_time() - trained
    run = Run(train_seconds=trained - began, score_seconds=seconds, accuracies=values, chosen=chosen)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, json.dumps({"setting": asdict(setting), "run": asdict(run)}))
    return run


def accuracy_of(evaluator: nas.Evaluator, space: SearchSpace, tokens: Sequence[int]) -> float:
    """The first metric of one network."""
    job = Job(trial=0, attempt=1, tokens=tuple(tokens), seed=0)
    return float(evaluator.evaluate(Candidate(job=job, network=space.decode(tokens))).metrics[0].value)


def tau_interval(values: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Kendall's tau and its 95 % interval, networks resampled."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(truth), size=len(truth)) for _ in range(RESAMPLES))
    low, high = np.percentile([kendall_tau(values[rows], truth[rows]) for rows in drawn], [2.5, 97.5])
    return kendall_tau(values, truth), float(low), float(high)


def quality(values: np.ndarray, truth: np.ndarray) -> str:
    """How values rank networks: tau, tau in the top half, the regret of their best, of the best of ten."""
    tau, low, high = tau_interval(values, truth)
    top = truth >= np.median(truth)
    ten = truth[np.argsort(-values)[:10]].max()
    return (
        f"tau {tau:.3f} [{low:.3f}, {high:.3f}], in the top half {kendall_tau(values[top], truth[top]):.3f}, "
        f"regret {regret(truth, truth[values.argmax()])}, of the best of its top 10 {regret(truth, ten)}"
    )


def regret(truth: np.ndarray, value: float) -> str:
    """How far a network is below the best one, in percentage points."""
    return f"{100 * (truth.max() - value):.2f}"


def report_runs(named: Mapping[str, Sequence[Run]], tokens: np.ndarray, truth: np.ndarray) -> None:
    """Prints a line for each run."""
    for name, runs in named.items():
        for run in runs:
            values = np.array(run.accuracies)
            if run.chosen is not None:
                at = np.flatnonzero((tokens == run.chosen).all(axis=1))
                held = regret(truth, truth[at[0]]) if len(at) else "not known, as it is not in the table"
                print(f"  {name}: regret of the policy's network {held}")
            print(
                f"  {name}: {quality(values, truth)}, mean accuracy {values.mean():.3f}, CPU "
                f"{run.train_seconds:.0f} s and {run.score_seconds / len(values) * 1e3:.0f} ms a network",
                flush=True,
            )


def report_summaries(named: Mapping[str, Sequence[Run]], truth: np.ndarray) -> None:
    """Prints the mean over the runs of each setting that has several."""
    for name, runs in named.items():
        if len(runs) > 1:
            taus = [kendall_tau(np.array(run.accuracies), truth) for run in runs]
            lost = [100 * (truth.max() - truth[int(np.argmax(run.accuracies))]) for run in runs]
            print(f"  {name}, {len(runs)} seeds: tau {spread(taus)}, regret {spread(lost, 2)}", flush=True)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation."""
    return f"{statistics.fmean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def report_costs(space: SearchSpace, tokens: np.ndarray, truth: np.ndarray) -> None:
    """Prints how far sizes alone rank the networks, the larger the better."""
    costs = space.costs(tokens)
    for name in ("params", "macs"):
        print(f"  {name} alone: {quality(np.asarray(getattr(costs, name), np.float64), truth)}")


def report_trainings(bench: Benchmark, rows: np.ndarray) -> None:
    """Prints how far one stand-alone training of each network ranks them by the mean of the others."""
    accuracies = bench.accuracies[rows]
    found = []
    for seed in range(accuracies.shape[1]):
        others = np.delete(accuracies, seed, axis=1).mean(axis=1)
        found.append(kendall_tau(accuracies[:, seed], others))
    print(f"  one training of each, with the mean of its others: tau {spread(found)}")


def report_predictor(bench: Benchmark, rows: np.ndarray, count: int) -> None:
    """Prints what a ridge regression on one-hot options says after so many stand-alone trainings."""
    truth = bench.mean_accuracies[rows]
    taus, lost = [], []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        chosen = rng.choice(len(bench.tokens), count, replace=False)
        seeds = rng.integers(bench.accuracies.shape[1], size=count)
        predict = fit_additive(
            bench.space.cardinalities, bench.tokens[chosen], bench.accuracies[chosen, seeds]
        )
        values = predict(bench.tokens[rows])
        taus.append(kendall_tau(values, truth))
        lost.append(100 * (truth.max() - truth[values.argmax()]))
    print(
        f"  ridge on {count} trainings, {DRAWS} draws: tau {spread(taus)}, regret of its best "
        f"{spread(lost, 2)}"
    )


def report_searches(bench: Benchmark, count: int, seeds: int) -> None:
    """Prints the regret of the default controller's best of so many stand-alone trainings."""
    truth, known, lost = bench.mean_accuracies, bench.lookup(), []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            study = nas.search(bench.space, out=folder, evaluator=bench.evaluator(), trials=count, seed=seed)
            lost.append(100 * (truth.max() - known[study.best.tokens]))
    print(f"  default controller, {count} trainings, {seeds} seeds: regret of its best {spread(lost, 2)}")


def digits(given: argparse.Namespace) -> None:
    """Compares supernets of the digits benchmark with what else their time buys."""
    bench = load_digits_bench()
    data = nas.load_data("mnist5k", search_fraction=SEARCH_FRACTION, seed=0)
    rows = np.unique(np.linspace(0, len(bench.tokens) - 1, given.networks or len(bench.tokens)).astype(int))
    tokens, truth = bench.tokens[rows], bench.mean_accuracies[rows]
    print(
        f"digits: {len(rows)} of {len(bench.tokens)} networks, {given.trainings} trainings' time", flush=True
    )
    report_costs(bench.space, tokens, truth)
    report_trainings(bench, rows)
    report_predictor(bench, rows, given.trainings)
    if given.searches:
        report_searches(bench, given.trainings, given.searches)
    if given.time_one:
        report_time_of_one(bench)
    report_settings(given, bench.space, tokens, truth, data, path_steps=given.trainings * STEPS)


def report_time_of_one(bench: Benchmark) -> None:
    """Prints the CPU time of a stand-alone training, the mean over random networks."""
    evaluator, seconds = digits_evaluator(), []
    evaluator.prepare()
    for row in np.random.default_rng(0).choice(len(bench.tokens), TIMED, replace=False):
        began = time.process_time()
        accuracy_of(evaluator, bench.space, bench.tokens[row].tolist())
        seconds.append(time.process_time() - began)
    print(
        f"  one stand-alone training: {spread(seconds, 2)} CPU seconds, {len(seconds)} networks", flush=True
    )


def report_settings(
    given: argparse.Namespace,
    space: SearchSpace,
    tokens: np.ndarray,
    truth: np.ndarray,
    data: ImageData,
    *,
    path_steps: int,
) -> None:
    """Trains every setting that was asked for, and prints how the networks rank in it."""
    for sampling in given.sampling:
        named: dict[str, list[Run]] = {}
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            setting = Setting(
                sampling=sampling,
                path_steps=path_steps,
                random_paths=given.random_paths,
                learning_rate=given.learning_rate,
                label_smoothing=given.label_smoothing,
                kernels=given.kernels,
                seed=seed,
            )
            run = run_once(setting, space, tokens, data, given)
            report_runs({f"{setting.name} seed {seed}": [run]}, tokens, truth)
            named.setdefault(setting.name, []).append(run)
        report_summaries(named, truth)


def macro(given: argparse.Namespace) -> None:
    """Compares supernets of NAS-Bench-Macro with its published accuracies, beside sizes and depth alone."""
    bench = load_nas_bench_macro(given.data / "nas-bench-macro_cifar10.json")
    data = nas.load_data(given.data / "cifar10_jpeg.npz", seed=0)
    space = nas_bench_macro(width=given.width)
    count = given.networks or MACRO_NETWORKS
    rows = np.sort(np.random.default_rng(0).choice(len(bench.tokens), count, replace=False))
    tokens, truth = bench.tokens[rows], bench.mean_accuracies[rows]
    print(f"NAS-Bench-Macro: {count} of {len(bench.tokens)} networks, width {given.width:g}", flush=True)
    report_costs(bench.space, tokens, truth)
    print(f"  layers alone: {quality((tokens > 0).sum(axis=1).astype(np.float64), truth)}")
    report_trainings(bench, rows)
    steps = round(given.epochs * (len(data.train) // BATCH_SIZE))
    report_settings(given, space, tokens, truth, data, path_steps=steps)


def speed(given: argparse.Namespace) -> None:
    """Compares steps of paths with those of the same networks by themselves, and the sizes of the weights."""
    spaces = {"digits": load_digits_bench().space, "nas_bench_macro": nas_bench_macro(width=given.width)}
    device = torch.device(given.device)
    for name, space in spaces.items():
        supernet = Supernet(space).to(device).train()
        smallest, largest = extreme_networks(space)
        shared, alone = (
            sum(p.numel() for p in m.parameters()) for m in (supernet, build(space.decode(largest)))
        )
        print(f"{name}: {shared:,} shared parameters, {alone:,} of the largest network alone")
        for word, tokens in {"smallest": smallest, "largest": largest}.items():
            report_speed(f"  {word}", supernet, tokens, given, device)


def report_speed(
    name: str, supernet: Supernet, tokens: Sequence[int], given: argparse.Namespace, device: torch.device
) -> None:
    """Prints steps a second of a path and of the network alone, in turns, and their ratio turn by turn."""
    network = supernet.space.decode(tokens)
    module = build(network, seed=0).to(device).train()
    images = torch.randn(
        BATCH_SIZE, network.in_channels, network.resolution, network.resolution, device=device
    )
    labels = torch.arange(BATCH_SIZE, device=device) % network.num_classes
    path_rates, alone_rates = [], []
    for _ in range(given.turns + 1):  # the first warms up
        path_rates.append(rate_of(supernet, lambda: supernet(images, tokens), labels, given.steps))
        alone_rates.append(rate_of(module, lambda: module(images), labels, given.steps))
    ratios = np.array(path_rates[1:]) / alone_rates[1:]
    print(
        f"{name}: {np.median(path_rates[1:]):.1f} steps a second of the path, "
        f"{np.median(alone_rates[1:]):.1f} alone, ratio {np.median(ratios):.2f} "
        f"[{ratios.min():.2f}, {ratios.max():.2f}]",
        flush=True,
    )


def rate_of(
    module: torch.nn.Module, forward: Callable[[], torch.Tensor], labels: torch.Tensor, steps: int
) -> float:
    """Steps a second: by CPU time, which others on the machine change least, or by the clock on a GPU."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    on_gpu = labels.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    began = clock()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(forward(), labels).backward()
        optimizer.step()
    if on_gpu:
        torch.cuda.synchronize()
    return steps / (clock() - began)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    trained = argparse.ArgumentParser(add_help=False)
    trained.add_argument("--out", type=Path, required=True)
    trained.add_argument("--sampling", nargs="+", choices=(*SAMPLINGS, POLICY_NAME), default=SAMPLINGS)
    trained.add_argument("--seeds", type=int, default=3)
    trained.add_argument("--first-seed", type=int, default=0)
    trained.add_argument("--networks", type=int, help="how many are measured")
    trained.add_argument("--learning-rate", type=float, default=0.1)
    trained.add_argument("--label-smoothing", type=float, default=0.1)
    trained.add_argument("--random-paths", type=int, default=2)
    trained.add_argument("--kernels", choices=("own", "cropped"), default="own")
    trained.add_argument("--calibration", type=int, default=1_024)
    trained.add_argument("--device", default="cpu")
    one = commands.add_parser("digits", parents=[trained])
    one.add_argument("--trainings", type=int, default=60, help="stand-alone trainings whose time is given")
    one.add_argument("--searches", type=int, default=5, help="searches by the default controller")
    one.add_argument("--time-one", action="store_true", help="time stand-alone trainings")
    one = commands.add_parser("macro", parents=[trained])
    one.add_argument("--data", type=Path, required=True, help="folder of the table and cifar10_jpeg.npz")
    one.add_argument("--width", type=float, default=0.25)
    one.add_argument("--epochs", type=float, default=50, help="passes of paths over the images")
    one = commands.add_parser("speed")
    one.add_argument("--width", type=float, default=0.25, help="of nas_bench_macro")
    one.add_argument("--turns", type=int, default=7)
    one.add_argument("--steps", type=int, default=10, help="of a turn")
    one.add_argument("--device", default="cpu")
    return parser.parse_args(words)


def main() -> None:
    """Runs the part that was asked for."""
    given = parse()
    {"digits": digits, "macro": macro, "speed": speed}[given.command](given)


if __name__ == "__main__":
    main()
