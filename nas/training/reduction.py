"""`Reduction`: how a proxy is smaller than the training that it replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from nas.data.decoding import resize
from nas.data.images import ImageData, Labels, Part, Pixels
from nas.errors import RecipeError
from nas.training.recipe import Recipe
from nas.values import digest, make_plain
from search_spaces import Network, Scaling, Stage, apply_scaling
from search_spaces.fingerprints import counted_fields

LEAST_SIDE, SIDE_STEP = 8, 4
"""Least side of a reduced image, pixels, and what it is a multiple of, so that two strides divide it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """What a training is made smaller by, each a share in (0, 1] of the whole.

    Attributes:
        epochs: Of the recipe's epochs, warm-up and cosine shortened alike.
        resolution: Of the image's side.
        width: Of the network's channels.
        data: Of each class's training images, of all where images have no one class; the search and the test
            split stay whole.

    Raises:
        RecipeError: A share is not in (0, 1].
    """

    epochs: float = 1.0
    resolution: float = 1.0
    width: float = 1.0
    data: float = 1.0

    def __post_init__(self) -> None:
        make_plain(self)
        for field in fields(self):
            share = getattr(self, field.name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
                raise RecipeError(
                    f"`0 < {field.name} <= 1` must hold for a reduction, but got {field.name}={share!r}"
                )
            object.__setattr__(self, field.name, float(share))

    @property
    def fingerprint(self) -> str:
        """Changes with every share; one that is added later counts unless it is 1."""
        counted = counted_fields(self, ("epochs", "resolution", "width", "data"))
        return f"Reduction({', '.join(f'{name}={share!r}' for name, share in counted.items())})"

    @property
    def is_whole(self) -> bool:
        """Whether nothing is reduced."""
        return self == Reduction()

    def recipe(self, recipe: Recipe) -> Recipe:
        """Shortens a recipe; shifts of the augmentation keep their share of the image, at least a pixel.

        Raises:
            RecipeError: What is left is no valid recipe.
        """
        shortened = recipe if self.epochs == 1 else recipe.at(self.epochs)
        if self.resolution == 1 or recipe.crop_padding == 0:
            return shortened
        return replace(shortened, crop_padding=max(1, round(recipe.crop_padding * self.resolution)))

    def network(self, network: Network) -> Network:
        """Makes a network narrower, by the rounding of EfficientNet's rule, for a smaller image.

        Raises:
            SpaceError: The result is not a valid network.
        """
        smaller = network
        if self.width != 1:
            scaled = apply_scaling(network, Scaling(width=self.width))
            head = replace(
                scaled.head,
                channels=min(scaled.head.channels, network.head.channels),
                hidden=min(scaled.head.hidden, network.head.hidden),
            )
            smaller = replace(
                scaled,
                stem=_no_wider(scaled.stem, network.stem),
                stages=tuple(map(_no_wider, scaled.stages, network.stages)),
                head=head,
            )
        return replace(smaller, resolution=self.side(network.resolution))

    def side(self, resolution: int) -> int:
        """The reduced side of an image, pixels: the nearest multiple of 4, from 8 to the whole side."""
        if self.resolution == 1:
            return resolution
        steps = math.floor(self.resolution * resolution / SIDE_STEP + 0.5)
        return min(resolution, max(LEAST_SIDE, steps * SIDE_STEP))

    def train_images(self, labels: Labels) -> npt.NDArray[np.int64]:
        """How many training images of each class are kept, `(classes,)`: at least one where there are any.

        Images without one class for each count as of one class.
        """
        counts = np.bincount(_strata(labels))
        kept = np.round(self.data * counts).astype(np.int64)
        return np.where(counts > 0, np.maximum(kept, 1), 0)

    def data_of(self, images: ImageData) -> ImageData:
        """Makes images smaller and the training split shorter; mean and deviation stay those of the whole.

        The kept training images are the same at every resolution, and a smaller share is a subset of each
        larger one: they are the first of an order that the data's digests decide. Images in memory are
        resized as files are decoded (bilinear, antialiased), and files are decoded at the smaller side.
        """
        side = self.side(images.resolution)
        train = images.train
        split = images.split_fingerprint
        if self.data != 1:
            kept = self._kept(images)
            train = train.take(kept)
            split = digest(split, kept)
        if side == images.resolution and self.data == 1:
            return images
        return replace(
            images,
            reading=replace(images.reading, resolution=side),
            train=_resized(train, side),
            search=_resized(images.search, side),
            test=_resized(images.test, side),
            split_fingerprint=split,
        )

    def _kept(self, images: ImageData) -> npt.NDArray[np.int64]:
        """Indices of the training images that are kept, ascending."""
        labels = _strata(images.train.labels)
        rng = np.random.default_rng(int(digest("kept", images.content_digest, images.split_fingerprint), 16))
        order = rng.permutation(len(labels))
        kept = [
            order[labels[order] == label][:count]
            for label, count in enumerate(self.train_images(labels))
            if count
        ]
        return np.sort(np.concatenate(kept))

    def describe(self) -> str:
        """Names the shares that are not 1, such as `epochs=0.333, width=0.5`; `whole` where all are."""
        shares = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name}={share:.3g}" for name, share in shares.items() if share != 1) or "whole"


def _strata(labels: Labels) -> npt.NDArray[np.int64]:
    """The class of each image; of images without one class for each, one class for all."""
    return labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)


def _no_wider(scaled: Stage, stage: Stage) -> Stage:
    """Rounding up to 8 channels must not widen what was narrower than that."""
    return replace(scaled, channels=min(scaled.channels, stage.channels))


def _resized(part: Part, side: int) -> Part:
    return replace(part, images=resize(part.images, side)) if isinstance(part, Pixels) else part
