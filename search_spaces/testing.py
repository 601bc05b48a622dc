"""Checks the contract that every search space keeps, ours or a user's; run `check_space` on yours."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from search_spaces.context import SqueezeExcite
from search_spaces.lowering import Part
from search_spaces.network import Network, cost, lower
from search_spaces.ops import BUILT_IN_OPS, Conv
from search_spaces.primitives import Chain, Gate, Node, Residual, Shape, out_shape
from search_spaces.source import to_source
from search_spaces.space import SearchSpace
from search_spaces.stages import Head, Stage


def check_space(space: SearchSpace, *, samples: int = 10, seed: int = 0) -> None:
    """Checks what search, journal and export rely on, over random candidates.

    Tokens and networks go back and forth; JSON, digests and pickles keep the meaning; the counted cost and
    the parameters of the built module agree; the module maps images to logits, and the exported source has
    the module's state-dict keys and logits.

    Args:
        space: Any search space; with modules of moderate size, since some are built.
        samples: Number of random candidates.
        seed: Seed of the sample.

    Raises:
        AssertionError: The contract is broken; the message says where.
    """
    rng = np.random.default_rng(seed)
    twin = pickle.loads(pickle.dumps(space))
    assert twin.fingerprint == space.fingerprint, "a pickled space must be the same space"
    for index, decision in enumerate(space.decisions):
        parents = [parent for parent, _ in decision.conditions]
        assert all(parent < index for parent in parents), f"{decision.name} must come after its parents"
    for number in range(samples):
        tokens = space.sample(rng)
        check_text(space, tokens)
        assert twin.digest(tokens) == space.digest(tokens), "the digest must not depend on the process"
        if number < 3:
            check_network(space.decode(tokens))


def check_own_parts(space: SearchSpace) -> None:
    """The quick form of `check_space`: only what is not of this package, each op once and by itself.

    For every op and layer of the user's own in the space, one candidate goes through text and back, and the
    stage that has it is built on its real input, run, trained for a step and exported.

    Raises:
        AssertionError: The contract is broken; the message says where, with the candidate's part.
        SpaceError: An op is not valid or cannot be exported.
    """
    if not space.own_types:
        return
    seen: set[object] = set()
    _check_kinds(space)
    for _, _, tokens in space.option_samples():
        network = space.decode(tokens)
        for part in lower(network):
            kinds = _own_kinds(part)
            if kinds and kinds not in seen:
                seen.add(kinds)
                check_text(space, tokens)
                _check_alone(network, part)


def check_text(space: SearchSpace, tokens: tuple[int, ...]) -> None:
    """Checks that a candidate in canonical form keeps its meaning as tokens, as a network and as JSON.

    Raises:
        AssertionError: It does not.
    """
    network = space.decode(tokens)
    assert space.canonical(tokens) == tokens, "a sample must be in canonical form"
    assert space.decode(space.encode(network)).digest == network.digest, "encode must invert decode"
    read = Network.from_json(network.to_json(), space.op_types)
    assert read == network, "JSON must keep the network"
    assert read.digest == network.digest, "JSON must keep the digest"


def _check_kinds(space: SearchSpace) -> None:
    """Checks that nothing but ops is of the user's own classes, as JSON keeps no others."""
    for kind in space.own_types:
        for known in (Network, Stage, Head, SqueezeExcite):
            assert not issubclass(kind, known), (
                f"only ops may be of classes of one's own, as JSON keeps no others, but {kind.__name__} is a "
                f"{known.__name__}: use {known.__name__}, and say what is special in an op"
            )


def _own_kinds(part: Part) -> frozenset[object]:
    """An op of the user's own with the kinds of its layers; nothing where the op is ours."""
    if not isinstance(part.made_of, Stage) or type(part.made_of.op) in BUILT_IN_OPS:
        return frozenset()
    return frozenset({type(part.made_of.op), *_modules(part.node, part.in_shape)})


def _modules(node: Node, shape: Shape) -> Iterator[object]:
    """The modules in a tree: names of ours, classes of the user's."""
    match node:
        case Chain(layers):
            for _, layer in layers:
                yield from _modules(layer, shape)
                shape = out_shape(layer, shape)
        case Residual(body, _, shortcut):
            yield from _modules(body, shape)
            if shortcut is not None:
                yield from _modules(shortcut, shape)
        case Gate(body):
            yield from _modules(body, shape)
        case _:
            yield node.at(shape).call.layer


def _check_alone(network: Network, part: Part) -> None:
    """Checks the smallest network with a part in it, which has there the input that it has in the whole."""
    absent = Stage(op=Conv(), channels=1, repeats=0)
    before = Stage(op=Conv(), channels=part.in_shape.channels)
    stage = part.made_of
    assert isinstance(stage, Stage), "heads are not checked alone"
    if part.name == "stem":
        alone = replace(network, stages=(absent,), head=Head(channels=0))
    else:
        number = int(part.name.removeprefix("stage"))
        alone = replace(
            network,
            stem=before,
            stages=(*(absent for _ in range(number - 1)), replace(stage, repeats=min(2, stage.repeats))),
            head=Head(channels=0),
            resolution=part.in_shape.height,
        )
    check_network(alone)


def check_network(network: Network) -> None:
    """Checks that shapes, cost, module and exported source of one network agree, and that it can be trained.

    Raises:
        AssertionError: They do not.
    """
    import torch

    from search_spaces.modules import build

    module = build(network, seed=0).eval()
    counted = sum(parameter.numel() for parameter in module.parameters())
    assert counted == cost(network).params, f"the module has {counted} parameters, not {cost(network).params}"
    images = torch.zeros(2, network.in_channels, network.resolution, network.resolution).normal_()
    with torch.no_grad():
        logits = module(images)
        found = images
        for part, child in zip(lower(network), module.children(), strict=True):
            found = child(found)
            said = (part.out_shape.channels, part.out_shape.height, part.out_shape.width)
            size = (*found.shape[1:], 1, 1)[:3]
            assert size == said, f"{part.name} must put out {said}, as its layers say, but puts out {size}"
    assert logits.shape == (2, network.num_classes), f"logits must be (2, classes), but are {logits.shape}"
    scope: dict[str, type[torch.nn.Module]] = {}
    exec(compile(to_source(network), "model.py", "exec"), scope)
    exported = scope["Model"]().eval()
    exported.load_state_dict(module.state_dict())
    with torch.no_grad():
        same = torch.equal(exported(images), logits)
    assert same, "the exported source must compute the module's logits"
    module.train()(images).sum().backward()


__all__ = [
    "check_network",
    "check_own_parts",
    "check_space",
]
