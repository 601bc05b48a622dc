"""Says whether an accuracy can be told from that of always answering with the largest class."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from nas.data.description import SPLITS, DataDescription
from nas.data.images import ImageData

ClassCounts = Mapping[str, tuple[int, ...]]
"""Images of each class, in the order of the classes, by split."""

CONFIDENCE = 0.95


def counts_of(data: ImageData) -> ClassCounts:
    """Counts the images of each class in each split."""
    return dict(zip(SPLITS, DataDescription.of(data).counts, strict=True))


def read_counts(data_json: str) -> ClassCounts | None:
    """The class counts in a study's description of its data; None where an earlier version left none."""
    counts = json.loads(data_json).get("counts") if data_json else None
    if not counts:
        return None
    splits = counts if isinstance(counts, dict) else dict(zip(SPLITS, counts, strict=True))
    return {split: tuple(each) for split, each in splits.items()}


def wilson_interval(share: float, count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Central interval of a probability of which a share was seen in so many draws.

    Source: Wilson, J. Am. Stat. Assoc. 22, 1927.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def chance_note(accuracy: float | None, counts: Sequence[int], *, split: str, candidates: int = 1) -> str:
    """Says that an accuracy is no better than the largest class, or may be so by chance; else nothing.

    Args:
        accuracy: Fraction of the split; None where none was measured.
        counts: Images of each class there; empty where they are not known.
        split: What to call it.
        candidates: So many were measured and the best was taken. The interval is widened for that
            (Bonferroni), so that of many networks that know nothing the luckiest does not look good.
    """
    images = sum(counts)
    if accuracy is None or not images:
        return ""
    largest = max(counts) / images
    low, high = wilson_interval(accuracy, images, confidence=1 - (1 - CONFIDENCE) / candidates)
    if low > largest:
        return ""
    said = (
        f"accuracy {accuracy:.4f}: the largest class alone is {largest:.4f} of the {images:,} {split} images"
    )
    if accuracy <= largest:
        return f"{said}, so that it is no better than always answering with that class"
    best_of = f", as the best of {candidates:,}" if candidates > 1 else ""
    return f"{said}, and chance may explain the rest (interval {low:.2f} to {high:.2f}{best_of})"
