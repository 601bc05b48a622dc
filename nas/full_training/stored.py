"""What a training stores of its tensors: names, copies on the CPU, and an optimiser's state as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

OPTIMIZER = "optimizer."
"""What the names of an optimiser's tensors begin with."""


def on_host(named: Mapping[str, Tensor]) -> Tensors:
    """Copies tensors to the CPU, in the plain memory layout."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Those whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def parts_of(tensors: Mapping[str, Tensor]) -> Iterator[object]:
    """Names and values of tensors in the order of the names, for a digest."""
    for name, tensor in sorted(tensors.items()):
        yield name
        yield tensor.detach().cpu().contiguous().numpy()


def are_finite(*tensors: Tensor) -> bool:
    """Whether all values are finite; waits for the device."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The tensors in an optimiser's state, by name."""
    return {
        f"{OPTIMIZER}{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def optimizer_numbers(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The numbers in an optimiser's state and groups, as JSON values."""
    stored = optimizer.state_dict()
    states = {
        str(index): {name: value for name, value in state.items() if not isinstance(value, Tensor)}
        for index, state in stored["state"].items()
    }
    groups = [
        {name: _number(value) for name, value in group.items() if _number(value) is not None}
        for group in stored["param_groups"]
    ]
    return {"optimizer_state": states, "optimizer_groups": groups}


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Gives an optimiser the state that `optimizer_tensors` and `optimizer_numbers` took from one like it."""
    states: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in numbers["optimizer_state"].items()
    }
    for name, tensor in under(OPTIMIZER, tensors).items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = tensor.clone()
    stored = optimizer.state_dict()
    groups = [
        {**group, **{name: _like(group.get(name), value) for name, value in extra.items()}}
        for group, extra in zip(stored["param_groups"], numbers["optimizer_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    # The memory layout of the parameters, as before they were stored: sums then round alike.
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim == 4:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _number(value: object) -> float | int | None:
    """A number that a group of an optimiser holds, also in a tensor; None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    return value if isinstance(value, int | float) else None


def _like(before: object, value: float) -> object:
    """A number in the form in which a group held it."""
    return torch.full_like(before, value) if isinstance(before, Tensor) else value
