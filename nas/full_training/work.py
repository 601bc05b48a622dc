"""`Work`: a training as plain data that every rank runs; `Fit`, that of one network; and how far one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from nas.data.images import ImageData
from nas.devices import choose_device
from nas.full_training.batches import Batch
from nas.full_training.checkpoint import Row
from nas.full_training.learner import Learner, Schedule
from nas.full_training.options import TrainOptions
from nas.full_training.ranks import Ranks
from nas.full_training.recipe import FullRecipe
from nas.full_training.training import Training
from nas.training.precision import choose_precision
from nas.training.step import StepReport
from search_spaces import Network

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """How far a training is, for those who watch it.

    Attributes:
        step: Steps taken.
        steps: Steps in all.
        epoch: Epochs trained.
        epochs: Epochs in all.
        learning_rate: Of the last step.
        loss: Mean training loss since the last evaluation.
        images_per_second: Training speed of this run.
        seconds_left: Estimate of the time to the end; None at the beginning.
        row: The evaluation that has just been made; None between evaluations.
        note: Something that has just happened; empty where nothing did.
    """

    step: int
    steps: int
    epoch: float
    epochs: float
    learning_rate: float
    loss: float
    images_per_second: float
    seconds_left: float | None
    row: Row | None = None
    note: str = ""


class Learns(Protocol):
    """What is in training. One step is a function of the state, the batch, and the number of the step."""

    rate_factor: float
    """Multiplies the learning rate."""

    @property
    def module(self) -> nn.Module:
        """All that is trained."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What updates it."""
        ...

    @property
    def schedule(self) -> Schedule:
        """How long the training is."""
        ...

    @property
    def step_report(self) -> StepReport:
        """How steps are taken now."""
        ...

    @property
    def loss_sum(self) -> Tensor:
        """Sum of the mean losses of this rank's batches since `clear_loss`; to read it is to wait."""
        ...

    @property
    def is_finite(self) -> bool:
        """Whether every weight and the loss are finite; waits for the device."""
        ...

    def take(self, step: int, batch: Batch) -> None:
        """Takes a step, counted from 0; nothing in it waits for the device."""
        ...

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        ...

    def clear_loss(self) -> None:
        """Begins a new sum."""
        ...

    def candidates(self) -> Mapping[str, nn.Module]:
        """What is measured on the search split: `weights`, perhaps `averaged weights`, and others by name.

        Only the first two may become the best weights.
        """
        ...

    def average_statistics(self) -> None:
        """Gives every rank the same running statistics of batch norms."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that changes, by name, on the CPU."""
        ...

    def numbers(self) -> Mapping[str, Any]:
        """What else changes, as JSON values."""
        ...

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continues from what `tensors` and `numbers` gave."""
        ...


class Work(Protocol):
    """A training as plain data, which every rank runs."""

    @property
    def data(self) -> ImageData:
        """The images."""
        ...

    @property
    def recipe(self) -> FullRecipe:
        """How it is trained; its batch fits the images."""
        ...

    @property
    def folder(self) -> Path:
        """Where checkpoints go; every rank must see it."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """What makes it the same training."""
        ...

    @property
    def seed(self) -> int:
        """Of everything random."""
        ...

    @property
    def precision(self) -> Precision:
        """What is computed in."""
        ...

    @property
    def metric(self) -> str:
        """Name of the metric that is measured on the search split."""
        ...

    @property
    def options(self) -> TrainOptions:
        """How it is run."""
        ...

    @property
    def keeps_best(self) -> bool:
        """Whether the weights with the best metric are kept beside the last ones."""
        ...

    def learner(self, ranks: Ranks, *, rate_factor: float = 1.0) -> Learns:
        """What is trained, as it is before the first step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The training of one network; see `Work`.

    Attributes:
        network: As it is evaluated and exported.
        data: The images.
        recipe: How it is trained; its batch fits the images.
        folder: Where checkpoints go; every rank must see it.
        identity: What makes it the same training.
        seed: Of everything random.
        precision: What is computed in.
        metric: Name of the metric that the best weights are chosen by, on the search split.
        weights: What it starts from; None are fresh ones.
        options: How it is run.
    """

    network: Network
    data: ImageData
    recipe: FullRecipe
    folder: Path
    identity: Mapping[str, str]
    seed: int
    precision: Precision
    metric: str
    weights: Mapping[str, Tensor] | None = None
    options: TrainOptions = field(default_factory=TrainOptions)

    @property
    def keeps_best(self) -> bool:
        """See `Work`: these are exported."""
        return True

    @classmethod
    def of(cls, training: Training, options: TrainOptions, *, chosen: Precision | None = None) -> Fit:
        """What is to be run of a training.

        Args:
            training: What is trained on what.
            options: How it is run.
            chosen: The precision that an earlier run chose, where the recipe leaves it open; None times it.
        """
        recipe = training.recipe
        precision: Precision
        if recipe.precision != "auto":
            precision = recipe.precision
        else:
            precision = chosen or choose_precision(choose_device(options.device)).precision
        return cls(
            network=training.start.network,
            data=training.data,
            recipe=recipe,
            folder=training.folder,
            identity=training.identity,
            seed=training.seed,
            precision=precision,
            metric=training.metric,
            weights=training.start.weights,
            options=options,
        )

    def learner(self, ranks: Ranks, *, rate_factor: float = 1.0) -> Learner:
        """The network as it is before the first step."""
        return Learner(
            self.network,
            self.recipe,
            self.data,
            ranks,
            seed=self.seed,
            precision=self.precision,
            weights=self.weights,
            rate_factor=rate_factor,
            sync_batch_norm=self.options.sync_batch_norm,
            stepping="compiled" if self.options.is_compiled else "auto",
        )
