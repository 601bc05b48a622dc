"""Puts trained weights into the network they belong to, and refuses those of another."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from nas.errors import ExportError
from search_spaces import Network, build, cost


def trained(network: Network, weights: bytes | Mapping[str, Tensor]) -> nn.Module:
    """Builds a network with its weights, in evaluation mode, on the CPU, in float32.

    Raises:
        ExportError: The weights cannot be read, are those of another network, or are not finite.
        SpaceError: The network cannot be built.
    """
    given = read_weights(weights) if isinstance(weights, bytes) else weights
    _check_size(network, given)
    module = build(network, seed=0).eval()
    wanted = module.state_dict()
    for name in wanted:
        if name not in given:
            raise ExportError(
                f"the weights must hold every tensor of the network, but {name} is missing: give them whole, "
                "or the architecture of the network that they are of"
            )
    for name, tensor in given.items():
        if name not in wanted:
            raise ExportError(
                f"the weights must be of this network, but it has no tensor {name}: they are those of another"
            )
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(wanted[name].shape)}, but is {tuple(tensor.shape)} in the weights"
            raise ExportError(f"{name} must have shape {shapes}: they are those of another network")
        if not tensor.isfinite().all():
            raise ExportError(f"the weights must be finite, but {name} is not: the training diverged")
    module.load_state_dict(given)
    return module


def _check_size(network: Network, given: Mapping[str, Tensor]) -> None:
    """Checks that there are as many values as the network has, before the network takes memory."""
    wanted, there = cost(network).params, sum(tensor.numel() for tensor in given.values())
    if there < wanted:
        raise ExportError(
            f"the weights must hold the {wanted:,} parameters of the network, but have {there:,} values: "
            "they are those of another network"
        )


def read_weights(weights: bytes) -> dict[str, Tensor]:
    """Reads safetensors bytes.

    Raises:
        ExportError: They are no such bytes, or some are missing.
    """
    try:
        tensors: dict[str, Tensor] = load(weights)
    except SafetensorError as error:
        raise ExportError(f"the weights must be safetensors bytes, but cannot be read: {error}") from error
    return tensors
