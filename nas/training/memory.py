"""The peak memory of training one network: measured on a GPU, counted on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
