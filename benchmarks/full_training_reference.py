"""torchvision's reference loop for classification, for images in memory and a recipe of ours.

It follows `references/classification/train.py` of torchvision in what it does and in which order, with the
same parts of PyTorch. What differs: the crop is a shifted image in place of a resized part (as its recipe for
small images would be), images are in memory, and there is one process.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from full_training_runs import Bench, Run, seconds_to
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from nas.data.images import ImageData, Pixels
from nas.full_training.learner import trained_network
from nas.full_training.recipe import FullRecipe
from nas.training.accuracy import evaluate_accuracy
from nas.values import digest
from search_spaces import Network, build, cost


class Photos(Dataset[tuple[Tensor, int]]):
    """A split as torchvision's data sets are: PIL images with a transform."""

    def __init__(self, part: Pixels, transform: transforms.Compose) -> None:
        self._images = [Image.fromarray(image.transpose(1, 2, 0)) for image in part.images]
        self._labels = part.labels.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._images[index]), self._labels[index]


class ReferenceLoop:
    """A network in training as the reference program trains it.

    Args:
        network: As it is evaluated.
        data: The images, in memory.
        recipe: SGD with a cosine, shifts and flips; averaged weights are left out.
        seed: Of weights, order and views.
        device: Where.

    Attributes:
        module: The network.
    """

    def __init__(
        self, network: Network, data: ImageData, recipe: FullRecipe, *, seed: int, device: torch.device
    ) -> None:
        assert isinstance(data.train, Pixels)
        images = len(data.train)
        torch.manual_seed(seed)
        self._recipe, self._data, self._device = recipe, data, device
        self.module: nn.Module = build(trained_network(network, recipe, images), seed=seed).to(device)
        self._criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self._optimizer = torch.optim.SGD(
            self._groups(),
            lr=recipe.peak_rate(images),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        self._scheduler = self._make_scheduler()
        photos = Photos(
            data.train,
            transforms.Compose(
                [
                    transforms.RandomCrop(
                        data.resolution,
                        padding=recipe.shift_pixels(data.resolution),
                        padding_mode="reflect",
                    ),
                    transforms.RandomHorizontalFlip(0.5),
                    transforms.PILToTensor(),
                    transforms.ConvertImageDtype(torch.float),
                    transforms.Normalize(data.mean, data.std),
                ]
            ),
        )
        self._loader = DataLoader(
            photos,
            batch_size=recipe.batch_for(images),
            sampler=RandomSampler(photos),
            num_workers=0,
            pin_memory=device.type == "cuda",
            drop_last=True,
        )

    def _groups(self) -> list[dict[str, object]]:
        """Weights, and apart from them norms and biases, which have no decay."""
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        return [
            {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
            {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
        ]

    def _make_scheduler(self) -> torch.optim.lr_scheduler.LRScheduler:
        warmup = max(1, round(self._recipe.warmup_epochs))
        rest = max(1, round(self._recipe.epochs) - warmup)
        rising = torch.optim.lr_scheduler.LinearLR(self._optimizer, start_factor=0.01, total_iters=warmup)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, T_max=rest)
        return torch.optim.lr_scheduler.SequentialLR(self._optimizer, [rising, falling], milestones=[warmup])

    def steps(self) -> Iterator[int]:
        """Takes a step at each turn, for as long as it is asked; yields the images of the step."""
        while True:
            self.module.train()
            for images, labels in self._loader:
                image = images.to(self._device, non_blocking=True)
                target = labels.to(self._device, non_blocking=True)
                output = self.module(image)
                loss = self._criterion(output, target)
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                loss.item()  # the reference program logs it, and the accuracy, after each step
                output.topk(5, 1).indices.eq(target[:, None])
                yield len(labels)
            self._scheduler.step()

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def train(self) -> None:
        """Trains to the end."""
        steps = self.steps()
        for _ in range(self._recipe.steps(len(self._data.train))):
            next(steps)


def reference_run(bench: Bench, network: Network, recipe: FullRecipe, data: ImageData, seed: int) -> Run:
    """Trains by torchvision's loop, and tests the weights of its end; what was trained before is read."""
    key = digest("torchvision", bench.key(bench.prepare(network, recipe, data=data, seed=seed)))
    known = bench.known(key)
    if known is not None:
        return known
    loop = ReferenceLoop(network, data, recipe, seed=seed, device=bench.device)
    seconds = seconds_to(loop.train, bench.device)
    counted, images = cost(network), len(data.train)
    accuracies = {
        split: evaluate_accuracy(loop.module, data, split, device=bench.device)
        for split in ("search", "test")
    }
    return bench.keep(
        Run(
            key=key,
            part="reference_loop",
            name="torchvision's loop",
            seed=seed,
            accuracy=accuracies["test"],
            search_accuracy=accuracies["search"],
            kept="weights, the last",
            epochs=recipe.epochs,
            seconds=seconds,
            processor_seconds=seconds if bench.device.type == "cpu" else None,
            images=recipe.steps(images) * recipe.batch_for(images),
            macs=counted.macs,
            params=counted.params,
        )
    )
