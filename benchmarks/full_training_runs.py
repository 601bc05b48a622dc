"""What the parts of `full_training.py` share: images, networks of equal cost, kept trainings, tables."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.data.images import ImageData
from nas.data.loading import load_data
from nas.devices import synchronize
from nas.export.weights import trained
from nas.full_training.batches import TrainingBatches
from nas.full_training.fitting import fit
from nas.full_training.options import TrainOptions
from nas.full_training.ranks import OneRank
from nas.full_training.recipe import FullRecipe
from nas.full_training.training import FullTraining, Training
from nas.full_training.work import Fit, TrainingProgress
from nas.machine import processor_name, usable_cores
from nas.training.accuracy import evaluate_accuracy
from nas.training.training import out_of_place
from nas.values import digest
from search_spaces import Network, Rule, cost, reference
from search_spaces.families.skeleton import fit as fit_to_images
from search_spaces.rounding import LEAST_MAP

SIDE = 32
CLASSES = 10
EVALUATIONS = 4
"""Of a training, the last at its end."""

WITHIN = 0.02
"""How far multiply-adds may be apart that count as equal, as a share."""

FINE = Rule(divisor=2)
"""Channels in steps of two: in steps of eight, networks this small cannot have equal multiply-adds."""

TURN_STEPS, TURNS = 5, 12
"""Steps of a turn, and turns of each, where speeds are compared."""

LEDGER, MEASURED = "results.jsonl", "measured.jsonl"


def write_pack(source: Path, target: Path, *, train: int, search: int) -> Path:
    """Writes a pack with the first images of each class of another, in two parts, and its whole test set.

    Args:
        source: An encoded pack with `train_` and `test_`.
        target: File to write; one that is there is kept.
        train: Training images, all classes together.
        search: Images of the search split, taken after them from the same training set.
    """
    if target.exists():
        return target
    with np.load(source) as pack:
        arrays = {name: pack[name] for name in pack.files}
    labels, offset, stream = (arrays.pop(f"train_{name}") for name in ("label", "offset", "jpeg"))
    by_class = [np.flatnonzero(labels == label) for label in range(len(arrays["classes"]))]
    first, last = train // len(by_class), (train + search) // len(by_class)
    chosen = {
        "train": np.sort(np.concatenate([places[:first] for places in by_class])),
        "val": np.sort(np.concatenate([places[first:last] for places in by_class])),
    }
    for part, places in chosen.items():
        files = [stream[offset[place] : offset[place + 1]] for place in places]
        arrays[f"{part}_jpeg"] = np.concatenate(files)
        arrays[f"{part}_offset"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_label"] = labels[places]
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"unfinished-{target.name}")
    np.savez(unfinished, **arrays)
    return unfinished.replace(target)


def at_32_pixels(name: str, width: float, *, last_map: int = 1) -> Network:
    """A published network for 32 pixels, without dropout, as the space `small` has none.

    Args:
        name: Its name.
        width: Multiplies its channels.
        last_map: Side of its last feature map, pixels: 1 as published; for a larger one, the earliest strides
            are set to 1.
    """
    side = LEAST_MAP * SIDE // last_map
    fitted = fit_to_images(
        reference(name), resolution=side, num_classes=CLASSES, in_channels=3, width=width, rule=FINE
    )
    return replace(fitted, resolution=SIDE, head=replace(fitted.head, dropout=0.0))


def of_equal_macs(make: Callable[[float], Network], macs: int) -> Network:
    """The network of a family, by width, whose multiply-adds are nearest to a number.

    Raises:
        ValueError: None is within 2 % of it.
    """
    low, high = 1e-3, 16.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        if cost(make(middle)).macs < macs:
            low = middle
        else:
            high = middle
    found = min((make(low), make(high)), key=lambda network: abs(cost(network).macs - macs))
    if abs(cost(found).macs / macs - 1) > WITHIN:
        raise ValueError(
            f"no width has {macs:,} macs within {WITHIN:.0%}: the nearest has {cost(found).macs:,}"
        )
    return found


def epochs_of_equal_time(
    epochs: float, step_seconds: float, other_step_seconds: float, per_epoch: int
) -> float:
    """How long another training may be to take as much time as one of so many epochs; in whole steps."""
    return round(epochs * per_epoch * step_seconds / other_step_seconds) / per_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training that was made.

    Attributes:
        key: Changes with everything that decides the result.
        part: Of the program.
        name: The row of the table.
        seed: Of everything random.
        accuracy: On the test split, a fraction; None where it was not looked at.
        search_accuracy: On the search split, of the same weights.
        kept: Which weights these are.
        epochs: Of the recipe.
        seconds: Wall time of the training with its evaluations.
        processor_seconds: Processor time of the same on a CPU; None where it is not known of the whole.
        images: Training images that were seen, each as often as it was.
        macs: Multiply-adds of one image.
        params: Parameters.
        folder: Where its checkpoint is, in the program's folder.
    """

    key: str
    part: str
    name: str
    seed: int
    accuracy: float | None
    search_accuracy: float
    kept: str
    epochs: float
    seconds: float
    processor_seconds: float | None
    images: int
    macs: int
    params: int
    folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where trainings are made and kept.

    Attributes:
        out: Folder of everything.
        source: The pack with all images.
        images: How many of its training images are used, a fifth of them as the search split.
        device: Where to train.
        seeds: Trainings of each row.
    """

    out: Path
    source: Path
    images: int
    device: torch.device
    seeds: int

    @property
    def options(self) -> TrainOptions:
        """How trainings are run."""
        return TrainOptions(device=str(self.device))

    def pack(self, *, train: int | None = None, search: int | None = None) -> Path:
        """The pack of so many images; by default four fifths of them are for training."""
        search = self.images // 5 if search is None else search
        train = self.images - self.images // 5 if train is None else train
        target = self.out / f"images_{train}_{search}.npz"
        return write_pack(self.source, target, train=train, search=search)

    def data(self, *, resolution: int | None = None) -> ImageData:
        """The images of `pack`."""
        return load_data(self.pack(), resolution=resolution)

    def known(self, key: str) -> Run | None:
        """What came of a training before."""
        path = self.out / LEDGER
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        runs = [Run(**json.loads(line)) for line in lines if line.endswith("}")]
        return next((run for run in runs if run.key == key), None)

    def keep(self, run: Run) -> Run:
        """Writes a line of JSON, and prints one."""
        with (self.out / LEDGER).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        tested = "not tested" if run.accuracy is None else f"test {run.accuracy:.2%}"
        print(
            f"{run.part}: {run.name}, seed {run.seed}: {tested}, search {run.search_accuracy:.2%}, "
            f"{run.seconds:.0f} s",
            flush=True,
        )
        return run

    def train(
        self,
        part: str,
        name: str,
        network: Network | str,
        recipe: FullRecipe,
        *,
        data: ImageData,
        seed: int,
        weights: Mapping[str, Tensor] | str | None = None,
        is_tested: bool = True,
        evaluations: int = EVALUATIONS,
    ) -> Run:
        """Trains and tests, or continues, or reads what came of it."""
        training = self.prepare(network, recipe, data=data, seed=seed, weights=weights)
        known = self.known(key := self.key(training))
        if known is not None:
            return known
        is_whole = self.device.type == "cpu" and not training.folder.exists()
        began = time.process_time()
        work = Fit.of(training, replace(self.options, evaluate_every=recipe.epochs / evaluations))
        done = fit(work, OneRank(device=self.device), _unwatched)
        took = time.process_time() - began
        assert done.state.best is not None
        accuracy = None
        if is_tested:
            module = trained(training.start.network, done.best)
            accuracy = evaluate_accuracy(module, training.data, "test", device=self.device)
        counted = cost(training.start.network)
        return self.keep(
            Run(
                key=key,
                part=part,
                name=name,
                seed=seed,
                accuracy=accuracy,
                search_accuracy=done.state.best.value,
                kept=f"{done.state.best.kind}, epoch {done.state.best.epoch:g}",
                epochs=recipe.epochs,
                seconds=done.state.seconds,
                processor_seconds=took if is_whole else None,
                images=done.state.step * recipe.batch_for(len(data.train)),
                macs=counted.macs,
                params=counted.params,
                folder=str(training.folder.relative_to(self.out)),
            )
        )

    def remember(self, key: str, measure: Callable[[], float]) -> float:
        """A number that is measured once."""
        path = self.out / MEASURED
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        known = dict(json.loads(line) for line in lines if line.endswith("]"))
        if key not in known:
            known[key] = measure()
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
        return float(known[key])

    def prepare(
        self,
        network: Network | str,
        recipe: FullRecipe,
        *,
        data: ImageData,
        seed: int,
        weights: Mapping[str, Tensor] | str | None = None,
    ) -> Training:
        """The training in the folder of its key."""
        asked = FullTraining(network=network, data=data, recipe=recipe, seed=seed, weights=weights)
        (training,) = asked.prepare(self.out)
        return replace(training, folder=self.out / "trainings" / self.key(training))

    def key(self, training: Training) -> str:
        """Changes with everything that decides the result."""
        return digest(json.dumps(training.identity, sort_keys=True))


def _unwatched(progress: TrainingProgress) -> None:
    """Shows nothing but what went wrong."""
    if progress.note:
        print(progress.note, flush=True)


def spread(values: Sequence[float], *, percent: bool = True) -> str:
    """Mean and sample standard deviation of several values; a single one has none."""
    form = "{:.2%}" if percent else "{:.3g}"
    mean = form.format(statistics.fmean(values))
    if len(values) < 2:
        return mean
    deviation = statistics.stdev(values)
    return f"{mean} ± {100 * deviation:.2f}" if percent else f"{mean} ± {deviation:.2g}"


def print_runs(rows: Mapping[str, Sequence[Run]]) -> None:
    """Prints a table, a row for each name; times are processor times on a CPU, and have the evaluations."""
    print("\n| | macs | params | epochs | n | test | search | seconds | images/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, runs in rows.items():
        first = runs[0]
        tested = [run.accuracy for run in runs if run.accuracy is not None]
        clocks = [run.processor_seconds for run in runs if run.processor_seconds is not None]
        seconds = clocks or [run.seconds for run in runs]
        print(
            f"| {name} | {first.macs / 1e6:.2f} M | {first.params / 1e6:.3f} M | {first.epochs:.4g} | "
            f"{len(runs)} | {spread(tested) if tested else '-'} | "
            f"{spread([run.search_accuracy for run in runs])} | "
            f"{spread(seconds, percent=False)} | {first.images / statistics.fmean(seconds):.0f} |",
            flush=True,
        )
    print(flush=True)


def engine_steps(work: Fit, device: torch.device, *, first: int = 0) -> Iterator[int]:
    """Takes a step of the engine at each turn, from the step `first` on; yields the images of the step."""
    ranks = OneRank(device=device)
    learner = work.learner(ranks)
    batches = TrainingBatches(work.data, work.recipe, ranks, seed=work.seed)
    step, per_epoch = first, learner.schedule.steps_an_epoch
    with out_of_place(learner.module):
        while step < learner.schedule.steps:
            epoch, place = divmod(step, per_epoch)
            for batch in batches.epoch(epoch, first=place):
                learner.take(step, batch)
                step += 1
                yield len(batch[1])


def seconds_to(work: Callable[[], None], device: torch.device) -> float:
    """Time of some work: processor time on a CPU, which others may be using too; wall time on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    synchronize(device)
    began = clock()
    work()
    synchronize(device)
    return clock() - began


def seconds_of(steps: Iterator[int], count: int, device: torch.device) -> float:
    """Time of a step, the mean of so many."""

    def take() -> None:
        for _ in range(count):
            next(steps)

    return seconds_to(take, device) / count


def print_speeds(pair: Mapping[str, Iterator[int]], batch: int, device: torch.device) -> None:
    """Takes steps of two trainings in alternating turns, and prints the images a second of each."""
    for steps in pair.values():
        seconds_of(steps, TURN_STEPS, device)
    turns = [[batch / seconds_of(steps, TURN_STEPS, device) for steps in pair.values()] for _ in range(TURNS)]
    ratios = sorted(first / second for first, second in turns)
    medians = [statistics.median(speeds) for speeds in zip(*turns, strict=True)]
    print(
        f"images/s in {TURNS} alternating turns of {TURN_STEPS} steps, medians: "
        f"{', '.join(f'{name} {speed:.0f}' for name, speed in zip(pair, medians, strict=True))}; "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def describe_machine(device: torch.device) -> str:
    """What it runs on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return (
        f"{processor_name()}, {torch.get_num_threads()} of {usable_cores()} cores, torch {torch.__version__}"
    )
