"""Times the quickstart on a folder of 500 images of one's own in 4 classes, and says what came of it.

    MNAS_DATA=DIR python benchmarks/first_run.py --seeds 0 1 2

The images are the first 125 of each of four classes of CIFAR-10 (JPEG), which are written into a folder; a
folder of one's own is given with --data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PACK = "cifar10_jpeg.npz"
CLASSES = ("automobile", "frog", "ship", "horse")
IMAGES = 125


def write_images(pack: Path, folder: Path) -> Path:
    """Writes the first images of each class as files."""
    with np.load(pack) as arrays:
        names = [str(name) for name in arrays["classes"]]
        stream, offset, label = arrays["train_jpeg"].tobytes(), arrays["train_offset"], arrays["train_label"]
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(label == names.index(name))[:IMAGES]):
            path = folder / name / f"{number:04}.jpg"
            path.write_bytes(stream[offset[index] : offset[index + 1]])
    return folder


def run_once(data: Path, out: Path, seed: int) -> tuple[float, float]:
    """Seconds of a quickstart in a process of its own, and the test accuracy of the exported weights."""
    command = [sys.executable, "-m", "nas", "quickstart", "--data", str(data), "--out", str(out)]
    started = time.perf_counter()
    subprocess.run([*command, "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    tested = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["tested_weights"]
    return seconds, tested["right"] / tested["images"]


def main() -> None:
    """Runs the quickstart once for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images (default: made of MNAS_DATA)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = arguments.data or write_images(Path(os.environ["MNAS_DATA"]) / PACK, folder / "images")
        runs = [run_once(data, folder / f"run-{seed}", seed) for seed in arguments.seeds]
    for seed, (seconds, accuracy) in zip(arguments.seeds, runs, strict=True):
        print(f"seed {seed}: {seconds:.0f} s, test accuracy of the exported weights {accuracy:.3f}")
    times, accuracies = zip(*runs, strict=True)
    print(f"median of {len(runs)}: {statistics.median(times):.0f} s, {statistics.median(accuracies):.3f}")


if __name__ == "__main__":
    main()
