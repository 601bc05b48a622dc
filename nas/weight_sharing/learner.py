"""`SupernetLearner`: shared weights with all that one step of their training reads and changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.catalogue import Catalogue
from nas.data.images import ImageData
from nas.full_training.batches import Batch, resized
from nas.full_training.checkpoint import WEIGHTS
from nas.full_training.learner import Schedule, make_loss
from nas.full_training.options import TrainOptions
from nas.full_training.ranks import Ranks
from nas.full_training.recipe import FullRecipe
from nas.full_training.stored import (
    are_finite,
    load_optimizer,
    on_host,
    optimizer_numbers,
    optimizer_tensors,
    under,
)
from nas.full_training.trained_parts import make_optimizer
from nas.objective import Objective
from nas.protocols import LatencyPredictor
from nas.task_metrics import measure
from nas.tasks import CLASSIFICATION
from nas.training.accuracy import Normalise
from nas.training.batches import ResidentBatches
from nas.training.optimizers import set_learning_rate
from nas.training.step import StepReport, autocast
from nas.weight_sharing.calibration import Calibration
from nas.weight_sharing.paths import Sampler, Sampling, Tokens, extreme_networks, make_sampler
from nas.weight_sharing.policy import PolicySampler
from nas.weight_sharing.supernet import Supernet
from search_spaces import SearchSpace
from search_spaces.sharing import Kernels

MODULE = "module."
"""What the names of the shared weights begin with in a checkpoint."""

SEARCH_BATCHES = 4
"""Images of the search split that a policy's network is measured on, in training batches (TuNAS)."""

LARGEST = WEIGHTS
"""The largest network stands for the supernet where one value is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetFit:
    """The training of a supernet as plain data, which every rank runs; see `nas.full_training.work.Work`.

    Attributes:
        space: The networks.
        kernels: How kernels of different sizes share weights.
        sampling: Which networks a step goes through.
        random_paths: Random networks a step, of the sandwich.
        data: The images.
        recipe: How it is trained.
        folder: Where checkpoints go.
        identity: What makes it the same training.
        seed: Of everything random.
        precision: What is computed in.
        metric: What is measured on the search split while it is trained.
        calibration_images: Training images that a network's statistics are computed over; None is the usual.
        objective: What a policy maximises that draws the networks instead of the sampling; None has none.
        predictor: Predicts latencies for it.
        options: How it is run.
    """

    space: SearchSpace
    kernels: Kernels
    sampling: Sampling
    random_paths: int
    data: ImageData
    recipe: FullRecipe
    folder: Path
    identity: Mapping[str, str]
    seed: int
    precision: Literal["float32", "bfloat16"]
    metric: str
    calibration_images: int | None = None
    objective: Objective | None = None
    predictor: LatencyPredictor | None = None
    options: TrainOptions = field(default_factory=TrainOptions)

    @property
    def keeps_best(self) -> bool:
        """See `Work`: the last weights are those that were trained longest."""
        return False

    def learner(self, ranks: Ranks, *, rate_factor: float = 1.0) -> SupernetLearner:
        """See `Work`."""
        return SupernetLearner(self, ranks, rate_factor=rate_factor)


class SupernetLearner:
    """Shared weights in training; see `nas.full_training.work.Learns`.

    A step goes through one network or several, one after another, so that the activations of one are in
    memory at a time. Their gradients are averaged, and the weights updated once. Every network normalises by
    its batch. Where the largest network teaches, the others have neither dropout nor stochastic depth.

    Args:
        work: What is trained.
        ranks: The processes that train it together; all go through the same networks.
        rate_factor: Multiplies the learning rate.
    """

    def __init__(self, work: SupernetFit, ranks: Ranks, *, rate_factor: float = 1.0) -> None:
        self.rate_factor = rate_factor
        self.schedule = Schedule(recipe=work.recipe, images=len(work.data.train))
        self.supernet = Supernet(
            work.space, kernels=work.kernels, seed=work.seed, zero_last_norm=work.sampling == "sandwich"
        )
        self.supernet.to(ranks.device).to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(
            self.supernet, work.recipe, work.recipe.peak_rate(len(work.data.train))
        )
        self.step_report = StepReport(reason="each step goes through other networks")
        self.loss_sum = torch.zeros((), device=ranks.device)
        self._work = work
        self._ranks = ranks
        self.policy = self._make_policy()
        self._sampler: Sampler = self.policy or make_sampler(
            work.sampling, work.space, seed=work.seed, random_paths=work.random_paths
        )
        self._loss = make_loss(work.recipe, work.data, ranks.device)
        self._is_distilled = work.data.task == CLASSIFICATION
        self._rates = self.schedule.rates()
        self._calibration: Calibration | None = None
        self._taken = 0

    @property
    def module(self) -> nn.Module:
        """The supernet."""
        return self.supernet

    def take(self, step: int, batch: Batch) -> None:
        """Takes a step, counted from 0; nothing in it waits for the device."""
        seed = int(np.random.SeedSequence((self._work.seed, step, self._ranks.rank)).generate_state(1)[0])
        torch.manual_seed(seed)  # dropout and stochastic depth of a step do not depend on those before it
        self._taken = step + 1
        paths = self._sampler.at(step)
        self.optimizer.zero_grad(set_to_none=True)
        teacher: Tensor | None = None
        for tokens in paths.tokens:
            self.supernet.train(teacher is None)
            logits, loss = self._forward(batch, tokens, teacher)
            torch.autograd.backward(loss / len(paths.tokens))
            self.loss_sum += loss.detach() / len(paths.tokens)
            if paths.teaches and self._is_distilled and teacher is None:
                teacher = logits.detach()
        self._update(self.rate(step))
        if self.policy is not None:
            self.policy.learn(step, paths.tokens[0], self._search_metric(step, paths.tokens[0]))

    def _make_policy(self) -> PolicySampler | None:
        work = self._work
        if work.objective is None:
            return None
        catalogue = Catalogue(work.space, work.predictor)
        self._search = ResidentBatches(work.data, self._ranks.device, ("search",)).part("search")
        return PolicySampler(catalogue, work.objective, steps=self.schedule.steps, seed=work.seed)

    @torch.no_grad()
    def _search_metric(self, step: int, tokens: Tokens) -> float:
        """The metric of a network on random images of the search split, normalised by them alone."""
        work, (images, labels) = self._work, self._search
        count = min(len(labels), SEARCH_BATCHES * work.recipe.batch_for(len(work.data.train)))
        rng = np.random.default_rng((work.seed, 5, step))
        chosen = torch.from_numpy(rng.choice(len(labels), count, replace=False)).to(self._ranks.device)
        self.supernet.eval()
        pixels = Normalise(work.data, self._ranks.device)(images[chosen])
        with autocast(self._ranks.device, work.precision):
            logits = self.supernet(resized(pixels, work.space.decode(tokens).resolution), tokens).float()
        return measure(work.data.task, (work.metric,), logits, labels[chosen])[work.metric]

    def _forward(self, batch: Batch, tokens: Tokens, teacher: Tensor | None) -> tuple[Tensor, Tensor]:
        """The logits of one network, and its loss: to the labels, or to what the largest one says."""
        images, labels = batch
        side = self._work.space.decode(tokens).resolution
        with autocast(self._ranks.device, self._work.precision):
            logits = self.supernet(resized(images, side), tokens).float()
            if teacher is None:
                return logits, self._loss(logits, labels)
            return logits, functional.cross_entropy(logits, teacher.softmax(dim=1))

    def _update(self, rate: float) -> None:
        """Averages the gradients over the ranks, clips them, and updates the weights."""
        given = [p for p in self.supernet.parameters() if p.grad is not None]
        if self._ranks.world > 1 and given:
            together = torch.cat([p.grad.flatten() for p in given if p.grad is not None])
            together = self._ranks.total(together) / self._ranks.world
            parts = torch.split(together, [p.numel() for p in given])
            for parameter, part in zip(given, parts, strict=True):
                parameter.grad = part.view(parameter.shape)
        if self._work.recipe.clip_norm:
            nn.utils.clip_grad_norm_(given, self._work.recipe.clip_norm)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self._rates(step) * self.rate_factor

    def clear_loss(self) -> None:
        """Begins a new sum."""
        self.loss_sum.zero_()

    def candidates(self) -> Mapping[str, nn.Module]:
        """The largest network, the smallest, and a random one, each with statistics of its own."""
        if self._calibration is None:
            work = self._work
            self._calibration = Calibration(
                work.data, self._ranks.device, images=work.calibration_images, precision=work.precision
            )
        smallest, largest = extreme_networks(self._work.space, seed=self._work.seed)
        random = make_sampler("uniform", self._work.space, seed=self._work.seed).at(0).tokens[0]
        named = {LARGEST: largest, "smallest": smallest, "random": random}
        if self.policy is not None:
            self.policy.record(self._taken)
            named["most probable"] = self.policy.most_probable()
        return {name: self._calibration.cut(self.supernet, tokens) for name, tokens in named.items()}

    def average_statistics(self) -> None:
        """Nothing: networks have no statistics while they are trained."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that changes, by name, on the CPU."""
        named = {f"{MODULE}{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        return on_host(named | optimizer_tensors(self.optimizer) | {"loss_sum": self.loss_sum})

    def numbers(self) -> Mapping[str, Any]:
        """What else changes, as JSON values."""
        policy = {} if self.policy is None else {"policy": self.policy.numbers()}
        return {**optimizer_numbers(self.optimizer), **policy}

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continues from what `tensors` and `numbers` gave."""
        self.supernet.load_state_dict(under(MODULE, tensors))
        load_optimizer(self.optimizer, tensors, numbers)
        self.loss_sum.copy_(tensors["loss_sum"])
        if self.policy is not None:
            self.policy.load(numbers["policy"])

    @property
    def is_finite(self) -> bool:
        """Whether every weight and the loss are finite; waits for the device."""
        return are_finite(*self.supernet.parameters(), self.loss_sum)
