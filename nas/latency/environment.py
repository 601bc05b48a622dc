"""What identifies a device that latency is measured on, and how much of it others use at the moment."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
import torch

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.machine import keep_freed_memory, processor_name, usable_cores

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
        is_busy: Whether a measurement is unreliable: others use more than 10 %, or hold memory of the GPU.
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
        device_name=_gpu_name() if on_gpu else processor_name(),
        machine=f"{platform.machine()} {platform.system()}",
        cores=usable_cores(),
        torch=torch.__version__,
        onnxruntime=onnxruntime_version() if settings.is_onnx else "",
        cuda=(torch.version.cuda or "") if on_gpu else "",
        governor=_first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        options=_options(settings),
    )


def onnxruntime_version() -> str:
    """Returns the version of ONNX Runtime in any of its distributions; empty where there is none."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def require_quiet(settings: DeviceSettings, *, is_forced: bool = False) -> Busyness:
    """Returns how busy the device is, where it is quiet enough to measure on.

    Args:
        settings: Whose device.
        is_forced: Whether any device is quiet enough.

    Raises:
        LatencyError: Others use more than 30 % of it.
    """
    found = busy(settings)
    if found.is_too_busy and not is_forced:
        raise LatencyError(
            f"a latency needs a quiet machine, but {found.text}: end what else runs here, or measure all the "
            "same with --force (the result is then flagged as unreliable)",
            field="force",
        )
    return found


def busy(settings: DeviceSettings, *, seconds: float = SAMPLING_SECONDS) -> Busyness:
    """Watches for a moment how much of the device others use; this process must be idle during that time.

    Args:
        settings: Whose device.
        seconds: How long.
    """
    if settings.is_cuda:
        return _gpu_busyness(seconds)
    before = read_cpu_times()
    time.sleep(seconds)
    return judge_share(share_of_others(before, read_cpu_times()), "CPU")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of all cores since the machine started.

    Attributes:
        total: All of them.
        idle: Those in which nothing ran, waiting for disks included.
        own: Those that this process used.
    """

    total: float
    idle: float
    own: float


def read_cpu_times() -> CpuTimes | None:
    """Reads the times; None where the system has none.

    Time stolen by other guests of the same host counts as used by others: it slows a measurement as well.
    """
    try:
        times, own = psutil.cpu_times()._asdict(), psutil.Process().cpu_times()
    except (psutil.Error, OSError, RuntimeError):
        return None
    guests = times.get("guest", 0.0) + times.get("guest_nice", 0.0)  # Linux has them within the user's time
    return CpuTimes(
        total=sum(times.values()) - guests,
        idle=times["idle"] + times.get("iowait", 0.0),
        own=own.user + own.system,
    )


def share_of_others(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Returns the share of all cores' time that other processes used; None if unknown."""
    if before is None or after is None or after.total <= before.total:
        return None
    used = (after.total - before.total) - (after.idle - before.idle) - (after.own - before.own)
    return min(1.0, max(0.0, used / (after.total - before.total)))


def judge_share(share: float | None, device: str) -> Busyness:
    """Says in words what share others use of a device, and whether it is too much."""
    if share is None:
        text = f"how much of the {device} others use cannot be known on this system"
        return Busyness(share=None, text=text, is_busy=False, is_too_busy=False)
    return Busyness(
        share=share,
        text=f"others used {100 * share:.0f} % of the {device}",
        is_busy=share > BUSY_SHARE,
        is_too_busy=share > TOO_BUSY_SHARE,
    )


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
    words = (
        f"{foreign / 2**30:.1f} GiB of the GPU's memory are held outside this process's tensors (its load "
        "cannot be known without nvidia-ml-py)"
    )
    return Busyness(share=None, text=words, is_busy=foreign > FOREIGN_MEMORY_BYTES, is_too_busy=False)


def _gpu_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "unknown GPU"


def _options(settings: DeviceSettings) -> str:
    if settings.is_onnx:
        return ""
    if not settings.is_cuda:
        return "freed memory kept" * keep_freed_memory()
    matmul = "on" if torch.backends.cuda.matmul.allow_tf32 else "off"
    convolution = "on" if torch.backends.cudnn.allow_tf32 else "off"
    benchmark = "on" if torch.backends.cudnn.benchmark else "off"
    return f"TF32 {matmul} in matmul and {convolution} in convolutions, cuDNN benchmark {benchmark}"


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
