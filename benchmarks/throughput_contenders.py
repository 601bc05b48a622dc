"""The training loops that `train_throughput.py` compares: ours, a plain one, and timm's.

Every loop trains the same network with the same batch, SGD and label smoothing, on images cropped and
flipped; each takes the layout and precision fastest for it.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from nas.data.images import ImageData, Pixels
from nas.data.loading import from_arrays, load_data
from nas.devices import synchronize
from nas.training.batches import ResidentBatches
from nas.training.moves import Draw
from nas.training.optimizers import make_optimizer
from nas.training.recipe import Recipe
from nas.training.step import LEAST_STEPS_TO_GRAPH, WARMUP_STEPS, Stepping
from nas.training.streaming import StreamedBatches
from nas.training.training import prepare_step, set_batch_norm_momentum
from search_spaces import Network, build, efficientnet

Precision = Literal["float32", "bfloat16"]

WARMUP_TURNS, PROBE_TURNS = 2, 7
"""Steps by which the baselines' layout and precision are chosen: a short probe chose the slower one."""
CLASSES = 10
PADDING = 2
SMOOTHING = 0.1
RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is trained on what.

    Attributes:
        network: The same for every contender.
        data: Decoded images in memory.
        files: The same number of JPEG files, read again in each epoch.
        batch_size: Images a step.
        device: Where.
        workers: Loader processes of the plain loop and of timm's.
    """

    network: Network
    data: ImageData
    files: ImageData
    batch_size: int
    device: torch.device
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A contender that has taken its first steps.

    Attributes:
        step: Takes one step.
        ahead: Batches that loader processes may have ready; so many steps go before the clock starts.
        detail: Layout, precision and how steps are taken, in words.
    """

    step: Callable[[], None]
    ahead: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A training loop, by its name; `start` builds all of it again and takes the first steps."""

    name: str
    start: Callable[[], Running]


def contenders(setting: Setting, *, baseline: bool, compiled: bool) -> list[Contender]:
    """Ours in every regime; with a baseline also the plain loop and, where it is installed, timm's."""
    resident = ResidentBatches(setting.data, setting.device)
    streamed = StreamedBatches(setting.files, setting.device)
    found = [Contender(name="ours, resident", start=lambda: ours(setting, resident, "auto"))]
    if setting.device.type == "cuda":
        found.append(Contender(name="ours, no graph", start=lambda: ours(setting, resident, "eager")))
    if compiled:
        found.append(Contender(name="ours, compiled", start=lambda: ours(setting, resident, "compiled")))
    found.append(Contender(name="ours, JPEG files", start=lambda: ours(setting, streamed, "auto")))
    if baseline:
        layout, precision = fastest_way(setting)
        loader = plain_loader(setting)
        found.append(Contender(name="plain loop", start=lambda: plain(setting, loader, layout, precision)))
        bare = one_batch(setting)
        found.append(
            Contender(name="plain, no loading", start=lambda: plain(setting, bare, layout, precision))
        )
        if has_timm():
            with_timm = timm_loader(setting)
            found.append(
                Contender(name="timm's loop", start=lambda: timm_loop(setting, with_timm, layout, precision))
            )
    return found


def has_timm() -> bool:
    """Whether timm can be imported."""
    try:
        import timm  # noqa: F401
    except ImportError:
        return False
    return True


def proxy_network(pixels: int, width: float) -> Network:
    """EfficientNet-B0 as it is from 224 pixels on, and its narrower form, ten classes, below."""
    space = efficientnet(
        resolution=pixels,
        num_classes=1000 if pixels >= 224 else CLASSES,
        width=1.0 if pixels >= 224 else width,
    )
    assert space.reference is not None
    return space.reference


def synthetic(pixels: int, count: int) -> ImageData:
    """Smooth random images: what matters of them is their size, and that JPEG packs them as photos."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 3, pixels // 8, pixels // 8), dtype=np.uint8)
    smooth = functional.interpolate(torch.from_numpy(coarse), size=(pixels, pixels), mode="bilinear")
    return from_arrays(smooth.numpy(), np.arange(count) % CLASSES, name=f"synthetic {pixels}")


def as_files(data: ImageData, folder: Path) -> ImageData:
    """Writes images in memory as JPEG files, and reads the folder as data that do not fit."""
    number = 0
    for part in (data.train, data.search, data.test):
        assert isinstance(part, Pixels)
        for pixels, label in zip(part.images, part.labels, strict=True):
            under = folder / f"class{label:02d}"
            under.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(under / f"{number}.jpg", quality=90)
            number += 1
    return load_data(folder, resolution=data.resolution, resident_bytes=1)


def ours(setting: Setting, batches: ResidentBatches | StreamedBatches, stepping: Stepping) -> Running:
    """What `nas.training.train` does, step by step."""
    per_epoch = len(setting.data.train) // setting.batch_size
    recipe = Recipe(
        epochs=2 * math.ceil(LEAST_STEPS_TO_GRAPH / per_epoch),
        batch_size=setting.batch_size,
        learning_rate=RATE,
        weight_decay=DECAY,
        label_smoothing=SMOOTHING,
    )
    module = build(setting.network, seed=0).to(setting.device).to(memory_format=torch.channels_last)
    set_batch_norm_momentum(module, recipe.batch_norm_momentum)
    for layer in module.modules():
        if isinstance(layer, nn.SiLU):
            layer.inplace = False
    take = prepare_step(
        module,
        make_optimizer(module, recipe),
        setting.data,
        recipe,
        setting.device,
        batches,
        stepping=stepping,
    )
    draws = endless_draws(batches, setting.batch_size)

    def step() -> None:
        take(next(draws), RATE)

    first_steps(step, WARMUP_STEPS + 1 if setting.device.type == "cuda" else 1, setting.device)
    report = take.report
    loaders = getattr(batches, "loaders", 0)
    return Running(step=step, ahead=2 * loaders, detail=f"{report.kind}, {loaders} loaders")


def endless_draws(batches: ResidentBatches | StreamedBatches, batch_size: int) -> Iterator[Draw]:
    """Draws epoch after epoch."""
    rng = np.random.default_rng(0)
    while True:
        yield from batches.draws(batch_size, "crop_flip", PADDING, rng)


def plain(
    setting: Setting, loader: Iterable[Any], layout: torch.memory_format, precision: Precision
) -> Running:
    """A loop as in torchvision's references, without their wait for the loss at every step."""
    device = setting.device
    module = build(setting.network, seed=0).to(device).to(memory_format=layout)
    optimizer = torch.optim.SGD(
        module.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY, fused=True
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    batches = endless(loader)

    def step() -> None:
        images, labels = next(batches)
        images = images.to(device, non_blocking=True, memory_format=layout)
        labels = labels.to(device, non_blocking=True)
        with cast(device, precision):
            loss = criterion(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    first_steps(step, 1, device)
    return Running(step=step, ahead=prefetched(loader), detail=words(layout, precision, loader))


def timm_loop(
    setting: Setting, loader: Iterable[Any], layout: torch.memory_format, precision: Precision
) -> Running:
    """The inner loop of timm's train.py, from its parts: loader, loss, optimiser, schedule."""
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    device = setting.device
    module = build(setting.network, seed=0).to(device).to(memory_format=layout)
    optimizer = create_optimizer_v2(module, opt="sgd", lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=100, updates_per_epoch=100)
    criterion = LabelSmoothingCrossEntropy(SMOOTHING)
    batches, updates = endless(loader), 0

    def step() -> None:
        nonlocal updates
        images, labels = next(batches)
        images, labels = images.to(device), labels.to(device)
        images = images.contiguous(memory_format=layout)
        with cast(device, precision):
            loss = criterion(module(images), labels)
        loss.backward()  # bfloat16 needs no loss scaler, in timm neither
        optimizer.step()
        updates += 1
        scheduler.step_update(num_updates=updates)
        optimizer.zero_grad()

    first_steps(step, 1, device)
    return Running(step=step, ahead=prefetched(loader), detail=words(layout, precision, loader))


class Decoded(Dataset[tuple[Any, int]]):
    """Decoded arrays as PIL images, through a transform that the loader's owner sets."""

    def __init__(self, part: Pixels, transform: Callable[[Any], Any] | None = None) -> None:
        self._images = part.images
        self._labels = part.labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self._images[index].transpose(1, 2, 0))
        return (image if self.transform is None else self.transform(image)), int(self._labels[index])


def plain_loader(setting: Setting) -> DataLoader[Any]:
    """PIL images through torchvision's transforms, in processes that stay."""
    from torchvision import transforms

    assert isinstance(setting.data.train, Pixels)
    pixels = setting.data.resolution
    transform = transforms.Compose(
        [
            transforms.RandomCrop(pixels, padding=PADDING, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(setting.data.mean, setting.data.std),
        ]
    )
    return DataLoader(
        Decoded(setting.data.train, transform),
        batch_size=setting.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
        pin_memory=setting.device.type == "cuda",
    )


def timm_loader(setting: Setting) -> Iterable[Any]:
    """Makes timm's own loader and transforms; on a GPU with its prefetcher, which normalises there."""
    from timm.data import create_loader

    assert isinstance(setting.data.train, Pixels)
    pixels = setting.data.resolution
    loader: Iterable[Any] = create_loader(
        Decoded(setting.data.train),
        input_size=(3, pixels, pixels),
        batch_size=setting.batch_size,
        is_training=True,
        use_prefetcher=setting.device.type == "cuda",
        scale=(0.8, 1.0),
        color_jitter=None,
        interpolation="bilinear",
        mean=setting.data.mean,
        std=setting.data.std,
        num_workers=setting.workers,
        pin_memory=setting.device.type == "cuda",
        device=setting.device,
        persistent_workers=setting.workers > 0,
    )
    return loader


def one_batch(setting: Setting) -> list[tuple[Tensor, Tensor]]:
    """One normalised batch that lies on the device already: the plain step without its loading."""
    generator = torch.Generator().manual_seed(0)
    pixels = setting.data.resolution
    images = torch.randn((setting.batch_size, 3, pixels, pixels), generator=generator)
    labels = torch.arange(setting.batch_size) % CLASSES
    return [(images.to(setting.device), labels.to(setting.device))]


def fastest_way(setting: Setting) -> tuple[torch.memory_format, Precision]:
    """Times the plain step in both layouts and precisions, in turns, and returns the fastest pair."""
    bare = one_batch(setting)
    variants: list[tuple[torch.memory_format, Precision]] = [
        (layout, precision)
        for layout in (torch.contiguous_format, torch.channels_last)
        for precision in ("float32", "bfloat16")
    ]
    steps = {variant: plain(setting, bare, *variant).step for variant in variants}
    seconds: dict[tuple[torch.memory_format, Precision], list[float]] = {variant: [] for variant in variants}
    for _ in range(WARMUP_TURNS + PROBE_TURNS):
        for variant, step in steps.items():
            seconds[variant].append(timed(step, setting.device))
    return min(variants, key=lambda variant: statistics.median(seconds[variant][WARMUP_TURNS:]))


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Goes through a loader again and again."""
    while True:
        yield from loader


def first_steps(step: Callable[[], None], count: int, device: torch.device) -> None:
    """Takes a few steps and waits for the device."""
    for _ in range(count):
        step()
    synchronize(device)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, the device idle before and after."""
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began


def cast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Autocast where the precision is bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def prefetched(loader: Iterable[Any]) -> int:
    """Batches that the loader's processes prepare ahead."""
    inner = getattr(loader, "loader", loader)  # what timm's prefetcher wraps
    return 2 * int(getattr(inner, "num_workers", 0))


def words(layout: torch.memory_format, precision: str, loader: Iterable[Any]) -> str:
    """Layout, precision and loader processes in words."""
    name = "channels_last" if layout is torch.channels_last else "contiguous"
    return f"{name}, {precision}, {prefetched(loader) // 2} loaders"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
