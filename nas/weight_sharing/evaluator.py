"""`SharedWeights`: an evaluator that measures networks as slices of a trained supernet, without training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.data.images import ImageData, check_fits
from nas.devices import choose_device, describe_device
from nas.errors import SupernetError
from nas.metrics import MEASURING_SECONDS, SHARED_WEIGHTS
from nas.tasks import check_metrics
from nas.training.accuracy import evaluate
from nas.training.proxy import measured_metrics
from nas.trial import Candidate, Evaluation, Metric
from nas.values import counted, digest, instance
from nas.weight_sharing.calibration import Calibration, checked_images
from nas.weight_sharing.paths import Tokens
from nas.weight_sharing.stored import SupernetFacts, read_supernet, require_space
from nas.weight_sharing.supernet import Supernet
from search_spaces import Network, SearchSpace, SpaceError


class SharedWeights:
    """Measures each candidate as a slice of a supernet, on the search split, with statistics of its own.

    What it gives are metrics of shared weights: they rank networks, and are not what a network reaches that
    is trained by itself. So it gives no weights, and networks that are chosen by it are to be trained.

    Pickles with its weights and images as arrays, which the workers of a Ray node share.

    Args:
        supernet: Folder of a trained supernet (`nas supernet`), or one in memory, trained on the data.
        data: The images that it was trained on, with their split.
        space: The space; needed for a folder.
        device: Where: `auto`, `cpu` or `cuda`.
        metrics: What is measured beside the task's first metric.
        calibration_images: Training images that each network's statistics are computed over; None takes
            2,048, or all where there are fewer.

    Attributes:
        data: The same.
        metrics: Everything of the task that is measured.

    Raises:
        SupernetError: The supernet is of another space or other images, cannot be read, or there are too few
            images.
        UsageError: An argument is of another type.
    """

    def __init__(
        self,
        supernet: Supernet | Path | str,
        data: ImageData,
        *,
        space: SearchSpace | None = None,
        device: str = "auto",
        metrics: Sequence[str] = (),
        calibration_images: int | None = None,
    ) -> None:
        instance("supernet", supernet, (Supernet, Path, str), "give the folder that nas supernet wrote")
        instance("data", data, (ImageData,), "load it with nas.load_data")
        instance("space", space, (SearchSpace, type(None)), "give the SearchSpace of the supernet")
        self.facts: SupernetFacts | None = None
        if not isinstance(supernet, Supernet):
            if space is None:
                raise SupernetError("`space` must be given with the folder of a supernet", field="space")
            supernet, self.facts = read_supernet(supernet, space)
            self.facts.check_data(data)
        self.supernet = supernet
        if space is not None:
            self.check_space(space)
        self.data = data
        check_metrics(data.task, metrics)
        self.metrics = measured_metrics(data.task, metrics)
        self.device = device
        self.calibration_images = checked_images(data, calibration_images)
        self._calibration: Calibration | None = None
        weights = supernet.fingerprint if self.facts is None else self.facts.weights
        self._fingerprint = digest(
            weights, data.fingerprint, data.split_fingerprint, *self.metrics, self.calibration_images
        )

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_calibration": None}

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, the images, their split, and what is measured."""
        return self._fingerprint

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured; nothing of a training, as there is none."""
        return (*self.metrics, MEASURING_SECONDS)

    @property
    def gives_weights(self) -> bool:
        """False: slices are not a trained network."""
        return False

    @property
    def notes(self) -> tuple[str, ...]:
        """What users are to know of the figures."""
        how = (
            ""
            if self.facts is None
            else f", trained for {counted(self.facts.epochs, 'epoch')} ({self.facts.sampling})"
        )
        return (
            f"{self.metrics[0]} is that of shared weights{how}: it ranks networks, and is not what they "
            "reach when they are trained; train the best with nas train",
        )

    def check(self, network: Network) -> None:
        """Checks that a network is one of the supernet's, and takes these images.

        Raises:
            DataError: Channels or number of classes differ.
            SupernetError: The supernet has no such network.
        """
        check_fits(replace(network, resolution=self.data.resolution), self.data)
        self._tokens(network)

    def check_space(self, space: SearchSpace) -> None:
        """Checks that a space is the supernet's.

        Raises:
            SupernetError: It is another, so that some of its networks have no weights here.
        """
        own = self.supernet.space
        require_space(space, trained=own.fingerprint, name=own.name)

    def prepare(self) -> None:
        """Moves the images to the device."""
        if self._calibration is None:
            self._calibration = Calibration(
                self.data, choose_device(self.device), images=self.calibration_images
            )

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Cuts the candidate out, computes its statistics, and measures it on the search split.

        Raises:
            InfeasibleError: An output is not finite.
            SupernetError: The supernet has no such network.
        """
        tokens = self._tokens(candidate.network)
        self.prepare()
        assert self._calibration is not None
        began = time.perf_counter()
        module = self._calibration.cut(self.supernet, tokens)
        candidate.progress("measuring on the search split")
        found = evaluate(
            module,
            self.data,
            "search",
            self.metrics,
            device=self._calibration.device,
            batches=self._calibration.batches,
        )
        seconds = time.perf_counter() - began
        where = f"search split, {SHARED_WEIGHTS}"
        device = describe_device(self._calibration.device)
        return Evaluation(
            metrics=(
                *(Metric(name=name, value=value, environment=where) for name, value in found.items()),
                Metric(name=MEASURING_SECONDS, value=seconds, unit="s", environment=device),
            )
        )

    def _tokens(self, network: Network) -> Tokens:
        """Its tokens in the supernet's space; a search of another space has other tokens for it, or none.

        Raises:
            SupernetError: The supernet has no such network.
        """
        space = self.supernet.space
        try:
            return space.encode(network)
        except SpaceError as error:
            raise SupernetError(
                f"every network must be one of the supernet's: {error}; search the space that the supernet "
                "was trained for, or train one for yours",
                field="space",
            ) from error
