"""`load_weights`: tensors of our, timm's and torchvision's state dicts, matched to a module's layers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from search_spaces.errors import SpaceError

ORDERS: tuple[tuple[str, ...], ...] = (
    ("conv_stem", "bn1", "blocks", "conv_head", "bn2", "norm_head", "classifier"),
    ("conv_dw", "bn1", "se", "conv_pw", "bn2"),
    ("conv_pw", "bn1", "conv_dw", "bn2", "se", "conv_pwl", "bn3"),
    ("conv_exp", "bn1", "se", "conv_pwl", "bn2"),
    ("conv", "bn1"),
    ("conv_reduce", "conv_expand"),
    ("_conv_stem", "_bn0", "_blocks", "_conv_head", "_bn1", "_fc"),
    ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_se_reduce", "_se_expand", "_project_conv", "_bn2"),
    ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"),
    ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "se", "downsample"),
    ("features", "classifier"),
    ("layers", "classifier"),
)
"""In which order the modules of timm, torchvision and EfficientNet-PyTorch run their children. The shortest
that has them all holds: a depthwise-separable block's `conv_pw` runs last, an inverted bottleneck's first."""

LIKE: tuple[tuple[str, frozenset[str]], ...] = (
    ("paper", frozenset(("stem", "head"))),
    ("timm", frozenset(("conv_stem", "blocks"))),
    ("timm", frozenset(("conv1", "layer1", "fc"))),
    ("torchvision", frozenset(("features", "classifier"))),
    ("torchvision", frozenset(("layers", "classifier"))),
    ("tensorflow", frozenset(("_conv_stem", "_blocks"))),
)
"""Whose `reference(like=...)` computes what weights were trained in, by names among their first parts. The
ResNets of timm and torchvision have the same names and the same batch normalisation."""

COUNTER = "num_batches_tracked"
"""Batch normalisation's count of batches, which a state dict may lack: only training may read it."""

AVERAGED = "n_averaged"
"""What `torch.optim.swa_utils.AveragedModel` counts, beside the module whose weights it averages."""

VERY_NETWORK = "pass the weights of this very network"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """The tensors that stand under one prefix, by what their names have after it."""

    prefix: str
    tensors: dict[str, torch.Tensor]

    def name(self, suffix: str) -> str:
        return f"{self.prefix}.{suffix}" if self.prefix else suffix

    def said(self, suffix: str) -> str:
        return f"`{self.name(suffix)}` {tuple(self.tensors[suffix].shape)}"

    @property
    def first(self) -> str:
        """The name and shape of one of its tensors: the weight where there is one."""
        return self.said("weight" if "weight" in self.tensors else next(iter(self.tensors)))

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear layer, or a 1x1 convolution, which may stand for one."""
        weight = self.tensors.get("weight")
        is_matrix = weight is not None and weight.ndim in (2, 4) and weight.shape[2:].numel() == 1
        return is_matrix and set(self.tensors) <= {"weight", "bias"}


def load_weights(
    module: nn.Module, state_dict: Mapping[str, torch.Tensor], *, with_classifier: bool = True
) -> Mapping[str, str]:
    """Copies weights of ours, timm's or torchvision's into a module: all of them, or none if one is wrong.

    A state dict with the module's own names is read by name. Any other is matched by structure: its layers
    are brought into the order in which they run, and fitted one to one to the module's. With the names of
    timm, torchvision and EfficientNet-PyTorch the order of the keys does not count, so sorted ones, as
    safetensors gives them, will do. So will a prefix that all names share (`module.` of
    DistributedDataParallel, AveragedModel and ModelEmaV3, `_orig_mod.` of torch.compile), and a 1x1
    convolution (n, m, 1, 1) for a linear layer (n, m). The module keeps its device and its dtype.

    Padding, and what batch normalisation adds to the variance, are not among the weights: to compute what
    theirs does, build `reference(name, like=...)`; `like_of(state_dict)` says like whose.

    Args:
        module: What `build` makes.
        state_dict: Tensors by name, as `state_dict()` of a module gives them.
        with_classifier: False leaves the last linear layer as it is, and needs none that fits it in the state
            dict: for other classes.

    Returns:
        Where each of the module's tensors was copied from: the name in the state dict by our name.

    Raises:
        SpaceError: `state_dict` is empty or maps not only names to tensors; a tensor has no counterpart, or
            another shape, or a type that is no floating-point one, or values that are not finite. The module
            is as it was.
    """
    own = _own_tensors(module)
    source = _without_count(_checked(state_dict))
    layers = _layers(own)
    classifier = layers[-1].prefix
    if not with_classifier:
        if not layers[-1].is_linear:
            raise SpaceError(
                f"`with_classifier=False` needs a linear layer last, but got `{classifier}`",
                field="with_classifier",
            )
        layers, classifier = layers[:-1], ""
    prefix = next((prefix for prefix in ("", _shared_prefix(source)) if _has_any(source, prefix, own)), None)
    if prefix is None:
        names = _by_structure(layers, source, classifier=classifier)
    else:
        names = _by_name(layers, source, prefix, own=own, classifier=classifier)
    for ours, theirs in names.items():
        _check_values(ours, own[ours], theirs, source[theirs])
    with torch.no_grad():
        for ours, theirs in names.items():
            own[ours].copy_(source[theirs].reshape(own[ours].shape))
    return names


def like_of(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Whose batch normalisation and padding weights were trained with, by their names.

    Returns:
        What `reference(name, like=...)` takes: "paper" for our own names, "timm", "torchvision", or
        "tensorflow" for those of EfficientNet-PyTorch, whose weights all are TensorFlow's; None for others.
        timm's `tf_` networks have the names of its others: there the name of the network decides.
    """
    names = _without_count(dict(state_dict))
    prefix = _shared_prefix(names) if names else ""
    parts = {name.removeprefix(prefix).partition(".")[0] for name in names}
    return next((like for like, known in LIKE if known <= parts), None)


def _without_count(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict without the count of an `AveragedModel`, whose other names all begin with `module.`."""
    names = [name for name in state_dict if name != AVERAGED]
    is_averaged = AVERAGED in state_dict and names and all(name.startswith("module.") for name in names)
    return {name: state_dict[name] for name in names} if is_averaged else state_dict


def _own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """The module's parameters and buffers, in the order in which its layers run."""
    if not isinstance(module, nn.Module):
        raise SpaceError(
            f"`module` must be what build(network) makes, but got {type(module).__name__}", field="module"
        )
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    if not own:
        raise SpaceError("`module` must have weights, but has neither parameters nor buffers", field="module")
    if any(tensor.is_meta for tensor in own.values()):
        raise SpaceError(
            "`module` must have memory, but is on the meta device: call its to_empty(device=...)",
            field="module",
        )
    return own


def _checked(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict, if it maps names to tensors and nothing else."""
    rule = "`state_dict` must map names to tensors"
    if isinstance(state_dict, nn.Module):
        raise SpaceError(f"{rule}, but got a module: pass its state_dict()", field="state_dict")
    if not isinstance(state_dict, Mapping):
        raise SpaceError(
            f"{rule}, but got {type(state_dict).__name__}: pass what torch.load read", field="state_dict"
        )
    if not state_dict:
        raise SpaceError(f"{rule}, but is empty", field="state_dict")
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise SpaceError(f"{rule}, but has the key {name!r}", field="state_dict")
        if not isinstance(value, torch.Tensor):
            raise SpaceError(
                f"{rule}, but {name!r} is of type {type(value).__name__}{_entries(state_dict)}",
                field="state_dict",
            )
    return dict(state_dict)


def _entries(checkpoint: Mapping[str, object]) -> str:
    """Which entries of a whole checkpoint may be meant."""
    found = [
        f"checkpoint[{name!r}]"
        for name, value in checkpoint.items()
        if isinstance(value, nn.Module)
        or (isinstance(value, Mapping) and any(isinstance(part, torch.Tensor) for part in value.values()))
    ]
    return f": of a whole checkpoint, pass {' or '.join(found)}" if found else ""


def _layers(tensors: Mapping[str, torch.Tensor]) -> list[_Layer]:
    """Tensors grouped by prefix, in order of appearance."""
    layers: dict[str, _Layer] = {}
    for name, tensor in tensors.items():
        prefix, _, suffix = name.rpartition(".")
        layers.setdefault(prefix, _Layer(prefix=prefix, tensors={})).tensors[suffix] = tensor
    return list(layers.values())


def _shared_prefix(names: Iterable[str]) -> str:
    """The whole parts that all names begin with: `module.`, torch.compile's `_orig_mod.`, or nothing."""
    first, *rest = [name.split(".")[:-1] for name in names]
    count = 0
    while count < len(first) and all(parts[: count + 1] == first[: count + 1] for parts in rest):
        count += 1
    return "".join(f"{part}." for part in first[:count])


def _has_any(source: Mapping[str, torch.Tensor], prefix: str, names: Iterable[str]) -> bool:
    return any(prefix + name in source for name in names)


def _by_name(
    layers: Sequence[_Layer],
    source: Mapping[str, torch.Tensor],
    prefix: str,
    *,
    own: Mapping[str, torch.Tensor],
    classifier: str,
) -> dict[str, str]:
    """Our names with the same names of the source."""
    names: dict[str, str] = {}
    for layer in layers:
        for suffix, tensor in layer.tensors.items():
            theirs = prefix + layer.name(suffix)
            if theirs not in source and suffix == COUNTER:
                continue
            if theirs not in source:
                remedy = _remedy(layer, classifier)
                raise SpaceError(
                    f"{layer.said(suffix)} is missing from the state dict: {remedy}", field="state_dict"
                )
            if tensor.shape != source[theirs].shape:
                raise SpaceError(
                    f"{layer.said(suffix)} must have the shape of its counterpart, but that is `{theirs}` "
                    f"{tuple(source[theirs].shape)}: "
                    f"{_remedy(layer, classifier)}",
                    field="state_dict",
                )
            names[layer.name(suffix)] = theirs
    for name, tensor in source.items():
        if name.removeprefix(prefix) not in own:
            raise SpaceError(
                f"`{name}` {tuple(tensor.shape)} of the state dict has no place in the network: "
                f"{VERY_NETWORK}",
                field="state_dict",
            )
    return names


def _remedy(layer: _Layer, classifier: str) -> str:
    if layer.prefix == classifier:
        return "to keep the network's own classifier, as for other classes, load with_classifier=False"
    return VERY_NETWORK


def _by_structure(
    ours: Sequence[_Layer], source: Mapping[str, torch.Tensor], *, classifier: str
) -> dict[str, str]:
    """Our names with the names of the source's tensors at the same places.

    Args:
        ours: Our layers, in the order in which they run.
        source: The state dict.
        classifier: The last of ours; "" where it is left out, so that the source's may be there or not.
    """
    layers = _layers(source)
    theirs = _in_order(layers, is_registered=all(_is_registered(layer) for layer in layers))
    names: dict[str, str] = {}
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if trouble := _trouble(mine, other):
            stage = mine.prefix.partition(".")[0]
            remedy = _remedy(mine, classifier if len(ours) == len(theirs) else "")
            raise SpaceError(
                f"the state dict does not fit the network in {stage}: {trouble} (layer {number}; the network "
                f"has {len(ours)} and the state dict {len(theirs)}): {remedy}",
                field="state_dict",
            )
        names |= {mine.name(suffix): other.name(suffix) for suffix in mine.tensors if suffix in other.tensors}
    if len(theirs) < len(ours):
        raise SpaceError(
            f"{ours[len(theirs)].first} has no counterpart: the state dict has {len(theirs)} layers, the "
            f"network {len(ours)}: {_remedy(ours[len(theirs)], classifier)}",
            field="state_dict",
        )
    surplus = theirs[len(ours) :]
    if not classifier and surplus and surplus[0].is_linear:
        surplus = surplus[1:]
    if surplus:
        raise SpaceError(
            f"{surplus[0].first} of the state dict has no place in the network: it has {len(theirs)} layers, "
            f"the network {len(ours)}: {VERY_NETWORK}",
            field="state_dict",
        )
    return names


def _trouble(mine: _Layer, other: _Layer) -> str:
    """Why one layer does not fit another, or nothing."""
    for suffix, tensor in mine.tensors.items():
        if suffix in other.tensors and not _are_alike(tensor.shape, other.tensors[suffix].shape):
            found = other.said(suffix)
            return f"{mine.said(suffix)} must have the shape of its counterpart, but that is {found}"
    where = f"beside {mine.first} and its counterpart {other.first}"
    for suffix in mine.tensors:
        if suffix not in other.tensors and suffix != COUNTER:
            return f"{mine.said(suffix)} has no counterpart {where}"
    for suffix in other.tensors:
        if suffix not in mine.tensors and suffix != COUNTER:
            return f"{other.said(suffix)} of the state dict has no place {where}"
    return ""


def _are_alike(one: torch.Size, other: torch.Size) -> bool:
    """Whether two shapes are equal, or those of a linear layer and of a 1x1 convolution in its place."""
    if {len(one), len(other)} == {2, 4}:
        return (*one, 1, 1)[:4] == (*other, 1, 1)[:4]
    return one == other


def _is_registered(layer: _Layer) -> bool:
    """Whether its tensors come in the order in which a module registers them, not in the alphabet's."""
    return [suffix for suffix in layer.tensors if suffix in ("weight", "bias")] != ["bias", "weight"]


def _in_order(layers: Iterable[_Layer], depth: int = 0, *, is_registered: bool) -> list[_Layer]:
    """Layers in the order in which they run; their prefixes are equal up to the part of that depth."""
    ordered: list[_Layer] = []
    children: dict[str, list[_Layer]] = {}
    for layer in layers:
        parts = layer.prefix.split(".") if layer.prefix else []
        if len(parts) == depth:
            ordered.append(layer)
        else:
            children.setdefault(parts[depth], []).append(layer)
    for name in _sorted_siblings(tuple(children), is_registered=is_registered):
        ordered += _in_order(children[name], depth + 1, is_registered=is_registered)
    return ordered


def _sorted_siblings(names: tuple[str, ...], *, is_registered: bool) -> Sequence[str]:
    """A module's children in the order in which they run.

    Raises:
        SpaceError: No table knows them, and the order of the keys is not that of registration.
    """
    stems = {name.rstrip("0123456789") for name in names}
    if len(stems) == 1 and stems.isdisjoint(names):
        return sorted(names, key=lambda name: int(re.findall("[0-9]+$", name)[0]))
    orders = [order for order in ORDERS if set(names) <= set(order)]
    if orders:
        return sorted(names, key=min(orders, key=len).index)
    if len(names) > 1 and not is_registered:
        raise SpaceError(
            f"the layers {', '.join(sorted(names))} are not of timm's or torchvision's layout, and the state "
            f"dict is sorted (a bias stands before its weight), so the order in which they run is unknown: "
            f"pass it in the order of the module's own state_dict()",
            field="state_dict",
        )
    return names


def _check_values(ours: str, own: torch.Tensor, theirs: str, tensor: torch.Tensor) -> None:
    """Checks that a tensor's values can be copied.

    Raises:
        SpaceError: It has no plain values, integers where ours has none, or values not finite in our type.
    """
    if tensor.is_meta or tensor.layout is not torch.strided:
        raise SpaceError(
            f"`{theirs}` must hold plain values for `{ours}`, but is on {tensor.device}, {tensor.layout}",
            field="state_dict",
        )
    if own.is_floating_point() and not tensor.is_floating_point():
        raise SpaceError(
            f"`{theirs}` must be of a floating-point type for `{ours}`, but is of {tensor.dtype}: pass "
            f"weights that are not quantised",
            field="state_dict",
        )
    dtype = own.dtype if own.is_floating_point() else torch.float64
    if not bool(torch.isfinite(tensor.to(dtype)).all()):
        remedy = ": leave it out, it may be absent" if ours.endswith(f".{COUNTER}") else ""
        raise SpaceError(
            f"`{theirs}` must be finite as {dtype} for `{ours}`, but is not everywhere{remedy}",
            field="state_dict",
        )
