"""`Fit`: a full training as plain data that every rank runs; and how far one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from nas.data.images import ImageData
from nas.full_training.checkpoint import Row
from nas.full_training.learner import Learner
from nas.full_training.ranks import Ranks
from nas.full_training.recipe import FullRecipe
from nas.training.step import Stepping
from search_spaces import Network


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
        weights: What it starts from; None are fresh ones.
        checkpoint_minutes: Time between two checkpoints.
        checkpoint_steps: Steps between two; None goes by time alone.
        evaluate_every: Epochs between two evaluations.
        sync_batch_norm: Whether batch norms see the whole batch of all GPUs.
        stepping: How steps are taken.
    """

    network: Network
    data: ImageData
    recipe: FullRecipe
    folder: Path
    identity: Mapping[str, str]
    seed: int
    precision: Literal["float32", "bfloat16"]
    weights: Mapping[str, Tensor] | None = None
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int | None = None
    evaluate_every: float = 1.0
    sync_batch_norm: bool = False
    stepping: Stepping = "auto"

    def learner(self, ranks: Ranks, *, rate_factor: float = 1.0) -> Learner:
        """The network as it is before the first step."""
        return Learner(
            self.network,
            self.recipe,
            len(self.data.train),
            ranks,
            seed=self.seed,
            precision=self.precision,
            weights=self.weights,
            rate_factor=rate_factor,
            sync_batch_norm=self.sync_batch_norm,
            stepping=self.stepping,
        )
