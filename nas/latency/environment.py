"""What identifies a device that latency is measured on, and how much of it others use at the moment."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from nas.latency.allocator import keep_freed_memory
from nas.latency.devices import DeviceSettings

SAMPLING_SECONDS = 0.5
BUSY_SHARE, TOO_BUSY_SHARE = 0.10, 0.30
FOREIGN_MEMORY_BYTES = 1 << 30
GPU_READINGS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a latency belongs to, besides the network and the settings.

    Attributes:
        device_name: Model of the processor or GPU.
        machine: Architecture and system: `x86_64 Linux`.
        cores: Logical cores that this process may use.
        torch: Version of torch.
        onnxruntime: Version of ONNX Runtime where it ran the network, else empty.
        cuda: Version of CUDA that torch was built for where a GPU ran the network, else empty.
        governor: Frequency governor of the first core; empty where it cannot be read.
        load_average: Of the last minute; None where the system has none.
        options: What else changes speed: TF32 and cuDNN's benchmark mode of torch on a GPU, on a CPU whether
            the process keeps the memory that it frees.
    """

    device_name: str
    machine: str
    cores: int
    torch: str
    onnxruntime: str = ""
    cuda: str = ""
    governor: str = ""
    load_average: float | None = None
    options: str = ""

    @property
    def text(self) -> str:
        """The environment in words."""
        words = [self.device_name, f"{self.cores} cores, {self.machine}", f"torch {self.torch}"]
        words += [f"ONNX Runtime {self.onnxruntime}"] * bool(self.onnxruntime)
        words += [f"CUDA {self.cuda}"] * bool(self.cuda)
        words += [self.options] * bool(self.options)
        words += [f"governor {self.governor}"] * bool(self.governor)
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Busyness:
    """How much of the device others use.

    Attributes:
        share: In [0, 1]; None where it cannot be known.
        text: The same in words.
        is_busy: Whether a measurement is doubtful: others use more than 10 %, or hold memory of the GPU.
        is_too_busy: Whether it is refused unless forced: others use more than 30 %.
    """

    share: float | None
    text: str
    is_busy: bool
    is_too_busy: bool


def describe_environment(settings: DeviceSettings) -> Environment:
    """Reads what identifies this device; whatever cannot be read is left empty."""
    on_gpu = settings.is_cuda
    return Environment(
        device_name=_gpu_name() if on_gpu else cpu_name(),
        machine=f"{platform.machine()} {platform.system()}",
        cores=usable_cores(),
        torch=torch.__version__,
        onnxruntime=onnxruntime_version() if settings.is_onnx else "",
        cuda=(torch.version.cuda or "") if on_gpu else "",
        governor=_first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        load_average=_load_average(),
        options=_options(settings),
    )


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Names the processor: its model where the system tells it, else its architecture.

    Args:
        cpuinfo: The file that Linux describes processors in.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    # ARM kernels name the board under `Hardware` or `Model`, or nothing at all.
    names = [facts.get(key, "") for key in ("model name", "hardware", "model")]
    return next((name for name in names if name and not name.isdigit()), "") or (
        platform.processor() or platform.machine() or "unknown processor"
    )


def usable_cores() -> int:
    """Counts the logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def onnxruntime_version() -> str:
    """Returns the version of ONNX Runtime in any of its distributions; empty where there is none."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def busy(settings: DeviceSettings, *, seconds: float = SAMPLING_SECONDS) -> Busyness:
    """Watches for a moment how much of the device others use; this process must be idle meanwhile.

    Args:
        settings: Whose device.
        seconds: How long.
    """
    return _gpu_busyness(seconds) if settings.is_cuda else _cpu_busyness(seconds)


@dataclass(frozen=True, slots=True)
class CpuTicks:
    """Ticks of all cores since the machine started.

    Attributes:
        total: All of them.
        idle: Those in which nothing ran, waiting for disks included.
        own: Those that this process used.
    """

    total: int
    idle: int
    own: int


def read_ticks(proc: Path = Path("/proc")) -> CpuTicks | None:
    """Reads the ticks from Linux; None on a system without them.

    Time stolen by other guests of the same host counts as used by others: it slows a measurement as well.
    """
    try:
        first = (proc / "stat").read_text(encoding="ascii").splitlines()[0].split()
        own = (proc / "self" / "stat").read_text(encoding="utf-8", errors="replace")
        ticks = [int(word) for word in first[1:9]]  # user to steal; guests' time is within user's
        user, system = own.rpartition(")")[2].split()[11:13]
        return CpuTicks(total=sum(ticks), idle=ticks[3] + ticks[4], own=int(user) + int(system))
    except (OSError, ValueError, IndexError):
        return None


def share_of_others(before: CpuTicks | None, after: CpuTicks | None) -> float | None:
    """Returns the share of all cores' time that other processes used; None where it cannot be told."""
    if before is None or after is None or after.total <= before.total:
        return None
    used = (after.total - before.total) - (after.idle - before.idle) - (after.own - before.own)
    return min(1.0, max(0.0, used / (after.total - before.total)))


def judge_share(share: float | None, device: str) -> Busyness:
    """Words a share, and says whether it is too much."""
    if share is None:
        text = f"how much of the {device} others use cannot be known on this system"
        return Busyness(share=None, text=text, is_busy=False, is_too_busy=False)
    return Busyness(
        share=share,
        text=f"others used {100 * share:.0f} % of the {device}",
        is_busy=share > BUSY_SHARE,
        is_too_busy=share > TOO_BUSY_SHARE,
    )


def _cpu_busyness(seconds: float) -> Busyness:
    before = read_ticks()
    time.sleep(seconds)
    return judge_share(share_of_others(before, read_ticks()), "CPU")


def _gpu_busyness(seconds: float) -> Busyness:
    """By the driver's utilisation where NVML can be asked, else by the memory that others hold."""
    if not torch.cuda.is_available():
        return judge_share(None, "GPU")
    readings = []
    try:
        for _ in range(GPU_READINGS):
            time.sleep(seconds / GPU_READINGS)
            readings.append(torch.cuda.utilization() / 100)
    except Exception:  # NVML's errors have a base of their own, and its Python package may be missing
        return _judge_memory()
    return judge_share(sum(readings) / len(readings), "GPU")


def _judge_memory() -> Busyness:
    free, total = torch.cuda.mem_get_info()
    foreign = max(0, total - free - torch.cuda.memory_reserved())
    is_busy = foreign > FOREIGN_MEMORY_BYTES
    words = (
        f"{foreign / 2**30:.1f} GiB of the GPU's memory are held outside this process's tensors (its load "
        "cannot be known without nvidia-ml-py)"
    )
    return Busyness(share=None, text=words, is_busy=is_busy, is_too_busy=False)


def _gpu_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "unknown GPU"


def _options(settings: DeviceSettings) -> str:
    if settings.device == "cpu":
        return "freed memory kept" * keep_freed_memory()
    return _gpu_options() if settings.is_cuda and not settings.is_onnx else ""


def _gpu_options() -> str:
    matmul = "on" if torch.backends.cuda.matmul.allow_tf32 else "off"
    convolution = "on" if torch.backends.cudnn.allow_tf32 else "off"
    benchmark = "on" if torch.backends.cudnn.benchmark else "off"
    return f"TF32 {matmul} in matmul and {convolution} in convolutions, cuDNN benchmark {benchmark}"


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
