"""`Supernet`: one set of weights of which every network of a space has a slice."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from nas.errors import SupernetError
from nas.full_training.stored import parts_of
from nas.machine import free_memory
from nas.values import digest, few, instance, seed_of
from search_spaces import Part, SearchSpace, SpaceError, lower
from search_spaces.blocks import leaves_of
from search_spaces.layers import initialise
from search_spaces.modules import tree_module
from search_spaces.primitives import Call
from search_spaces.sharing import Kernels, shared_layers, shared_leaves

MOST_KEPT = 4_096
"""Parts of networks that are remembered: they hold no weights, so they are small."""

COPIES = 3
"""Of each parameter in training: the weight, its gradient and its momentum."""

Tensors = dict[str, Tensor]


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Identity of weights."""
    return digest(*parts_of(tensors))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Where a parameter of a network is in the shared weights.

    Attributes:
        key: The shared layer.
        name: Name of the parameter in that layer.
        shape: Its shape in the network; at most the shared one's in every dimension.
    """

    key: str
    name: str
    shape: torch.Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One network of the space, or a part of one, as it runs in the supernet.

    Attributes:
        module: Its layers, without weights of their own. Batch norms always normalise by the batch.
        slices: Where each of its parameters is.
        buffers: What `build(network)` stores beside its parameters, as it begins.
    """

    module: nn.Module
    slices: Mapping[str, Slice]
    buffers: Mapping[str, Tensor]


class Supernet(nn.Module):
    """Shared weights for all networks of a space: for each layer's place one tensor, as large as any needs.

    A network's tensors are prefixes of the shared ones in channels. Blocks of different ops have weights of
    their own; the sizes of one op share. Nothing is known of an op but its layers, so a user's own works too:
    of layers that the package does not know, equal ones share.

    Args:
        space: The networks.
        kernels: `own` gives each size of a kernel weights and a norm of its own; `cropped` takes the centre
            of the largest.
        seed: Of the initial weights, which are those of `build`, at the largest size.
        zero_last_norm: Lets every block with a skip begin as its skip alone.

    Attributes:
        space: The same.
        kernels: The same.
        layers: The shared layers by their keys.

    Raises:
        SupernetError: The space has no networks that could share weights, or they need too much memory.
        UsageError: The space is of another type.

    Source: Cai et al., ICLR 2020 (slices of the largest); Bender et al., CVPR 2020 (kernels of their own);
        Yu et al., ECCV 2020 (the last norm of a block begins at zero).
    """

    def __init__(
        self, space: SearchSpace, *, kernels: Kernels = "own", seed: int = 0, zero_last_norm: bool = False
    ) -> None:
        instance("space", space, (SearchSpace,), "give a SearchSpace, such as search_spaces.mnasnet()")
        calls = checked_layers(space, kernels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed))
            layers = {key: call.module() for key, call in calls.items()}
            self._begin(space, kernels, layers)
            initialise(self.layers)
        if zero_last_norm:
            self._zero_last_norms()

    def _begin(self, space: SearchSpace, kernels: Kernels, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.space = space
        self.kernels: Kernels = kernels
        self.layers = nn.ModuleDict({key: _stateless(layer) for key, layer in layers.items()})
        self._parts: OrderedDict[Part, Path] = OrderedDict()

    def _hold(self, space: SearchSpace, kernels: Kernels, weights: Mapping[str, Tensor]) -> None:
        self._begin(
            space, kernels, {key: _layer_without_weights(c) for key, c in _layers(space, kernels).items()}
        )
        self.load_state_dict(weights, assign=True)
        self.eval()

    @classmethod
    def holding(cls, space: SearchSpace, *, kernels: Kernels, weights: Mapping[str, Tensor]) -> Self:
        """A supernet of weights that are in memory already, in evaluation mode; takes no memory of its own.

        Args:
            space: The networks.
            kernels: As it was trained.
            weights: Its state dict, which it keeps.

        Raises:
            SupernetError: The space has no networks that could share weights.
            RuntimeError: The weights are not those of the space.
        """
        made = cls.__new__(cls)
        made._hold(space, kernels, weights)
        return made

    def forward(self, images: Tensor, tokens: Sequence[int]) -> Tensor:
        """Runs one network on images (batch, channels, resolution, resolution); gives its logits.

        Batch norms normalise by this batch in either mode; dropout and stochastic depth act in training mode.

        Args:
            images: Normalised as in training.
            tokens: The network.

        Raises:
            SpaceError: The tokens are not of the space.
        """
        path = self.path(tokens)
        path.module.train(self.training)
        logits: Tensor = functional_call(path.module, self.tensors(path), (images,))
        return logits

    def path(self, tokens: Sequence[int]) -> Path:
        """One network as it runs here; parts of networks are made once.

        Raises:
            SpaceError: The tokens are not of the space.
            SupernetError: A layer of an own op is larger than the shared one.
        """
        parts = [(part.name, self._part(part)) for part in lower(self.space.decode(tokens))]
        return Path(
            module=nn.Sequential(OrderedDict((name, path.module) for name, path in parts)),
            slices={name: one for _, path in parts for name, one in path.slices.items()},
            buffers={name: one for _, path in parts for name, one in path.buffers.items()},
        )

    def tensors(self, path: Path) -> Tensors:
        """The parameters of a network by name: views of the shared ones, through which gradients flow."""
        return {name: _view(self._shared(one), one.shape) for name, one in path.slices.items()}

    @torch.no_grad()
    def materialise(self, tokens: Sequence[int]) -> Tensors:
        """The weights of one network on the CPU: a state dict of `build(space.decode(tokens))`.

        The running statistics of its batch norms are initial ones; `calibrated` computes those of images.

        Raises:
            SpaceError: The tokens are not of the space.
        """
        path = self.path(tokens)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors(path).items()}
        return {name: tensor.clone() for name, tensor in (weights | dict(path.buffers)).items()}

    @property
    def fingerprint(self) -> str:
        """Identity of the weights, in memory as on the disk."""
        return weights_digest(self.state_dict())

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments and weights as arrays, which processes of a machine can share."""
        weights = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        return {"space": self.space, "kernels": self.kernels, "weights": weights}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            # Arrays shared by the workers of a machine are read-only, and are only read there.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            tensors = {name: torch.from_numpy(array) for name, array in state["weights"].items()}
        self._hold(state["space"], state["kernels"], tensors)

    def _shared(self, one: Slice) -> Tensor:
        return self.layers[one.key].get_parameter(one.name)

    def _part(self, part: Part) -> Path:
        found = self._parts.pop(part, None)
        self._parts[part] = found = found or self._make_part(part)
        if len(self._parts) > MOST_KEPT:
            self._parts.popitem(last=False)
        return found

    def _make_part(self, part: Part) -> Path:
        module = _without_weights(part)
        slices: dict[str, Slice] = {}
        for leaf in shared_leaves(part, self.kernels):
            layer = module.get_submodule(leaf.name.removeprefix(f"{part.name}."))
            for name, tensor in layer.named_parameters():
                slices[f"{leaf.name}.{name}"] = Slice(key=leaf.key, name=name, shape=tensor.shape)
        self._check_fits(slices)
        buffers = dict(_initial_buffers(module, part.name))
        return Path(module=_stateless(module), slices=slices, buffers=buffers)

    def _check_fits(self, slices: Mapping[str, Slice]) -> None:
        for name, one in slices.items():
            shared = self._shared(one).shape if one.key in self.layers else torch.Size()
            if len(shared) != len(one.shape) or any(a > b for a, b in zip(one.shape, shared, strict=True)):
                raise SupernetError(
                    f"`{name}` {tuple(one.shape)} must be a slice of the shared {one.key}, which has "
                    f"{tuple(shared)}: the layers of an op of your own must not depend on the number of its "
                    "block",
                    field="space",
                )

    @torch.no_grad()
    def _zero_last_norms(self) -> None:
        for _, _, tokens in self.space.option_samples():
            for part in lower(self.space.decode(tokens)):
                for leaf in shared_leaves(part, self.kernels):
                    if leaf.ends_residual:
                        self.layers[leaf.key].get_parameter("weight").zero_()


def checked_layers(space: SearchSpace, kernels: Kernels) -> Mapping[str, Call]:
    """The layers that all networks of a space share, without memory for them.

    Raises:
        SupernetError: There is no such form of kernels, no networks that could share weights, or too little
            memory to train them.
    """
    calls = _layers(space, kernels)
    _check_memory(space.name, calls)
    return calls


def _layers(space: SearchSpace, kernels: Kernels) -> Mapping[str, Call]:
    if kernels not in ("own", "cropped"):
        raise SupernetError(f"`kernels` must be own or cropped, but got {kernels!r}", field="kernels")
    try:
        return shared_layers(space, kernels)
    except SpaceError as error:
        raise SupernetError(
            f"the networks of {space.name} cannot share weights: {error}", field="space"
        ) from error


def _view(shared: Tensor, shape: torch.Size) -> Tensor:
    """The first channels of a tensor, and the centre of its kernels."""
    for dimension, (whole, wanted) in enumerate(zip(shared.shape, shape, strict=True)):
        if wanted != whole:
            start = (whole - wanted) // 2 if dimension > 1 else 0
            shared = shared.narrow(dimension, start, wanted)
    return shared


def _layer_without_weights(call: Call) -> nn.Module:
    """A shared layer, its weights without memory unless only the user knows it."""
    if isinstance(call.layer, type):
        return call.module()
    with torch.device("meta"):
        return call.module()


def _without_weights(part: Part) -> nn.Module:
    """The module of a part, its weights without memory unless it has layers that only the user knows."""
    layers = (layer for _, _, layer in leaves_of(part.node, part.in_shape))
    if any(isinstance(layer.call.layer, type) for layer in layers):
        return tree_module(part.node, part.in_shape)
    with torch.device("meta"):
        return tree_module(part.node, part.in_shape)


def _initial_buffers(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """What a module stores beside its parameters, with memory."""
    for name, layer in module.named_modules():
        is_norm = isinstance(layer, _BatchNorm)
        for key, value in layer.named_buffers(recurse=False):
            if key not in layer._non_persistent_buffers_set:
                start = torch.ones if is_norm and key == "running_var" else torch.zeros
                yield (
                    ".".join(filter(None, (prefix, name, key))),
                    start(value.shape, dtype=value.dtype) if is_norm else value.detach().clone(),
                )


def _stateless(module: nn.Module) -> nn.Module:
    """Has batch norms normalise by the batch always, and keep no statistics."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return module


def _check_memory(name: str, calls: Mapping[str, Call]) -> None:
    """Refuses shared weights that this machine cannot hold in training, before memory is taken for them."""
    sizes: dict[str, int] = {}
    for key, call in calls.items():
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in call.module().parameters())
        branch = "/".join(key.split("/")[:3:2])
        sizes[branch] = sizes.get(branch, 0) + count
    needed, (free, _) = 4 * COPIES * sum(sizes.values()), free_memory()
    if needed > free:
        largest = sorted(sizes, key=lambda branch: -sizes[branch])
        listed = few([f"{branch} {sizes[branch] / 1e6:,.0f} M" for branch in largest])
        raise SupernetError(
            f"`memory of the shared weights <= {free / 2**30:.1f} GiB free` must hold, but those of {name} "
            f"with gradients and momentum need {needed / 2**30:.1f} GiB: give the space fewer ops, less "
            f"width, or ops of one class, whose sizes share. Parameters by stage and op: {listed}",
            field="space",
        )
