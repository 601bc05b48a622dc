"""Checks whether this machine can search, train and export; each finding says what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from nas.errors import NasError, StudyError
from nas.machine import free_memory, processor_name, usable_cores
from nas.version import DISTRIBUTION
from search_spaces import Conv, Head, MBConv, Network, Stage

Status = Literal["ok", "warn", "fail"]

GIB = 1 << 30
SUPPORTED_SYSTEM = "Linux"
OTHER_SYSTEMS = ("Darwin", "Windows")
"""Systems on which a search without Ray is meant to work, but is not tested."""

LEAST_FREE_MEMORY = 2 * GIB
LEAST_FREE_DISK, ROOMY_DISK = GIB // 4, 2 * GIB
LEAST_SHARED_MEMORY = GIB // 2
RAY_START_SECONDS = 60
TINY_RESOLUTION, TINY_CLASSES, TINY_IMAGES = 8, 2, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        name: What was looked at.
        status: `ok`, `warn` (works, but not as it should) or `fail`.
        detail: What was found.
        remedy: What to do about it; empty when `ok`.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def diagnose(*, out: Path | str = ".", with_ray: bool = True) -> Iterator[Finding]:
    """Looks at everything a search needs, and yields each finding as it is made; it never raises.

    Args:
        out: Folder where studies will be written.
        with_ray: Whether to start Ray, which takes some seconds.
    """
    folder = Path(out).expanduser()
    yield check_system()
    yield from check_packages()
    yield _guarded("memory", check_memory)
    yield _guarded("gpu", check_gpus)
    yield _guarded("folder", lambda: check_folder(folder))
    yield _guarded("disk", lambda: check_disk(folder))
    yield _guarded("shared memory", check_shared_memory)
    # Ray starts while the rest runs: its start is mostly waiting.
    start = RayStart() if with_ray else None
    try:
        yield _guarded("training", check_training)
        yield _guarded("export", check_export)
        if start is not None:
            yield _guarded("ray start", start.finding)
    finally:
        if start is not None:
            start.stop()


def check_system(system: str | None = None) -> Finding:
    """Says which operating system, Python and processor this is, and whether the system is supported."""
    found = platform.system() if system is None else system
    cores = usable_cores()
    detail = (
        f"{found} on {platform.machine()}, Python {platform.python_version()}, {processor_name()}, "
        f"{cores} usable core{'s' * (cores > 1)}"
    )
    if found == SUPPORTED_SYSTEM:
        return Finding(name="system", status="ok", detail=detail)
    untested = f"; {SUPPORTED_SYSTEM} is supported and tested, {' and '.join(OTHER_SYSTEMS)} are not tested"
    remedy = "use Linux (on Windows: in WSL 2), or search with --executor inline, which needs no Ray"
    return Finding(name="system", status="warn", detail=detail + untested, remedy=remedy)


def check_packages() -> Iterator[Finding]:
    """Checks every library that the distribution requires; those that are new enough are one finding."""
    try:
        required = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        yield Finding(
            name="packages",
            status="warn",
            detail=f"{DISTRIBUTION} runs from a folder that is not installed: its libraries are not checked",
            remedy="python -m pip install -e . in that folder",
        )
        return
    needed = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    findings = [check_package(one) for one in needed]
    good = [finding for finding in findings if finding.status == "ok"]
    yield from (finding for finding in findings if finding.status != "ok")
    detail = ", ".join(f"{finding.name} {finding.detail}" for finding in good)
    yield Finding(name="packages", status="ok", detail=detail)


def check_package(requirement: Requirement) -> Finding:
    """Checks one library without importing it."""
    remedy = f"python -m pip install '{requirement.name}{requirement.specifier}'"
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(name=requirement.name, status="fail", detail="not installed", remedy=remedy)
    if not requirement.specifier.contains(found, prereleases=True):
        detail = f"{found} is installed, but {requirement.specifier} is needed"
        return Finding(name=requirement.name, status="fail", detail=detail, remedy=remedy)
    return Finding(name=requirement.name, status="ok", detail=found)


def check_memory(*, least_free: int = LEAST_FREE_MEMORY) -> Finding:
    """Looks at the memory that is free, container limits included."""
    free, total = free_memory()
    detail = f"{free / GIB:.1f} GiB free of {total / GIB:.1f} GiB"
    if free < least_free:
        remedy = "close other programs or use fewer workers: each needs about one gibibyte and the data"
        return Finding(name="memory", status="warn", detail=detail, remedy=remedy)
    return Finding(name="memory", status="ok", detail=detail)


def check_gpus() -> Finding:
    """Lists the GPUs that PyTorch can use."""
    import torch

    if torch.cuda.is_available():
        gpus = []
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            gpus.append(f"{name}, {free / GIB:.1f} GiB free of {total / GIB:.1f} GiB")
        return Finding(name="gpu", status="ok", detail="; ".join(gpus))
    if _driver_lists_gpu():
        return Finding(
            name="gpu",
            status="warn",
            detail=f"the driver lists a GPU, but torch {torch.__version__} cannot use it",
            remedy="install the PyTorch build for the driver's CUDA version (pytorch.org/get-started), and "
            "check that CUDA_VISIBLE_DEVICES is not empty",
        )
    return Finding(name="gpu", status="ok", detail="none: training runs on the CPU")


def check_folder(folder: Path) -> Finding:
    """Tries which journal mode the folder's file system allows."""
    from nas.study.journal_file import journal_mode_of

    place = _nearest(folder)
    try:
        mode = journal_mode_of(place)
    except (StudyError, OSError) as error:
        remedy = "choose a folder that you may write to with --out"
        return Finding(name="folder", status="fail", detail=f"{place}: {error}", remedy=remedy)
    if mode != "wal":
        return Finding(
            name="folder",
            status="warn",
            detail=f"{place}: journals use mode {mode}, as the file system allows no write-ahead log",
            remedy="put --out on a local disk: each result is then written faster",
        )
    return Finding(name="folder", status="ok", detail=f"{place}: journals use a write-ahead log")


def check_disk(folder: Path, *, least: int = LEAST_FREE_DISK, roomy: int = ROOMY_DISK) -> Finding:
    """Looks at the free space where studies will be written."""
    place = _nearest(folder)
    free = shutil.disk_usage(place).free
    detail = f"{free / GIB:.1f} GiB free in {place}"
    if free >= roomy:
        return Finding(name="disk", status="ok", detail=detail)
    remedy = "free some space, or choose another disk with --out"
    return Finding(name="disk", status="warn" if free >= least else "fail", detail=detail, remedy=remedy)


def check_shared_memory(place: Path = Path("/dev/shm"), *, least_free: int = LEAST_SHARED_MEMORY) -> Finding:
    """Looks at the space where Ray shares the data set between workers."""
    if not place.is_dir():
        return Finding(name="shared memory", status="ok", detail=f"no {place} on this system")
    free = shutil.disk_usage(place).free
    detail = f"{free / GIB:.1f} GiB free in {place}"
    if free < least_free:
        remedy = "start the container with --shm-size=2g: Ray falls back to a slow disk otherwise"
        return Finding(name="shared memory", status="warn", detail=detail, remedy=remedy)
    return Finding(name="shared memory", status="ok", detail=detail)


def check_training() -> Finding:
    """Trains a small network for two steps, as candidates are trained."""
    import numpy as np

    from nas.data.loading import from_arrays
    from nas.devices import describe_device
    from nas.training.recipe import Recipe
    from nas.training.training import train
    from search_spaces import build

    shape = (TINY_IMAGES, TINY_RESOLUTION, TINY_RESOLUTION)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = from_arrays(images, np.arange(TINY_IMAGES) % TINY_CLASSES)
    recipe = Recipe(epochs=1.0, warmup_epochs=0.5, batch_size=len(data.train) // 2)
    module = build(_tiny_network(), seed=0)
    result = train(module, data, recipe, seed=0, device="auto")
    where = describe_device(next(module.parameters()).device)
    detail = f"{result.steps} steps on {where} in {result.precision}, loss {result.loss:.3g}"
    return Finding(name="training", status="ok", detail=detail)


def check_export() -> Finding:
    """Exports a small network and loads it back in a new process."""
    from nas.export.bundle import export_bundle
    from search_spaces import build

    network = _tiny_network()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = export_bundle(
            Path(scratch) / "bundle", network=network, weights=build(network, seed=0).state_dict()
        )
    same = "equal to the bit" if bundle.is_bit_equal else f"within {bundle.torch_error:.1e}"
    detail = f"logits {same} in PyTorch, within {bundle.onnx_error:.1e} of the largest in ONNX Runtime"
    return Finding(name="export", status="ok", detail=detail)


class RayStart:
    """A start of Ray in a process of its own, so that a hang there does not hang the doctor."""

    def __init__(self, seconds: float = RAY_START_SECONDS) -> None:
        self._seconds = seconds
        root = Path(__file__).resolve().parent.parent
        path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from nas.doctor import start_ray; start_ray()"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            errors="replace",
        )

    def finding(self) -> Finding:
        """Waits for the start, as long as it may take."""
        name, without = "ray start", "without Ray, search with --executor inline"
        try:
            _, errors = self.process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            detail = f"a local Ray must run a task in {self._seconds:g} s, but did not"
            remedy = (
                "end its processes with `ray stop --force` and check that localhost is not behind a "
                f"firewall or proxy; {without}"
            )
            return Finding(name=name, status="fail", detail=detail, remedy=remedy)
        if self.process.returncode != 0:
            lines = errors.strip().splitlines() or [f"exit status {self.process.returncode}"]
            remedy = f"pip install --force-reinstall ray; {without}"
            detail = f"a local Ray must start, but: {lines[-1]}"
            return Finding(name=name, status="fail", detail=detail, remedy=remedy)
        return Finding(name=name, status="ok", detail="a local Ray started, ran a task and stopped")

    def stop(self) -> None:
        """Ends the process and what it started; safe to call after it has ended."""
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for process in started:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def start_ray() -> None:
    """Starts a local Ray with one core, runs a task and stops it: the program of `RayStart`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    import ray

    from nas.execution.ray_cluster import own_ray

    with own_ray(ray):
        ray.init(
            address="local",
            num_cpus=1,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=100 << 20,
            log_to_driver=False,
            logging_level="ERROR",
        )
    assert ray.get(ray.remote(lambda: 42).remote()) == 42
    ray.shutdown()


def _tiny_network() -> Network:
    """A grey 8-pixel network with each kind of layer that the built-in spaces use."""
    return Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(Stage(op=MBConv(expand_ratio=3, se_ratio=0.25), channels=8, repeats=2, stride=2),),
        head=Head(channels=16, dropout=0.1),
        resolution=TINY_RESOLUTION,
        num_classes=TINY_CLASSES,
        in_channels=1,
    )


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Runs a check; whatever it raises is what was found."""
    try:
        return check()
    except ImportError as error:
        remedy = f"install what is missing: python -m pip install --upgrade {DISTRIBUTION}"
        return Finding(name=name, status="fail", detail=str(error), remedy=remedy)
    except NasError as error:
        return Finding(name=name, status="fail", detail=str(error), remedy="follow the message")
    except Exception as error:  # a check that fails is a finding too
        detail = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        remedy = "solve the problems above; if there are none, report this with `nas doctor --json`"
        return Finding(name=name, status="fail", detail=detail, remedy=remedy)


def _driver_lists_gpu() -> bool:
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        return subprocess.run([program, "-L"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return place
