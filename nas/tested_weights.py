"""Holds what the kept weights of a trial reach on the test split, beside new trainings of its network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.reading import read_json
from nas.statistics import wilson_interval

COMPARISON = "comparison.json"
"""The file in a study's folder that holds it, as `tested_weights`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedWeights:
    """What one trial's weights themselves reach, not another training of its network.

    Attributes:
        trial: Number of the trial; None for weights of a full training.
        digest: Identity of the weights; empty where they were not kept.
        right: Test images classified rightly; None where that was not counted, or there are no classes.
        images: Number of test images.
        message: Why nothing was measured.
        metrics: Metrics beside the accuracy, by name.
        intervals: Central 95 % interval of those of them that have one, on images like these.
    """

    __test__ = False  # no test class, whatever pytest makes of its name

    trial: int | None
    digest: str
    right: int | None
    images: int
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read = {name: (low, high) for name, (low, high) in self.intervals.items()}  # JSON has lists
        object.__setattr__(self, "intervals", read)

    @property
    def values(self) -> dict[str, float]:
        """Everything measured, by name; empty where nothing was."""
        accuracy = {} if self.accuracy is None else {"accuracy": self.accuracy}
        return accuracy | dict(self.metrics)

    @property
    def accuracy(self) -> float | None:
        """Fraction of the test split; None where it was not measured."""
        return None if self.right is None else self.right / self.images

    @property
    def interval(self) -> tuple[float, float] | None:
        """Central 95 % interval of the accuracy on images like these (Wilson)."""
        return None if self.right is None else wilson_interval(self.right, self.images)

    @property
    def where(self) -> str:
        """What the accuracy was measured on, and how far it is to be trusted; or why nothing was measured."""
        if self.interval is None:
            return self.message
        low, high = self.interval
        return f"{self.right:,} of {self.images:,} test images; 95 % interval {low:.4f} to {high:.4f}"

    def where_of(self, metric: str) -> str:
        """The same of any metric; the interval of one that is no share of images is a bootstrap's."""
        if metric == "accuracy":
            return self.where
        words = f"{self.images:,} test images"
        if metric not in self.intervals:
            return words
        low, high = self.intervals[metric]
        return f"{words}; 95 % interval {low:.4g} to {high:.4g}, by resampling them"


def weights_digest(weights: bytes) -> str:
    """Identity of weights (16 hex digits)."""
    return hashlib.sha256(weights).hexdigest()[:16]


def read_tested_weights(folder: Path, weights: bytes) -> TestedWeights | None:
    """What these very weights reached in a study's comparison; None where that was not measured."""
    try:
        data: Any = read_json(folder / COMPARISON)
        tested = TestedWeights(**data["tested_weights"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # none was measured; `load_comparison` complains of a damaged file
    return tested if tested.values and tested.digest == weights_digest(weights) else None
