"""The processes that train one network together: what each is given, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from nas.errors import RecipeError

Rows = TypeVar("Rows", Tensor, npt.NDArray[Any])


class Ranks(Protocol):
    """One process's view of all that train together, each with a share of every batch (data parallelism).

    Every method is called by all ranks, equally often and in the same order: a rank that leaves one out has
    the others wait for it. So what ranks decide on, such as a loss that is no longer finite, must be known to
    all of them: decide on a `total`, or let the first rank decide and use `from_first`.
    """

    @property
    def rank(self) -> int:
        """Number of this process, counted from 0."""
        ...

    @property
    def world(self) -> int:
        """Number of processes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks to users."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether this process was told that the training is to stop; it is enough if one is."""
        ...

    def wrap(self, module: nn.Module, *, sync_batch_norm: bool = False) -> nn.Module:
        """Returns what trains a module on this rank's share, with gradients averaged over all ranks.

        The parameters of the first rank are copied to the others. Ranks have shares of equal size, so that
        the mean of their gradients is the gradient of the whole batch's mean loss. In every step each
        parameter that requires a gradient must take part; those that require none are left alone.

        A batch norm normalises by its rank's share of the batch alone, and its running statistics follow that
        rank's shares: `average_statistics` makes them those of all. With `sync_batch_norm` it normalises by
        the whole batch, for a wait at every layer, and the running statistics are the same on all ranks.

        Evaluate and save the module that was given, not the wrapped one. They share all parameters.

        Args:
            module: On `device`.
            sync_batch_norm: Turns its batch norms into `SyncBatchNorm`, in place.

        Raises:
            RecipeError: Batch norms are to be synchronised on CPUs.
        """
        ...

    def average_statistics(self, module: nn.Module) -> None:
        """Averages the running statistics of a module's batch norms over the ranks, in place.

        Call it before every evaluation, or ranks would evaluate different networks, and before every
        checkpoint. The running mean is then as if one process had seen all the shares, since it is linear in
        the batches' means. The running variance is the mean of the variances within the shares, as unbiased
        as that of whole batches. Statistics that are equal everywhere stay as they are, to the bit.
        """
        ...

    def total(self, tensor: Tensor) -> Tensor:
        """Sums a tensor of the same shape and type over all ranks; every rank gets the sum.

        The tensor itself stays as it is. Equal on all ranks to the bit; sums of integers are exact.
        """
        ...

    def from_first(self, text: str) -> str:
        """Returns the first rank's text on every rank."""
        ...

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows of all ranks on every rank, one rank's after the other's, on the same device.

        Ranks may have different numbers of rows `(rows, ...)`, also none; all else is the same.
        """
        ...

    def barrier(self) -> None:
        """Waits until all ranks are here."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRank:
    """Training by this process alone: see `Ranks`; nothing is copied and nobody waited for.

    Attributes:
        device: Where it computes.
    """

    device: torch.device

    @property
    def rank(self) -> int:
        """See `Ranks`."""
        return 0

    @property
    def world(self) -> int:
        """See `Ranks`."""
        return 1

    @property
    def is_first(self) -> bool:
        """See `Ranks`."""
        return True

    @property
    def is_stopping(self) -> bool:
        """See `Ranks`: signals alone stop it."""
        return False

    def wrap(self, module: nn.Module, *, sync_batch_norm: bool = False) -> nn.Module:  # noqa: ARG002
        """See `Ranks`: the module itself, whose batch norms see the whole batch as they are."""
        return module

    def average_statistics(self, module: nn.Module) -> None:
        """See `Ranks`."""

    def total(self, tensor: Tensor) -> Tensor:
        """See `Ranks`."""
        return tensor

    def from_first(self, text: str) -> str:
        """See `Ranks`."""
        return text

    def gather(self, rows: Tensor) -> Tensor:
        """See `Ranks`."""
        return rows

    def barrier(self) -> None:
        """See `Ranks`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRanks:
    """The ranks of `torch.distributed`'s default group, which exists already: see `Ranks`.

    Attributes:
        device: Where this rank computes: a GPU of its own under NCCL, the CPU under gloo.
        asks: Tells whether the training is to stop.
    """

    device: torch.device
    asks: Callable[[], bool] = lambda: False

    @property
    def rank(self) -> int:
        """See `Ranks`."""
        return distributed.get_rank()

    @property
    def world(self) -> int:
        """See `Ranks`."""
        return distributed.get_world_size()

    @property
    def is_first(self) -> bool:
        """See `Ranks`."""
        return self.rank == 0

    @property
    def is_stopping(self) -> bool:
        """See `Ranks`."""
        return self.asks()

    def wrap(self, module: nn.Module, *, sync_batch_norm: bool = False) -> nn.Module:
        """See `Ranks`."""
        if self.world == 1:
            return module
        is_cuda = self.device.type == "cuda"
        if sync_batch_norm:
            if not is_cuda:
                raise RecipeError(
                    "batch norms can be synchronised on GPUs alone, but the ranks compute on "
                    f"{self.device.type}, for which torch has no SyncBatchNorm: leave sync_batch_norm out",
                    field="sync_batch_norm",
                )
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        # Buffers are averaged where they matter; DDP would send the first rank's to all before every step.
        return DistributedDataParallel(
            module, device_ids=[self.device] if is_cuda else None, broadcast_buffers=False
        )

    def average_statistics(self, module: nn.Module) -> None:
        """See `Ranks`."""
        statistics = [
            buffer
            for layer in module.modules()
            if isinstance(layer, _BatchNorm)
            for buffer in (layer.running_mean, layer.running_var)
            if buffer is not None
        ]
        if self.world == 1 or not statistics:
            return
        # In double precision the sum of equal numbers, divided by their count, is that number again.
        means = self.total(torch.cat([buffer.double() for buffer in statistics])) / self.world
        sizes = [buffer.numel() for buffer in statistics]
        for buffer, mean in zip(statistics, torch.split(means, sizes), strict=True):
            buffer.copy_(mean)

    def total(self, tensor: Tensor) -> Tensor:
        """See `Ranks`."""
        summed = tensor.detach().to(self.device, copy=True).contiguous()
        distributed.all_reduce(summed)
        return summed.to(tensor.device)

    def from_first(self, text: str) -> str:
        """See `Ranks`."""
        held = [text]
        distributed.broadcast_object_list(held, src=0, device=self.device)
        return held[0]

    def gather(self, rows: Tensor) -> Tensor:
        """See `Ranks`."""
        counts = torch.zeros(self.world, dtype=torch.int64)
        counts[self.rank] = len(rows)
        counts = self.total(counts)
        if not int(counts.max()):
            return rows
        # Every rank sends as many rows as the one that has most.
        sent = torch.zeros((int(counts.max()), *rows.shape[1:]), dtype=rows.dtype, device=self.device)
        sent[: len(rows)] = rows.detach()
        found = [torch.empty_like(sent) for _ in range(self.world)]
        distributed.all_gather(found, sent)
        kept = [part[:count] for part, count in zip(found, counts.tolist(), strict=True)]
        return torch.cat(kept).to(rows.device)

    def barrier(self) -> None:
        """See `Ranks`."""
        self.total(torch.zeros((), device=self.device)).item()


def share_of_batch(rows: Rows, rank: int, world: int) -> Rows:
    """Returns the part of a whole batch that a rank trains on, in the batch's order.

    The shares are of equal size, and together they are the batch. Row i and row `batch - 1 - i` are in the
    same share, and mirror each other there too, wherever a share has an even size: timm's Mixup and CutMix
    mix these two, so that every image has the partner that it has in one process.

    Args:
        rows: What the batch is made of, by its first dimension `(batch, ...)`: indices, moves, labels.
        rank: Number of the rank.
        world: Number of ranks.

    Raises:
        RecipeError: The batch cannot be divided into shares of equal size.
    """
    size = len(rows)
    share, left_over = divmod(size, world)
    if left_over or not share:
        nearest = max(1, round(size / world)) * world
        raise RecipeError(
            f"the batch must divide into equal shares, but got batch_size={size} for {world} ranks: use "
            f"batch_size={nearest}",
            field="batch_size",
        )
    folded = np.empty(size, dtype=np.int64)  # 0, last, 1, last but one, ...
    folded[0::2] = np.arange((size + 1) // 2)
    folded[1::2] = size - 1 - np.arange(size // 2)
    mine: Rows = rows[np.sort(folded[rank * share : (rank + 1) * share])]
    return mine


def share_of_split(count: int, rank: int, world: int) -> range:
    """Returns which images of a split a rank evaluates: each image on exactly one rank, in the split's order.

    Nothing is padded, so a `total` of right answers and one of images count each image once. Shares differ by
    one image at most, and are empty where there are more ranks than images: a rank with an empty share still
    takes part in every `total`.

    Args:
        count: Images of the split.
        rank: Number of the rank.
        world: Number of ranks.
    """
    return range(count * rank // world, count * (rank + 1) // world)
