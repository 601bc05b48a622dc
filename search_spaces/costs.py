"""Owns `Cost`: what a network costs, counted without building it and without torch.

Does not own measurements: latency and real memory depend on a device and are measured in `nas`.
"""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.errors import SpaceError
from search_spaces.primitives import Chain, Gate, Node, Residual, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Exact costs for one image.

    Attributes:
        macs: Multiply-adds of convolutions and linear layers, biases free. The papers call these FLOPS.
        params: Trained parameters.
        activations: Values that convolutions and linear layers put out (Radosavovic et al., CVPR 2020, 3.1).
    """

    macs: int = 0
    params: int = 0
    activations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            macs=self.macs + other.macs,
            params=self.params + other.params,
            activations=self.activations + other.activations,
        )


def tree_cost(node: Node, shape: Shape) -> tuple[Cost, Shape]:
    """Cost of a tree on an input of the given shape, and the shape it puts out.

    Raises:
        SpaceError: The tree does not fit the shape.
    """
    match node:
        case Chain(layers):
            total = Cost()
            for _, layer in layers:
                part, shape = tree_cost(layer, shape)
                total += part
            return total, shape
        case Residual(body):
            total, out = tree_cost(body, shape)
            if out != shape:
                raise SpaceError(f"a residual body must keep {shape}, but gives {out}")
            return total, shape
        case Gate(body):
            total, out = tree_cost(body, shape)
            if out != Shape(shape.channels, 1, 1):
                raise SpaceError(f"a gate must give {shape.channels} x 1 x 1, but gives {out}")
            return total, shape
        case _:
            made = node.at(shape)
            values = made.out.elements if made.macs else 0
            return Cost(macs=made.macs, params=made.params, activations=values), made.out
