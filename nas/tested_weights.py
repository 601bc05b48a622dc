"""Holds what the kept weights of a trial reach on the test split, beside new trainings of its network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.statistics import wilson_interval

COMPARISON = "comparison.json"
"""The file in a study's folder that holds it, as `tested_weights`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedWeights:
    """The accuracy of one trial's weights themselves, not of another training of its network.

    Attributes:
        trial: Number of the trial; None for weights of a full training.
        digest: Identity of the weights; empty where they were not kept.
        right: Test images classified rightly; None where nothing was measured.
        images: Number of test images.
        message: Why nothing was measured.
    """

    __test__ = False  # no test class, whatever pytest makes of its name

    trial: int | None
    digest: str
    right: int | None
    images: int
    message: str = ""

    @property
    def accuracy(self) -> float | None:
        """Fraction of the test split; None where nothing was measured."""
        return None if self.right is None else self.right / self.images

    @property
    def interval(self) -> tuple[float, float] | None:
        """Central 95 % interval of the accuracy on images like these (Wilson)."""
        return None if self.right is None else wilson_interval(self.right, self.images)

    @property
    def where(self) -> str:
        """What was measured on, and how far that is to be trusted."""
        if self.interval is None:
            return self.message
        low, high = self.interval
        return f"{self.right:,} of {self.images:,} test images; 95 % interval {low:.4f} to {high:.4f}"


def weights_digest(weights: bytes) -> str:
    """Identity of weights (16 hex digits)."""
    return hashlib.sha256(weights).hexdigest()[:16]


def read_tested_weights(folder: Path, weights: bytes) -> TestedWeights | None:
    """What these very weights reached in a study's comparison; None where that was not measured."""
    try:
        data: Any = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))
        tested = TestedWeights(**data["tested_weights"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # none was measured; `load_comparison` complains of a damaged file
    return tested if tested.right is not None and tested.digest == weights_digest(weights) else None
