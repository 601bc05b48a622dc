"""How often predictions are right, by their probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.scoring.outputs import Numbers

BINS = 15
"""Bins of confidence. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceBin:
    """The predictions with a probability in one of 15 equal ranges.

    Attributes:
        low: Lower end of the range.
        high: Upper end of the range.
        images: How many predictions there are: one an image, or one for each label of an image.
        confidence: Mean probability of the predictions; None where there are none.
        accuracy: Share of them that is right; None where there are none.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


def bin_by_confidence(confidence: Numbers, is_right: npt.NDArray[np.bool_]) -> tuple[ConfidenceBin, ...]:
    """Counts predictions in the 15 ranges.

    Args:
        confidence: Their probabilities, of shape (count,).
        is_right: Whether each is right.
    """
    edges = np.linspace(0, 1, BINS + 1)
    where = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, BINS - 1)
    return tuple(
        ConfidenceBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            images=int(chosen.sum()),
            confidence=float(confidence[chosen].mean()) if chosen.any() else None,
            accuracy=float(is_right[chosen].mean()) if chosen.any() else None,
        )
        for index in range(BINS)
        for chosen in (where == index,)
    )
