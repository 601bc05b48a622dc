"""Measures a metric of a network in full training on the search split, which ranks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.data.images import ImageData
from nas.full_training.ranks import Ranks
from nas.full_training.work import Work
from nas.task_metrics import measure
from nas.training.accuracy import gather
from nas.training.batches import Batches
from nas.trial import InfeasibleError


def measure_search(
    module: nn.Module, work: Work, data: ImageData, ranks: Ranks, batches: Batches
) -> float | None:
    """Measures the metric that the best weights are chosen by, on every image once, whatever the ranks.

    Args:
        module: The same weights and statistics on every rank.
        work: What is in training.
        data: Its images, with this rank's share of the search split.
        ranks: All that share it.
        batches: These images on the rank's device.

    Returns:
        The same on every rank; None where an output is not finite, or no image can be read.

    Raises:
        DataError: Too many images cannot be read, or the metric is not defined on those that can.
    """
    outputs, labels, failed = None, None, 0
    try:
        outputs, labels = gather(
            module,
            data,
            "search",
            device=ranks.device,
            batch_size=work.recipe.batch_for(len(data.train)),
            precision=work.precision,
            batches=batches,
        )
    except InfeasibleError:
        failed = 1
    if ranks.total(torch.tensor(failed)).item():
        return None
    assert isinstance(outputs, Tensor)
    assert isinstance(labels, Tensor)
    outputs, labels = ranks.gather(outputs), ranks.gather(labels)
    if not len(labels):
        return None
    return measure(data.task, (work.metric,), outputs, labels)[work.metric]
