"""The processor, cores and memory of this machine, from the operating system."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of `mallopt`'s parameters in glibc's malloc.h."""

NEVER = 2**31 - 1
MOST_ON_HEAP = 2**30


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Names the processor: its model if the system knows it, else its architecture.

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
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(cgroup: Path = CGROUP) -> tuple[int, int]:
    """Free and whole memory in bytes: the machine's, or the container's where that is less.

    Args:
        cgroup: The folder in which Linux states the limits of a container.
    """
    machine = psutil.virtual_memory()
    free, total = int(machine.available), int(machine.total)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # there is no container, or its limit is `max`
        return free, total
    return min(free, max(0, limit - used)), min(total, limit)


def memory_kills(cgroup: Path = CGROUP, vmstat: Path = Path("/proc/vmstat")) -> int:
    """Counts the processes that Linux has ended because memory ran out, in this container or on the machine.

    Args:
        cgroup: The folder in which Linux states what happened in a container.
        vmstat: The file in which it states what happened on the machine.
    """
    for path in (cgroup / "memory.events", vmstat):
        try:
            lines = path.read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        except (OSError, ValueError, IndexError, StopIteration):
            continue
    return 0


def held_memory() -> int:
    """Bytes that this process holds: resident ones, and tensors on its GPUs where torch is loaded."""
    held = int(psutil.Process().memory_info().rss)
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        held += sum(cuda.memory_allocated(device) for device in range(cuda.device_count()))
    return held


def open_files() -> float:
    """Share of the files that this process may have open which are; 0 where the system does not say."""
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        count: int = psutil.Process().num_fds()
    except (ImportError, AttributeError, OSError, psutil.Error):  # Windows
        return 0.0
    return count / most if most > 0 else 0.0


@cache
def keep_freed_memory() -> bool:
    """Sets the C library to keep freed memory instead of returning it; returns whether that worked.

    By its defaults glibc returns large buffers to the system and takes them again, page by page, whenever the
    end of its heap happens to be free. Which block of a network pays for that depends on what ran before it,
    so blocks measured alone do not add up to networks. Processes that serve a network usually run on an
    allocator that keeps memory. It holds until the process ends, and does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, NEVER)) and bool(mallopt(MMAP_THRESHOLD, MOST_ON_HEAP))
