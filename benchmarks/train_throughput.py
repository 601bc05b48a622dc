"""Prints how many images a second our training takes in, beside a plain PyTorch loop and timm's.

    python benchmarks/train_throughput.py --baseline
    python benchmarks/train_throughput.py --pixels 32 --side-by-side 4 --mps

Contenders are timed in turns, so that a busy or drifting machine hits all of them; each ratio is taken
within one turn. Images are synthetic unless --data names some. The start-up is that of a trial on a warm
worker: building the network, its first step and, on a GPU, the capture of its graph.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from throughput_contenders import (
    Contender,
    Running,
    Setting,
    as_files,
    contenders,
    cores,
    proxy_network,
    synthetic,
    timed,
)
from throughput_side_by_side import Task, in_processes, in_streams, private_mps

from nas.data.images import ImageData
from nas.data.loading import load_data
from nas.devices import choose_device, describe_device
from nas.errors import NasError
from nas.training.precision import choose_precision

FIRST = "ours, resident"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one contender.

    Attributes:
        pixels: Height and width of the images.
        batch_size: Images a step.
        name: Who.
        detail: How.
        images_per_second: One for each turn.
        startup_ms: One for each start on a warm worker.
        ratios: `ours, resident` over this one, one for each turn.
    """

    pixels: int
    batch_size: int
    name: str
    detail: str
    images_per_second: tuple[float, ...]
    startup_ms: tuple[float, ...]
    ratios: tuple[float, ...]


def measure(setting: Setting, found: list[Contender], *, seconds: float, repeats: int) -> list[Row]:
    """Starts every contender twice, then times all of them in turns."""
    running: dict[str, Running] = {}
    startup: dict[str, list[float]] = {}
    for contender in found:
        contender.start()  # what only the first trial of a worker pays
        for _ in range(min(3, repeats)):
            began = time.perf_counter()
            running[contender.name] = contender.start()
            startup.setdefault(contender.name, []).append(1e3 * (time.perf_counter() - began))
    counts = {name: steps_for(training, seconds, setting) for name, training in running.items()}
    rates: dict[str, list[float]] = {name: [] for name in running}
    names = list(running)
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rates[name].append(rate(running[name], counts[name], setting))
    return [
        Row(
            pixels=setting.data.resolution,
            batch_size=setting.batch_size,
            name=name,
            detail=running[name].detail,
            images_per_second=tuple(rates[name]),
            startup_ms=tuple(startup[name]),
            ratios=tuple(a / b for a, b in zip(rates[FIRST], rates[name], strict=True)),
        )
        for name in names
    ]


def steps_for(training: Running, seconds: float, setting: Setting) -> int:
    """Number of steps that take about so long."""
    step = min(timed(training.step, setting.device) for _ in range(3))
    return max(1, round(seconds / step))


def rate(training: Running, steps: int, setting: Setting) -> float:
    """Images a second over so many steps, after those for which batches lie ready."""
    for _ in range(training.ahead):
        training.step()

    def run() -> None:
        for _ in range(steps):
            training.step()

    return steps * setting.batch_size / timed(run, setting.device)


def side_by_side(task: Task, *, repeats: int, mps: bool) -> dict[str, list[float | str]]:
    """Images a second of one training and of several at once, in turns; a way that fails says why."""
    alone = Task(**{**asdict(task), "processes": 1})
    variants: dict[str, Any] = {
        "one alone": lambda: in_processes(alone),
        f"{task.processes} processes": lambda: in_processes(task),
    }
    if task.device == "cuda":
        variants[f"{task.processes} streams in one process"] = lambda: in_streams(task)
        if mps:
            variants[f"{task.processes} processes under MPS"] = lambda: under_mps(task)
    found: dict[str, list[float | str]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, variant in variants.items():
            try:
                found[name].append(variant())
            except RuntimeError as error:
                found[name].append(str(error).splitlines()[0])
    return found


def under_mps(task: Task) -> float:
    """Several processes as clients of a daemon of their own."""
    with private_mps() as environment:
        return in_processes(task, environment)


def main() -> None:
    """Measures every size that was asked for, and prints a table for each."""
    arguments = parse()
    try:
        device = choose_device(arguments.device)
        torch.backends.cudnn.benchmark = arguments.cudnn_benchmark
        choose_precision(device)  # once a process, as on a warm worker
        print(f"{describe_device(device)}, {cores()} cores, {torch.get_num_threads()} threads, ", end="")
        print(f"torch {torch.__version__}, Python {platform.python_version()}")
        rows, beside = [], {}
        for pixels in arguments.pixels:
            rows += size(arguments, pixels, device)
            if arguments.side_by_side > 1:
                beside[str(pixels)] = several(arguments, pixels, device)
    except NasError as error:
        sys.exit(str(error))
    if arguments.json:
        found = {
            "device": describe_device(device),
            "torch": torch.__version__,
            "rows": [asdict(row) for row in rows],
            "side_by_side": beside,
        }
        arguments.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def size(arguments: argparse.Namespace, pixels: int, device: torch.device) -> list[Row]:
    """Measures and prints all contenders at one size."""
    batch_size = batch_size_of(arguments, pixels, device)
    data = read(arguments, pixels, batch_size)
    with tempfile.TemporaryDirectory() as folder:
        files = load_data(arguments.data, resolution=pixels, resident_bytes=1) if arguments.data else None
        setting = Setting(
            network=proxy_network(pixels, arguments.width),
            data=data,
            files=files if files is not None and not files.is_resident else as_files(data, Path(folder)),
            batch_size=batch_size,
            device=device,
            workers=workers_of(arguments, device),
        )
        found = contenders(setting, baseline=arguments.baseline, compiled=arguments.compile)
        rows = measure(setting, found, seconds=arguments.seconds, repeats=arguments.repeats)
    print(
        f"\n{pixels} pixels, batch {batch_size}, median [least, most] of {arguments.repeats} turns of ",
        end="",
    )
    print(f"{arguments.seconds:g} s")
    print(f"{'':18s} {'images/s':>26s} {'ours / this':>20s} {'start-up, ms':>14s}  how")
    for row in rows:
        start = statistics.median(row.startup_ms)
        print(
            f"{row.name:18s} {spread(row.images_per_second, 0):>26s} {spread(row.ratios, 2):>20s} "
            f"{start:14.0f}  {row.detail}"
        )
    return rows


def several(arguments: argparse.Namespace, pixels: int, device: torch.device) -> dict[str, list[float | str]]:
    """Measures and prints several trainings at once at one size."""
    batch_size = batch_size_of(arguments, pixels, device)
    task = Task(
        pixels=pixels,
        width=arguments.width,
        images=images_of(batch_size),
        batch_size=batch_size,
        device=device.type,
        seconds=arguments.seconds,
        processes=arguments.side_by_side,
    )
    found = side_by_side(task, repeats=arguments.repeats, mps=arguments.mps)
    for name, values in found.items():
        pairs = [
            (value, alone)
            for value, alone in zip(values, found["one alone"], strict=True)
            if isinstance(value, float) and isinstance(alone, float)
        ]
        if pairs:
            ratios = [value / alone for value, alone in pairs]
            rates = spread([value for value, _ in pairs], 0)
            print(f"{name:34s} {rates} images/s, {spread(ratios, 2)} times one alone")
        else:
            print(f"{name:34s} {values[0]}")
    return found


def read(arguments: argparse.Namespace, pixels: int, batch_size: int) -> ImageData:
    """The images that were named, in memory, or synthetic ones."""
    if arguments.data:
        return load_data(arguments.data, resolution=pixels, resident_bytes=64 << 30)
    return synthetic(pixels, images_of(batch_size))


def images_of(batch_size: int) -> int:
    """Number of synthetic images: eight batches of training images and what the other splits take."""
    return max(400, round(8 * batch_size / 0.64))


def batch_size_of(arguments: argparse.Namespace, pixels: int, device: torch.device) -> int:
    """Images a step: as asked for, or what suits the device."""
    if arguments.batch_size:
        return int(arguments.batch_size)
    if device.type == "cuda":
        return 256
    return 8 if pixels >= 224 else 64


def workers_of(arguments: argparse.Namespace, device: torch.device) -> int:
    """Loader processes of the baselines: as asked for, or all cores beside a GPU and one on a CPU."""
    if arguments.workers is not None:
        return int(arguments.workers)
    return min(16, cores()) if device.type == "cuda" else 1


def spread(values: tuple[float, ...] | list[float], digits: int) -> str:
    """Median with least and most."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", action="store_true", help="also the plain loop and timm's")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--pixels", type=int, nargs="+", default=[32, 64, 224], metavar="PX")
    parser.add_argument("--width", type=float, default=0.25, help="of the networks below 224 pixels")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one turn of one contender")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--workers", type=int, help="loader processes of the baselines")
    parser.add_argument("--side-by-side", type=int, default=1, metavar="K", help="K trainings at once")
    parser.add_argument("--mps", action="store_true", help="also under a private daemon of MPS")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument(
        "--cudnn-benchmark", action="store_true", help="has cuDNN try its algorithms, for all"
    )
    parser.add_argument("--data", type=Path, help="folder of images, in place of synthetic ones")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all raw figures go")
    arguments = parser.parse_args()
    if min(arguments.repeats, arguments.side_by_side, *arguments.pixels) < 1 or arguments.seconds <= 0:
        parser.error("sizes, seconds, repeats and trainings at once must be above 0")
    if any(pixels % 8 for pixels in arguments.pixels):
        parser.error(f"`pixels % 8 == 0` must hold, but got {arguments.pixels}")
    return arguments


if __name__ == "__main__":
    main()
