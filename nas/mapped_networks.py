"""Opens the networks of class maps: bundles, and published networks of installed packages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from nas.data.images import Reading
from nas.data.tree import few, printable
from nas.errors import NasError, UsageError
from nas.export.opened import OpenBundle, open_bundle
from nas.export.preprocessing import Preprocessing
from nas.published_weights import PACKAGES, TIMM
from nas.scoring.views import Look, as_trained, middle
from nas.starting_weights import find_weights
from nas.units import hint
from search_spaces import build, load_weights
from search_spaces.references import plain_name

BUNDLE_FOLDERS = ("bundle", "export")
"""Folders whose name says nothing of the network in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNetwork:
    """A network that is ready to be looked into.

    Attributes:
        name: What to call it.
        module: With its weights, in evaluation mode.
        preprocessing: What its images go through, and what its outputs mean.
        look: How it sees an image file.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    look: Look


def is_published(word: str | Path) -> bool:
    """Whether a package has the weights of a network of this name, installed or not."""
    plain = plain_name(str(word)).removeprefix("tf")
    return any(plain_name(name) == plain for name in PACKAGES)


def tell_apart(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tells networks from images: folders and published names are networks, files are images.

    Returns:
        Networks, and images, each in their order.

    Raises:
        UsageError: A word is neither, or both; or there is no network, or no image.
    """
    networks, images = [], []
    for word in words:
        path = Path(word).expanduser()
        if path.exists() and is_published(word):
            what = "folder" if path.is_dir() else "file"
            raise UsageError(
                f"{word} is a {what} here and the name of a published network: write ./{word} for "
                f"the {what}, or tf_{word} for the published weights",
                field="what",
            )
        if path.is_file():
            images.append(word)
        elif path.is_dir() or is_published(word):
            networks.append(word)
        else:
            raise UsageError(
                f"{printable(word)!r} must be a network or an image, but is neither a file (an image), nor a "
                f"folder (a bundle, training or study), nor a network whose weights a package has "
                f"({hint(word, PACKAGES)})",
                field="what",
            )
    for found, noun, remedy in (
        (networks, "a network", f"give the folder of a bundle, training or study, or {', '.join(PACKAGES)}"),
        (images, "an image", "give image files, such as photos/*.jpg"),
    ):
        if not found:
            raise UsageError(
                f"there must be {noun}, but {few(list(words)) or 'nothing'} was given: {remedy}", field="what"
            )
    return tuple(networks), tuple(images)


def open_network(given: str | Path | OpenBundle) -> OpenNetwork:
    """Opens a bundle, the folder of a training or study that has one, or a network of an installed package.

    Raises:
        NasError: There is none, or it cannot be used; `field` is "networks".
    """
    if isinstance(given, OpenBundle):
        return _of_bundle(given, given.folder)
    try:
        if not Path(given).expanduser().exists() and is_published(given):
            return _of_package(str(given))
        return _of_bundle(open_bundle(given), Path(given).expanduser())
    except NasError as error:
        said = str(error).partition(f", or give {TIMM}")[0]  # a package's names alone are opened here
        tried = f"{printable(str(given))} was tried as a network"
        raise type(error)(f"{tried}: {said}", field="networks") from error


def open_networks(words: Sequence[str | Path | OpenBundle]) -> tuple[OpenNetwork, ...]:
    """Opens networks; those of equal names are called by the words that they were given by.

    Raises:
        NasError: One cannot be opened; `field` is "networks".
    """
    opened = [open_network(word) for word in words]
    many = Counter(one.name for one in opened)
    given = [str(word.folder) if isinstance(word, OpenBundle) else str(word) for word in words]
    return tuple(
        replace(one, name=word) if many[one.name] > 1 else one
        for one, word in zip(opened, given, strict=True)
    )


def _of_bundle(bundle: OpenBundle, given: Path) -> OpenNetwork:
    place = given.resolve()
    name = place.parent.name if place.name in BUNDLE_FOLDERS and place.parent.name else place.name
    preprocessing = bundle.required_preprocessing()
    return OpenNetwork(name=name, module=bundle.module(), preprocessing=preprocessing, look=as_trained)


def _of_package(name: str) -> OpenNetwork:
    found = find_weights(name)
    network, normalisation = found.network, found.normalisation
    assert network is not None  # a package's weights are of a reference network
    assert normalisation is not None
    module = build(network, seed=0).eval()
    load_weights(module, found.tensors)
    preprocessing = Preprocessing(
        reading=Reading(channels=network.in_channels, resolution=network.resolution),
        mean=normalisation.mean,
        std=normalisation.std,
        classes=imagenet_classes(),
    )
    preprocessing.check_fits(network)
    return OpenNetwork(name=name, module=module, preprocessing=preprocessing, look=middle)


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, as torchvision has them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
