"""`to_source`: the fold that writes a network as standalone PyTorch code."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterator

from search_spaces.errors import SpaceError
from search_spaces.network import Network, lower
from search_spaces.primitives import Chain, Gate, Node, Residual, Shape, out_shape
from search_spaces.tables import describe

HEADER = '''\
"""{title}

A searched network, written out. It needs nothing but PyTorch:

    model = Model()                              # freshly initialised
    model.load_state_dict(state_dict)            # the weights that belong to it
    logits = model(images)                       # {images} -> {logits}
"""

import math
from collections import OrderedDict

import torch
from torch import nn
'''


def to_source(network: Network, title: str = "A network found by architecture search.") -> str:
    """Writes a network as a Python module with a class `Model`, importing only torch.

    Its state-dict keys, layers and arithmetic are those of `build(network)`: the helper classes in it are the
    very source of the ones `build` uses.

    Args:
        network: What to write.
        title: First line of the module's docstring.

    Raises:
        SpaceError: The network cannot be lowered, or two of the user's own modules share a name.
    """
    from search_spaces import layers

    parts = lower(network)
    side = network.resolution
    header = HEADER.format(
        title=title.replace('"""', ""),
        images=f"(batch, {network.in_channels}, {side}, {side})",
        logits=f"(batch, {network.num_classes})",
    )
    helpers: tuple[Callable[..., object], ...] = (
        layers.chain,
        layers.ResidualBlock,
        layers.GatedBlock,
        layers.initialise,
    )
    blocks = [header, *(inspect.getsource(helper).rstrip() + "\n" for helper in helpers)]
    blocks += [
        definition + "\n" for definition in _definitions([part.node for part in parts], parts[0].in_shape)
    ]
    lines = ["class Model(nn.Sequential):"]
    lines += ['    """The network; its children are the stem, the stages and the head."""', ""]
    lines += ["    def __init__(self) -> None:", "        super().__init__()"]
    for part, row in zip(parts, describe(network), strict=True):
        shape = part.out_shape
        lines.append(
            f"        # {row.operator}; {row.layers} x, out {shape.channels} x {shape.height} x {shape.width}"
        )
        lines += _assignment(part.name, part.node, part.in_shape)
    lines += ["        initialise(self)", ""]
    return "\n\n".join(blocks) + "\n\n" + "\n".join(lines)


def _assignment(name: str, node: Node, shape: Shape) -> list[str]:
    first, *rest = _lines(node, shape, indent=2)
    return [f"        self.{name} = {first.strip()}", *rest]


def _lines(node: Node, shape: Shape, indent: int) -> list[str]:
    """The expression for a tree, over several lines, the first one without its indentation's meaning."""
    pad = "    " * indent
    match node:
        case Chain(layers):
            lines = [f"{pad}chain("]
            for name, layer in layers:
                if not name.isidentifier() or keyword.iskeyword(name):
                    raise SpaceError(f"a layer's name must be a Python name, but got {name!r}")
                first, *rest = _lines(layer, shape, indent + 1)
                lines.append(f"{pad}    {name}={first.strip()}")
                lines += rest
                lines[-1] += ","
                shape = out_shape(layer, shape)
            return [*lines, f"{pad})"] if layers else [f"{pad}chain()"]
        case Residual(body, drop_rate, shortcut):
            lines = _wrapped("ResidualBlock", body, shape, indent)
            lines[-1] += f", drop_rate={drop_rate!r}" if drop_rate else ""
            if shortcut is not None:
                first, *rest = _lines(shortcut, shape, indent)
                lines[-1] += f", shortcut={first.strip()}"
                lines += rest
            lines[-1] += ")"
            return lines
        case Gate(body):
            lines = _wrapped("GatedBlock", body, shape, indent)
            lines[-1] += ")"
            return lines
        case _:
            return [pad + node.at(shape).call.source()]


def _wrapped(name: str, body: Node, shape: Shape, indent: int) -> list[str]:
    """A call with a tree as its first argument, still open."""
    first, *rest = _lines(body, shape, indent)
    return [f"{'    ' * indent}{name}({first.strip()}", *rest]


def _definitions(nodes: list[Node], shape: Shape) -> list[str]:
    """Source of every module class that is not PyTorch's, once each."""
    found: dict[str, str] = {}
    for node in nodes:
        for name, text in _definitions_in(node, shape):
            if found.setdefault(name, text) != text:
                raise SpaceError(f"two module classes share the name {name!r}: rename one of them")
        shape = out_shape(node, shape)
    return list(found.values())


def _definitions_in(node: Node, shape: Shape) -> Iterator[tuple[str, str]]:
    match node:
        case Chain(layers):
            for _, layer in layers:
                yield from _definitions_in(layer, shape)
                shape = out_shape(layer, shape)
        case Residual(body, _, shortcut):
            yield from _definitions_in(body, shape)
            if shortcut is not None:
                yield from _definitions_in(shortcut, shape)
        case Gate(body):
            yield from _definitions_in(body, shape)
        case _:
            call = node.at(shape).call
            definition = call.definition()
            if definition is not None:
                yield call.type.__name__, definition
