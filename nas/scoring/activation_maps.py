"""Which places of an image speak for an output of a network: CAM, Grad-CAM, and methods of captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import UsageError
from nas.scoring.class_map import METHODS, OF_CAPTUM, Method
from nas.units import hint

STEPS = 32
"""Steps of integrated gradients from the mean image to the image; captum's default of 50 takes longer."""

WINDOW = 8
"""An occluding square is a `1 / WINDOW` of the image's side, and moves by half its own side."""

AT_ONCE = 8
"""Altered images that a method of captum runs in one forward pass."""


def check_method(method: str) -> None:
    """Checks that a method is known, and that captum is there for one of captum's.

    Raises:
        UsageError: It is not.
    """
    if method not in METHODS:
        raise UsageError(
            f"`method in {METHODS}` must hold, but got method={method!r}: {hint(method, METHODS)}",
            field="method",
        )
    if method in OF_CAPTUM:
        _captum(method)


def split_at_pool(module: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """Splits a network into what makes the last map, and what pools it and gives the outputs.

    Args:
        module: What `search_spaces.build` makes.

    Raises:
        UsageError: The head pools no map, so that nothing in it belongs to a place.
    """
    layers = list(module.children()) if isinstance(module, nn.Sequential) else []
    head = list(layers.pop().children()) if layers else []
    pool = next((place for place, layer in enumerate(head) if isinstance(layer, nn.AdaptiveAvgPool2d)), None)
    if pool is None:
        raise UsageError(
            f"the head must pool a map (nn.AdaptiveAvgPool2d), but its layers are "
            f"{', '.join(type(layer).__name__ for layer in head) or 'none'}: nothing in it belongs to a "
            f"place; use a method that judges pixels, {', '.join(OF_CAPTUM)}",
            field="networks",
        )
    return nn.Sequential(*layers, *head[:pool]), nn.Sequential(*head[pool:])


def is_linear(tail: nn.Sequential) -> bool:
    """Whether the layers from the pooling on are one linear layer of the mean of each channel."""
    *before, last = tail
    return isinstance(last, nn.Linear) and all(
        isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten | nn.Dropout) for layer in before
    )


def class_activation(maps: Tensor, tail: nn.Sequential, output: int) -> Tensor:
    """Class activation map: what each place adds to an output.

    Its mean over the places, plus the bias of the output, is the output.

    Args:
        maps: The last map, of shape (channels, height, width).
        tail: The layers from the pooling on, which are linear.
        output: Index of the output.

    Returns:
        Of shape (height, width), positive and negative.

    Source: Zhou et al., Learning Deep Features for Discriminative Localization (2016), equation 2.
    """
    last = tail[-1]
    assert isinstance(last, nn.Linear)
    return torch.einsum("k,khw->hw", last.weight[output].detach(), maps)


def grad_class_activation(maps: Tensor, tail: nn.Sequential, output: int) -> Tensor:
    """Grad-CAM before its rectifier: channels weighted by the mean gradient of an output.

    Where the layers after the map are linear, it is the class activation map by the number of places.

    Args:
        maps: The last map, of shape (channels, height, width).
        tail: The layers from the pooling on.
        output: Index of the output.

    Returns:
        Of shape (height, width), positive and negative.

    Source: Selvaraju et al., Grad-CAM (2017), equations 1 and 2.
    """
    with torch.enable_grad():
        leaf = maps[None].detach().requires_grad_()
        (gradient,) = torch.autograd.grad(tail(leaf)[0, output], leaf)
    return torch.einsum("k,khw->hw", gradient[0].mean((1, 2)), maps)


def attribution(module: nn.Module, image: Tensor, output: int, method: Method) -> Tensor:
    """A map by a method of captum: the attribution of each pixel, summed over the channels.

    Args:
        module: The network.
        image: Normalised, of shape (channels, height, width).
        output: Index of the output.
        method: One of `OF_CAPTUM`.

    Returns:
        Of shape (height, width); saliency is never negative.

    Raises:
        UsageError: captum is not installed.
    """
    captum = _captum(method)
    side = image.shape[-1]
    window = max(1, side // WINDOW)
    step = max(1, window // 2)
    images = image[None].contiguous()
    found: dict[Method, Callable[[], Any]] = {
        "integrated-gradients": lambda: captum.IntegratedGradients(module).attribute(
            images, target=output, n_steps=STEPS, internal_batch_size=AT_ONCE
        ),
        "occlusion": lambda: captum.Occlusion(module).attribute(
            images,
            target=output,
            sliding_window_shapes=(image.shape[0], window, window),
            strides=(image.shape[0], step, step),
            perturbations_per_eval=AT_ONCE,
        ),
        "saliency": lambda: captum.Saliency(module).attribute(images.requires_grad_(), target=output),
    }
    with torch.enable_grad():
        values: Tensor = found[method]()
    return values[0].detach().float().sum(0)


def _captum(method: str) -> Any:
    """The methods of captum.

    Raises:
        UsageError: captum is not installed.
    """
    try:
        from captum import attr
    except ImportError as error:
        raise UsageError(
            f"method={method!r} is captum's, which cannot be imported ({error}): pip install captum, or use "
            "cam or grad-cam, which need nothing else",
            field="method",
        ) from error
    return attr
