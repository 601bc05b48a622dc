"""Views of training images: crop, mirror, RandAugment and erasing by timm, each from a seed of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data import Mixup
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import Compose, InterpolationMode, TrivialAugmentWide

from nas.data.decoder import fit_square
from nas.data.images import ImageData
from nas.full_training.recipe import FullRecipe
from nas.tasks import CLASSIFICATION
from nas.training.accuracy import Normalise, Statistics
from nas.training.moves import reflect
from nas.training.streaming import ROOM_FOR_CROPS, View

GREATEST_TRANSLATION = 0.45
"""Of RandAugment, as a share of the side (timm's training)."""


@dataclass(slots=True)
class Augmentation:
    """Makes views of images for a recipe; crosses to loading processes as its fields.

    Attributes:
        recipe: What is done to an image.
        resolution: Side of the images as they are evaluated, pixels.
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel.
        fit: How an image becomes square where it is not cut at random.
    """

    recipe: FullRecipe
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str
    _by_stage: dict[int, Callable[[Image.Image], Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, recipe: FullRecipe, data: ImageData) -> Augmentation:
        """The views of these images."""
        return cls(
            recipe=recipe,
            resolution=data.resolution,
            mean=data.mean,
            std=data.std,
            fit=data.reading.fit,
        )

    @property
    def least_side(self) -> int:
        """A large JPEG is decoded to so many pixels a side: where it is not cut, as in evaluation."""
        return (ROOM_FOR_CROPS if self.recipe.crop == "resized" else 2) * self.resolution

    def __getstate__(self) -> tuple[Any, ...]:
        return self.recipe, self.resolution, self.mean, self.std, self.fit

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.recipe, self.resolution, self.mean, self.std, self.fit = state
        self._by_stage = {}

    def __call__(self, image: Image.Image, view: View) -> Tensor:
        """Makes one view: normalised float32 of shape (channels, side, side). Seeds global generators."""
        if view.stage not in self._by_stage:
            self._by_stage[view.stage] = self._compose(view.stage)
        seed_generators(view.seed)
        seen = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.is_mirrored else image
        return self._by_stage[view.stage](seen)

    def _compose(self, stage: int) -> Callable[[Image.Image], Tensor]:
        side = self.recipe.side(stage, self.resolution)
        steps: list[Any] = [self._crop(side)]
        steps += self._auto_augment(self.recipe.augment_at(stage), side)
        steps.append(Normalised(self))
        if self.recipe.random_erase:
            # The hole has the mean colour, as in torchvision's references, whose recipes erase.
            steps.append(RandomErasing(self.recipe.random_erase, mode="const", device="cpu"))
        made: Callable[[Image.Image], Tensor] = Compose(steps)
        return made

    def _crop(self, side: int) -> Callable[[Image.Image], Image.Image]:
        recipe = self.recipe
        if recipe.crop == "resized":
            made: Callable[[Image.Image], Image.Image] = RandomResizedCropAndInterpolation(
                side, scale=(recipe.least_area, 1.0), interpolation="bilinear"
            )
            return made
        square = Square(side, self.fit)
        return square if recipe.crop == "none" else Compose([square, Shift(recipe.shift_pixels(side))])

    def _auto_augment(self, text: str, side: int) -> list[Any]:
        if not text:
            return []
        if text == "ta_wide":
            return [TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)]
        grey = tuple(min(255, round(255 * value)) for value in self.mean)
        constants = {
            "translate_const": int(GREATEST_TRANSLATION * side),
            "img_mean": grey if len(grey) > 1 else grey[0],
            "interpolation": Image.Resampling.BILINEAR,
        }
        if text.startswith("rand"):
            made = rand_augment_transform(text, constants)
            operations = made.ops
        else:
            made = auto_augment_transform(text, constants)
            operations = [*chain(*made.policy)]
        for operation in operations:
            if operation.name.startswith("Posterize"):
                operation.aug_fn = posterized
        return [made]


def posterized(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keeps the upper bits of each channel; of none black is left, which Pillow refuses."""
    return ImageOps.posterize(image, min(bits, 8)) if bits > 0 else Image.new(image.mode, image.size)


@dataclass(frozen=True, slots=True)
class Square:
    """Brings an image to a square as evaluation does it."""

    side: int
    fit: str

    def __call__(self, image: Image.Image) -> Image.Image:
        """Returns an image of `side` x `side`."""
        square: Image.Image = fit_square(image, self.side, self.fit)
        return square


class Shift:
    """Shifts an image by up to so many pixels; what a shift uncovers mirrors the image's edge."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, image: Image.Image) -> Image.Image:
        """Returns an image of the same size."""
        down, right = (random.randint(-self._most, self._most) for _ in range(2))
        pixels = np.asarray(image)
        rows, columns = (
            reflect(torch.arange(size) + by, size).numpy()
            for size, by in zip(pixels.shape[:2], (down, right), strict=True)
        )
        return Image.fromarray(pixels[rows[:, None], columns])


class Normalised:
    """Brings an image to zero mean and unit deviation: float32 of shape (channels, height, width)."""

    def __init__(self, data: Statistics) -> None:
        self._normalise = Normalise(data, torch.device("cpu"))

    def __call__(self, image: Image.Image) -> Tensor:
        """Returns the pixels as numbers."""
        pixels = torch.from_numpy(np.array(image))
        planes = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        return self._normalise(planes[None])[0].contiguous()


def seed_generators(seed: int) -> None:
    """Seeds the global generators of Python, numpy and torch's CPU, which the parts of timm draw from."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Puts these generators back at the end."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


class Mixing:
    """Mixes the images of each batch with each other, and their labels, where the recipe asks for it.

    Args:
        recipe: Says how.
        data: What the labels are: classes, which become smoothed probabilities; 0 and 1 for each label; or
            numbers.
    """

    def __init__(self, recipe: FullRecipe, data: ImageData) -> None:
        self._recipe = recipe
        self._has_classes = data.task == CLASSIFICATION
        self._classes = data.num_classes

    def __call__(self, images: Tensor, labels: Tensor, *, stage: int, seed: int) -> tuple[Tensor, Tensor]:
        """Mixes a batch in place. Seeds numpy's global generator.

        Args:
            images: float32 of shape (batch, channels, side, side).
            labels: As the data have them.
            stage: Number of the stage.
            seed: Decides which of the two is done, and by how much.

        Returns:
            The images, and what the loss compares with: the labels as they are, or float32 of shape
            (batch, outputs).
        """
        alpha = self._recipe.mixup_at(stage)
        if not (alpha or self._recipe.cutmix) or len(labels) < 2:
            return images, labels
        rest = len(labels) % 2  # timm mixes the first with the last and needs an even number
        count = len(labels) - rest
        mix = Mixup(
            mixup_alpha=alpha, cutmix_alpha=self._recipe.cutmix, label_smoothing=0.0, num_classes=count
        )
        np.random.seed(seed & 0xFFFFFFFF)
        # Each image is a class of its own: so timm tells the shares of two images in each mixed one.
        _, shares = mix(images[rest:], torch.arange(count, device=labels.device))
        own, other = shares.diagonal()[:, None], shares.flip(1).diagonal()[:, None]
        targets = self._targets(labels)
        alone, partners = targets[:rest], targets[rest:]
        return images, torch.cat([alone, own * partners + other * partners.flip(0)])

    def _targets(self, labels: Tensor) -> Tensor:
        """What the loss compares unmixed images with, float32 of shape (batch, outputs)."""
        if not self._has_classes:
            return labels.float()
        return smoothed(labels, self._classes, self._recipe.label_smoothing)


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Smoothed probabilities of classes: (batch,) to (batch, classes)."""
    target = torch.full((len(labels), classes), smoothing / classes, device=labels.device)
    return target.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)
