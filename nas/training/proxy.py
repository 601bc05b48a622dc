"""Owns `ProxyEvaluator`: a trial as building, a short training and its measurements.

Does not own the training loop (`nas.training.training`) or running trials anywhere (the executors).
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from nas.data.images import ImageData, SplitName, check_fits, digest
from nas.training.batches import Batches, make_batches
from nas.training.measurement import (
    CPU_MEMORY_METHOD,
    CUDA_MEMORY_METHOD,
    LatencyProbe,
    choose_device,
    describe_device,
    measure_latency,
)
from nas.training.recipe import Recipe
from nas.training.training import TrainingResult, check_batch, train
from nas.trial import Candidate, Evaluation, Metric
from search_spaces import Network, build


class ProxyEvaluator:
    """Trains each candidate by one short recipe and measures its accuracy on the search split.

    Pickles as its arguments: the data's arrays are its bulk, and what is on a device stays there.

    Args:
        data: What to learn; crosses to each worker once.
        recipe: How to train.
        measure_latency: How to measure latency, or None to leave it out.
        device: Where to train: `auto`, `cpu` or `cuda`; resolved in the worker.
        split: Where accuracy is measured; `test` is for the final comparison alone.

    Raises:
        DataError: The training split is smaller than a batch.
    """

    def __init__(
        self,
        data: ImageData,
        recipe: Recipe | None = None,
        *,
        measure_latency: LatencyProbe | None = None,
        device: str = "auto",
        split: SplitName = "search",
    ) -> None:
        self.data = data
        self.recipe = recipe if recipe is not None else Recipe()
        self.latency = measure_latency
        self.device = device
        self.split: SplitName = split
        self._batches: Batches | None = None
        check_batch(data, self.recipe)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_batches": None}

    @property
    def fingerprint(self) -> str:
        """Changes with the recipe, the data, their split, and the split that is measured on."""
        data = self.data
        return digest(
            self.recipe.fingerprint, data.fingerprint, data.split_fingerprint, self.split, self.latency
        )

    def check(self, network: Network) -> None:
        """Checks that a network of the space takes these images, before anything is trained.

        Raises:
            DataError: Resolution, channels or number of classes differ.
        """
        check_fits(network, self.data)

    def prepare(self) -> None:
        """Moves the data to the device."""
        self._batches = make_batches(self.data, choose_device(self.device))

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Builds, trains and measures one candidate; its job's seed decides initialisation and order.

        Raises:
            InfeasibleError: The training diverged or ran out of memory.
            DataError: The network does not fit the data.
        """
        self.check(candidate.network)
        if self._batches is None:
            self.prepare()
        job = candidate.job
        where = choose_device(self.device)
        module = build(candidate.network, seed=job.seed)
        result = train(
            module,
            self.data,
            self.recipe.at(job.fidelity),
            seed=job.seed,
            device=where,
            split=self.split,
            batches=self._batches,
        )
        metrics = training_metrics(result, where)
        if self.latency is not None:
            metrics += (self._measure_latency(module, where, self.latency),)
        module.cpu()  # the worker may keep it for its weights, and the device is needed
        return Evaluation(metrics=metrics, weights=lambda: weights_bytes(module))

    def _measure_latency(self, module: nn.Module, trained_on: torch.device, probe: LatencyProbe) -> Metric:
        latency = measure_latency(
            module,
            input_shape=(self.data.channels, self.data.resolution, self.data.resolution),
            device=trained_on if probe.device == "auto" else probe.device,
            batch=probe.batch,
            threads=probe.threads,
            runs=probe.runs,
        )
        spread = f"n={latency.n}, quartiles {latency.q1_ms:.3g} and {latency.q3_ms:.3g} ms"
        return Metric(
            name="latency_ms",
            value=latency.median_ms,
            unit="ms",
            environment=f"{latency.environment}; {spread}",
        )


def training_metrics(result: TrainingResult, device: torch.device) -> tuple[Metric, ...]:
    """Writes a training's result as metrics, each with where it was measured."""
    threads = f", threads {torch.get_num_threads()}" if device.type == "cpu" else ""
    where = f"{describe_device(device)}{threads}, {result.precision}"
    method = CUDA_MEMORY_METHOD if device.type == "cuda" else CPU_MEMORY_METHOD
    return (
        Metric(name="accuracy", value=result.accuracy, unit="fraction", environment=f"{result.split} split"),
        Metric(name="loss", value=result.loss, unit="nats", environment="train split, last epoch"),
        Metric(name="train_seconds", value=result.train_seconds, unit="s", environment=where),
        Metric(name="images_per_second", value=result.images_per_second, unit="1/s", environment=where),
        Metric(name="train_step_ms", value=result.train_step_ms, unit="ms", environment=where),
        Metric(
            name="peak_memory_bytes",
            value=float(result.peak_memory_bytes),
            unit="bytes",
            environment=f"{where}; {method}",
        ),
    )


def weights_bytes(module: nn.Module) -> bytes:
    """Writes a module's state as safetensors bytes, in the plain memory layout."""
    return bytes(
        save({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})
    )
