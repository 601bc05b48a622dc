"""Weights that candidates start from: those of one trained network, where their layers match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from nas.values import digest

COUNTER = ".num_batches_tracked"
CLASSIFIER = "head.classifier."


def is_of_classifier(name: str) -> bool:
    """Whether a tensor of that name is the classifier's."""
    return name.startswith(CLASSIFIER)


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """The weights of one network, for candidates of the same kind to start from.

    A candidate's tensor takes the values of the tensor at the same place: the same stage, the same block of
    it, the same layer of the block. Of channels the first are taken, of a kernel the middle; a larger kernel
    has zeros around it, and channels that the network does not have stay as they are initialised. So do
    blocks and layers that it does not have. Statistics of batch norms are taken likewise, and trained on. A
    classifier of other classes begins at zero, as in a full training from weights.

    Attributes:
        name: What to call them.
        tensors: The weights by our names, with as many input channels as the images have.
        has_classifier: Whether the classifier is one of the same classes, and is taken too.
        notes: What there is to say of them, such as their licence and how images are normalised.

    Source: Cai et al., ICLR 2020 (Once-for-All), section 3: the first channels, the middle of a kernel. Its
    networks were trained for that, and their channels sorted; published ones were not.
    """

    name: str
    tensors: Mapping[str, Tensor]
    has_classifier: bool = False
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the weights and with what is taken of them."""
        parts = [(name, tensor.detach().cpu().contiguous().numpy()) for name, tensor in self._kept.items()]
        return digest(*(part for pair in parts for part in pair))

    @cached_property
    def _kept(self) -> Mapping[str, Tensor]:
        """The tensors by their place, in one order."""
        return {
            place_of(name): tensor
            for name, tensor in sorted(self.tensors.items())
            if not name.endswith(COUNTER) and (self.has_classifier or not is_of_classifier(name))
        }

    @torch.no_grad()
    def give_to(self, module: nn.Module) -> int:
        """Puts the weights into a candidate's module.

        Returns:
            How many of its parameters were taken.
        """
        parameters = {name for name, _ in module.named_parameters()}
        taken = 0
        for name, tensor in module.state_dict().items():
            theirs = self._kept.get(place_of(name))
            count = 0 if theirs is None else take(tensor, theirs)
            taken += count if name in parameters else 0
            if is_of_classifier(name) and not self.has_classifier:
                tensor.zero_()
        return taken


def place_of(name: str) -> str:
    """The place of a tensor: its name without the parts that say only whether there is a skip beside it."""
    return ".".join(part for part in name.split(".") if part != "body")


def take(mine: Tensor, theirs: Tensor) -> int:
    """Copies what matches of one tensor into another, and says how many values that is.

    Args:
        mine: Of a candidate: vectors by channel, matrices (outputs, inputs), kernels (outputs, inputs,
            height, width).
        theirs: Of the network that is started from.
    """
    if mine.ndim != theirs.ndim or _is_by_channel(mine) != _is_by_channel(theirs):
        return 0
    sizes = zip(mine.shape[:2], theirs.shape[:2], strict=True)
    channels = tuple(slice(min(pair)) for pair in sizes)
    if mine.ndim != 4:
        mine[channels] = theirs[channels].to(mine)
        return mine[channels].numel()
    side = min(mine.shape[-1], theirs.shape[-1])
    into, out_of = _middle(mine, side), _middle(theirs, side)
    if side < mine.shape[-1]:
        mine[channels] = 0.0
    mine[(*channels, *into)] = theirs[(*channels, *out_of)].to(mine)
    return mine[channels].numel()


def _is_by_channel(tensor: Tensor) -> bool:
    """Whether it is the kernel of a depthwise convolution."""
    return tensor.ndim == 4 and tensor.shape[1] == 1 and tensor.shape[-1] > 1


def _middle(kernel: Tensor, side: int) -> tuple[slice, slice]:
    first = (kernel.shape[-1] - side) // 2
    return slice(first, first + side), slice(first, first + side)


def for_channels(weight: Tensor, channels: int) -> Tensor:
    """The weights of a first convolution for images with another number of channels.

    Args:
        weight: (outputs, channels, height, width).
        channels: How many the images have.

    Returns:
        For one channel the sums over the channels; for more the channels repeated in turn, and scaled so that
        equal channels give what they gave.

    Source: timm's `adapt_input_conv`.
    """
    has = weight.shape[1]
    if channels == has:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // has), 1, 1)[:, :channels]
    return repeated * (has / channels)
