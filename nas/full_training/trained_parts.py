"""Which parts of a network a recipe trains, and at which share of the rate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.errors import RecipeError
from nas.full_training.recipe import FullRecipe
from search_spaces import Network


def freeze(module: nn.Module, recipe: FullRecipe, names: Sequence[str] = ()) -> None:
    """Freezes the weights that a recipe does not train, and the parts of these names."""
    for name in names:
        module.get_submodule(name).requires_grad_(False)
    if recipe.trains == "all":
        return
    classifier = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    module.requires_grad_(False)
    classifier.requires_grad_(True)


def frozen_names(network: Network, recipe: FullRecipe) -> tuple[str, ...]:
    """The parts of a network that a recipe freezes whole: weights, statistics, and no stochastic depth.

    Raises:
        RecipeError: The network has no such part.
    """
    if not recipe.freeze:
        return ()
    names = tuple(name for name, _ in network.present_stages())
    if recipe.freeze not in names:
        is_head = recipe.freeze == "head"
        remedy = ": to train the classifier alone, give the recipe linear_probe" if is_head else ""
        raise RecipeError(
            f"`freeze` must be one of {', '.join(names)}, but got {recipe.freeze!r}{remedy}", field="freeze"
        )
    return names[: names.index(recipe.freeze) + 1]


def frozen_norms(module: nn.Module, recipe: FullRecipe) -> Sequence[nn.Module]:
    """The batch norms whose running statistics stay as they are."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    return {"all": [], "classifier": norms, "classifier_and_last_norm": norms[:-1]}[recipe.trains]


def make_optimizer(module: nn.Module, recipe: FullRecipe, rate: float) -> torch.optim.Optimizer:
    """Makes timm's optimiser of that name; norms and biases have no weight decay.

    Raises:
        RecipeError: timm cannot make it here.
    """
    eps = {"eps": recipe.optimizer_eps} if recipe.optimizer_eps else {}
    by_depth = {"param_group_fn": partial(groups_by_depth, recipe=recipe)} if recipe.layer_decay < 1 else {}
    try:
        made: torch.optim.Optimizer = create_optimizer_v2(
            module,
            opt=recipe.optimizer,
            lr=rate,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            **by_depth,
            **eps,
        )
        return made
    except (AssertionError, ImportError, TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"the optimiser {recipe.optimizer!r} cannot be made here: {error}; choose another",
            field="optimizer",
        ) from error


def groups_by_depth(module: nn.Module, recipe: FullRecipe) -> list[dict[str, Any]]:
    """The trained parameters by the depth of their block, each depth with its share of the rate.

    The stem is one layer, each block of the stages another, the head the last, whose rate is whole.

    Source: Clark et al., ICLR 2020 (ELECTRA), section 3.1; timm's `param_groups_layer_decay`.
    """
    stages = [child for name, child in module.named_children() if name != "head"]
    layers: list[nn.Module] = [stages[0], *(block for stage in stages[1:] for block in stage.children())]
    depth = {parameter: number for number, layer in enumerate(layers) for parameter in layer.parameters()}
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            place = depth.get(parameter, len(layers)), parameter.ndim > 1
            groups.setdefault(place, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr_scale": recipe.layer_decay ** (len(layers) - number),
            "weight_decay": recipe.weight_decay if is_decayed else 0.0,
        }
        for (number, is_decayed), parameters in groups.items()
    ]
