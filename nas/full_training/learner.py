"""`Learner`: a network with all that one step of its full training reads and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from timm.loss import BinaryCrossEntropy
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from nas.data.images import ImageData
from nas.errors import RecipeError
from nas.full_training.batches import Batch
from nas.full_training.checkpoint import AVERAGED, WEIGHTS
from nas.full_training.ranks import Ranks
from nas.full_training.recipe import FullRecipe
from nas.full_training.stored import (
    Tensors,
    are_finite,
    load_optimizer,
    on_host,
    optimizer_numbers,
    optimizer_tensors,
    under,
)
from nas.full_training.trained_parts import freeze, frozen_names, frozen_norms, make_optimizer
from nas.tasks import CLASSIFICATION
from nas.training import losses
from nas.training.step import EagerStep, Step, Stepping, StepReport, StepWork, make_step
from search_spaces import Network, SpaceError, build, cost

MIXED_TARGET = 0.2
"""With one sigmoid a class, a class with a larger share of a mixed image is a target of 1 (timm's, A1-A3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A recipe on so many images: how long it is, and its rate at each step.

    Attributes:
        recipe: The recipe.
        images: Number of training images.
    """

    recipe: FullRecipe
    images: int

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.recipe.steps(self.images)

    @property
    def steps_an_epoch(self) -> int:
        """Steps of an epoch."""
        return self.recipe.steps_an_epoch(self.images)

    def rates(self) -> Callable[[int], float]:
        """Makes timm's schedule: the learning rate of a step, counted from 0."""
        recipe, per_epoch = self.recipe, self.steps_an_epoch
        peak = recipe.peak_rate(self.images)
        holder = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=peak)
        scheduler, _ = create_scheduler_v2(
            holder,
            sched="cosine" if recipe.schedule == "cosine" else "step",
            num_epochs=recipe.epochs,
            decay_epochs=recipe.decay_epochs,
            decay_rate=1.0 if recipe.schedule == "constant" else recipe.decay_rate,
            min_lr=recipe.final_rate * peak,
            warmup_epochs=recipe.warmup_epochs,
            warmup_lr=0.0,
            step_on_epochs=False,
            updates_per_epoch=per_epoch,
        )
        warmup = recipe.warmup_epochs * per_epoch

        def rate(step: int) -> float:
            # The first step of a warm-up has a rate, and the last of a cosine is not beyond its end.
            scheduler.step_update(max(step, min(step + 1, warmup)))
            return float(holder.param_groups[0]["lr"])

        return rate


def trained_network(network: Network, recipe: FullRecipe, images: int) -> Network:
    """The network as it is trained: with the recipe's dropout, stochastic depth and batch-norm momentum.

    Raises:
        RecipeError: It cannot take the training images of one of the stages, or has no part that is frozen.
    """
    frozen_names(network, recipe)
    for stage in range(recipe.stages):
        side = recipe.side(stage, network.resolution)
        try:
            cost(replace(network, resolution=side))
        except SpaceError as error:
            share = "train_size" if recipe.stages == 1 else "first_size"
            is_whole = side == network.resolution
            raise RecipeError(
                f"the network must take training images of {side} pixels (stage {stage + 1} of "
                f"{recipe.stages}, {side}/{network.resolution} of its resolution), but: {error}; give a "
                f"larger {'resolution' if is_whole else f'{share} or resolution'}",
                field="resolution" if is_whole else share,
            ) from error
    own = network.head.dropout
    # Without a rate there would be no layer whose rate can grow.
    dropout = max(recipe.dropout_at(stage, own) for stage in range(recipe.stages))
    return replace(
        network,
        head=replace(network.head, dropout=dropout),
        drop_path_rate=network.drop_path_rate if recipe.drop_path is None else recipe.drop_path,
        norm_momentum=recipe.momentum_for(images, network.norm_momentum),
    )


class Learner:
    """A network in training. One step is a function of the state, the batch, and the number of the step.

    Args:
        network: As it is evaluated.
        recipe: How it is trained.
        data: What it learns.
        ranks: The processes that train it together.
        seed: Of initial weights, dropout and stochastic depth.
        precision: What the forward pass computes in.
        weights: What training starts from; None are fresh ones.
        rate_factor: Multiplies the learning rate.
        sync_batch_norm: Whether batch norms see the whole batch of all GPUs.
        stepping: How steps are taken.

    Attributes:
        module: The network.
        ema: Its averaged weights; None where the recipe keeps none.
        schedule: How long it is.
        rate_factor: As given.
    """

    def __init__(
        self,
        network: Network,
        recipe: FullRecipe,
        data: ImageData,
        ranks: Ranks,
        *,
        seed: int,
        precision: Literal["float32", "bfloat16"],
        weights: Mapping[str, Tensor] | None = None,
        rate_factor: float = 1.0,
        sync_batch_norm: bool = False,
        stepping: Stepping = "auto",
    ) -> None:
        images = len(data.train)
        self.schedule = Schedule(recipe=recipe, images=images)
        self.rate_factor = rate_factor
        self._recipe = recipe
        self._ranks = ranks
        self._seed = seed
        self._dropout = network.head.dropout
        self.module: nn.Module = build(trained_network(network, recipe, images), seed=seed)
        if weights is not None:
            self.module.load_state_dict(weights)
        self.module.to(ranks.device).to(memory_format=torch.channels_last)
        frozen = frozen_names(network, recipe)
        freeze(self.module, recipe, frozen)
        wrapped = ranks.wrap(self.module, sync_batch_norm=sync_batch_norm)
        # Synchronised norms are others than before.
        self._at_rest = [*frozen_norms(self.module, recipe), *map(self.module.get_submodule, frozen)]
        self.module.eval()  # the first step puts each layer into its mode
        self.optimizer = make_optimizer(self.module, recipe, self.schedule.recipe.peak_rate(images))
        self.ema = ModelEmaV3(self.module, decay=recipe.ema_decay) if recipe.ema_decay else None
        self._rates = self.schedule.rates()
        self._step = -1
        self._take = self._make_step(wrapped, data, precision, stepping)

    def _make_step(
        self,
        wrapped: nn.Module,
        data: ImageData,
        precision: Literal["float32", "bfloat16"],
        stepping: Stepping,
    ) -> Step:
        loss = make_loss(self._recipe, data, self._ranks.device)

        def make_work(forward: Callable[[Tensor], Tensor]) -> StepWork:
            self._work = StepWork(
                forward,
                self.optimizer,
                read=lambda draw: (draw[0], draw[1]),
                normalise=lambda images: images,
                loss=loss,
                device=self._ranks.device,
                precision=precision,
                update=self._update,
            )
            return self._work

        if self._ranks.world == 1 and self._recipe.stages == 1:
            return make_step(
                wrapped, make_work, steps=self.schedule.steps, device=self._ranks.device, stepping=stepping
            )
        is_compiled = stepping == "compiled"
        report = StepReport(
            kind="compiled" if is_compiled else "eager",
            reason="recorded steps have one size for good, and no other process to wait for",
        )
        return EagerStep(make_work(torch.compile(wrapped) if is_compiled else wrapped), report)

    def take(self, step: int, batch: Batch) -> None:
        """Takes a step, counted from 0; nothing in it waits for the device."""
        self._step = step
        self._train_mode(step)
        seed = int(np.random.SeedSequence((self._seed, step, self._ranks.rank)).generate_state(1)[0])
        torch.manual_seed(seed)  # dropout and stochastic depth of a step do not depend on those before it
        self._take(batch, self.rate(step))

    @property
    def step_report(self) -> StepReport:
        """How steps are taken now."""
        return self._take.report

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self._rates(step) * self.rate_factor

    @property
    def loss_sum(self) -> Tensor:
        """Sum of the mean losses of this rank's batches since `clear_loss`; to read it is to wait."""
        return self._work.loss

    def clear_loss(self) -> None:
        """Begins a new sum."""
        self._work.loss.zero_()

    def _train_mode(self, step: int) -> None:
        if self.module.training and self._recipe.stages == 1:
            return
        self.module.train()
        for layer in self._at_rest:
            layer.eval()
        stage = self._recipe.stage_at(step, self.schedule.steps)
        for layer in self.module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = self._recipe.dropout_at(stage, self._dropout)

    def _update(self) -> None:
        """Clips the gradient, and updates the weights and their average."""
        if self._recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self._recipe.clip_norm)
        self.optimizer.step()
        done = self._step + 1
        if self.ema is None or done % self._recipe.ema_every:
            return
        updates = done // self._recipe.ema_every
        decay = self._recipe.ema_decay
        # Source: TensorFlow's ExponentialMovingAverage with num_updates.
        self.ema.decay = min(decay, (1 + updates) / (10 + updates)) if self._recipe.ema_warmup else decay
        self.ema.update(self.module)

    def candidates(self) -> dict[str, nn.Module]:
        """What can be evaluated and exported: the weights, and their average where it is kept."""
        self.average_statistics()
        average = {} if self.ema is None else {AVERAGED: self.ema.module}
        return {WEIGHTS: self.module, **average}

    def average_statistics(self) -> None:
        """Gives every rank the same running statistics of batch norms."""
        self._ranks.average_statistics(self.module)
        if self.ema is not None:
            self._ranks.average_statistics(self.ema.module)

    def tensors(self) -> Tensors:
        """Everything that changes, by name, on the CPU."""
        named = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.ema is not None:
            named |= {f"ema.{name}": tensor for name, tensor in self.ema.module.state_dict().items()}
        named |= optimizer_tensors(self.optimizer)
        named["loss_sum"] = self.loss_sum
        return on_host(named)

    def numbers(self) -> dict[str, Any]:
        """What else changes, as JSON values: numbers in the optimiser's state and groups."""
        return optimizer_numbers(self.optimizer)

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continues from what `tensors` and `numbers` gave."""
        self.module.load_state_dict(under("module.", tensors))
        if self.ema is not None:
            self.ema.module.load_state_dict(under("ema.", tensors))
        load_optimizer(self.optimizer, tensors, numbers)
        self._work.loss.copy_(tensors["loss_sum"])

    @property
    def is_finite(self) -> bool:
        """Whether every weight and the loss are finite; waits for the device."""
        return are_finite(*self.module.parameters(), *self.module.buffers(), self.loss_sum)


def make_loss(recipe: FullRecipe, data: ImageData, device: torch.device) -> losses.Loss:
    """The loss of outputs (batch, outputs) and labels, as the data have them or mixed.

    Raises:
        RecipeError: Weights by class are asked for where there are none.
    """
    if data.task == CLASSIFICATION and recipe.loss == "binary_cross_entropy":
        found: losses.Loss = BinaryCrossEntropy(
            smoothing=recipe.label_smoothing, target_threshold=MIXED_TARGET
        )
        return found
    return losses.make_loss(data, recipe.loss_options, device)
