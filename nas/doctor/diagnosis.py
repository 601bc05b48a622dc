"""`diagnose`: whether this machine can search, train and export, said in findings with their remedy.

A check that breaks is a finding too: the doctor never raises.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nas.errors import NasError, StudyError
from nas.machine import free_memory, processor_name, usable_cores

if TYPE_CHECKING:
    import torch

TrialOutcome = Literal["ok", "warn", "fail"]

GIB = 1 << 30
LEAST_PYTHON = (3, 11)
REQUIREMENTS = {
    "fvcore": "0.1.5",
    "matplotlib": "3.8",
    "mlxtend": "0.23",
    "numpy": "1.26",
    "onnx": "1.17",
    "onnxruntime": "1.20",
    "onnxscript": "0.2",
    "pillow": "10",
    "ray": "2.40",
    "rich": "13",
    "safetensors": "0.4",
    "tensorboard": "2.16",
    "torch": "2.6",
    "torchvision": "0.21",
}
"""Least versions, as the distribution asks for them."""

LEAST_FREE_MEMORY = 2 * GIB
LEAST_FREE_DISK, ROOMY_DISK = GIB // 4, 2 * GIB
LEAST_SHARED_MEMORY = GIB // 2
RAY_START_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check came to.

    Attributes:
        name: What was looked at.
        status: `ok`, `warn` (works, but not as it should) or `fail`.
        detail: What was found.
        remedy: What to do about it; empty when `ok`.
    """

    name: str
    status: TrialOutcome
    detail: str
    remedy: str = ""


def diagnose(
    *, out: Path | str | None = None, device: str = "auto", quick: bool = False
) -> tuple[Finding, ...]:
    """Looks at everything a search needs.

    Args:
        out: Where studies will be written; by default the current folder.
        device: Where training will run: `auto`, `cpu` or `cuda`.
        quick: Leaves out starting Ray.
    """
    return tuple(examine(out=out, device=device, quick=quick))


def examine(*, out: Path | str | None = None, device: str = "auto", quick: bool = False) -> Iterator[Finding]:
    """Yields the findings of `diagnose` one by one, as they are made."""
    folder = Path(out if out is not None else ".").expanduser()
    yield check_python()
    yield from check_packages()
    yield _guarded("processor", check_processor)
    yield _guarded("memory", check_memory)
    yield _guarded("gpu", check_gpus)
    yield _guarded("bfloat16", lambda: check_bfloat16(device))
    yield _guarded("channels_last", lambda: check_channels_last(device))
    yield _guarded("folder", lambda: check_folder(folder))
    yield _guarded("disk", lambda: check_disk(folder))
    yield _guarded("shared memory", check_shared_memory)
    # Ray starts while the rest runs: its start is mostly waiting, and is not what the others time.
    start = None if quick else RayStart()
    try:
        yield _guarded("training", lambda: check_training(device))
        yield _guarded("export", check_export)
        if start is not None:
            yield _guarded("ray start", start.finding)
    finally:
        if start is not None:
            start.stop()


def check_python() -> Finding:
    """Checks the interpreter's version."""
    detail = f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < LEAST_PYTHON:
        wanted = ".".join(map(str, LEAST_PYTHON))
        return Finding(
            name="python", status="fail", detail=detail, remedy=f"install Python {wanted} or newer"
        )
    return Finding(name="python", status="ok", detail=detail)


def check_packages() -> Iterator[Finding]:
    """Checks that every library is installed, and new enough."""
    for name, least in REQUIREMENTS.items():
        yield check_package(name, least)


def check_package(name: str, least: str) -> Finding:
    """Checks one library without importing it."""
    remedy = f"python -m pip install '{name}>={least}'"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name=name, status="fail", detail="not installed", remedy=remedy)
    if _release(found) < _release(least):
        detail = f"{found}, but {least} or newer is needed"
        return Finding(name=name, status="fail", detail=detail, remedy=remedy)
    return Finding(name=name, status="ok", detail=found)


def check_processor() -> Finding:
    """Counts the cores this process may use."""
    cores, all_cores = usable_cores(), os.cpu_count() or 1
    detail = f"{processor_name()}, {cores} core{'s' * (cores > 1)}"
    if cores < all_cores:
        detail += f" usable of {all_cores}"
    return Finding(name="processor", status="ok", detail=detail)


def check_memory(*, least_free: int = LEAST_FREE_MEMORY) -> Finding:
    """Looks at the memory that is free, container limits included."""
    free, total = free_memory()
    detail = f"{free / GIB:.1f} GiB free of {total / GIB:.1f} GiB"
    if free < least_free:
        remedy = "close other programs or take fewer workers: each needs about a gibibyte beside the data"
        return Finding(name="memory", status="warn", detail=detail, remedy=remedy)
    return Finding(name="memory", status="ok", detail=detail)


def check_gpus() -> Finding:
    """Lists the GPUs that PyTorch can use."""
    import torch

    if torch.cuda.is_available():
        gpus = [_describe_gpu(index) for index in range(torch.cuda.device_count())]
        return Finding(name="gpu", status="ok", detail="; ".join(gpus))
    if shutil.which("nvidia-smi") and _succeeds(["nvidia-smi", "-L"]):
        return Finding(
            name="gpu",
            status="warn",
            detail=f"the driver lists a GPU, but torch {torch.__version__} cannot use it",
            remedy="install the PyTorch build for the driver's CUDA version (pytorch.org/get-started), and "
            "see that CUDA_VISIBLE_DEVICES is not empty",
        )
    return Finding(name="gpu", status="ok", detail="none: training runs on the processor")


def check_bfloat16(device: str) -> Finding:
    """Says what `precision="auto"` means here, and why."""
    from nas.devices import choose_device
    from nas.training.precision import choose_precision

    where = choose_device(device)
    choice = choose_precision(where)
    detail = f"automatic precision is {choice.precision}: {where} {choice.reason}"
    return Finding(name="bfloat16", status="ok", detail=detail)


def check_channels_last(device: str) -> Finding:
    """Times training with channels last, as candidates are trained, against channels first."""
    from nas.devices import choose_device

    where = choose_device(device)
    speedup = channels_last_speedup(where)
    detail = f"{speedup:.2f} times as fast as channels first on {where}; training uses it"
    return Finding(name="channels_last", status="ok", detail=detail)


def check_folder(folder: Path) -> Finding:
    """Tries which journal mode the folder's file system allows."""
    from nas.study.journal_schema import journal_mode_of

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
    remedy = "free some space, or choose another disk with --out"
    if free < least:
        return Finding(name="disk", status="fail", detail=detail, remedy=remedy)
    if free < roomy:
        return Finding(name="disk", status="warn", detail=detail, remedy=remedy)
    return Finding(name="disk", status="ok", detail=detail)


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


def check_training(device: str) -> Finding:
    """Trains a small network for two steps, as candidates are trained."""
    from nas.data.loading import from_arrays
    from nas.devices import describe_device
    from nas.doctor.probe import tiny_images, tiny_network
    from nas.training.recipe import Recipe
    from nas.training.training import train
    from search_spaces import build

    data = from_arrays(*tiny_images())
    recipe = Recipe(epochs=1.0, warmup_epochs=0.5, batch_size=len(data.train) // 2)
    module = build(tiny_network(), seed=0)
    result = train(module, data, recipe, seed=0, device=device)
    where = describe_device(next(module.parameters()).device)
    detail = f"{result.steps} steps on {where} in {result.precision}, loss {result.loss:.3g}"
    return Finding(name="training", status="ok", detail=detail)


def check_export() -> Finding:
    """Exports a small network and loads it back in a new process."""
    from nas.doctor.probe import tiny_network
    from nas.export.bundle import export_bundle
    from search_spaces import build

    network = tiny_network()
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
        here = Path(__file__).resolve().parent.parent
        path = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from nas.doctor.diagnosis import start_ray; start_ray()"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def finding(self) -> Finding:
        """Waits for the start, as long as it may take."""
        try:
            _, errors = self.process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            return Finding(
                name="ray start",
                status="fail",
                detail=f"a local Ray must run a task in {self._seconds:g} s, but did not",
                remedy="end what is left of it with `ray stop --force` and see that localhost is not behind "
                "a firewall or proxy; without Ray, search with --executor inline",
            )
        if self.process.returncode != 0:
            lines = errors.strip().splitlines() or [f"exit status {self.process.returncode}"]
            return Finding(
                name="ray start",
                status="fail",
                detail=f"a local Ray must start, but: {lines[-1]}",
                remedy="pip install --force-reinstall ray; without Ray, search with --executor inline",
            )
        return Finding(name="ray start", status="ok", detail="a local Ray started, ran a task and stopped")

    def stop(self) -> None:
        """Ends the process and what it started; safe to call after it has ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def start_ray() -> None:
    """Starts a local Ray with one core, runs a task and stops it: the program of `RayStart`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    import ray

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


def channels_last_speedup(device: torch.device) -> float:
    """Measures how many times faster a layer of a small network trains with channels last (median of 5)."""
    import torch

    from nas.doctor.probe import median_step_seconds

    first = median_step_seconds(device, torch.contiguous_format)
    return first / median_step_seconds(device, torch.channels_last)


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Runs a check; whatever it raises is what was found."""
    try:
        return check()
    except ImportError as error:
        remedy = "install what is missing: python -m pip install --upgrade mnas"
        return Finding(name=name, status="fail", detail=str(error), remedy=remedy)
    except NasError as error:
        remedy = "do as the message says"
        return Finding(name=name, status="fail", detail=str(error), remedy=remedy)
    except Exception as error:  # a doctor that falls over helps nobody
        detail = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        remedy = "mend what the checks above say; if they are ok, report this with `nas doctor --json`"
        return Finding(name=name, status="fail", detail=detail, remedy=remedy)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


def _describe_gpu(index: int) -> str:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    return f"{torch.cuda.get_device_name(index)}, {free / GIB:.1f} GiB free of {total / GIB:.1f} GiB"


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return place
