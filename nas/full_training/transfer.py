"""Weights of other classes and channels than the images have: a new classifier, another first layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import zeros_like

from nas.data.images import ImageData
from nas.errors import TrainingError
from nas.starting_weights import Weights
from nas.training.initial_weights import CLASSIFIER, for_channels, is_of_classifier
from nas.values import few
from search_spaces import Network, build


def transferred(
    weights: Weights,
    network: Network,
    data: ImageData,
    *,
    classes: Sequence[str] | None,
    is_trained: bool,
) -> tuple[Weights, tuple[str, ...]]:
    """Weights for the classes and channels of these images, and what was changed in them.

    A classifier of other classes is left out for a new one of zeros, if the recipe trains it from there. On
    trained features, a random one begins with large and arbitrary logits, and learning from those undoes the
    weights of the other layers. The input channels of the first convolution are summed for one channel, and
    repeated for more, as timm does.

    Source: Kolesnikov et al., Big Transfer, ECCV 2020, section 3.3, for the zeros.

    Args:
        weights: By our names, with a classifier or without.
        network: The network for these images.
        data: The images.
        classes: Names of the classes that the weights are for; None where they are not known.
        is_trained: Whether the recipe trains a network for the images; False where it adjusts one that was
            trained on such images.

    Raises:
        TrainingError: The weights are for others, and the recipe does not train what is new; or they are for
            the same classes in another order.
    """
    fresh = build(network, seed=0).state_dict()
    found, notes = dict(weights), []
    reason = _other_classes(weights, data, classes)
    if reason:
        if not is_trained:
            raise TrainingError(
                f"the weights must be for the classes of {data.name}, but {reason}: "
                f"{_remedy('images of those classes')}",
                field="weights",
            )
        found |= {name: zeros_like(tensor) for name, tensor in fresh.items() if is_of_classifier(name)}
        notes.append(f"the classifier of the weights is left out for a new one, of zeros: {reason}")
    elif classes is None:
        notes.append(
            f"the classifier is kept: the weights are for {data.num_classes} classes too, without their names"
        )
    first = next((name for name, tensor in fresh.items() if tensor.ndim == 4), None)
    if first is not None and found[first].shape[1] != fresh[first].shape[1]:
        has, needs = found[first].shape[1], fresh[first].shape[1]
        if not is_trained:
            raise TrainingError(
                f"the weights must be for in_channels={needs}, as {data.name} needs, but are for "
                f"in_channels={has}: {_remedy('images with as many channels')}",
                field="weights",
            )
        found[first] = for_channels(found[first], needs)
        how = "the sums of its weights over them" if needs == 1 else "its weights repeated and scaled"
        notes.append(f"the first convolution takes {needs} channels in place of {has}: {how}")
    return found, tuple(notes)


def _remedy(what: str) -> str:
    return f"give {what}, or the recipe finetune or linear_probe"


def _other_classes(weights: Weights, data: ImageData, classes: Sequence[str] | None) -> str:
    """Why the classifier of weights is not that of these images; empty where it is.

    Raises:
        TrainingError: Only the order of the classes differs.
    """
    rows = [len(tensor) for name, tensor in weights.items() if name == f"{CLASSIFIER}weight"]
    if not rows:
        return "they have none"
    if rows != [data.num_classes]:
        return f"they are for num_classes={rows[0]}, and {data.name} has {data.num_classes}"
    if classes is None or tuple(classes) == data.classes:
        return ""
    theirs, ours = few(classes), few(data.classes)
    if sorted(classes) == sorted(data.classes):
        raise TrainingError(
            f"the classes of {data.name} must be those of the weights, in their order, but are {ours} "
            f"and not {theirs}: give the images with their classes in that order",
            field="weights",
        )
    return f"they are for {theirs}, and {data.name} has {ours}"
