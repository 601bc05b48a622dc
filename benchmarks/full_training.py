"""Trains networks in full on part of CIFAR-10, and prints what each recipe and each network came to."""

from __future__ import annotations

import argparse
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from full_training_reference import ReferenceLoop, reference_run
from full_training_runs import (
    CLASSES,
    EVALUATIONS,
    SIDE,
    WITHIN,
    Bench,
    Run,
    at_32_pixels,
    describe_machine,
    engine_steps,
    epochs_of_equal_time,
    of_equal_macs,
    print_runs,
    print_speeds,
    seconds_of,
    spread,
)

import nas
from nas.data.images import ImageData
from nas.data.loading import load_data
from nas.devices import choose_device
from nas.export.weights import trained
from nas.full_training.checkpoint import read_checkpoint
from nas.full_training.options import TrainOptions
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import RECIPES
from nas.full_training.work import Fit
from nas.study.with_space import open_with_space
from nas.training.accuracy import evaluate_accuracy
from search_spaces import Network, cost, resnet, small
from search_spaces import efficientnet as efficientnet_space

SWEPT: Mapping[str, Any] = {
    "learning_rate": 0.02,
    "optimizer": "muon",
    "label_smoothing": 0.2,
    "flip": "random",
    "ema_decay": 0.99,
    "shift": 0.0625,
}
SWEEP: Mapping[str, Mapping[str, Any]] = {
    "muon 0.02": {},
    "muon 0.01": {"learning_rate": 0.01},
    "muon 0.04": {"learning_rate": 0.04},
    "sgd 0.1": {"optimizer": "sgd", "learning_rate": 0.1},
    "sgd 0.2": {"optimizer": "sgd", "learning_rate": 0.2},
    "sgd 0.4": {"optimizer": "sgd", "learning_rate": 0.4},
    "sgd 0.8": {"optimizer": "sgd", "learning_rate": 0.8},
    "muon 0.02, smoothing 0.1": {"label_smoothing": 0.1},
    "muon 0.02, alternating flip": {"flip": "alternating"},
    "muon 0.02, no averaged weights": {"ema_decay": 0.0},
    "muon 0.02, shift of 4 pixels": {"shift": 0.125},
}
"""What is changed in `SWEPT`."""

LONGER = 2
"""Times the epochs of the sweep, for the best and the best of SGD: short trainings like high rates."""

SWEEP_IMAGES = 5000
"""Images that the sweep judges by; the first fifth of them is the search split of the other parts."""


def small_network() -> Network:
    """The reference network of the space `small`: the first three stages of EfficientNet-B0."""
    network = small(resolution=SIDE).reference
    assert network is not None
    return network


def sweep(bench: Bench, epochs: float) -> None:
    """The recipe `small` with other values: a seed of each, more of the best two, and longer trainings."""
    data = load_data(bench.pack(search=SWEEP_IMAGES))

    def run(name: str, seed: int, epochs: float = epochs) -> Run:
        recipe = RECIPES["small"].changed(epochs=epochs, **{**SWEPT, **SWEEP[name]})
        return bench.train(
            "sweep", name, small_network(), recipe, data=data, seed=seed, is_tested=False, evaluations=1
        )

    rows = {name: [run(name, 0)] for name in SWEEP}
    ranked = sorted(rows, key=lambda name: -rows[name][0].search_accuracy)
    for name in ranked[:2]:
        rows[name] += [run(name, seed) for seed in range(1, bench.seeds)]
    for name in (ranked[0], next(name for name in ranked if name.startswith("sgd"))):
        rows[f"{name}, {LONGER} times as long"] = [run(name, 0, LONGER * epochs)]
    print_runs(rows)
    pair = {}
    for name in ("muon 0.02", "sgd 0.4"):
        recipe = RECIPES["small"].changed(epochs=epochs, **{**SWEPT, **SWEEP[name]})
        work = Fit.of(bench.prepare(small_network(), recipe, data=data, seed=0), bench.options)
        pair[name] = engine_steps(work, bench.device)
    print_speeds(pair, recipe.batch_for(len(data.train)), bench.device)


TARGET_MACS = 2_000_000
TRIALS, TRIAL_EPOCHS = 40, 2
FIXRES_SIDE = 40
RANDOM_SEED = 1000
"""Of the first random network; the others follow."""


def search_command(bench: Bench) -> list[str]:
    """The search whose result is trained, as a user would start it."""
    options = {
        "--data": bench.pack(),
        "--space": "small",
        "--target-macs": TARGET_MACS,
        "--trials": TRIALS,
        "--epochs": TRIAL_EPOCHS,
        "--compare-seeds": 0,
        "--executor": "inline",
        "--out": bench.out / "study",
    }
    given = [str(text) for option in options.items() for text in option]
    return ["search", *given, "--deterministic"]


def proof(bench: Bench, epochs: float) -> None:
    """A study's best three, then its best beside published and random networks of equal multiply-adds."""
    data, recipe = bench.data(), RECIPES["small"].changed(epochs=epochs)
    network, first = searched(bench, recipe)
    macs = cost(network).macs
    rows = {"the search's best": [first]}
    rows["the search's best"] += seeded(bench, "proof", "the search's best", network, recipe, data)[1:]
    for name, last_map in (("efficientnet_b0", 1), ("mobilenet_v2", 1), ("efficientnet_b0", 2)):
        make = partial(at_32_pixels, name, last_map=last_map)
        row = name if last_map == 1 else f"{name}, last map of {last_map} pixels"
        rows[row] = seeded(bench, "proof", row, of_equal_macs(make, macs), recipe, data)
    rows["random networks"] = [
        bench.train("proof", "random network", random_network(macs, seed), recipe, data=data, seed=seed)
        for seed in range(bench.seeds)
    ]
    print_runs(rows)


def seeded(
    bench: Bench,
    part: str,
    name: str,
    network: Network | str,
    recipe: FullRecipe,
    data: ImageData,
    **how: Any,
) -> list[Run]:
    """Trains a network with each seed."""
    return [
        bench.train(part, name, network, recipe, data=data, seed=seed, **how) for seed in range(bench.seeds)
    ]


def searched(bench: Bench, recipe: FullRecipe) -> tuple[Network, Run]:
    """The best of the study's three best, as `nas train --top 3` finds it, with that training."""
    command = search_command(bench)
    print(f"nas {shlex.join(command)}", flush=True)
    log = bench.out / "search.log"
    with log.open("a", encoding="utf-8") as file:
        subprocess.run([sys.executable, "-m", "nas", *command], check=True, stdout=file, stderr=file)
    study = open_with_space(str(bench.out / "study"))
    found = nas.train(
        study,
        out=bench.out / "top",
        recipe=recipe,
        top=3,
        options=TrainOptions(
            device=str(bench.device), has_onnx=False, evaluate_every=recipe.epochs / EVALUATIONS
        ),
    )
    print("\n| of the study | macs | search |")
    print("|---|---|---|")
    for one in found.ranking:
        print(f"| {one.label} | {one.macs / 1e6:.2f} M | {one.best.value:.2%} |")
    print(flush=True)
    training = bench.prepare(found.network, recipe, data=bench.data(), seed=0)
    images = len(training.data.train)
    run = Run(
        key=bench.key(training),
        part="proof",
        name="the search's best",
        seed=0,
        accuracy=found.accuracy,
        search_accuracy=found.fitted.best.value,
        kept=f"{found.fitted.best.kind}, epoch {found.fitted.best.epoch:g}",
        epochs=recipe.epochs,
        seconds=found.fitted.seconds,
        processor_seconds=None,
        images=recipe.steps(images) * recipe.batch_for(images),
        macs=found.fitted.macs,
        params=found.fitted.params,
        folder=str(found.fitted.folder.relative_to(bench.out)),
    )
    return found.network, bench.known(run.key) or bench.keep(run)


def random_network(macs: int, seed: int) -> Network:
    """A random network of the space with about so many multiply-adds."""
    space, rng = small(resolution=SIDE), np.random.default_rng(RANDOM_SEED + seed)
    while True:
        network = space.decode(space.sample(rng))
        if abs(cost(network).macs / macs - 1) <= WITHIN:
            return network


def fixres(bench: Bench, epochs: float) -> None:
    """The search's best at two sizes, before and after its classifier is trained at the larger."""
    recipe = RECIPES["small"].changed(epochs=PARTS["proof"][1])
    sizes = {side: bench.data(resolution=side) for side in (SIDE, FIXRES_SIDE)}
    network, first = searched(bench, recipe)
    rest = seeded(bench, "proof", "the search's best", network, recipe, sizes[SIDE])[1:]
    tuned = RECIPES["fixres"].changed(epochs=epochs)
    found: dict[tuple[str, int], list[float]] = {}
    for run in (first, *rest):
        before = bench.prepare(network, recipe, data=sizes[SIDE], seed=run.seed)
        done = read_checkpoint(bench.out / run.folder, before.identity)
        assert done is not None
        larger = replace(network, resolution=FIXRES_SIDE)
        after = bench.train(
            "fixres", "fixres", larger, tuned, data=sizes[FIXRES_SIDE], seed=run.seed, weights=done.best
        )
        again = bench.prepare(larger, tuned, data=sizes[FIXRES_SIDE], seed=run.seed, weights=done.best)
        last = read_checkpoint(bench.out / after.folder, again.identity)
        assert last is not None
        for name, weights, key in (("before", done.best, run.key), ("after", last.best, after.key)):
            for side, data in sizes.items():
                module = trained(replace(network, resolution=side), weights)
                accuracy = bench.remember(
                    f"{key} at {side}",
                    lambda module=module, data=data: evaluate_accuracy(  # type: ignore[misc]
                        module, data, "test", device=bench.device
                    ),
                )
                found.setdefault((name, side), []).append(accuracy)
    print("\n| | 32 pixels | 40 pixels | gain of 40 over 32, seed by seed | n |")
    print("|---|---|---|---|---|")
    for name in ("before", "after"):
        small_side, large_side = found[name, SIDE], found[name, FIXRES_SIDE]
        gains = [large - small for small, large in zip(small_side, large_side, strict=True)]
        print(f"| {name} | {spread(small_side)} | {spread(large_side)} | {spread(gains)} | {len(gains)} |")
    gains = [a - b for a, b in zip(found["after", FIXRES_SIDE], found["before", SIDE], strict=True)]
    print(f"\nafter at 40 pixels over before at 32: {spread(gains)} points")


RESNET_MACS = 3_900_000

PLAIN: Mapping[str, Any] = {
    "name": "plain",
    "schedule": "step",
    "learning_rate": 0.1,
    "reference_batch": 128,
    "weight_decay": 5e-4,
    "largest_batch": 128,
    "label_smoothing": 0.0,
    "crop": "shifted",
    "decay_rate": 0.1,
}
"""SGD in three steps, shifts and flips: how residual networks were first trained on CIFAR-10."""


def strikes_back(bench: Bench, epochs: float) -> None:
    """A narrow ResNet-18 with a plain recipe, and with `strikes_back_a3`, for as many epochs."""
    data = bench.data()
    network = of_equal_macs(lambda width: at_32_pixels("resnet18", width, last_map=2), RESNET_MACS)
    plain = FullRecipe(epochs=epochs, decay_epochs=0.4 * epochs, warmup_epochs=0.05 * epochs, **PLAIN)
    a3 = RECIPES["strikes_back_a3"].changed(epochs=epochs)
    print_runs(
        {
            recipe.name: seeded(bench, "strikes_back", recipe.name, network, recipe, data)
            for recipe in (plain, a3)
        }
    )


PILOT_STEPS, PILOT_ROUNDS = 4, 3


def progressive(bench: Bench, epochs: float) -> None:
    """`progressive` against the same recipe at one size and strength, for as much time."""
    data, network = bench.data(), small_network()
    growing = RECIPES["progressive"].changed(epochs=epochs)
    single = {
        "stages": 1,
        "first_size": 1.0,
        "first_magnitude": None,
        "first_mixup": None,
        "first_dropout": None,
    }
    fixed = growing.changed(name="fixed size", **single)
    ratio = bench.remember(
        f"step of {growing.fingerprint} over {fixed.fingerprint} of {network.digest} on {data.fingerprint}",
        lambda: statistics.median(
            _step_seconds(bench, network, growing, data) / _step_seconds(bench, network, fixed, data)
            for _ in range(PILOT_ROUNDS)
        ),
    )
    per_epoch = fixed.steps_an_epoch(len(data.train))
    fixed = fixed.changed(epochs=epochs_of_equal_time(epochs, ratio, 1.0, per_epoch))
    print(f"a step of progressive takes {ratio:.2f} times one of fixed size")
    rows: dict[str, list[Run]] = {growing.name: [], fixed.name: []}
    for seed in range(bench.seeds):
        for recipe in (growing, fixed):
            rows[recipe.name].append(
                bench.train("progressive", recipe.name, network, recipe, data=data, seed=seed, evaluations=1)
            )
    print_runs(rows)


def _step_seconds(bench: Bench, network: Network, recipe: FullRecipe, data: ImageData) -> float:
    """Mean time of a step over the stages of a recipe."""
    work = Fit.of(bench.prepare(network, recipe, data=data, seed=0), bench.options)
    steps = recipe.steps(len(data.train))
    times = []
    for stage in range(recipe.stages):
        taken = engine_steps(work, bench.device, first=-(-stage * steps // recipe.stages))
        next(taken)
        times.append(seconds_of(taken, PILOT_STEPS, bench.device))
    return statistics.fmean(times)


SGD: Mapping[str, Any] = {"optimizer": "sgd", "learning_rate": 0.4, "ema_decay": 0.0, "warmup_epochs": 1}
"""What both loops have; the reference program's warm-up is of whole epochs."""


def reference_loop(bench: Bench, epochs: float) -> None:
    """Torchvision's reference loop and ours: the same network and recipe, accuracy and speed."""
    data, network = bench.data(), small_network()
    recipe = RECIPES["small"].changed(epochs=epochs, flip="random", **SGD)
    rows = {
        "ours": seeded(bench, "reference_loop", "ours", network, recipe, data, evaluations=1),
        "torchvision's loop": [
            reference_run(bench, network, recipe, data, seed) for seed in range(bench.seeds)
        ],
    }
    print_runs(rows)
    work = Fit.of(bench.prepare(network, recipe, data=data, seed=0), bench.options)
    ours = engine_steps(work, bench.device)
    theirs = ReferenceLoop(network, data, recipe, seed=0, device=bench.device).steps()
    print_speeds(
        {"ours": ours, "torchvision's loop": theirs}, recipe.batch_for(len(data.train)), bench.device
    )


TRANSFER_SIDE = 64
FINE_TUNED: Mapping[str, Any] = {
    "optimizer": "adamw",
    "optimizer_eps": 1e-8,
    "learning_rate": 5e-4,
    "reference_batch": 64,
    "largest_batch": 64,
    "weight_decay": 0.01,
    "warmup_epochs": 0.5,
    "drop_path": 0.0,
}
"""What is changed in `finetune`, whose 20 epochs of large batches are for more steps than these."""


def transfer(bench: Bench, epochs: float) -> None:
    """EfficientNet-Lite0 at 64 pixels: from ImageNet's weights, the classifier alone, and from scratch."""
    data, name = bench.data(resolution=TRANSFER_SIDE), "efficientnet_lite0"
    rows: dict[str, tuple[FullRecipe, str | None]] = {
        "fine-tuned": (RECIPES["finetune"].changed(epochs=epochs, **FINE_TUNED), name),
        "linear probe": (RECIPES["linear_probe"].changed(epochs=epochs, largest_batch=64), name),
        "from scratch, small": (RECIPES["small"].changed(epochs=epochs, largest_batch=64), None),
        "from scratch, as fine-tuned": (
            RECIPES["finetune"].changed(epochs=epochs, starts_from="scratch", **FINE_TUNED),
            None,
        ),
    }
    print_runs(
        {
            row: seeded(bench, "transfer", row, name, recipe, data, weights=weights, evaluations=2)
            for row, (recipe, weights) in rows.items()
        }
    )


def gpu(bench: Bench, epochs: float) -> None:
    """An MBConv and a residual network at 32 pixels on the whole pack, for a GPU."""
    data, recipe = load_data(bench.source), RECIPES["small"].changed(epochs=epochs)
    rows = {}
    for name, space in (("efficientnet_b0", efficientnet_space), ("resnet18", resnet)):
        network = space(resolution=SIDE, num_classes=CLASSES).reference
        assert network is not None
        rows[name] = seeded(bench, "gpu", name, network, recipe, data)
    print_runs(rows)
    for name, runs in rows.items():
        print(f"{name}: {spread([run.seconds / 3600 for run in runs], percent=False)} GPU-hours a training")


PARTS: Mapping[str, tuple[Callable[[Bench, float], None], float]] = {
    "sweep": (sweep, 6),
    "proof": (proof, 12),
    "reference_loop": (reference_loop, 4),
    "strikes_back": (strikes_back, 12),
    "progressive": (progressive, 12),
    "fixres": (fixres, 2),
    "transfer": (transfer, 4),
    "gpu": (gpu, 30),
}
"""What each part does, and its epochs."""


def main() -> None:
    """Runs one part; what was trained before is read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, required=True, help="cifar10_jpeg.npz, or a pack like it")
    parser.add_argument(
        "--images", type=int, default=5000, help="training images, a fifth of them to choose by"
    )
    parser.add_argument("--epochs", type=float, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    device = choose_device(given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"python benchmarks/full_training.py {shlex.join(sys.argv[1:])}")
    print(describe_machine(device), flush=True)
    run, epochs = PARTS[given.part]
    bench = Bench(out=given.out, source=given.data, images=given.images, device=device, seeds=given.seeds)
    run(bench, given.epochs or epochs)


if __name__ == "__main__":
    main()
