"""What the operating system says about this machine: processor, cores, memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
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
