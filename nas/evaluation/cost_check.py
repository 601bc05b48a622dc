"""Counts a network's built module with fvcore, and compares its multiply-adds and parameters with ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import UsageError
from search_spaces import Network, build, cost, describe_layers

if TYPE_CHECKING:
    from torch import nn

PRODUCTS = ("conv", "linear")
"""fvcore's operators that are multiply-adds here. It counts normalisation, pooling and resizing as well, of
which it takes each value for an operation; those are no multiply-adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostDifference:
    """How far two counts of a kind of layer are apart, summed over its layers that differ.

    Attributes:
        module: Type of the layer.
        layers: How many of them differ.
        macs: Multiply-adds, ours less fvcore's.
        params: Parameters, likewise.
    """

    module: str
    layers: int
    macs: int
    params: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCheck:
    """The costs of a network as they are known before it is built, beside those counted of its module.

    Attributes:
        macs: Multiply-adds of one image, by `search_spaces.cost`.
        params: Parameters, likewise.
        counted_macs: Multiply-adds by fvcore: those of convolutions and linear layers.
        counted_params: Parameters by fvcore.
        differences: Where they are apart, by the type of layer; empty where they agree.
    """

    macs: int
    params: int
    counted_macs: int
    counted_params: int
    differences: tuple[CostDifference, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both counts agree."""
        return (self.macs, self.params) == (self.counted_macs, self.counted_params) and not self.differences


def check_costs(network: Network) -> CostCheck:
    """Builds a network, counts its module with fvcore, and compares.

    Args:
        network: It is built with random weights and runs once on one image, on the CPU.

    Raises:
        SpaceError: The network cannot be built.
        UsageError: fvcore cannot trace its module.
    """
    module = build(network, seed=0).eval()
    by_module, counted_params = _count(module, network)
    known = cost(network)
    return CostCheck(
        macs=known.macs,
        params=known.params,
        counted_macs=by_module.get("", 0),
        counted_params=counted_params[""],
        differences=_differences(network, module, by_module, counted_params),
    )


def _count(module: nn.Module, network: Network) -> tuple[dict[str, int], dict[str, int]]:
    """Multiply-adds and parameters by the name of each module, the network's own name being empty."""
    import torch

    images = torch.zeros(1, network.in_channels, network.resolution, network.resolution)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore's imports and PyTorch's tracing both warn
        from fvcore.nn import FlopCountAnalysis, parameter_count

        analysis = FlopCountAnalysis(module, images)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        try:
            counted = analysis.by_module_and_operator()
        except Exception as error:  # tracing raises whatever a user's module makes it stumble over
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise UsageError(
                f"fvcore must be able to trace the network, but: {reason}; leave --check out", field="check"
            ) from error
    macs = {name: int(sum(counts[one] for one in PRODUCTS)) for name, counts in counted.items()}
    return macs, dict(parameter_count(module))


def _differences(
    network: Network, module: nn.Module, macs: Mapping[str, int], params: Mapping[str, int]
) -> tuple[CostDifference, ...]:
    """Differences by the type of layer; what fvcore finds in no layer is one of the network's own type."""
    modules = dict(module.named_modules())
    found: dict[str, list[tuple[int, int]]] = {}
    rest_macs, rest_params = macs.get("", 0), params[""]
    for row in describe_layers(network):
        counted = macs.get(row.name, 0), params.get(row.name, 0)
        rest_macs, rest_params = rest_macs - counted[0], rest_params - counted[1]
        apart = (row.macs - counted[0], row.params - counted[1])
        if any(apart):
            found.setdefault(type(modules[row.name]).__name__, []).append(apart)
    if rest_macs or rest_params:
        found.setdefault(type(module).__name__, []).append((-rest_macs, -rest_params))
    return tuple(
        CostDifference(
            module=name,
            layers=len(apart),
            macs=sum(one for one, _ in apart),
            params=sum(other for _, other in apart),
        )
        for name, apart in found.items()
    )
