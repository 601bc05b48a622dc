"""Chooses between float32 and bfloat16 for a device: by the processor's flags, then by a short timing."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from nas.devices import synchronize
from search_spaces import Network, build, efficientnet, small

Chosen = Literal["float32", "bfloat16"]

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""Names of bfloat16 units among the flags (x86) or features (ARM) in /proc/cpuinfo."""

LEAST_BF16_SPEEDUP = 1.5
"""The margin is wide so that noise does not decide."""

BUDGET_SECONDS = 1.0
PAIRS = 5
LEAST_PAIRS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionChoice:
    """What `precision="auto"` means on a device.

    Attributes:
        precision: What is computed in.
        reason: Why, in words that follow the device's name.
    """

    precision: Chosen
    reason: str


@cache
def choose_precision(device: torch.device) -> PrecisionChoice:
    """Chooses what trains faster on a device; finds it out once in a process.

    A device without bfloat16 units gets float32 without any timing. On others it takes about a second at
    most, on a GPU after two steps of warm-up.
    """
    if device.type == "cuda":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
        network, batch = efficientnet(resolution=32, num_classes=10).reference, 128
    else:
        has_units = bool(cpu_bf16_units())
        network, batch = small(resolution=32, num_classes=10).reference, 8
    if not has_units:
        return PrecisionChoice(precision="float32", reason="has no bfloat16 units")
    assert network is not None
    step = make_step(network, batch, device)
    if device.type == "cuda":
        # Loading the GPU's libraries takes seconds, which the first training would pay anyway.
        step(False)
        step(True)
    return compare_precisions(step)


def compare_precisions(
    step: Callable[[bool], object],
    *,
    clock: Callable[[], float] = time.perf_counter,
    budget_seconds: float = BUDGET_SECONDS,
) -> PrecisionChoice:
    """Times steps in float32 and bfloat16 in turns; anything but a clear gain in time means float32.

    The first step of each is warm-up. It ends at the first pair in which bfloat16 is the slower one, and
    begins no step that would not fit in the budget if it took as long as the longest one so far.

    Args:
        step: Takes one training step, in bfloat16 or not, and waits for the device.
        clock: Seconds.
        budget_seconds: Of all steps together.
    """
    started = clock()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    longest = 0.0
    for _ in range(1 + PAIRS):
        for is_bf16, samples in seconds.items():  # in turns, so that a busy moment hits both
            before = clock()
            if before - started + longest > budget_seconds:
                return _judge(seconds)
            step(is_bf16)
            samples.append(clock() - before)
            longest = max(longest, samples[-1])
        if len(seconds[True]) > 1 and seconds[True][-1] > seconds[False][-1]:
            return _judge(seconds)
    return _judge(seconds)


def _judge(seconds: dict[bool, list[float]]) -> PrecisionChoice:
    pairs = list(zip(seconds[False][1:], seconds[True][1:], strict=False))
    if not pairs:
        return PrecisionChoice(precision="float32", reason="is too slow to time bfloat16 in a second")
    speedup = statistics.median(one / max(other, 1e-9) for one, other in pairs)
    is_faster = speedup >= LEAST_BF16_SPEEDUP and len(pairs) >= LEAST_PAIRS
    timed = f"{len(pairs)} timed step{'s' * (len(pairs) != 1)}"
    return PrecisionChoice(
        precision="bfloat16" if is_faster else "float32",
        reason=f"trains a small network {speedup:.2f} times as fast in bfloat16 ({timed})",
    )


def make_step(network: Network, batch: int, device: torch.device) -> Callable[[bool], None]:
    """Makes one training step of a network on black images, in bfloat16 or not.

    It is a whole network, since a single layer misleads: on a CPU whose matrix units know bfloat16, one
    MBConv layer was faster in it and whole networks slower.
    """
    module = build(network, seed=0).to(device).to(memory_format=torch.channels_last)
    shape = (batch, network.in_channels, network.resolution, network.resolution)
    images = torch.zeros(shape, device=device).to(memory_format=torch.channels_last)

    def step(is_bf16: bool) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_bf16):
            loss = module(images).float().logsumexp(1).sum()
        module.zero_grad()
        torch.autograd.backward(loss)
        synchronize(device)

    return step


def cpu_bf16_units() -> str:
    """Names a unit of this machine's processor that computes in bfloat16; empty where none is known."""
    system = platform.system()
    if system == "Linux":
        try:
            return bf16_units_of(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return _units_torch_knows()
    if system == "Darwin":
        return "bf16" if _sysctl("hw.optional.arm.FEAT_BF16") == "1" else ""
    return _units_torch_knows()


def bf16_units_of(cpuinfo: str) -> str:
    """Finds the bfloat16 units among the flags of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, words = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return ", ".join(sorted(BF16_FLAGS & set(words.split())))
    return ""


def _units_torch_knows() -> str:
    """Asks torch, whose functions for it are not in every version."""
    asked = {"avx512_bf16": "_is_avx512_bf16_supported", "amx": "_is_amx_tile_supported"}
    known = {unit: getattr(torch.cpu, name, None) for unit, name in asked.items()}
    return ", ".join(unit for unit, is_there in known.items() if is_there is not None and is_there())


def _sysctl(name: str) -> str:
    try:
        run = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip()
