"""Owns the contract that every search space keeps, ours or a user's; run `check_space` on yours.

Does not own the tests of this project: they call this.
"""

from __future__ import annotations

import pickle

import numpy as np

from search_spaces.lowering import cost
from search_spaces.network import Network
from search_spaces.source import to_source
from search_spaces.space import SearchSpace


def check_space(space: SearchSpace, *, samples: int = 10, seed: int = 0) -> None:
    """Checks the laws that search, journal and export rely on, over random candidates.

    Tokens and networks go back and forth; JSON, digests and pickles keep the meaning; the counted cost and
    the parameters of the built module agree; the module maps images to logits, and the exported source has
    the module's state-dict keys and logits.

    Args:
        space: Any search space; with modules of moderate size, since some are built.
        samples: Number of random candidates.
        seed: Seed of the sample.

    Raises:
        AssertionError: A law is broken; the message names it.
    """
    rng = np.random.default_rng(seed)
    twin = pickle.loads(pickle.dumps(space))
    assert twin.fingerprint == space.fingerprint, "a pickled space must be the same space"
    for index, decision in enumerate(space.decisions):
        parents = [parent for parent, _ in decision.conditions]
        assert all(parent < index for parent in parents), f"{decision.name} must come after its parents"
    for number in range(samples):
        tokens = space.sample(rng)
        network = space.decode(tokens)
        assert space.canonical(tokens) == tokens, "a sample must be in canonical form"
        assert space.decode(space.encode(network)).digest == network.digest, "encode must invert decode"
        read = Network.from_json(network.to_json(), space.op_types)
        assert read == network, "JSON must keep the network"
        assert read.digest == network.digest == twin.digest(tokens), (
            "the digest must not depend on the process"
        )
        if number < 3:
            check_network(network)


def check_network(network: Network) -> None:
    """Checks that cost, module and exported source of one network agree.

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
    assert logits.shape == (2, network.num_classes), f"logits must be (2, classes), but are {logits.shape}"
    scope: dict[str, type[torch.nn.Module]] = {}
    exec(compile(to_source(network), "model.py", "exec"), scope)
    exported = scope["Model"]().eval()
    exported.load_state_dict(module.state_dict())
    with torch.no_grad():
        same = torch.equal(exported(images), logits)
    assert same, "the exported source must compute the module's logits"
