"""`Fit`: a full training as plain data that every rank runs; and how far one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from nas.data.images import ImageData
from nas.devices import choose_device
from nas.full_training.checkpoint import Row
from nas.full_training.learner import Learner
from nas.full_training.options import TrainOptions
from nas.full_training.ranks import Ranks
from nas.full_training.recipe import FullRecipe
from nas.full_training.training import Training
from nas.training.precision import choose_precision
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A training as plain data, which every rank runs.

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
