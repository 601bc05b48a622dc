"""The devices of torch: choosing and naming one, its threads, its memory, and recording a CUDA graph."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nas.errors import ExecutorError


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
        raise ExecutorError(
            f"`device in ('auto', 'cpu', 'cuda')` must hold, but got {name!r}", field="device"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ExecutorError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees no GPU: use 'cpu'",
            field="device",
        )
    return device


def describe_device(device: torch.device) -> str:
    """Names a device: the GPU's model, or `cpu` with the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Sets the number of threads of torch's CPU operators, and puts it back at the end."""
    before = torch.get_num_threads()
    if before == threads:  # setting it takes time, which a measured latency would show
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def release_memory(device: torch.device) -> None:
    """Gives memory that is no longer referred to back to the device, after a candidate ran out of it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Waits until the device has done everything it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class CudaRecorder:
    """Records a CUDA graph on a stream of its own.

    Source: PyTorch's notes on CUDA semantics, "CUDA Graphs", "Whole-network capture".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, work: Callable[[], None]) -> None:
        """Does the work, in order with all that was asked of the device before and will be after."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns what does the same work on the same memory again; the work is not done now.

        PyTorch advances dropout's generator with every replay.
        """
        graph = torch.cuda.CUDAGraph()
        # Threads of a data loader pin memory during the capture, which the default mode treats as an error.
        mode = "thread_local"
        with (
            torch.cuda.device(self._device),
            # Puts the current stream back, which a failing capture leaves behind.
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode=mode),
        ):
            work()
        return graph.replay
