"""What grows in a long search: real small trainings on Ray, with a line of figures every so many trials.

python benchmarks/soak.py --trials 5000
python benchmarks/soak.py --trials 1000 --leak-mib 2   # with an evaluator that leaks in every training

Each candidate is a network of three stages, trained for three steps on 190 noisy images of ten patterns and
measured on 50. A share of them raises an error instead. Printed are, beside the trials done: the resident
memory of the driver and of the largest worker, the open files and threads of the driver, the open files of
the largest worker, the processes of the search, what they hold in /dev/shm, and the sizes of the journal,
TensorBoard, weights, logs of trials, and Ray's logs.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import psutil

import nas
from nas.data.images import ImageData
from nas.data.loading import from_arrays
from nas.report.tensorboard import TensorBoardReporter
from nas.training.proxy import ProxyEvaluator
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

MIB = 2**20


def make_space() -> SearchSpace:
    """110,592 networks of three stages, at 16 pixels."""
    stages = tuple(
        Stage(
            op=MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 2, 3), se_ratio=choice(0.0, 0.25)),
            channels=choice(8, 12, 16, 24),
            stride=stride,
        )
        for stride in (1, 2, 1)
    )
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(kernel_size=3), channels=8, stride=2),
            stages=stages,
            head=Head(channels=32),
            resolution=16,
            in_channels=1,
            num_classes=10,
        ),
        name="soak",
    )


def make_data() -> ImageData:
    """300 noisy images of ten patterns."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 10
    patterns = rng.integers(0, 256, (10, 1, 16, 16))
    images = np.clip(patterns[labels] + rng.normal(0, 60, (300, 1, 16, 16)), 0, 255).astype(np.uint8)
    return from_arrays(images, labels, search_fraction=0.2, mirrors=False, name="patterns")


class Training:
    """Trains as any search does; fails for a share of the candidates, and leaks where it is asked to.

    Args:
        fail: Share of the candidates that raise an error.
        leak_mib: Memory that each training leaves behind in its worker.
    """

    gives_weights = True
    measures = ("accuracy",)

    def __init__(self, fail: float, leak_mib: float) -> None:
        recipe = nas.Recipe(epochs=1, warmup_epochs=0.2, batch_size=48, precision="float32")
        self._inner = ProxyEvaluator(make_data(), recipe, device="cpu")
        self._fail = fail
        self._leak = int(leak_mib * MIB)
        self._leaked: list[bytes] = []

    @property
    def fingerprint(self) -> str:
        """That of the training."""
        return f"soak {self._inner.fingerprint} {self._fail:g}"

    def prepare(self) -> None:
        """Prepares the training."""
        self._inner.prepare()

    def evaluate(self, candidate: nas.Candidate) -> nas.Evaluation:
        """Trains and measures."""
        if self._leak:
            self._leaked.append(os.urandom(self._leak))
        if np.random.default_rng(candidate.job.seed).random() < self._fail:
            raise RuntimeError(f"the training of trial {candidate.job.trial} fails on purpose")
        return self._inner.evaluate(candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What may grow, in whole numbers; sizes in KiB but for the memory, which is in MiB."""

    trials: int
    seconds: int
    driver_mib: int
    worker_mib: int
    driver_files: int
    driver_threads: int
    worker_files: int
    processes: int
    shm_kib: int
    journal_kib: int
    tensorboard_kib: int
    weights_kib: int
    logs_kib: int
    ray_logs_kib: int

    def line(self) -> str:
        """The figures under their names."""
        return " ".join(f"{getattr(self, one.name):>{len(one.name)},}" for one in fields(self))

    @staticmethod
    def head() -> str:
        """The names."""
        return " ".join(one.name for one in fields(Figures))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process at a moment.

    Attributes:
        name: What it calls itself.
        memory: Its resident memory in bytes.
        files: Its open files.
        shared: Sizes in bytes of its files in /dev/shm, by inode.
    """

    name: str
    memory: int
    files: int
    shared: dict[int, int]

    @staticmethod
    def of(process: psutil.Process) -> Process | None:
        """The same of a process; None where it has ended."""
        try:
            return Process(
                name=" ".join(process.cmdline()),
                memory=process.memory_info().rss,
                files=process.num_fds(),
                shared=_shared(process.pid),
            )
        except (psutil.Error, OSError):
            return None


def _shared(pid: int) -> dict[int, int]:
    found = {}
    for place in Path(f"/proc/{pid}/map_files").iterdir():
        with suppress(OSError):
            if str(place.readlink()).startswith("/dev/shm"):
                facts = place.stat()
                found[facts.st_ino] = 512 * facts.st_blocks
    return found


def look(folder: Path, trials: int, seconds: float) -> Figures:
    """The figures of this process, its children and a study at the moment."""
    driver = psutil.Process()
    family = [one for process in driver.children(recursive=True) if (one := Process.of(process)) is not None]
    workers = [one for one in family if one.name.startswith("ray::Actor")]
    own = Process.of(driver)
    assert own is not None
    shared = {inode: size for one in (own, *family) for inode, size in one.shared.items()}
    return Figures(
        trials=trials,
        seconds=int(seconds),
        driver_mib=own.memory // MIB,
        worker_mib=max((one.memory for one in workers), default=0) // MIB,
        driver_files=own.files,
        driver_threads=driver.num_threads(),
        worker_files=max((one.files for one in workers), default=0),
        processes=1 + len(family),
        shm_kib=sum(shared.values()) // 1024,
        journal_kib=_size(folder.glob("study.sqlite*")),
        tensorboard_kib=_size((folder / "tensorboard").rglob("*")),
        weights_kib=_size((folder / "weights").rglob("*")),
        logs_kib=_size((folder / "logs").rglob("*")),
        ray_logs_kib=_size(ray_logs().rglob("*")),
    )


def ray_logs() -> Path:
    """The folder of the logs of the Ray that this process has started."""
    import ray

    return Path(ray._private.worker._global_node.get_logs_dir_path())


def _size(paths: Iterable[Path]) -> int:
    """KiB of files."""
    sizes = []
    for path in paths:
        with suppress(OSError):
            sizes.append(path.stat().st_size)
    return sum(sizes) // 1024


class Watching:
    """A reporter that prints the figures every so many trials.

    Args:
        folder: The study's folder.
        every: Trials between two lines.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder = folder
        self._every = every
        self._began = time.monotonic()
        self._trials = 0
        self._events = Counter[str]()

    def on_start(self, start: object) -> None:  # noqa: ARG002
        """Prints the names."""
        print(Figures.head(), flush=True)

    def on_trial(self, report: nas.TrialReport) -> None:
        """Prints a line where it is time."""
        self._trials = report.counts.done
        if self._trials % self._every == 0 or self._trials == min(100, self._every):
            print(look(self._folder, self._trials, time.monotonic() - self._began).line(), flush=True)

    def on_event(self, kind: str, message: str) -> None:
        """Prints the first event of each kind."""
        self._events[kind] += 1
        if self._events[kind] == 1:
            print(f"after {self._trials} trials, {kind}: {message}", flush=True)

    def on_progress(self, progress: object) -> None:
        """Nothing."""

    def on_end(self, end: nas.SearchEnd) -> None:
        """Prints how it ended, and the events by kind."""
        seconds = time.monotonic() - self._began
        print(f"ended by {end.ending} after {seconds:,.0f} s: {end.counts}; events: {dict(self._events)}")


def main() -> None:
    """Searches, and prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--every", type=int, default=500, help="trials between two lines")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--controller", default="evolution", help="its name; the default one takes longest")
    parser.add_argument(
        "--fail", type=float, default=0.02, help="share of the candidates that raise an error"
    )
    parser.add_argument("--leak-mib", type=float, default=0.0, help="memory that a training leaves behind")
    parser.add_argument("--out", help="folder of the study; by default a temporary one")
    given = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would starve workers on a busy machine
    folder = Path(given.out or tempfile.mkdtemp())
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {folder}")
    nas.search(
        make_space(),
        evaluator=Training(given.fail, given.leak_mib),
        objective="accuracy, macs <= 1M",
        controller=given.controller,
        trials=given.trials,
        workers=given.workers,
        out=folder,
        reporters=(TensorBoardReporter(), Watching(folder, given.every)),
    )


if __name__ == "__main__":
    main()
