"""Owns devices that train: choosing and naming one, the memory of a training, whether bfloat16 is faster.

Does not own latency (`nas.latency`), nor exact costs, which need no device: `search_spaces.cost`.
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from nas.errors import ExecutorError
from search_spaces import build, efficientnet

LEAST_BF16_SPEEDUP = 1.5


def choose_device(name: str = "auto") -> torch.device:
    """Resolves `auto` to the GPU where there is one.

    Raises:
        ExecutorError: A GPU is asked for where there is none, or the device is unknown.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ExecutorError(f"`device in ('auto', 'cpu', 'cuda')` must hold, but got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ExecutorError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees no GPU: use 'cpu'"
        )
    return device


def describe_device(device: torch.device) -> str:
    """Names a device: the GPU's model, or `cpu` with the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Sets the number of threads of torch's CPU operators, and puts it back at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


CUDA_MEMORY_METHOD = "CUDA allocator peak without the data set"
CPU_MEMORY_METHOD = "counted: weights, gradients, optimiser state, tensors kept for backward"


class MemoryMeter:
    """Measures the peak memory of training one network.

    On a GPU it is the allocator's peak above what was held at the start, which leaves the data set out. On a
    CPU the process's resident memory says little (the allocator keeps what earlier trials freed), so it is
    counted instead: weights, gradients, optimiser state, and what one step keeps for the backward pass.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept_bytes = 0
        self._is_cuda = device.type == "cuda"
        if self._is_cuda:
            torch.cuda.reset_peak_memory_stats(device)
            self._held_before = torch.cuda.memory_allocated(device)

    @contextmanager
    def first_step(self, module: nn.Module) -> Iterator[None]:
        """Counts what the forward pass inside keeps for the backward pass; does nothing on a GPU."""
        if self._is_cuda:
            yield
            return
        weights = {
            tensor.untyped_storage().data_ptr() for tensor in module.state_dict(keep_vars=True).values()
        }
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield
        self._kept_bytes = sum(kept.values())

    def peak_bytes(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Returns the peak after training, in bytes."""
        if self._is_cuda:
            return torch.cuda.max_memory_allocated(self._device) - self._held_before
        states = [value for state in optimizer.state.values() for value in state.values()]
        tensors = [
            *module.state_dict().values(),
            *(p for p in module.parameters() if p.requires_grad),
            *states,
        ]
        return self._kept_bytes + sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def release_memory(device: torch.device) -> None:
    """Gives memory that is no longer referred to back to the device, after a candidate ran out of it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@cache
def bf16_speedup(device: torch.device) -> float:
    """Measures how many times faster an EfficientNet trains in bfloat16 than in float32 (medians of 5 steps).

    It is a whole network, of about the size that is trained on such a device, since a single layer misleads:
    on a CPU whose matrix units know bfloat16, one MBConv layer was faster in it and whole networks slower.
    """
    width, batch = (1.0, 128) if device.type == "cuda" else (0.25, 16)
    network = efficientnet(resolution=32, num_classes=10, width=width).reference
    assert network is not None
    module = build(network, seed=0).to(device).to(memory_format=torch.channels_last)
    images = torch.zeros((batch, 3, 32, 32), device=device).to(memory_format=torch.channels_last)

    def step(is_bf16: bool) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_bf16):
            loss = module(images).float().logsumexp(1).sum()
        module.zero_grad()
        torch.autograd.backward(loss)

    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(7):
        for is_bf16, samples in seconds.items():  # in turns, so that a busy moment hits both
            samples.append(_timed(partial(step, is_bf16), device))
    return statistics.median(seconds[False][2:]) / statistics.median(seconds[True][2:])


def prefers_bf16(device: torch.device) -> bool:
    """Says whether bfloat16 is at least 1.5 times as fast here.

    The margin is wide so that noise does not make two workers of one machine disagree.
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    return bf16_speedup(device) >= LEAST_BF16_SPEEDUP


def _timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, synchronised on both sides."""
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Waits until the device has done everything it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
