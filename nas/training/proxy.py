"""`ProxyEvaluator`: a trial as building, a short training and its measurements."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from nas.data.images import ImageData, SplitName, check_fits
from nas.devices import choose_device, describe_device, pinned_threads
from nas.errors import DataError
from nas.rungs import Fidelity, Rungs
from nas.tasks import TASKS, TaskName, check_metrics
from nas.training.batches import Batches, make_batches
from nas.training.initial_weights import InitialWeights
from nas.training.memory import CPU_MEMORY_METHOD, CUDA_MEMORY_METHOD
from nas.training.notes import notes_of
from nas.training.precision import Chosen
from nas.training.recipe import Recipe
from nas.training.reduction import Reduction
from nas.training.step import Stepping
from nas.training.training import TrainingResult, check_batch, check_task, settle_precision, train
from nas.trial import Candidate, Evaluation, Job, Metric
from nas.values import digest
from search_spaces import Network, SearchSpace, SpaceError, build, cost

OF_TRAINING = ("loss", "train_seconds", "images_per_second", "train_step_ms", "peak_memory_bytes")
"""What is measured of a training of whatever task."""

TAKEN = "params_taken"
"""Parameters that a candidate took from the weights that it started from."""


class ProxyEvaluator:
    """Trains each candidate by one short recipe and measures metrics of the task on the search split.

    A job's fidelity is a share of the epochs (a shorter cosine to zero), of the resolution, or of the
    training images. A candidate that comes with weights is trained on from them. By epochs, it is trained for
    what lies between the rung below and its own, in one cosine cycle of its own, so that every rung ends with
    the rate at zero; by resolution or data, once more by the whole recipe. Momentum begins at zero, and the
    order of the images is another on each rung.

    Pickles as its arguments: the data's arrays are its bulk, and what is on a device stays there.

    Args:
        data: What to learn; crosses to each worker once.
        recipe: How to train.
        device: Where to train: `auto`, `cpu` or `cuda`; resolved in the worker.
        split: Where metrics are measured; `test` is for the final comparison alone.
        metrics: Which of the task's metrics are measured beside its first one (see `nas.tasks.TASKS`).
        reduction: How the training is smaller than recipe, data and networks say.
        rungs: The rungs that candidates are trained on, and what a job's fidelity is a share of: a candidate
            with weights was trained on the rung below. None trains each whole; a fidelity is then of epochs.
        init: Weights of a trained network that candidates start from where their layers match; None starts
            from fresh ones. `nas.initial_weights` finds them.
        stepping: How steps are taken; `compiled` compiles each candidate, which takes minutes and pays for
            long trainings only.

    Attributes:
        recipe: The recipe with all that follows from the number of training images decided.
        metrics: Everything of the task that is measured.

    Raises:
        DataError: The training split is smaller than a batch, or a metric is none of the task.
        RecipeError: The recipe is of another task.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, for warm restarts of the rate.
    """

    def __init__(
        self,
        data: ImageData,
        recipe: Recipe | None = None,
        *,
        device: str = "auto",
        split: SplitName = "search",
        metrics: Sequence[str] = (),
        reduction: Reduction | None = None,
        rungs: Rungs | None = None,
        init: InitialWeights | None = None,
        stepping: Stepping = "auto",
    ) -> None:
        self.data = data
        self._given = recipe if recipe is not None else Recipe()
        self.recipe = self._given.settled(len(data.train))
        self.device = device
        self.split: SplitName = split
        self.metrics = measured_metrics(data.task, metrics)
        self.reduction = reduction if reduction is not None else Reduction()
        self._fidelity: Fidelity = "epochs" if rungs is None else rungs.fidelity
        self._shares = (1.0,) if rungs is None else rungs.shares
        self.init = init
        self.stepping: Stepping = stepping
        self._on_device = DeviceData(data, device)
        self._chosen: dict[tuple[str, str], Chosen] = {}
        self._check_batch()

    def beside(
        self, recipe: Recipe, reduction: Reduction | None = None, init: InitialWeights | None = None
    ) -> ProxyEvaluator:
        """Another training of the same images, which it shares on the device.

        Raises:
            DataError: The training split is smaller than a batch.
        """
        other = ProxyEvaluator(
            self.data,
            recipe,
            device=self.device,
            split=self.split,
            metrics=self.metrics,
            reduction=reduction,
            init=init,
        )
        other.stepping = self.stepping
        other._on_device = self._on_device
        other._chosen = self._chosen
        return other

    @property
    def fingerprint(self) -> str:
        """Changes with the recipe, the data, their split, what is measured, and what is made smaller."""
        data = self.data
        parts = [self.recipe.fingerprint, data.fingerprint, data.split_fingerprint, self.split, None]
        parts += [",".join(self.metrics)] if len(self.metrics) > 1 else []
        parts += ["compiled"] if self.stepping == "compiled" else []
        parts += [] if self.init is None else [f"init {self.init.fingerprint}"]
        parts += self._unlike_the_whole()
        if self.reduction.is_whole and self._fidelity == "epochs" and self._shares == (1.0,):
            return digest(*parts)
        return digest(*parts, self.reduction.fingerprint, self._fidelity, self._shares)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of everything that is measured of a candidate."""
        return (*self.metrics, *OF_TRAINING, *(() if self.init is None else (TAKEN,)))

    def check_space(self, space: SearchSpace) -> None:
        """Checks that all networks of a space take images of one size.

        Raises:
            DataError: Its resolution is a choice.
        """
        resolution = space.template.resolution
        if not isinstance(resolution, int):
            raise DataError(
                f"candidates are trained on images of one size, but the space {space.name} has "
                f"resolution={resolution!r}: give the space one resolution, or search it in a supernet "
                "(nas supernet), which resizes the images for each network",
                field="resolution",
            )

    def check(self, network: Network) -> None:
        """Checks that a network of the space takes these images, before anything is trained.

        Raises:
            DataError: Resolution, channels or number of classes differ, or the reduced network is not valid.
        """
        check_fits(network, self.data)
        if self.init is not None and not self.init.give_to(build(network, seed=0)):
            raise DataError(
                f"candidates cannot start from {self.init.name}: no layer of the space's networks is at the "
                "place of one of its own, and like it; leave init out",
                field="init",
            )
        least = self._reduced(self._shares[0])
        if least.resolution == least.width == 1:
            return
        try:
            cost(least.network(network))
        except SpaceError as error:
            raise DataError(
                f"the network must be valid when reduced ({least.describe()}), but: {error}; reduce less"
            ) from error

    def resolve_precision(self, device: str, *, threads: int) -> None:
        """Finds out here what the precision `auto` means for all workers of this machine.

        The answer travels with the evaluator; a worker of another machine finds out for itself.

        Args:
            device: Where the workers train.
            threads: Threads that each of them has on a CPU.
        """
        with pinned_threads(threads):
            self._settled(self.recipe, torch.device(device))

    def prepare(self) -> None:
        """Moves the data of the whole schedule to the device, and resolves the precision `auto`."""
        self._on_device.of(self._reduced(1.0))
        self._settled(self.recipe, choose_device(self.device))

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Builds, trains and measures one candidate; its job's seed decides initialisation and order.

        Raises:
            InfeasibleError: The training diverged or ran out of memory.
            DataError: The network does not fit the data, or the weights do not fit the network.
        """
        self.check(candidate.network)
        work = self._work(candidate.job, is_promoted=candidate.weights is not None)
        data, batches = self._on_device.of(work.reduction)
        where = choose_device(self.device)
        network = work.reduction.network(candidate.network)
        module = build(network, seed=candidate.job.seed)
        taken = None
        if candidate.weights is not None:
            load_bytes(module, candidate.weights)
        elif self.init is not None:
            taken = self.init.give_to(module)
        result = train(
            module,
            data,
            self._settled(work.recipe, where),
            seed=work.seed,
            device=where,
            split=self.split,
            metrics=self.metrics,
            batches=batches,
            stepping=self.stepping,
            progress=candidate.progress,
        )
        metrics = training_metrics(result, where)
        if taken is not None and self.init is not None:
            metrics += (Metric(name=TAKEN, value=float(taken), environment=self.init.name),)
        module.cpu()  # the worker may keep it for its weights, and the device is needed
        return Evaluation(metrics=metrics, weights=lambda: weights_bytes(module), notes=batches.notes)

    def _work(self, job: Job, *, is_promoted: bool) -> _Work:
        """How a job is trained."""
        reduction = self._reduced(job.fidelity)
        below = [share for share in self._shares if share < job.fidelity - 1e-9] if is_promoted else []
        recipe = self._shortened(job.fidelity, reduction, below=below[-1] if below else 0.0)
        seed = rung_seed(job.seed, len(below)) if is_promoted else job.seed
        return _Work(reduction=reduction, recipe=recipe, seed=seed)

    def _settled(self, recipe: Recipe, device: torch.device) -> Recipe:
        """The recipe with the precision in which this machine trains on a device."""
        if recipe.precision != "auto":
            return recipe
        place = platform.node(), device.type
        if place not in self._chosen:
            self._chosen[place] = settle_precision(recipe, device)
        return replace(recipe, precision=self._chosen[place])

    def _shortened(self, share: float, reduction: Reduction, *, below: float = 0.0) -> Recipe:
        """The recipe at a share of the fidelity, after what was trained below it."""
        recipe = reduction.recipe(self._given)
        return recipe.at(share - below) if self._fidelity == "epochs" else recipe

    def trainings(self) -> tuple[tuple[Recipe, int], ...]:
        """The recipe of each rung, not settled, with the number of training images there."""
        found = []
        for below, share in zip((0.0, *self._shares), self._shares, strict=False):
            reduction = self._reduced(share)
            images = int(reduction.train_images(self.data.train.labels).sum())
            found.append((self._shortened(share, reduction, below=below), images))
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What follows from the number of training images and is worth saying, and where candidates start."""
        return (*(() if self.init is None else self.init.notes), *notes_of(self.trainings()))

    def _unlike_the_whole(self) -> list[str]:
        """Batches and statistics of the rungs, where not all are those of the whole recipe."""
        rungs = [recipe.settled(images) for recipe, images in self.trainings()]
        decided = [f"{one.batch_size} {one.batch_norm_statistics}" for one in rungs]
        whole = f"{self.recipe.batch_size} {self.recipe.batch_norm_statistics}"
        return [] if set(decided) == {whole} else decided

    def _reduced(self, share: float) -> Reduction:
        """The reduction of data and networks at a share of the fidelity."""
        if self._fidelity == "resolution":
            return replace(self.reduction, resolution=self.reduction.resolution * share)
        if self._fidelity == "data":
            return replace(self.reduction, data=self.reduction.data * share)
        return self.reduction

    def _check_batch(self) -> None:
        check_batch(self.data, self._given)
        check_task(self.data, self._given)
        least = self._reduced(self._shares[0])
        count = int(least.train_images(self.data.train.labels).sum())
        needed = self._given.batch_for(count)
        if count < needed:
            raise DataError(
                f"the reduced training split of {self.data.name} must hold at least one batch of "
                f"{needed} images, but data={least.data:.3g} leaves {count}: keep a larger "
                "share, or leave batch_size out: it then follows the data"
            )


class DeviceData:
    """Images on a device, whole and reduced; pickles as the whole ones, without what is on the device.

    Args:
        data: The whole images.
        device: Where: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, data: ImageData, device: str) -> None:
        self._data = data
        self._device = device
        self._ready: dict[tuple[int, float], tuple[ImageData, Batches]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": {}}

    def of(self, reduction: Reduction) -> tuple[ImageData, Batches]:
        """The reduced data, on the device; made when they are first asked for, and kept."""
        key = (reduction.side(self._data.resolution), reduction.data)
        if key not in self._ready:
            data = reduction.data_of(self._data)
            self._ready[key] = data, make_batches(data, choose_device(self._device))
        return self._ready[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is done for a job: by which reduction of data and network, which recipe, and the order's seed."""

    reduction: Reduction
    recipe: Recipe
    seed: int


def measured_metrics(task: TaskName, wanted: Sequence[str]) -> tuple[str, ...]:
    """The first metric of a task, and those that are wanted beside it, each once.

    Raises:
        DataError: One is none of the task.
    """
    check_metrics(task, wanted)
    known = TASKS[task].metrics
    return tuple(name for name in known if name in (known[0], *wanted))


def rung_seed(seed: int, rung: int) -> int:
    """Seed of the images' order of a promoted training: another on each rung, counted from 0."""
    return int(np.random.SeedSequence([seed, rung]).generate_state(1)[0] & 0x7FFFFFFF)


def training_metrics(result: TrainingResult, device: torch.device) -> tuple[Metric, ...]:
    """Writes a training's result as metrics, each with where it was measured."""
    threads = f", threads {torch.get_num_threads()}" if device.type == "cpu" else ""
    where = f"{describe_device(device)}{threads}, {result.precision}, {result.step.kind}"
    method = CUDA_MEMORY_METHOD if device.type == "cuda" else CPU_MEMORY_METHOD
    split = f"{result.split} split"
    return (
        *(Metric(name=name, value=value, environment=split) for name, value in result.metrics.items()),
        Metric(name="loss", value=result.loss, environment="train split, last epoch"),
        Metric(name="train_seconds", value=result.train_seconds, environment=where),
        Metric(name="images_per_second", value=result.images_per_second, environment=where),
        Metric(name="train_step_ms", value=result.train_step_ms, environment=where),
        Metric(
            name="peak_memory_bytes",
            value=float(result.peak_memory_bytes),
            environment=f"{where}; {method}",
        ),
    )


def weights_bytes(module: nn.Module) -> bytes:
    """Writes a module's state as safetensors bytes, in the plain memory layout."""
    return bytes(
        save({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})
    )


def load_bytes(module: nn.Module, weights: bytes) -> None:
    """Puts weights that `weights_bytes` wrote into a module of the same network.

    Raises:
        DataError: They are of another network, or damaged.
    """
    try:
        module.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"the weights to start from must be of the same network, but: {reason}") from error
