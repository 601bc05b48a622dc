"""The optimisers of a recipe, and changing their learning rate between steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.training.recipe import Recipe


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Makes the recipe's optimiser; weight decay acts on tensors of two or more dimensions only.

    For a module on a GPU the learning rate is a tensor there, and the update can be recorded into a CUDA
    graph: fused SGD, capturable RMSprop. On a CPU SGD is not fused: the update is a small part of a step,
    and weights would differ in the last bit from those of earlier studies.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    device = trained[0].device if trained else torch.device("cpu")
    is_cuda = device.type == "cuda"
    rate = torch.tensor(recipe.learning_rate, device=device) if is_cuda else recipe.learning_rate
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            foreach=not is_cuda,
            fused=is_cuda,
        )
    return torch.optim.RMSprop(
        groups,
        lr=rate,
        alpha=0.9,
        eps=1e-3,
        momentum=recipe.momentum,
        foreach=True,
        capturable=is_cuda,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets the rate of every group, times its `lr_scale`; a tensor is filled, for recorded work to read."""
    for group in optimizer.param_groups:
        rate = learning_rate * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
